"""This package under the name of caffe, for scripts that say `import caffe`."""

from __future__ import annotations

import sys

from ..user_code.caffe_name import CaffeImporter


def install_as_caffe() -> None:
    """From now on, in this process, `import caffe` and `from caffe.proto import caffe_pb2` mean this package.

    A real Caffe that is installed, or already imported, is hidden. `import caffe_pb2`, used by scripts that expect Caffe's
    `proto` folder on `sys.path`, means this package's module if no other is found. For the processes that this one starts,
    see `pycaffe_lite run`.
    """
    for name in [name for name in sys.modules if name.partition(".")[0] == "caffe"]:
        del sys.modules[name]
    if not any(type(finder) is CaffeImporter for finder in sys.meta_path):
        sys.meta_path.insert(0, CaffeImporter("caffe"))
        sys.meta_path.append(CaffeImporter("caffe_pb2"))
