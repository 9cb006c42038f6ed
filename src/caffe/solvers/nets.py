"""Which nets a solver trains and tests: the net fields of SolverParameter, and the state each net is built for.

The rules are those of solver.cpp InitTrainNet and InitTestNets. A net's state is put together from the phase, the
`state` that stands in the net itself, and the solver's train_state or test_state, the last having the last word.
"""

from __future__ import annotations

from .. import glog
from ..errors import SolverError
from ..formats.prototxt import read_net
from ..net import Net
from ..proto import caffe_pb2

# The fields that a train net can stand in, and where Caffe logs that it does.
_TRAIN_FIELDS = {
    "net": "solver.cpp:102",
    "net_param": "solver.cpp:97",
    "train_net": "solver.cpp:92",
    "train_net_param": "solver.cpp:88",
}


def make_train_net(solver: caffe_pb2.SolverParameter) -> Net:
    """Build the train net, with the solver's `weights` loaded.

    Raises SolverError unless exactly one of net, net_param, train_net and train_net_param is set.
    """
    fields = [name for name in _TRAIN_FIELDS if solver.HasField(name)]
    wanted = ", ".join(_TRAIN_FIELDS)
    if not fields:
        raise SolverError(f"SolverParameter must specify a train net using one of these fields: {wanted}.")
    if len(fields) > 1:
        raise SolverError(
            f"SolverParameter must not contain more than one of these fields specifying a train_net: {wanted}; "
            f"{' and '.join(fields)} are set."
        )
    source = fields[0]
    if source.endswith("_param"):
        glog.info_at_root(f"Creating training net specified in {source}.", _TRAIN_FIELDS[source])
        param = getattr(solver, source)
    else:
        path = getattr(solver, source)
        glog.info_at_root(f"Creating training net from {source} file: {path}", _TRAIN_FIELDS[source])
        param = read_net(path)
    return _make(solver, param, caffe_pb2.TRAIN, solver.train_state)


def make_test_nets(solver: caffe_pb2.SolverParameter) -> list[Net]:
    """Build the test nets: those of test_net_param, then of test_net, then as many of net (or net_param) as remain.

    test_iter says how many there are. Raises SolverError if it, test_state or test_interval does not fit them.
    """
    own = len(solver.test_net_param) + len(solver.test_net)
    iterations = len(solver.test_iter)
    has_generic = solver.HasField("net") or solver.HasField("net_param")
    if iterations < own or (iterations > own and not has_generic):
        raise SolverError(
            f"test_iter must be specified for each test network: {iterations} test_iter for {own} test_net and "
            "test_net_param."
        )
    if solver.test_state and len(solver.test_state) != iterations:
        raise SolverError(
            "test_state must be unspecified or specified once per test net: "
            f"{len(solver.test_state)} test_state for {iterations} test_iter."
        )
    if iterations and solver.test_interval <= 0:
        raise SolverError(
            f"test_interval must be above 0 where test_iter is given, not {solver.test_interval}. "
            "A very large one never tests."
        )
    sources = [("test_net_param", param) for param in solver.test_net_param]
    sources += [(f"test_net file: {path}", read_net(path)) for path in solver.test_net]
    if iterations > own:
        if solver.HasField("net_param"):
            generic = ("net_param", solver.net_param)
        else:
            generic = (f"net file: {solver.net}", read_net(solver.net))
        sources += [generic] * (iterations - own)
    nets = []
    for index, (source, param) in enumerate(sources):
        glog.info_at_root(f"Creating test net (#{index}) specified by {source}", "solver.cpp:190")
        state = solver.test_state[index] if solver.test_state else caffe_pb2.NetState()
        net = _make(solver, param, caffe_pb2.TEST, state)
        net.debug_info = solver.debug_info
        nets.append(net)
    return nets


def _make(
    solver: caffe_pb2.SolverParameter, param: caffe_pb2.NetParameter, phase: caffe_pb2.Phase, state: caffe_pb2.NetState
) -> Net:
    built = caffe_pb2.NetParameter()
    built.CopyFrom(param)
    merged = caffe_pb2.NetState()
    merged.phase = phase
    merged.MergeFrom(param.state)
    merged.MergeFrom(state)
    built.state.CopyFrom(merged)
    net = Net.from_proto(built)
    for paths in solver.weights:
        for path in paths.split(","):
            if path.strip():
                net.copy_from(path.strip())
    return net
