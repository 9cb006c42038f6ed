# What `import caffe` gives, for type checkers; the modules named here are typed themselves.
#
# A name that caffe/__init__.py gains is added here too: tests/caffe/test_stubs.py compares the two.

from typing import Final

from . import _caffe as _caffe
from . import allocator as allocator
from . import classifier as classifier
from . import detector as detector
from . import errors as errors
from . import io as io
from . import net_spec as net_spec
from . import proto as proto
from . import prototxt as prototxt
from . import pycaffe as pycaffe
from . import schema as schema
from ._caffe import has_nccl as has_nccl
from ._caffe import layer_type_list as layer_type_list
from .classifier import Classifier as Classifier
from .detector import Detector as Detector
from .device import set_device as set_device
from .device import set_mode_cpu as set_mode_cpu
from .device import set_mode_gpu as set_mode_gpu
from .device import set_precision as set_precision
from .errors import CaffeError as CaffeError
from .extension import layer_type as layer_type
from .glog import init_log as init_log
from .glog import log as log
from .layer import Layer as Layer
from .net import Net as Net
from .net_spec import Layers, Parameters
from .net_spec import NetSpec as NetSpec
from .net_spec import to_proto as to_proto
from .parallel.gradients import NCCL as NCCL
from .rng import set_random_seed as set_random_seed
from .solvers.solver import AdaDeltaSolver as AdaDeltaSolver
from .solvers.solver import AdaGradSolver as AdaGradSolver
from .solvers.solver import AdamSolver as AdamSolver
from .solvers.solver import NesterovSolver as NesterovSolver
from .solvers.solver import RMSPropSolver as RMSPropSolver
from .solvers.solver import SGDSolver as SGDSolver
from .solvers.solver import get_solver as get_solver
from .timer import Timer as Timer
from .world import set_multiprocess as set_multiprocess
from .world import set_solver_count as set_solver_count
from .world import set_solver_rank as set_solver_rank
from .world import solver_count as solver_count
from .world import solver_rank as solver_rank

TRAIN: Final = 0
TEST: Final = 1
__version__: Final[str]
layers: Final[Layers]
params: Final[Parameters]
