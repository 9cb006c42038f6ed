"""Caffe's protobuf messages: caffe.proto.caffe_pb2, generated from caffe.proto beside it."""
