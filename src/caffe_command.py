"""The `caffe` command's entry."""
