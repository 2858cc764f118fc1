"""Caffe's formats: the schema (`caffe_pb2`), prototxt text, upgrades of old nets, and model files."""
