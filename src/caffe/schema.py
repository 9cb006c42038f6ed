"""caffe.schema: declaring the messages of a fork's layer types, for programs. The work is in formats/."""

from .formats.schema import declare

__all__ = ["declare"]
