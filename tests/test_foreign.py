"""Scripts in the styles that pycaffe's users write: each runs unchanged under `pycaffe_lite run`, in one process for all.

They are our own, after patterns of public scripts: classification with a Transformer, LMDB with `Datum`, net surgery,
deep dreams, merging batch normalisation, solver loops, layers in Python, NetSpec, text_format, threads, unit tests.
Each is a program that fails by an exception. They share a folder, with the files that `FILES` and `PREPARE` make.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pycaffe_lite as caffe

FILES = {
    "net.prototxt": """
        name: "small"
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 12 dim: 12 } } }
        layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
          convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
        layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
        layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 2 stride: 2 } }
        layer { name: "ip" type: "InnerProduct" bottom: "pool1" top: "ip"
          inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
        layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
    """,
    "train.prototxt": """
        layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
          shape { dim: 8 dim: 3 } shape { dim: 8 } data_filler { type: "gaussian" std: 1 } data_filler { value: 1 } } }
        layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
          inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
        layer { name: "acc" type: "Accuracy" bottom: "ip" bottom: "label" top: "acc" include { phase: TEST } }
    """,
    "solver.prototxt": """
        net: "train.prototxt" test_iter: 2 test_interval: 100 base_lr: 0.5 lr_policy: "step" gamma: 0.1 stepsize: 1000
        momentum: 0.9 max_iter: 5 snapshot_prefix: "snap" solver_mode: GPU random_seed: 7
    """,
    "my_layers.py": """
        import json, pickle
        import caffe
        import numpy as np
        class Scaled(caffe.Layer):
            def setup(self, bottom, top):
                params = eval(self.param_str)
                self.factor = params['factor']
                self.param, self.type_, self.rng, self.dtype, self.net = 3, 'x', np.random.RandomState(1), 'f4', None
                self.blobs.add_blob(1, 3)
                self.blobs[0].data[...] = 2
            def reshape(self, bottom, top):
                self.diff = np.zeros_like(bottom[0].data, dtype=np.float32)
                top[0].reshape(*bottom[0].data.shape)
            def forward(self, bottom, top):
                top[0].data[...] = self.factor * bottom[0].data * self.blobs[0].data
            def backward(self, top, propagate_down, bottom):
                if propagate_down[0]:
                    bottom[0].diff[...] = self.factor * top[0].diff
        class Feeder(caffe.Layer):
            def __init__(self, p_object, *args, **kwargs):
                super(Feeder, self).__init__(p_object, *args, **kwargs)
                self._name_to_top = {'data': 0}
            def setup(self, bottom, top):
                if len(bottom) != 0:
                    raise Exception('a data layer has no bottoms')
                self._params = json.loads(self.param_str_)
                self._roidb = None
                top[0].reshape(2, 3)
            def set_roidb(self, roidb):
                self._roidb = roidb
            def reshape(self, bottom, top):
                pass
            def forward(self, bottom, top):
                blob = np.asarray(self._roidb, dtype=np.float32)
                top[0].reshape(*(blob.shape))
                top[0].data[...] = blob.astype(np.float32, copy=False)
            def backward(self, top, propagate_down, bottom):
                pass
    """,
}

PREPARE = """
import caffe, numpy as np
from PIL import Image
net = caffe.Net('net.prototxt', caffe.TEST)
net.save('net.caffemodel')
np.save('mean.npy', np.random.uniform(90, 130, (3, 12, 12)))
Image.fromarray(np.random.randint(0, 255, (20, 30, 3), dtype=np.uint8)).save('cat.png')
"""

SNIPPETS = {
    "imports": """
        import os
        os.environ['GLOG_minloglevel'] = '2'
        import sys
        caffe_root = '../'
        sys.path.insert(0, caffe_root + 'python')
        import caffe, caffe.io, caffe.draw, caffe._caffe
        import google.protobuf.text_format
        import caffe.proto.caffe_pb2 as pb
        from caffe import layers as L, params as P, to_proto
        from caffe import Net, SGDSolver, TEST, TRAIN
        from caffe.proto import caffe_pb2
        from caffe.proto.caffe_pb2 import NetParameter, LayerParameter
        from caffe.io import caffe_pb2 as again, array_to_datum, load_image, Transformer
        from caffe.pycaffe import Net as same
        from caffe.coord_map import coord_map_from_to, crop
        from caffe.net_spec import NetSpec, Top, assign_proto
        assert same is Net is caffe.Net is caffe._caffe.Net and pb is caffe_pb2 is again
        assert os.path.isdir(os.path.dirname(caffe.__file__)) and os.path.isdir(caffe.__path__[0])
        assert caffe.__version__ and 'Convolution' in caffe.layer_type_list()
    """,
    "star import": """
        from caffe import *
        from caffe.io import *
        net = Net('net.prototxt', TEST)
        assert Transformer({'data': net.blobs['data'].data.shape}).inputs and layers.ReLU and SGDSolver
    """,
    "classification": """
        import numpy as np, caffe
        caffe.set_device(0)
        caffe.set_mode_gpu()
        caffe.set_mode_cpu()
        net = caffe.Net('net.prototxt', 'net.caffemodel', caffe.TEST)
        mu = np.load('mean.npy').mean(1).mean(1)
        transformer = caffe.io.Transformer({'data': net.blobs['data'].data.shape})
        transformer.set_transpose('data', (2, 0, 1))
        transformer.set_mean('data', mu)
        transformer.set_raw_scale('data', 255)
        transformer.set_channel_swap('data', (2, 1, 0))
        net.blobs['data'].reshape(1, 3, 12, 12)
        image = caffe.io.load_image('cat.png')
        net.blobs['data'].data[...] = transformer.preprocess('data', image)
        prob = net.forward()['prob'][0]
        top = prob.argsort()[::-1][:3]
        assert top[0] == prob.argmax() and abs(prob.sum() - 1) < 1e-5
        shown = transformer.deprocess('data', net.blobs['data'].data[0])
        assert shown.shape == (12, 12, 3) and -1e-5 < shown.min() and shown.max() < 1 + 1e-5
    """,
    "classifier and detector": """
        import numpy as np, caffe
        net = caffe.Classifier('net.prototxt', 'net.caffemodel', image_dims=(16, 16), mean=np.load('mean.npy'),
                               input_scale=None, raw_scale=255., channel_swap=[2, 1, 0])
        images = [caffe.io.load_image('cat.png'), caffe.io.load_image('cat.png')]
        assert net.predict(images).shape == net.predict(images, oversample=False).shape == (2, 5)
        assert net.transformer.mean['data'].shape == (3, 12, 12)
        windows = [('cat.png', np.array([[1, 2, 15, 20], [0, 0, 9, 9]]))]
        found = caffe.Detector('net.prototxt', 'net.caffemodel', raw_scale=255, context_pad=2).detect_windows(windows)
        assert found[1]['prediction'].shape == (5,) and list(found[1]['window']) == [0, 0, 9, 9]
    """,
    "mean in a binaryproto": """
        import numpy as np, caffe
        with open('mean.binaryproto', 'wb') as f:
            f.write(caffe.io.array_to_blobproto(np.load('mean.npy')[np.newaxis]).SerializeToString())
        blob = caffe.proto.caffe_pb2.BlobProto()
        blob.ParseFromString(open('mean.binaryproto', 'rb').read())
        mean = np.array(caffe.io.blobproto_to_array(blob))[0]
        assert np.allclose(mean, np.load('mean.npy')) and mean.shape == (3, 12, 12)
    """,
    "lmdb": """
        import lmdb, numpy as np, caffe
        env = lmdb.open('db', map_size=int(1e7))
        with env.begin(write=True) as txn:
            for i in range(6):
                datum = caffe.proto.caffe_pb2.Datum()
                datum.channels, datum.height, datum.width = 3, 8, 8
                datum.data = np.full((3, 8, 8), i, np.uint8).tobytes()
                datum.label = int(i)
                txn.put('{:0>8d}'.format(i).encode('ascii'), datum.SerializeToString())
        env.close()
        env = lmdb.open('db', readonly=True)
        with env.begin() as txn:
            for i, (key, value) in enumerate(txn.cursor()):
                datum = caffe.proto.caffe_pb2.Datum.FromString(value)
                flat = np.frombuffer(datum.data, dtype=np.uint8)
                x = flat.reshape(datum.channels, datum.height, datum.width)
                assert (x == i).all() and (caffe.io.datum_to_array(datum) == x).all() and datum.label == i
        env.close()
        L, P = caffe.layers, caffe.params
        n = caffe.NetSpec()
        n.data, n.label = L.Data(source='db', backend=P.Data.LMDB, batch_size=4, ntop=2,
                                 transform_param=dict(scale=1. / 255, crop_size=6, mirror=True))
        open('db.prototxt', 'w').write(str(n.to_proto()))
        net = caffe.Net('db.prototxt', caffe.TRAIN)
        net.forward()
        assert list(net.blobs['label'].data) == [0, 1, 2, 3] and net.blobs['data'].data.shape == (4, 3, 6, 6)
    """,
    "what is in a net": """
        import numpy as np, caffe
        net = caffe.Net('net.prototxt', 1, weights='net.caffemodel')
        assert [(k, v.data.shape) for k, v in net.blobs.items()][0] == ('data', (2, 3, 12, 12))
        assert [(k, v[0].data.shape, v[1].data.shape) for k, v in net.params.items()][0] == ('conv1', (4, 3, 3, 3), (4,))
        assert list(net._layer_names) == ['data', 'conv1', 'relu1', 'pool1', 'ip', 'prob']
        assert [layer.type for layer in net.layers][1:3] == ['Convolution', 'ReLU'] and len(net.layers) == 6
        assert net.layer_dict['conv1'].blobs[0].data is not None and len(net.layers[1].blobs) == 2
        assert net.bottom_names['relu1'] == ['conv1'] and net.top_names['prob'] == ['prob']
        assert (net.inputs[0], net.outputs[-1]) == ('data', 'prob') and 'conv1' in net.blobs
        blob = net.blobs['data']
        assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (2, 3, 12, 12, 864)
        assert list(blob.shape) == [2, 3, 12, 12] and blob.data.dtype == np.float32
        assert type(net.params['conv1']) is caffe._caffe.BlobVec and isinstance(blob, caffe._caffe.Blob)
    """,
    "forward": """
        import numpy as np, caffe
        net = caffe.Net('net.prototxt', 'net.caffemodel', caffe.TEST)
        x = np.random.rand(2, 3, 12, 12)
        assert set(net.forward(data=x)) == {'prob'} and set(net.forward(['conv1'], data=x)) == {'prob', 'conv1'}
        assert list(net.forward(end='pool1')) == ['pool1'] and list(net.forward(start='pool1', end='ip')) == ['ip']
        five = net.forward_all(blobs=['conv1'], data=np.asarray([x[0]] * 5))
        assert five['prob'].shape == (5, 5) and five['conv1'].shape == (5, 4, 10, 10)
        for k in (1, 4):
            net.blobs['data'].reshape(k, *net.blobs['data'].data.shape[1:])
            net.reshape()
            assert net.blobs['prob'].data.shape == (k, 5)
        net.blobs['data'].data[...] = x[0]
        net.blobs['data'].data[0], net.blobs['data'].data.flat[0] = x[1], 3
        assert np.allclose(net.forward()['prob'][1], five['prob'][0])
    """,
    "gradient of a class": """
        import numpy as np, caffe
        from google.protobuf import text_format
        model = caffe.io.caffe_pb2.NetParameter()
        text_format.Merge(open('net.prototxt').read(), model)
        model.force_backward = True
        open('tmp.prototxt', 'w').write(str(model))
        net = caffe.Net('tmp.prototxt', 'net.caffemodel', caffe.TEST)
        net.forward(data=np.random.rand(2, 3, 12, 12))
        grad = np.zeros_like(net.blobs[net.outputs[-1]].data)
        grad[:, 3] = 1
        whole = net.backward(**{net.outputs[-1]: grad})['data'].copy()
        assert whole.shape == (2, 3, 12, 12) and np.abs(whole).max() > 0
        assert set(net.backward(diffs=['conv1'], prob=grad)) == {'data', 'conv1'}
        net.blobs['ip'].diff[...] = net.blobs['ip'].diff.copy()
        net.backward(start='ip', end='pool1')
        net.backward(start='pool1')
        assert np.allclose(net.blobs['data'].diff, whole)
        out, grads = net.forward_backward_all(data=np.random.rand(3, 3, 12, 12), prob=np.ones((3, 5)))
        assert out['prob'].shape == (3, 5) and grads['data'].shape == (3, 3, 12, 12)
    """,
    "deep dream": """
        import numpy as np, caffe
        net = caffe.Classifier('tmp.prototxt' if __import__('os').path.exists('tmp.prototxt') else 'net.prototxt',
                               'net.caffemodel', mean=np.float32([104., 116., 122.]), channel_swap=(2, 1, 0))
        src, dst = net.blobs['data'], net.blobs['pool1']
        src.reshape(1, 3, 20, 24)
        src.data[0] = np.random.rand(3, 20, 24) * 100
        before = None
        for _ in range(4):
            ox, oy = np.random.randint(-3, 4, 2)
            src.data[0] = np.roll(np.roll(src.data[0], ox, -1), oy, -2)
            net.forward(end='pool1')
            before = before or np.square(dst.data).sum()
            dst.diff[:] = dst.data
            net.backward(start='pool1')
            g = src.diff[0]
            src.data[:] += 5. / np.abs(g).mean() * g
            src.data[0] = np.roll(np.roll(src.data[0], -ox, -1), -oy, -2)
            bias = net.transformer.mean['data']
            src.data[:] = np.clip(src.data, -bias, 255 - bias)
        net.forward(end='pool1')
        assert np.square(dst.data).sum() > before
    """,
    "surgery": """
        import numpy as np, caffe
        open('full.prototxt', 'w').write(open('net.prototxt').read().replace('"ip"', '"ip-conv"').replace(
            'InnerProduct', 'Convolution').replace('inner_product_param { num', 'convolution_param { kernel_size: 5 num'))
        net = caffe.Net('net.prototxt', 'net.caffemodel', caffe.TEST)
        full = caffe.Net('full.prototxt', 'net.caffemodel', caffe.TEST)
        full.params['ip-conv'][0].data.flat = net.params['ip'][0].data.flat
        full.params['ip-conv'][1].data[...] = net.params['ip'][1].data
        full.save('full.caffemodel')
        again = caffe.Net('full.prototxt', 'full.caffemodel', caffe.TEST)
        x = np.random.rand(2, 3, 12, 12)
        assert np.allclose(net.forward(data=x)['prob'], again.forward(data=x)['prob'][..., 0, 0], atol=1e-6)
        again.blobs['data'].reshape(1, 3, 20, 20)
        assert again.forward()['prob'].shape == (1, 5, 5, 5)
        m = net.params['conv1'][0].data
        m[range(3), range(3), :, :] = np.ogrid[:3, :3][0] / 3.
        m[3, 0, 1:-1, 1:-1] = 7
        assert net.params['conv1'][0].data[3, 0, 1, 1] == 7
    """,
    "merging batch normalisation": """
        import numpy as np, caffe
        L = caffe.layers
        def spec(bn):
            n = caffe.NetSpec()
            n.data = L.Input(shape=dict(dim=[2, 3, 6, 6]))
            n['conv'] = L.Convolution(n.data, kernel_size=3, num_output=4, weight_filler=dict(type='msra'))
            if bn:
                n['conv/bn'] = L.BatchNorm(n.conv, in_place=True, use_global_stats=True, param=[dict(lr_mult=0)] * 3)
                n['conv/scale'] = L.Scale(n['conv/bn'], in_place=True, bias_term=True)
            n.out = L.ReLU(n['conv/scale'] if bn else n.conv)
            return str(n.to_proto())
        open('bn.prototxt', 'w').write(spec(True))
        open('nobn.prototxt', 'w').write(spec(False))
        net, nob = caffe.Net('bn.prototxt', caffe.TEST), caffe.Net('nobn.prototxt', caffe.TEST)
        for blob, value in zip(net.params['conv/bn'], (np.random.randn(4), np.random.rand(4) + 1, 2)):
            blob.data[...] = value
        net.params['conv/scale'][0].data[...] = np.random.randn(4)
        net.params['conv/scale'][1].data[...] = np.random.randn(4)
        for key in net.params.keys():
            if type(net.params[key]) is caffe._caffe.BlobVec and not key.endswith(('/bn', '/scale')):
                mean, var, factor = [b.data for b in net.params[key + '/bn']]
                scale = net.params[key + '/scale'][0].data / np.sqrt(var / factor + 1e-5)
                nob.params[key][0].data[...] = net.params[key][0].data * scale[:, None, None, None]
                bias = (net.params[key][1].data - mean / factor) * scale + net.params[key + '/scale'][1].data
                nob.params[key][1].data[...] = bias
        x = np.random.rand(2, 3, 6, 6)
        assert np.allclose(net.forward(data=x)['out'], nob.forward(data=x)['out'], atol=1e-4)
    """,
    "a model as a message": """
        import copy, pickle
        import numpy as np, caffe
        from caffe.proto import caffe_pb2
        from google.protobuf import text_format, json_format
        net = caffe_pb2.NetParameter()
        net.ParseFromString(open('net.caffemodel', 'rb').read())
        for layer in net.layer:
            if layer.type == 'Convolution' and len(layer.blobs):
                w = np.array(layer.blobs[0].data, dtype=np.float32).reshape(layer.blobs[0].shape.dim)
                layer.blobs[0].data[:] = [float(v) for v in (2 * w).flatten()]
                assert np.allclose(caffe.io.blobproto_to_array(layer.blobs[0]), 2 * w)
        with open('twice.caffemodel', 'wb') as f:
            f.write(net.SerializeToString())
        one, two = (caffe.Net('net.prototxt', w, caffe.TEST) for w in ('net.caffemodel', 'twice.caffemodel'))
        assert np.allclose(2 * one.params['conv1'][0].data, two.params['conv1'][0].data)
        text = caffe_pb2.NetParameter()
        text_format.Parse(open('net.prototxt').read(), text)
        added = caffe_pb2.LayerParameter()
        added.CopyFrom(text.layer[2])
        added.name, added.include.add().phase = 'relu2', caffe_pb2.TEST
        text.layer.extend([added])
        del text.layer[2]
        text.layer[0].input_param.shape[0].dim[0] = 1
        assert text.layer[1].convolution_param.kernel_size[0] == 3 and not text.layer[1].HasField('relu_param')
        assert [l.name for l in text.layer] == ['data', 'conv1', 'pool1', 'ip', 'prob', 'relu2']
        assert text_format.MessageToString(text) == str(copy.deepcopy(text)) == str(pickle.loads(pickle.dumps(text)))
        assert json_format.MessageToDict(text)['layer'][1]['convolutionParam']['numOutput'] == 4
        assert caffe_pb2.V1LayerParameter.LayerType.Name(4) == 'CONVOLUTION'
        assert caffe_pb2.PoolingParameter.PoolMethod.Name(caffe_pb2.PoolingParameter.AVE) == 'AVE'
        assert caffe_pb2.SolverParameter.SolverMode.Value('GPU') == caffe_pb2.SolverParameter.GPU
        fields = [f.name for f in caffe_pb2.LayerParameter.DESCRIPTOR.fields if f.name.endswith('_param')]
        assert 'convolution_param' in fields and caffe_pb2.Phase.keys() == ['TRAIN', 'TEST']
        assert 'ConvolutionParameter' in [key for key in caffe_pb2.__dict__ if key.endswith('Parameter')]
    """,
    "caffe_pb2 without its package": """
        import os, pickle, sys
        import caffe
        sys.path.insert(0, os.path.join(os.path.dirname(caffe.__file__), 'proto'))
        import caffe_pb2
        datum = caffe_pb2.Datum(channels=1, height=1, width=2, data=bytes([3, 4]))
        assert caffe.io.datum_to_array(pickle.loads(pickle.dumps(datum))).tolist() == [[[3, 4]]]
    """,
    "solver loop": """
        import numpy as np, caffe
        solver = caffe.SGDSolver('solver.prototxt')
        solver.net.forward()
        solver.test_nets[0].forward()
        niter = 20
        train_loss = np.zeros(niter)
        for it in range(niter):
            solver.step(1)
            train_loss[it] = solver.net.blobs['loss'].data
            solver.test_nets[0].forward(start='ip')
            if it % 10 == 0:
                print('iteration', it, 'loss %.3f' % solver.net.blobs['loss'].data, solver.test_nets[0].blobs['acc'].data)
        assert train_loss[-1] < 0.5 * train_loss[0] and solver.iter == niter
        assert solver.net.params['ip'][0].diff.shape == (3, 3)
        solver.snapshot()
        weights = solver.net.params['ip'][0].data.copy()
        solver.step(2)
        solver.restore('snap_iter_20.solverstate')
        assert solver.iter == niter and (solver.net.params['ip'][0].data == weights).all()
        test = caffe.Net('train.prototxt', 'snap_iter_20.caffemodel', caffe.TEST)
        accuracy = 0
        for _ in range(3):
            accuracy += test.forward()['acc']
        assert accuracy / 3 > 0.9
        other = caffe.Net('train.prototxt', caffe.TEST)
        other.share_with(solver.net)
        solver.net.params['ip'][1].data[0] = 42
        assert other.params['ip'][1].data[0] == 42 and solver.test_nets[0].params['ip'][1].data[0] == 42
    """,
    "a solver from a message": """
        import os, tempfile, caffe
        from caffe.proto import caffe_pb2
        calls = []
        for kind in ('SGD', 'Nesterov', 'AdaGrad', 'RMSProp', 'AdaDelta', 'Adam'):
            s = caffe_pb2.SolverParameter()
            s.random_seed = 0xCAFFE
            s.train_net = 'train.prototxt'
            s.test_net.append('train.prototxt')
            s.test_interval, s.max_iter, s.base_lr, s.lr_policy, s.type, s.display = 500, 2, 0.01, 'fixed', kind, 1
            s.test_iter.append(1)
            if kind in ('SGD', 'Nesterov', 'AdaDelta'):
                s.momentum = 0.9
            s.solver_mode = caffe_pb2.SolverParameter.GPU
            s.snapshot_prefix = 'auto'
            with tempfile.NamedTemporaryFile(mode='w', delete=False) as f:
                f.write(str(s))
            solver = caffe.get_solver(f.name)
            os.remove(f.name)
            solver.add_callback(lambda: calls.append('start'), lambda: calls.append('gradients'))
            assert type(solver) is getattr(caffe, kind + 'Solver') and solver.param.max_iter == 2
            solver.solve()
        assert calls == ['start', 'gradients'] * 12
    """,
    "layers in Python": """
        import sys
        sys.path.append('.')
        import numpy as np, caffe
        L = caffe.layers
        n = caffe.NetSpec()
        n.data = L.Python(module='my_layers', layer='Feeder', param_str='{"num_classes": 3}', ntop=1)
        n.out = L.Python(n.data, module='my_layers', layer='Scaled', param_str=str(dict(factor=3)))
        n.loss = L.Python(n.out, python_param=dict(module='my_layers', layer='Scaled', param_str=repr({'factor': 1})),
                          loss_weight=1)
        open('python.prototxt', 'w').write('force_backward: true\\n' + str(n.to_proto()))
        net = caffe.Net('python.prototxt', caffe.TRAIN)
        net.layers[0].set_roidb([[1, 2, 3], [4, 5, 6]])
        assert net.forward()['loss'][1, 2] == 6 * 3 * 2 * 2
        assert net.layers[0]._params == {'num_classes': 3} and net.layers[0].phase == caffe.TRAIN
        net.backward()
        assert (net.blobs['out'].diff == 1).all() and (net.blobs['data'].diff == 3).all()
        net.layers[list(net._layer_names).index('out')].factor = 10
        assert net.forward()['loss'][0, 0] == 40 and net.params['out'][0].data.shape == (1, 3)
    """,
    "a net in Python": """
        import caffe
        from caffe import layers as L, params as P
        def conv_bn_relu(net, bottom, name, ks, nout, **kwargs):
            net[name] = L.Convolution(bottom, kernel_size=ks, num_output=nout, weight_filler=dict(type='msra'), **kwargs)
            net[name + '_bn'] = L.BatchNorm(net[name], in_place=True, include=dict(phase=caffe.TRAIN))
            setattr(net, name + '_relu', L.ReLU(net[name + '_bn'], in_place=True))
            return getattr(net, name + '_relu')
        n = caffe.NetSpec()
        n.data, n.label = L.DummyData(shape=[dict(dim=[2, 3, 8, 8]), dict(dim=[2])], ntop=2)
        x = conv_bn_relu(n, n.data, 'c1', 3, 4, pad=1, bias_term=False, param=[dict(lr_mult=1, decay_mult=1)])
        y = conv_bn_relu(n, x, 'c2', [3, 3], 4, pad=[1], group=2)
        n.sum = L.Eltwise(x, y, operation=P.Eltwise.SUM, coeff=[1, -1])
        n.a, n.b = L.Slice(n.sum, axis=1, slice_point=1, ntop=2)
        n.cat = L.Concat(n.a, n.b, axis=1)
        n.pool = L.Pooling(n.cat, pool=P.Pooling.AVE, global_pooling=True)
        n.flat = L.Reshape(n.pool, reshape_param=dict(shape=dict(dim=[0, -1])))
        n.drop = fc_in = L.Dropout(n.flat, dropout_ratio=0.5, in_place=True)
        n.__setattr__('fc_%d' % 7, L.InnerProduct(fc_in, inner_product_param={'num_output': 3}))
        n.loss = L.SoftmaxWithLoss(n.fc_7, n.label, loss_param=dict(ignore_label=255, normalize=False))
        n.acc = L.Accuracy(n.fc_7, n.label, include=dict(phase=caffe.TEST))
        with open('spec.prototxt', 'w') as f:
            print('name: "spec"', file=f)
            print(n.to_proto(), file=f)
        assert set(caffe.Net('spec.prototxt', caffe.TEST).forward()) == {'acc', 'loss'} and 'cat' in n.tops
        assert list(caffe.Net('spec.prototxt', caffe.TRAIN).forward()) == ['loss']
        assert [l.type for l in caffe.to_proto(n.fc_7).layer][-1] == 'InnerProduct' and n.pool.fn.type_name == 'Pooling'
    """,
    "drawing": """
        import os, caffe.draw
        from caffe.proto import caffe_pb2
        from google.protobuf import text_format
        net = caffe_pb2.NetParameter()
        text_format.Merge(open('net.prototxt').read(), net)
        caffe.draw.draw_net_to_file(net, 'net.png', 'BT')
        caffe.draw.draw_net_to_file(net, 'net.svg', 'LR', caffe.TEST)
        assert os.path.getsize('net.png') > 1000 and b'conv1' in open('net.svg', 'rb').read()
    """,
    "hdf5 and plots": """
        import h5py, numpy as np, caffe
        import matplotlib
        matplotlib.use('Agg')
        import matplotlib.pyplot as plt
        with h5py.File('train.h5', 'w') as f:
            f['data'] = np.arange(18.).reshape(6, 3)
            f.create_dataset('label', data=np.arange(6).astype(np.float32), compression='gzip', compression_opts=1)
        with open('train.txt', 'w') as f:
            f.write('train.h5\\n' * 2)
        n = caffe.NetSpec()
        n.data, n.label = caffe.layers.HDF5Data(batch_size=4, source='train.txt', ntop=2)
        open('h5.prototxt', 'w').write(str(n.to_proto()))
        net = caffe.Net('h5.prototxt', caffe.TRAIN)
        net.forward()
        net.forward()
        assert list(net.blobs['label'].data) == [4, 5, 0, 1]
        plt.imshow(net.blobs['data'].data, cmap='gray')
        plt.hist(net.blobs['data'].data.flat[net.blobs['data'].data.flat > 0], bins=10)
        plt.savefig('plot.png')
    """,
    "weights into a pickle and back": """
        import copy, pickle
        import numpy as np, caffe
        net = caffe.Net('net.prototxt', 'net.caffemodel', caffe.TEST)
        weights = pickle.loads(pickle.dumps({name: [b.data for b in blobs] for name, blobs in net.params.items()}))
        other = caffe.Net('net.prototxt', caffe.TEST)
        for name, arrays in weights.items():
            for blob, array in zip(other.params[name], arrays):
                np.copyto(blob.data, array)
        x = copy.copy(np.random.rand(2, 3, 12, 12))
        assert (other.forward(data=x)['prob'] == net.forward(data=x)['prob']).all()
    """,
    "a class around a net": """
        import numpy as np, caffe
        class Model(caffe.Net):
            def __init__(self, model, weights):
                caffe.Net.__init__(self, model, weights, caffe.TEST)
                self.mean = 3
            def predict(self, x):
                return self.forward_all(**{self.inputs[0]: x})[self.outputs[0]]
        model = Model('net.prototxt', 'net.caffemodel')
        assert model.predict(np.zeros((3, 3, 12, 12))).shape == (3, 5)
        caffe.Net.first_output = lambda self: self.outputs[0]
        assert model.first_output() == 'prob'
        del caffe.Net.first_output
    """,
    "threads and a fork": """
        import multiprocessing, sys, threading
        import numpy as np, caffe
        def work(put):
            caffe.set_mode_cpu()
            net = caffe.Net('net.prototxt', 'net.caffemodel', caffe.TEST)
            put(net.forward(data=np.ones((2, 3, 12, 12)))['prob'].copy())
        results = []
        threads = [threading.Thread(target=work, args=(results.append,)) for _ in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if 'fork' in multiprocessing.get_all_start_methods():
            queue = multiprocessing.get_context('fork').Queue()
            process = multiprocessing.get_context('fork').Process(target=work, args=(queue.put,))
            process.start()
            results.append(queue.get(timeout=60))
            process.join()
        assert len(results) >= 3 and all(np.allclose(r, results[0], atol=1e-6) for r in results)
    """,
    "old prototxt": """
        import caffe
        open('old.prototxt', 'w').write('''
            input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
            layers { name: "c" type: CONVOLUTION bottom: "data" top: "c" blobs_lr: 1 blobs_lr: 2
              convolution_param { num_output: 2 kernel_size: 3 } }
            layers { name: "p" type: SOFTMAX bottom: "c" top: "p" }''')
        net = caffe.Net('old.prototxt', caffe.TEST)
        assert list(net.blobs) == ['data', 'c', 'p'] and net.forward()['p'].shape == (1, 2, 6, 6)
    """,
    "arrays in memory": """
        import numpy as np, caffe
        open('memory.prototxt', 'w').write('layer { name: "d" type: "MemoryData" top: "d" top: "l" '
            'memory_data_param { batch_size: 2 channels: 1 height: 3 width: 3 } }')
        net = caffe.Net('memory.prototxt', caffe.TEST)
        net.set_input_arrays(np.arange(36, dtype=np.float32).reshape(4, 1, 3, 3), np.arange(4, dtype=np.float32))
        net.forward()
        assert list(net.blobs['l'].data) == [0, 1] and net.blobs['d'].data[1, 0, 2, 2] == 17
    """,
    "what scripts catch": """
        import numpy as np, caffe
        def raises(kind, call):
            try:
                call()
            except kind:
                return True
        net = caffe.Net('net.prototxt', caffe.TEST)
        assert raises(RuntimeError, lambda: caffe.Net('missing.prototxt', caffe.TEST))
        assert raises(KeyError, lambda: net.blobs['nothing']) and raises(KeyError, lambda: net.params['nothing'])
        assert raises(Exception, lambda: net.forward(image=np.zeros(3)))
        assert raises(Exception, lambda: net.forward(data=np.zeros((1, 3, 12, 12))))
        assert raises(ValueError, lambda: caffe.io.Transformer({'data': (1, 3, 8, 8)}).set_transpose('data', (0, 1)))
        assert raises(ValueError, lambda: caffe.io.array_to_datum(np.zeros((2, 2))))
    """,
    "unit tests": """
        import os, tempfile, unittest
        import numpy as np, caffe
        class TestNet(unittest.TestCase):
            def setUp(self):
                f = tempfile.NamedTemporaryFile(mode='w+', delete=False)
                f.write(open('net.prototxt').read())
                f.close()
                self.net = caffe.Net(f.name, caffe.TRAIN)
                os.remove(f.name)
            def test_memory(self):
                params = sum(map(list, self.net.params.values()), [])
                arrays = [b.data for b in params] + [b.diff for b in self.net.blobs.values()]
                del self.net, params
                self.assertTrue(np.isfinite(sum(a.sum() for a in arrays)))
            def test_save_and_read(self):
                self.net.save('unit.caffemodel')
                with self.assertRaises(RuntimeError):
                    caffe.Net('net.prototxt', 'none.caffemodel', caffe.TEST)
        result = unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(TestNet))
        assert result.testsRun == 2 and result.wasSuccessful()
    """,
    "a mean of another size": """
        import numpy as np, caffe
        t = caffe.io.Transformer({'data': (1, 3, 8, 8)})
        t.set_mean('data', np.arange(3 * 16 * 16).reshape(3, 16, 16))
        assert t.mean['data'].shape == (3, 8, 8) and 0 <= t.mean['data'].min() < t.mean['data'].max() <= 767
    """,
    "caffe_pb2 from its folder": """
        import os, sys, caffe
        sys.path.insert(0, os.path.join(os.path.dirname(caffe.__file__), 'proto'))
        import caffe_pb2
        assert caffe_pb2.Datum(label=3).label == 3
    """,
    "star import of modules": """
        from caffe import *
        assert proto.caffe_pb2.Datum and io.load_image and net_spec.NetSpec
    """,
    "a phase of NumPy's": """
        import numpy as np, caffe
        assert caffe.Net('net.prototxt', np.int64(1)).forward()
    """,
    "children": """
        import subprocess, sys
        out = subprocess.check_output([sys.executable, '-c', 'import caffe; print(caffe.TEST)'])
        assert out.split() == [b'1']
    """,
    "names that NumPy removed": """
        import numpy as np, caffe
        assert np.zeros(2).astype(np.int).dtype.kind == 'i' and np.float(1) == 1
    """,
    "a database that is open": """
        import lmdb, numpy as np, caffe
        env = lmdb.open('open_db', map_size=int(1e7))
        with env.begin(write=True) as txn:
            for i in range(4):
                datum = caffe.io.array_to_datum(np.full((1, 2, 2), i, np.uint8), i)
                txn.put('{:08}'.format(i).encode('ascii'), datum.SerializeToString())
        open('open.prototxt', 'w').write('layer { name: "d" type: "Data" top: "d" top: "l" '
            'data_param { source: "open_db" batch_size: 4 backend: LMDB } }')
        net = caffe.Net('open.prototxt', caffe.TEST)
        net.forward()
        assert list(net.blobs['l'].data) == [0, 1, 2, 3]
        env.close()
        assert lmdb.open('open_db', readonly=True, lock=False).stat()['entries'] == 4
    """,
}

ALL = """
import json, runpy, sys, traceback
runpy.run_path('prepare.py')
said = {}
for name in json.load(open('names.json')):
    try:
        runpy.run_path(name, run_name='__main__')
        said[name] = ''
    except BaseException:
        said[name] = traceback.format_exc()
json.dump(said, open('said.json', 'w'))
"""


def _program(text: str) -> str:
    lines = text.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[indent:] for line in lines) + "\n"


def _file(name: str) -> str:
    return f"script_{name.replace(' ', '_')}.py"


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[str, str]:
    """What each script ended with: nothing, or a traceback."""
    folder = tmp_path_factory.mktemp("foreign")
    for name, text in FILES.items():
        (folder / name).write_text(_program(text))
    for name, text in SNIPPETS.items():
        (folder / _file(name)).write_text(_program(text))
    (folder / "prepare.py").write_text(PREPARE)
    (folder / "all.py").write_text(ALL)
    (folder / "names.json").write_text(json.dumps([_file(name) for name in SNIPPETS]))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(caffe.__file__).parents[1]), *_old_path()])}
    done = subprocess.run(
        [sys.executable, "-m", "pycaffe_lite", "run", "all.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "said.json").read_text())


def _old_path() -> list[str]:
    return [path for path in [os.environ.get("PYTHONPATH")] if path]


@pytest.mark.parametrize("name", SNIPPETS)
def test_a_script_runs_as_it_is(name, said):
    assert not said[_file(name)], said[_file(name)]
