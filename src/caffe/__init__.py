"""pycaffe on PyTorch: Caffe's Python API, formats and numbers.

    net = caffe.Net("deploy.prototxt", caffe.TEST, weights="net.caffemodel")
    solver = caffe.SGDSolver("solver.prototxt")

The names are BVLC Caffe's; docs/ says where behaviour differs and why.
"""

import sys

from . import allocator, errors, io, layer, proto, prototxt, schema, tensor_layer
from ._caffe import (
    NCCL,
    TEST,
    TRAIN,
    Layer,
    Timer,
    has_nccl,
    init_log,
    layer_type_list,
    log,
    set_device,
    set_mode_cpu,
    set_mode_gpu,
    set_multiprocess,
    set_precision,
    set_random_seed,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from ._caffe import (
    __version__ as __version__,
)
from .classifier import Classifier
from .data import database
from .detector import Detector
from .errors import CaffeError
from .extension import layer_type
from .formats import snapshot, upgrade
from .net_spec import NetSpec, layers, params, to_proto
from .pycaffe import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    Net,
    RMSPropSolver,
    SGDSolver,
    get_solver,
)

# Paths that programs may have from before these moved.
layer.TensorLayer, layer.LossLayer = tensor_layer.TensorLayer, tensor_layer.LossLayer  # type: ignore[attr-defined]
sys.modules |= {f"{__name__}.{module.__name__.split('.')[-1]}": module for module in (database, snapshot, upgrade)}

__all__ = [
    "NCCL",
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "CaffeError",
    "Classifier",
    "Detector",
    "Layer",
    "NesterovSolver",
    "Net",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "Timer",
    "allocator",
    "errors",
    "get_solver",
    "has_nccl",
    "init_log",
    "io",
    "layer_type",
    "layer_type_list",
    "layers",
    "log",
    "params",
    "proto",
    "prototxt",
    "schema",
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
    "to_proto",
]
