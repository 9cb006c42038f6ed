"""What a file is, by its content: every kind is told from every other, and Caffe's own files are no strangers."""

from __future__ import annotations

import ast
import io
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import caffe
from caffe.formats.file_kind import FIRST, Kind, is_hdf5, kind_of, stranger
from caffe.proto import caffe_pb2

GOLDEN = Path(__file__).parents[2] / "golden"
SOLVERS = GOLDEN / "solvers"


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.arange(3))
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", "b")
    return file.getvalue()


KINDS = [
    (b"", Kind.EMPTY),
    (b"\n <!DOCTYPE html>", Kind.WEB_PAGE),
    (b"<!-- a --> <!-- b --><HTML>", Kind.WEB_PAGE),
    (b"<?xml version", Kind.WEB_PAGE),
    (b"version https://git-lfs.github.com/spec/v1", Kind.LFS_POINTER),
    (b"\x1f\x8b\x08\x00", Kind.GZIP),
    (zipped(), Kind.ZIP),
    (pickle.dumps({}), Kind.PICKLE),
    (npy(), Kind.NUMPY),
    ((SOLVERS / "fcn_skip_heavy_hdf5_iter_4.caffemodel.h5").read_bytes(), Kind.HDF5),
    ((SOLVERS / "adam_iter_4.caffemodel").read_bytes(), Kind.WEIGHTS),
    ((SOLVERS / "adam_iter_4.solverstate").read_bytes(), Kind.STATE),
    (caffe_pb2.BlobProto(num=1, channels=1, height=1, width=1, data=[1]).SerializeToString(), Kind.MEAN),
    (b'name: "n"\nlayer { }', Kind.PROTOTXT),
    (b"# \xbe\xed\nlayers { }", Kind.PROTOTXT),  # a comment in another encoding
    (b"base_lr: 0.1", Kind.PROTOTXT),
    ("hello, wörld".encode()[:-5], Kind.TEXT),  # cut off within a character
    (bytes(range(200, 256)), Kind.BINARY),
]


@pytest.mark.parametrize(("content", "kind"), KINDS, ids=[f"{kind.name} {i}" for i, (_, kind) in enumerate(KINDS)])
def test_a_file_is_known_by_how_it_begins(content: bytes, kind: Kind) -> None:
    assert kind_of(content) is kind
    assert kind_of(content[:FIRST]) is kind


def test_hdf5_behind_a_block_of_its_users_is_hdf5(tmp_path: Path) -> None:
    h5py.File(tmp_path / "f", "w", userblock_size=512).close()
    assert is_hdf5(str(tmp_path / "f")) and not is_hdf5(str(Path(__file__)))


def test_no_file_of_caffes_is_a_stranger() -> None:
    for path in GOLDEN.rglob("*"):
        if path.is_file() and path.suffix not in (".npz", ".md", ".py", ".pyc"):
            assert stranger(path.read_bytes()[:FIRST]) is None


def test_nobody_else_looks_at_a_files_first_bytes_to_tell_what_it_is() -> None:
    """Pillow's formats and LMDB's pages are theirs to know."""
    for path in Path(caffe.__file__).parent.rglob("*.py"):
        if path.name in ("file_kind.py", "caffe_pb2.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
            assert name != "is_hdf5" or ast.unparse(node) == "file_kind.is_hdf5", f"{path}:{node.lineno}"
            magic = isinstance(node, ast.Constant) and isinstance(node.value, bytes) and node.value[:3]
            assert magic not in (b"\x89HD", b"\x93NU", b"\x1f\x8b", b"PK\x03", b"ver"), f"{path}:{node.lineno}"
