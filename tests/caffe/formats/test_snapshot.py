"""Weights and solver states: Caffe's own files are read and written byte for byte, damaged ones refused with words."""

from __future__ import annotations

import random
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from caffe.errors import CaffeError, FileFormatError
from caffe.formats import snapshot, stored_blob
from caffe.formats.atomic import atomic_path
from caffe.formats.prototxt import parse_text
from caffe.formats.snapshot import (
    SolverStateData,
    StoredBlob,
    StoredLayer,
    read_state,
    read_weights,
    write_state,
    write_weights,
)
from caffe.formats.stored_blob import blob_from_proto
from caffe.proto import caffe_pb2
from tests import forked

GOLDEN = Path(__file__).parents[2] / "golden" / "solvers"
WEIGHTS = GOLDEN / "fcn_skip_heavy_iter_4.caffemodel"
STATE = GOLDEN / "fcn_skip_heavy_iter_4.solverstate"
WEIGHTS_HDF5 = GOLDEN / "fcn_skip_heavy_hdf5_iter_4.caffemodel.h5"
STATE_HDF5 = GOLDEN / "fcn_skip_heavy_hdf5_iter_4.solverstate.h5"
Reader = Callable[[Any], Any]


def blob(*values: float, shape: tuple[int, ...] | None = None) -> StoredBlob:
    data = np.array(values, np.float32)
    return StoredBlob(data.shape if shape is None else shape, data.reshape(data.shape if shape is None else shape))


def file_with(tmp_path: Path, **fields: Any) -> Path:
    """A caffemodel whose one layer, "c", has one blob of these fields."""
    net = caffe_pb2.NetParameter(name="n")
    net.layer.add(name="c", type="Convolution").blobs.add(**fields)
    path = tmp_path / "w.caffemodel"
    path.write_bytes(net.SerializeToString())
    return path


def same(ours: list[StoredLayer], theirs: list[StoredLayer]) -> bool:
    """Whether layers have the same names and blobs, in whatever order: HDF5 sorts them."""
    mine, other = ({layer.name: layer.blobs for layer in layers} for layers in (ours, theirs))
    return mine.keys() == other.keys() and all(
        len(mine[name]) == len(other[name])
        and all(
            a.shape == b.shape and a.data.tobytes() == b.data.tobytes()
            for a, b in zip(mine[name], other[name], strict=True)
        )
        for name in mine
    )


def structure(path: Path) -> dict[str, Any]:
    """Everything in an HDF5 file: groups, and datasets with type, layout, space and values."""
    found: dict[str, Any] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        found[name] = None
        if isinstance(item, h5py.Dataset):
            kind = item.id.get_type()
            is_text = isinstance(kind, h5py.h5t.TypeStringID)
            found[name] = (
                *(item.shape, item.dtype, kind.get_size(), is_text and (kind.get_strpad(), kind.get_cset())),
                *(item.id.get_create_plist().get_layout(), item.id.get_space().get_simple_extent_type()),
                np.asarray(item[()]).tobytes(),
            )

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


# Caffe's own files


@pytest.mark.parametrize("name", ["fcn_skip_heavy", "adam"])
def test_binary_weights_of_caffe(name: str, tmp_path: Path) -> None:
    path = GOLDEN / f"{name}_iter_4.caffemodel"
    layers = read_weights(path)
    net = caffe_pb2.NetParameter.FromString(path.read_bytes())
    assert [layer.name for layer in layers] == [layer.name for layer in net.layer]
    for ours, theirs in zip(layers, net.layer, strict=True):
        assert [b.shape for b in ours.blobs] == [tuple(b.shape.dim) for b in theirs.blobs]
        for stored, proto in zip(ours.blobs, theirs.blobs, strict=True):
            assert stored.data.dtype == np.float32
            assert stored.data.flags.c_contiguous and stored.data.flags.writeable and stored.data.flags.aligned
            assert stored.data.ravel().tolist() == list(proto.data)
            assert stored.diff is None and not stored.legacy
        assert (ours.param.type, list(ours.param.bottom)) == (theirs.type, list(theirs.bottom))
        assert not ours.param.blobs
    write_weights(tmp_path / "again", net.name, layers)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("name", "count"), [("fcn_skip_heavy", 12), ("adam", 24)])
def test_binary_state_of_caffe(name: str, count: int, tmp_path: Path) -> None:
    path = GOLDEN / f"{name}_iter_4.solverstate"
    state = read_state(path)
    proto = caffe_pb2.SolverState.FromString(path.read_bytes())
    assert (state.iter, state.learned_net, state.current_step) == (4, "snap_iter_4.caffemodel", 0)
    assert [b.data.ravel().tolist() for b in state.history] == [list(b.data) for b in proto.history]
    assert len(state.history) == count
    write_state(tmp_path / "again", state)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_hdf5_weights_of_caffe(tmp_path: Path) -> None:
    layers = read_weights(WEIGHTS_HDF5)
    # The same run in both formats: the same layers, of the same values.
    assert same(layers, read_weights(WEIGHTS))
    write_weights(tmp_path / "again", "unused", layers, hdf5=True)
    assert structure(tmp_path / "again") == structure(WEIGHTS_HDF5)


def test_hdf5_state_of_caffe(tmp_path: Path) -> None:
    state, binary = read_state(STATE_HDF5), read_state(STATE)
    assert (state.iter, state.learned_net, state.current_step) == (4, "snap_iter_4.caffemodel.h5", 0)
    assert [b.data.tobytes() for b in state.history] == [b.data.tobytes() for b in binary.history]
    write_state(tmp_path / "again", state, hdf5=True)
    assert structure(tmp_path / "again") == structure(STATE_HDF5)


# Every way in which a binary file can hold a blob


def test_shapes_of_old_files_have_four_axes(tmp_path: Path) -> None:
    (stored,) = read_weights(file_with(tmp_path, num=1, channels=2, height=1, width=3, data=range(6)))[0].blobs
    assert (stored.shape, stored.legacy) == ((1, 2, 1, 3), True)
    assert stored.data.tolist() == [[[[0, 1, 2]], [[3, 4, 5]]]]


def test_old_shape_counts_before_the_new_one(tmp_path: Path) -> None:
    path = file_with(tmp_path, num=2, channels=1, height=1, width=1, shape={"dim": [2]}, data=[1, 2])
    assert read_weights(path)[0].blobs[0].shape == (2, 1, 1, 1)


def test_doubles_become_floats_and_count_before_floats(tmp_path: Path) -> None:
    path = file_with(tmp_path, shape={"dim": [3]}, double_data=[1.5, 1e300, 0.1], data=[7], double_diff=[1, 2, 3])
    (stored,) = read_weights(path)[0].blobs
    assert stored.data.tolist() == [1.5, np.inf, np.float32(0.1)]
    assert stored.diff is not None and stored.diff.tolist() == [1, 2, 3]


def test_scalars_and_blobs_without_values(tmp_path: Path) -> None:
    (stored,) = read_weights(file_with(tmp_path, data=[3]))[0].blobs
    assert (stored.shape, stored.data.tolist()) == ((), 3)
    (stored,) = read_weights(file_with(tmp_path, shape={"dim": [2, 0, 3]}))[0].blobs
    assert (stored.shape, stored.data.size) == ((2, 0, 3), 0)


def lengths(*parts: bytes) -> bytes:
    """Parts as protobuf fields: each begins with its tag, a length goes between."""
    return b"".join(part[:1] + bytes([len(part) - 1]) + part[1:] for part in parts)


@pytest.mark.parametrize(
    "values",
    [
        b"".join(b"\x2d" + np.float32(x).tobytes() for x in (1, 2, 3)),  # a tag for each float
        lengths(b"\x2a" + np.array([1, 2], "<f4").tobytes(), b"\x2a" + np.array([3], "<f4").tobytes()),  # two runs
        b"".join(b"\x41" + np.float64(x).tobytes() for x in (1, 2, 3)),  # a tag for each double
        lengths(b"\x2a" + np.array([1, 2], "<f4").tobytes()) + b"\x2d" + np.float32(3).tobytes(),  # both
    ],
)
def test_other_encodings_of_floats(values: bytes, tmp_path: Path) -> None:
    stored = lengths(b"\x3a" + lengths(b"\x0a\x03")) + values
    layer = lengths(b"\x0ac", b"\x3a" + stored)
    path = tmp_path / "w"
    path.write_bytes(lengths(b"\x0an") + b"\xa2\x06" + bytes([len(layer)]) + layer)
    assert caffe_pb2.NetParameter.FromString(path.read_bytes()).layer[0].blobs[0].shape.dim == [3]
    assert read_weights(path)[0].blobs[0].data.tolist() == [1, 2, 3]


V1_NET = """
name: "v1" input: "data"
layers { name: "c" type: CONVOLUTION blobs_lr: [1, 2] bottom: "data" top: "c"
  blobs { num: 1 channels: 1 height: 1 width: 2 data: [1, 2] } blobs { num: 1 channels: 1 height: 1 width: 1 data: 3 } }
layers { name: "r" type: RELU bottom: "c" top: "c" }
"""
V0_NET = """
name: "v0" input: "data" input_dim: [1, 1, 4, 4]
layers { layer { name: "p" type: "padding" pad: 1 } bottom: "data" top: "p" }
layers { layer { name: "c" type: "conv" kernelsize: 3
  blobs { num: 1 channels: 1 height: 1 width: 2 data: [1, 2] } blobs { num: 1 channels: 1 height: 1 width: 1 data: 3 } }
  bottom: "p" top: "c" }
"""


@pytest.mark.parametrize(("text", "names"), [(V1_NET, ["c", "r"]), (V0_NET, ["input", "c"])])
def test_old_nets_are_upgraded_with_their_weights(text: str, names: list[str], tmp_path: Path) -> None:
    path = tmp_path / "old.caffemodel"
    path.write_bytes(parse_text(text, caffe_pb2.NetParameter()).SerializeToString())
    layers = {layer.name: layer for layer in read_weights(path)}
    assert list(layers) == names
    assert [b.data.ravel().tolist() for b in layers["c"].blobs] == [[1, 2], [3]]
    assert all(b.legacy for b in layers["c"].blobs)
    assert layers["c"].param.type == "Convolution"


def test_only_one_module_decodes_a_blobproto() -> None:
    for path in Path(stored_blob.__file__).parent.rglob("*.py"):
        if path.name not in ("stored_blob.py", "caffe_pb2.py"):
            assert not re.search(r"double_(data|diff)\b", path.read_text()), f"{path} reads a BlobProto itself"


def test_blob_from_proto() -> None:
    stored = blob_from_proto(caffe_pb2.BlobProto(shape={"dim": [1, 2]}, data=[1, 2], diff=[3, 4]))
    assert stored.data.tolist() == [[1, 2]]
    assert stored.diff is not None and stored.diff.tolist() == [[3, 4]]
    with pytest.raises(FileFormatError, match=r"layer a has the shape \(3,\), that is 3 values; .* 2 values"):
        blob_from_proto(caffe_pb2.BlobProto(shape={"dim": [3]}, data=[1, 2]), "layer a")


# Round trips

shapes = arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)
floats = shapes.flatmap(lambda shape: arrays.arrays(np.float32, shape, elements=st.floats(width=32, allow_nan=False)))
stored_blobs = st.builds(lambda data: StoredBlob(data.shape, data), floats)
layer_names = st.lists(
    st.text("abc_/ é", min_size=1, max_size=6).filter(lambda name: name.strip("/ ") == name), unique=True
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@given(layer_names, st.data(), st.booleans())
def test_weights_round_trip(tmp_path_factory: pytest.TempPathFactory, names: list[str], data: Any, hdf5: bool) -> None:
    # HDF5 takes a//b for a/b.
    names = [name for name in names if "//" not in name] or ["only"]
    layers = [StoredLayer(name, data.draw(st.lists(stored_blobs, max_size=3))) for name in names]
    if hdf5:  # there, a group that only holds other layers' groups is no layer
        layers = [layer for layer in layers if layer.blobs or not any(n.startswith(layer.name + "/") for n in names)]
    path = tmp_path_factory.mktemp("w") / "w"
    write_weights(path, "net", layers, hdf5=hdf5)
    back = read_weights(path)
    assert same(back, layers)
    if not hdf5:
        net = caffe_pb2.NetParameter.FromString(path.read_bytes())
        assert net.SerializeToString() == path.read_bytes(), "protobuf would write other bytes"
        assert net.name == "net"


@pytest.mark.slow
@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**31 - 1),
    st.text("ab/._é", max_size=9),
    st.integers(0, 99),
    st.lists(stored_blobs, max_size=12),
    st.booleans(),
)
def test_states_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    iteration: int,
    name: str,
    step: int,
    history: list[StoredBlob],
    hdf5: bool,
) -> None:
    path = tmp_path_factory.mktemp("s") / "s"
    write_state(path, SolverStateData(iteration, name, step, history), hdf5=hdf5)
    back = read_state(path)
    assert (back.iter, back.learned_net, back.current_step) == (iteration, name, step)
    assert [(b.shape, b.data.tobytes()) for b in back.history] == [(b.shape, b.data.tobytes()) for b in history]


@pytest.mark.parametrize("hdf5", [False, True])
def test_every_bit_is_kept(hdf5: bool, tmp_path: Path) -> None:
    values = np.array([0x7FC00001, 0xFFC00000, 0x7F800001, 0x80000000, 1, 0x7F800000], np.uint32).view(np.float32)
    write_weights(tmp_path / "w", "n", [StoredLayer("a", [StoredBlob((6,), values)])], hdf5=hdf5)
    assert read_weights(tmp_path / "w")[0].blobs[0].data.tobytes() == values.tobytes()


@pytest.mark.parametrize("hdf5", [False, True])
def test_diffs_are_kept(hdf5: bool, tmp_path: Path) -> None:
    stored = blob(1, 2)
    stored.diff = np.array([3, 4], np.float32)
    write_weights(tmp_path / "w", "n", [StoredLayer("a/b", [stored, blob(5)])], hdf5=hdf5)
    first, second = read_weights(tmp_path / "w")[0].blobs
    assert first.diff.tolist() == [3, 4]
    assert second.diff is None


def test_hdf5_leaves_out_what_another_layer_owns(tmp_path: Path) -> None:
    layers = [StoredLayer("a", [blob(1), blob(2)]), StoredLayer("b", [None, blob(3)]), StoredLayer("c", [None])]
    write_weights(tmp_path / "w", "n", layers, hdf5=True)
    back = {layer.name: layer.blobs for layer in read_weights(tmp_path / "w")}
    assert back["b"][0] is None and back["b"][1].data.tolist() == [3]
    assert back["c"] == []
    with pytest.raises(ValueError, match='"b" lacks a blob'):
        write_weights(tmp_path / "w2", "n", layers)


def test_layer_names_with_slashes_nest_groups_in_hdf5(tmp_path: Path) -> None:
    layers = [StoredLayer("in/1x1", [blob(1)]), StoredLayer("in", [blob(2)]), StoredLayer("in/relu", [])]
    write_weights(tmp_path / "w", "n", layers, hdf5=True)
    with h5py.File(tmp_path / "w") as file:
        assert file["data/in/1x1/0"][()].tolist() == [1]
    assert same(read_weights(tmp_path / "w"), layers)


def test_the_content_not_the_name_tells_the_format(tmp_path: Path) -> None:
    for name, source, read in (("a.caffemodel", WEIGHTS_HDF5, read_weights), ("a.h5", STATE, read_state)):
        (tmp_path / name).write_bytes(source.read_bytes())
        assert read(tmp_path / name)


def test_what_is_written_need_not_be_contiguous_or_float32(tmp_path: Path) -> None:
    data = np.arange(6.0).reshape(2, 3).T
    write_weights(tmp_path / "w", "n", [StoredLayer("a", [StoredBlob((3, 2), data)])])
    assert read_weights(tmp_path / "w")[0].blobs[0].data.tolist() == [[0, 3], [1, 4], [2, 5]]
    for wrong, words in ((data, "6 values"), (data[:0], "0 values")):
        with pytest.raises(ValueError, match=words):
            write_weights(tmp_path / "w", "n", [StoredLayer("a", [StoredBlob((3, 3), wrong)])])


def test_binary_files_of_more_than_2_gb_are_refused_before_writing(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "_MAX_BINARY", 1000)
        with pytest.raises(FileFormatError, match=r"2\^31 - 1 bytes.*save_hdf5.*HDF5"):
            write_weights(tmp_path / "w", "n", [StoredLayer("a", [blob(*range(300))])])
        assert not list(tmp_path.iterdir())
        write_weights(tmp_path / "w", "n", [StoredLayer("a", [blob(*range(300))])], hdf5=True)
    assert snapshot._MAX_BINARY == 2**31 - 1


# Files that are no weights, or no state


OTHER_FILES = [
    (b"", "is empty"),
    (b"<!doctype html><html><body>Not found</body>", "a web page"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a git-lfs pointer"),
    (b"\x1f\x8b\x08\x00\x00", "a gzip archive"),
    (b"PK\x03\x04\x00", "a zip archive"),
    (b'name: "net"\nlayer { name: "a" }\n', "a prototxt"),
    (b"hello\n", "a text file"),
    (bytes(range(200, 256)), "of another format"),
    (caffe_pb2.BlobProto(num=1, channels=1, height=1, width=1, data=[1]).SerializeToString(), "an image mean"),
]


@pytest.mark.parametrize("read", [read_weights, read_state])
@pytest.mark.parametrize(("content", "words"), OTHER_FILES, ids=[words for _, words in OTHER_FILES])
def test_other_files_are_named(read: Reader, content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=words) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("read", "path", "words"),
    [
        (read_weights, STATE, "not weights: it is a solver's state"),
        (read_weights, STATE_HDF5, "not weights but a solver's state"),
        (read_state, WEIGHTS, "not a solver's state: it is a net's weights"),
        (read_state, WEIGHTS_HDF5, "not a solver's state but a net's weights"),
    ],
)
def test_weights_and_states_are_told_apart(read: Reader, path: Path, words: str) -> None:
    with pytest.raises(FileFormatError, match=words):
        read(path)


@pytest.mark.parametrize("read", [read_weights, read_state])
def test_missing_files(read: Reader, tmp_path: Path) -> None:
    path = str(tmp_path / "none")
    with pytest.raises(RuntimeError) as caught:
        read(path)
    assert str(caught.value) == f"Could not open file {path}"
    with pytest.raises(RuntimeError, match=r"Could not open file .*directory"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"shape": {"dim": [2, 3]}, "data": [1, 2]},
            r'layer "c", blob 0 .*\(2, 3\).* 6 values; the file holds 2 values',
        ),
        ({"shape": {"dim": [2]}, "data": [1, 2, 3]}, "2 values; the file holds 3 values"),
        ({"shape": {"dim": [2]}}, "2 values; the file holds 0 values"),
        ({"shape": {"dim": [1]}, "data": [1], "diff": [1, 2]}, "1 values; the file holds 2 diffs"),
        ({"shape": {"dim": [-1, -2]}, "data": [1, 2]}, r"\(-1, -2\), with a negative extent"),
        ({"shape": {"dim": [2**20, 2**20]}, "data": [1]}, "1099511627776 values; a blob has at most 2147483647"),
        ({"shape": {"dim": [2**62] * 4}}, "at most 2147483647"),
        ({"shape": {"dim": [2**62, 2**62, 0]}}, "at most 2147483647"),
        ({"shape": {"dim": [1] * 33}, "data": [1]}, "33 axes"),
        ({"num": 2, "data": [1, 2]}, r"\(2, 0, 0, 0\).* 0 values; the file holds 2"),
    ],
)
def test_blobs_whose_shape_does_not_fit(fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=words):
        read_weights(file_with(tmp_path, **fields))


def test_files_that_are_cut_off(tmp_path: Path) -> None:
    whole = WEIGHTS.read_bytes()
    path = tmp_path / "w"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileFormatError, match=r"cut off or damaged: .* needs \d+ bytes, \d+ are there"):
        read_weights(path)
    path.write_bytes(caffe_pb2.NetParameter(name="only a name").SerializeToString())
    with pytest.raises(FileFormatError, match="holds no layers"):
        read_weights(path)
    path.write_bytes(WEIGHTS_HDF5.read_bytes()[:9000])
    with pytest.raises(FileFormatError, match="HDF5 file that is cut off"):
        read_weights(path)


def test_names_that_are_no_text_and_old_nets_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(lengths(b"\x0a\xff\xfe") + WEIGHTS.read_bytes())
    with pytest.raises(FileFormatError, match="name at byte 2 is not UTF-8"):
        read_weights(path)
    both = parse_text('layer { name: "a" } layers { name: "b" }', caffe_pb2.NetParameter())
    path.write_bytes(both.SerializeToString())
    with pytest.raises(FileFormatError, match="both layer and layers"):
        read_weights(path)


def test_hdf5_files_of_another_make(tmp_path: Path) -> None:
    def refused(write: Callable[[h5py.File], Any], words: str) -> None:
        with h5py.File(tmp_path / "w", "w") as file:
            write(file)
        with pytest.raises(FileFormatError, match=words):
            read_weights(tmp_path / "w")

    refused(lambda file: file.create_group("other"), "HDF5 with other")
    refused(lambda file: file.create_group("data"), "holds no layers")
    refused(lambda file: file.create_dataset("data/a/weight", data=[1.0]), "data/a/weight is no parameter")
    refused(lambda file: file.create_dataset("data/a/99999999", data=[1.0]), "is no parameter")
    refused(lambda file: file.create_dataset("data/0", data=[1.0]), "is no parameter")
    refused(lambda file: file.create_dataset("data/a/0", data=b"text"), "is not an array of numbers")
    refused(lambda file: file.create_dataset("data/a/0", shape=(2**16, 2**14), dtype="f4"), "does not hold its")
    refused(lambda file: file.create_dataset("data/a/0", shape=(2**20, 2**20), chunks=True, dtype="f4"), "at most")


def test_hdf5_links_out_of_the_file_are_not_followed_and_circles_end(tmp_path: Path) -> None:
    write_weights(tmp_path / "other", "n", [StoredLayer("secret", [blob(1)])], hdf5=True)
    with h5py.File(tmp_path / "w", "w") as file:
        file.create_dataset("data/a/0", data=np.ones(2, np.float32))
        file["data/a/circle"] = file["data"]
        file["data/out"] = h5py.ExternalLink(str(tmp_path / "other"), "/data/secret")
    assert [layer.name for layer in read_weights(tmp_path / "w")] == ["a"]


def fuzzed(content: bytes, draw: random.Random) -> bytes:
    """Cut off, grown, or with some bytes changed."""
    damaged = bytearray(content)
    kind = draw.randrange(4)
    if kind == 0:
        return content[: draw.randrange(len(content))]
    if kind == 1:
        at = draw.randrange(len(content))
        return content[:at] + draw.randbytes(draw.randrange(1, 9)) + content[at:]
    for _ in range(1 if kind == 2 else 12):
        damaged[draw.randrange(len(damaged))] = draw.randrange(256)
    return bytes(damaged)


def small_files() -> dict[str, tuple[bytes, Reader]]:
    """One valid file of each binary kind, small, so that most damage hits structure and not floats."""
    net = caffe_pb2.NetParameter.FromString(WEIGHTS.read_bytes())
    for layer in net.layer:
        for stored in layer.blobs:
            stored.CopyFrom(caffe_pb2.BlobProto(shape={"dim": [1, 2]}, data=[1, 2]))
    state = caffe_pb2.SolverState.FromString(STATE.read_bytes())
    for stored in state.history:
        stored.CopyFrom(caffe_pb2.BlobProto(shape={"dim": [2]}, data=[1, 2]))
    v0, v1 = (parse_text(text, caffe_pb2.NetParameter()) for text in (V0_NET, V1_NET))
    return {
        "weights": (net.SerializeToString(), read_weights),
        "state": (state.SerializeToString(), read_state),
        "v0": (v0.SerializeToString(), read_weights),
        "v1": (v1.SerializeToString(), read_weights),
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["weights", "state", "v0", "v1"])
def test_damaged_binary_files_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    content, read = small_files()[kind]
    draw = random.Random(kind)
    path = tmp_path / "file"
    results = {"read": 0, "refused": 0}
    for _ in range(800):
        path.write_bytes(fuzzed(content, draw))
        try:
            read(path)
        except FileFormatError as error:
            assert str(path) in str(error)
            results["refused"] += 1
        else:
            results["read"] += 1
    assert min(results.values()) > 10, results


@pytest.mark.parametrize(("path", "read"), [(WEIGHTS_HDF5, read_weights), (STATE_HDF5, read_state)])
def test_truncated_hdf5_files_are_refused(path: Path, read: Reader, tmp_path: Path) -> None:
    # Only truncation: bytes that are changed are the HDF5 library's affair.
    content = path.read_bytes()
    for length in range(0, len(content), 1499):
        (tmp_path / "file").write_bytes(content[:length])
        with pytest.raises(FileFormatError):
            read(tmp_path / "file")


# Writing whole or not at all


def test_what_was_there_stays_if_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_text("old")
    with pytest.raises(KeyError), atomic_path(path) as temporary:
        Path(temporary).write_text("half")
        assert Path(temporary).parent == tmp_path, "a rename must not cross file systems"
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_path_replaces_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "w"
    with atomic_path(path) as temporary:
        Path(temporary).write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]
    link = tmp_path / "link"
    link.symlink_to(path)
    with atomic_path(link) as temporary:
        Path(temporary).write_text("newer")
    assert link.is_symlink() and path.read_text() == "newer"
    with atomic_path("/dev/null") as temporary:
        assert temporary == "/dev/null"


def test_a_path_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "w", tmp_path):
        for hdf5 in (False, True):
            with pytest.raises(CaffeError, match=f"Could not write {path}"):
                write_weights(path, "n", [StoredLayer("a", [blob(1)])], hdf5=hdf5)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_kill_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "w"
    write_weights(path, "n", [StoredLayer("a", [blob(1, 2, 3)])])
    before = path.read_bytes()
    script = (
        "import os, signal, sys\nfrom caffe.formats.atomic import atomic_path\n"
        "with atomic_path(sys.argv[1]) as temporary, open(temporary, 'wb') as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = forked.run("-c", script, path)
    assert done.returncode == -9
    assert path.read_bytes() == before
    (left,) = set(tmp_path.iterdir()) - {path}
    assert left.suffix == ".part"


def test_reading_takes_no_more_memory_than_the_values(tmp_path: Path) -> None:
    # Protobuf's parser would hold the floats a second time, and Python's lists of them four times more.
    values = np.arange(2**23, dtype=np.float32)  # 32 MiB, more than one piece of copying
    write_weights(tmp_path / "w", "n", [StoredLayer("a", [StoredBlob(values.shape, values)])])
    tracemalloc.start()
    (stored,) = read_weights(tmp_path / "w")[0].blobs
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert stored.data.tobytes() == values.tobytes()
    assert peak < 1.05 * values.nbytes


@pytest.mark.slow
def test_weights_above_512_mb_are_read(tmp_path: Path) -> None:
    """From there on BVLC Caffe warns; protobuf's limit once ended there. A hole in the file stands for zeros."""
    count = (512 << 20) // 4 + 3
    ends = {0: 1.5, count - 1: -2.5}

    def varint(number: int) -> bytes:
        return bytes([number & 127 | 128]) + varint(number >> 7) if number > 127 else bytes([number])

    shape = caffe_pb2.BlobProto(shape=caffe_pb2.BlobShape(dim=[count])).SerializeToString()
    data_start = shape + b"\x2a" + varint(4 * count)  # field 5, packed
    blob_start = b"\x0a\x01c\x12\x0cInnerProduct" + b"\x3a" + varint(len(data_start) + 4 * count)  # name, type, blobs
    layer_start = b"\xa2\x06" + varint(len(blob_start) + len(data_start) + 4 * count)  # field 100
    start = layer_start + blob_start + data_start
    path = tmp_path / "w.caffemodel"
    with open(path, "wb") as file:
        file.write(start)
        for index, value in ends.items():
            file.seek(len(start) + 4 * index)
            file.write(np.float32(value).tobytes())
    (layer,) = read_weights(path)
    (stored,) = layer.blobs
    assert layer.name == "c" and stored is not None and stored.shape == (count,)
    assert {index: stored.data[index] for index in ends} == ends and np.count_nonzero(stored.data) == 2
