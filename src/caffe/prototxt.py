"""caffe.prototxt: reading and printing nets and solvers as text, for programs. The work is in formats/."""

from .formats.prototxt import parse_text, read_net, read_solver, to_text

__all__ = ["parse_text", "read_net", "read_solver", "to_text"]
