"""`caffe upgrade`: nets, solvers and weights of older Caffe versions, written anew in today's fields.

Caffe has three programs for it: upgrade_net_proto_text, upgrade_net_proto_binary and upgrade_solver_proto_text.
"""

from __future__ import annotations

from ... import glog
from ...errors import CaffeError, FileFormatError, PrototxtError, why_not_opened
from ...formats import file_kind
from ...formats.atomic import atomic_path
from ...formats.prototxt import parse_text, read_net, read_solver, to_text
from ...formats.snapshot import read_weights, write_weights
from ...formats.upgrade import upgrade_net, upgrade_solver
from ...formats.wire_file import WireFile
from ...proto import caffe_pb2
from ..flags import Flags

# Where Caffe's program for each kind of file says that there was nothing to do.
_UPGRADED_ALREADY = {
    "net": "upgrade_net_proto_text.cpp:43",
    "solver": "upgrade_solver_proto_text.cpp:43",
    "weights": "upgrade_net_proto_binary.cpp:43",
}


def upgrade(flags: Flags, old: str, new: str) -> None:
    """Read a file of any Caffe version and write it in today's form; its content tells what it is.

    `new` may be `old`. Comments of a prototxt are lost, as with Caffe's own programs. Raises CaffeError for a file
    that is neither net, solver nor weights, and leaves `new` as it was.
    """
    try:
        with open(old, "rb") as file:
            start = file.read(1 << 16)
    except (OSError, ValueError) as error:
        raise CaffeError(f"Could not open file {old}: {why_not_opened(error)}.") from error
    if file_kind.is_hdf5(old):
        raise FileFormatError(f"{old} is an HDF5 file, which has had one form only: there is nothing to upgrade.")
    if file_kind.is_text(start):
        kind, changed = _upgrade_text(old, new)
    else:
        kind, changed = "weights", _upgrade_weights(old, new)
    if not changed:
        glog.info(f"File already in latest proto format: {old}", _UPGRADED_ALREADY[kind])
    glog.info(f"Wrote upgraded {kind} to {new}")


def _upgrade_weights(old: str, new: str) -> bool:
    net = WireFile.open(old).parse(caffe_pb2.NetParameter(), "weights")
    layers = read_weights(old)
    write_weights(new, net.name, layers)
    return upgrade_net(net)


def _upgrade_text(old: str, new: str) -> tuple[str, bool]:
    message: caffe_pb2.NetParameter | caffe_pb2.SolverParameter
    try:
        read_net(old)
        kind = "net"
    except PrototxtError as net_error:
        try:
            read_solver(old)
            kind = "solver"
        except PrototxtError as solver_error:
            # Whoever got further knows what the file was meant to be.
            raise max(net_error, solver_error, key=lambda error: (error.line or 0, error.column or 0)) from None
    with open(old, encoding="utf-8-sig", errors="replace") as file:  # only in comments is there something to replace
        text = file.read()
    if kind == "net":
        message = parse_text(text, caffe_pb2.NetParameter(), old)
        changed = upgrade_net(message)
    else:
        message = parse_text(text, caffe_pb2.SolverParameter(), old)
        changed = upgrade_solver(message)  # without the path, so that no snapshot_prefix is put in
    with atomic_path(new) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(to_text(message))
    return kind, changed


__all__ = ["upgrade"]
