"""The names that programs import from caffe._caffe, which in BVLC Caffe is the compiled module."""

import torch.distributed

from . import layer_types  # noqa: F401  registers the types that layer_type_list names
from .blob import Blob, BlobVec, BoolVec, DtypeVec, IntVec, RawBlobVec, StringVec
from .device import set_device, set_mode_cpu, set_mode_gpu, set_precision
from .glog import init_log, log
from .layer import Layer, LayerVec, type_names
from .net import Net
from .parallel.gradients import NCCL
from .proto.caffe_pb2 import TEST, TRAIN, LayerParameter
from .rng import set_random_seed
from .solvers.settings import SolverParameter
from .solvers.solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    NetVec,
    RMSPropSolver,
    SGDSolver,
    Solver,
    get_solver,
)
from .timer import Timer
from .world import set_multiprocess, set_solver_count, set_solver_rank, solver_count, solver_rank

__version__ = "1.0.0"  # the BVLC Caffe version whose behaviour this is


def layer_type_list() -> StringVec:
    """Return the names of the layer types, sorted."""
    return StringVec(type_names())


def has_nccl() -> bool:
    """Tell whether caffe.NCCL can train on several devices: where PyTorch comes with torch.distributed."""
    return torch.distributed.is_available()


__all__ = [
    "NCCL",
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "BlobVec",
    "BoolVec",
    "DtypeVec",
    "IntVec",
    "Layer",
    "LayerParameter",
    "LayerVec",
    "NesterovSolver",
    "Net",
    "NetVec",
    "RMSPropSolver",
    "RawBlobVec",
    "SGDSolver",
    "Solver",
    "SolverParameter",
    "StringVec",
    "Timer",
    "get_solver",
    "has_nccl",
    "init_log",
    "layer_type_list",
    "log",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_precision",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
]
