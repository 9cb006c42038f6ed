"""Files that are damaged in any way are read or refused: never a crash, a hang, or memory that no file can need."""

from __future__ import annotations

import io
import random
import struct
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

import caffe
from caffe import rng
from caffe.data import lmdb_pages
from caffe.data.database import DatabaseWriter, open_database
from caffe.errors import CaffeError, FileFormatError, NetError, SolverError
from caffe.layer_types.memory_data import MemoryData
from caffe.proto import caffe_pb2
from tests import forked

GOLDEN = Path(__file__).parents[2] / "golden"
NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 4 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "ip" }
"""
STRANGE = [
    b"\0",
    b"\xff",
    b"\x80",
    b"\xff\xff\xff\x7f",
    b"\xff\xff\xff\xff\x0f",
    b"\xff" * 8,
    b"{",
    b'"',
    b"nan",
    b"-1",
]
STRANGE += [b"99999999999", b"2147483647", b"\n"]


def damaged(draw: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """Return a file with one to three faults: bits, lengths and numbers changed, pieces lost, doubled or of another."""
    made = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 3])):
        at = draw.randrange(max(1, min(len(made), draw.choice([64, len(made) or 1]))))
        kind = draw.randrange(6)
        if kind == 0 and made:
            made[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del made[at:]
        elif kind == 2:
            del made[at : at + draw.choice([1, 4, 16])]
        elif kind == 3:
            made[at:at] = draw.choice(STRANGE)
        elif kind == 4:
            strange = draw.choice(STRANGE)
            made[at : at + len(strange)] = strange
        else:
            other = draw.choice(others)
            made[at:] = other[draw.randrange(len(other)) :]
    return bytes(made)


def weights_of_every_age() -> list[bytes]:
    """Return weights for NET's layer as V0, V1, today's, and today's with doubles."""
    v0, v1, doubles = (caffe_pb2.NetParameter(name="n") for _ in range(3))
    old = v0.layers.add(bottom=["data"])
    old.layer.name, old.layer.type = "ip", "innerproduct"
    v0.input.append("data")
    older = v1.layers.add(name="ip", type=caffe_pb2.V1LayerParameter.INNER_PRODUCT)
    for blobs in (old.layer.blobs, older.blobs):
        blobs.add(num=1, channels=1, height=4, width=3, data=range(12))
        blobs.add(num=1, channels=1, height=1, width=4, data=range(4))
    new = doubles.layer.add(name="ip", type="InnerProduct")
    new.blobs.add(double_data=range(12)).shape.dim.extend([4, 3])
    new.blobs.add(data=range(4)).shape.dim.extend([4])
    files = [net.SerializeToString() for net in (v0, v1, doubles)]
    return files + [path.read_bytes() for path in sorted(GOLDEN.glob("**/*.caffemodel"))]


def hdf5(**datasets: np.ndarray) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for name, values in datasets.items():
            file.create_dataset(name.replace("__", "/"), data=values, compression="gzip")
    return stream.getvalue()


def pictures() -> list[bytes]:
    found = []
    for kind in ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM"):
        stream = io.BytesIO()
        Image.fromarray(np.arange(99, dtype=np.uint8).reshape(3, 11, 3)).save(stream, kind)
        found.append(stream.getvalue())
    return found


def databases(folder: Path) -> list[bytes]:
    """Return LMDBs of one leaf, of several below a branch, and of values in pages of their own."""
    made = []
    for number, (records, size) in enumerate([(3, 40), (300, 100), (20, 9000)]):
        source = folder / f"db{number}"
        with DatabaseWriter(source) as db:
            for i in range(records):
                datum = caffe_pb2.Datum(channels=1, height=1, width=size, data=b"\x7f" * size, label=i)
                db.put(b"%08d" % i, datum.SerializeToString())
        made.append((source / "data.mdb").read_bytes())
    return made


def corpus(folder: Path) -> dict[str, list[bytes]]:
    """Return whole files of every kind that is read."""
    mean = caffe_pb2.BlobProto(num=1, channels=2, height=3, width=4, data=range(24))
    datum = caffe_pb2.Datum(channels=1, height=2, width=2, data=b"abcd", label=1)
    coded = caffe_pb2.Datum(encoded=True, data=pictures()[0], label=1)
    names = [f"{folder}/{i}.png".encode() for i in range(2)]
    for name in names:
        Path(name.decode()).write_bytes(pictures()[0])
    window = b"# %d\n%s 3 3 11\n2\n1 0.9 1 1 6 2\n0 0.1 0 0 9 2\n"
    return {
        "net": [path.read_bytes() for path in sorted(GOLDEN.glob("layers/*.prototxt"))],
        "solver": [path.read_bytes() for path in sorted(GOLDEN.glob("solvers/*solver*.prototxt"))],
        "weights": weights_of_every_age(),
        "weights_hdf5": [hdf5(data__ip__0=np.zeros((4, 3), "f4"), data__ip__1=np.zeros(4, "f4"))],
        "state": [path.read_bytes() for path in sorted(GOLDEN.glob("**/*.solverstate"))],
        "state_hdf5": [path.read_bytes() for path in sorted(GOLDEN.glob("**/*.solverstate.h5"))],
        "mean": [mean.SerializeToString()],
        "record": [datum.SerializeToString(), coded.SerializeToString()],
        "lmdb": databases(folder),
        "hdf5_data": [hdf5(data=np.zeros((5, 3), "f4"), label=np.arange(5, dtype="f4"))],
        "image_list": [b"".join(b"%s %d\n" % (name, i) for i, name in enumerate(names))],
        "window_file": [b"".join(window % (i, name) for i, name in enumerate(names))],
        "picture": pictures(),
    }


# Reads each file of a list as its kind, with little memory; names it first, so that a crash or a hang is known by it.
READ = """
import os, resource, signal, sys
import caffe
from caffe.formats import binaryproto, prototxt, snapshot
from caffe.data import database, datum, image
from caffe.proto import caffe_pb2

used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30),) * 2)
caffe.init_log(3)
folder = sys.argv[1]

def run(text):
    param = prototxt.parse_text(text, caffe_pb2.NetParameter())
    net = caffe.Net.from_proto(param)
    net.forward()
    net.forward()

def read_database(path):
    db = database.open_database(path)
    for number in range(320):
        datum.pixels(datum.parse(db.record(number)[1], "it"), "it")

def read_list(path, kind, settings):
    run('layer { name: "l" type: "%s" top: "data" top: "label" %s }' % (kind, settings % path))

READERS = {
    "net": lambda path: caffe.Net(path, caffe.TEST),
    "solver": prototxt.read_solver,
    "weights": lambda path: caffe.Net(folder + "/net.prototxt", caffe.TEST).copy_from(path),
    "weights_hdf5": lambda path: caffe.Net(folder + "/net.prototxt", caffe.TEST).copy_from(path),
    "state": snapshot.read_state,
    "state_hdf5": snapshot.read_state,
    "mean": binaryproto.read_mean,
    "record": lambda path: datum.pixels(datum.parse(open(path, "rb").read(), "it"), "it"),
    "lmdb": lambda path: read_database(os.path.dirname(path)),
    "hdf5_data": lambda path: read_list(path + ".txt", "HDF5Data", 'hdf5_data_param { source: "%s" batch_size: 3 }'),
    "image_list": lambda path: read_list(path, "ImageData", 'image_data_param { source: "%s" batch_size: 2 }'),
    "window_file": lambda path: read_list(
        path, "WindowData", 'window_data_param { source: "%s" batch_size: 2 } transform_param { crop_size: 5 }'
    ),
    "picture": image.read,
}
for line in sys.stdin:
    path = line.strip()
    kind = path.rsplit("/", 3)[1]
    print(path, end=" ", flush=True)
    signal.alarm(20)
    try:
        READERS[kind](path)
        print("read")
    except (caffe.CaffeError, ImportError) as error:
        print("refused, at length" if len(str(error)) > 1500 else "refused")
"""
EACH = 70


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits and reads the process's memory as Linux does")
def test_damaged_files_of_every_kind_are_read_or_refused(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(NET)
    paths = []
    kinds = corpus(tmp_path)
    for kind, whole in kinds.items():
        draw = random.Random(kind)
        for number in range(EACH):
            folder = tmp_path / kind / str(number)
            folder.mkdir(parents=True)
            path = folder / "data.mdb"
            path.write_bytes(whole[0] if number == 0 else damaged(draw, draw.choice(whole), whole))
            (folder / "data.mdb.txt").write_text(f"{path}\n")
            paths.append(str(path))
    ran = forked.run("-c", READ, tmp_path, input="\n".join(paths), cwd=tmp_path)
    said = ran.stdout.splitlines()
    assert ran.returncode == 0, (ran.stdout[-200:], ran.stderr[-1500:])
    outcome = dict(line.rsplit(" ", 1) for line in said)
    assert set(outcome) == set(paths) and set(outcome.values()) <= {"read", "refused"}
    for kind in kinds:
        assert outcome[str(tmp_path / kind / "0" / "data.mdb")] == "read", kind
        assert "refused" in [outcome[p] for p in paths if f"/{kind}/" in p], kind


def test_the_damage_that_ended_the_process_in_lmdb_is_refused(tmp_path: Path) -> None:
    """Sixteen bytes put into the free space of a leaf page: its nodes are not where it says."""
    content = databases(tmp_path)[0]
    path = tmp_path / "db0" / "data.mdb"
    at = _page(path, 2) + 1000
    path.write_bytes(content[:at] + b"\xff" * 16 + content[at:])
    with pytest.raises(FileFormatError, match="damaged: page"):
        open_database(path.parent).record(0)


def _page(path: Path, wanted: int) -> int:
    """Return where the last page of a kind (1 branch, 2 leaf) begins."""
    content = path.read_bytes()
    found = [at for at in range(0, len(content), 4096) if struct.unpack_from("<H", content, at + 10)[0] == wanted]
    return found[-1]


# What is written where in which page of which database, and what is said of it. The offsets are LMDB's.
PAGES = {
    "a page of another number": (0, 2, 0, "<Q", 77, "no sound head"),
    "neither branch nor leaf": (0, 2, 10, "<H", 4, "no sound head"),
    "free space that ends beyond the page": (0, 2, 14, "<H", 5000, "no sound head"),
    "a leaf of no nodes": (0, 2, 12, "<H", 16, "holds 0 nodes"),
    "a branch of one node": (1, 1, 12, "<H", 18, "holds 1 nodes"),
    "a node beyond the page": (0, 2, 16, "<H", 4095, "a node outside"),
    "a node in the header": (0, 2, 16, "<H", 0, "a node outside"),
    "a branch that leads out of the file": (1, 1, None, "<L", 10**6, "page 1000000 is asked for"),
    "a branch that leads to the heads": (1, 1, None, "<L", 1, "page 1 is asked for"),
    "a value beyond the page": (0, 2, None, "<L", 10**6, "reaches out"),
    "a value of 3 GB in pages of its own": (2, 2, None, "<L", 3 * 10**9, "has a record in the pages"),
    "a table in the table": (0, 2, None, "<xxxxH", 2, "another kind than a record"),
}


@pytest.mark.parametrize("case", PAGES)
def test_a_page_that_would_lead_the_library_astray_is_refused(tmp_path: Path, case: str) -> None:
    number, kind, offset, form, value, said = PAGES[case]
    databases(tmp_path)
    path = tmp_path / f"db{number}" / "data.mdb"
    content = bytearray(path.read_bytes())
    start = _page(path, kind)
    if offset is None:  # the page's first node, which the first of its pointers leads to
        offset = struct.unpack_from("<H", content, start + 16)[0]
        if form == "<xxxxH":
            offset, form = offset + 4, "<H"
    struct.pack_into(form, content, start + offset, value)
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=said):
        db = open_database(path.parent)
        for record in range(300):
            db.record(record)


def test_a_branch_that_leads_to_itself_ends(tmp_path: Path) -> None:
    databases(tmp_path)
    path = tmp_path / "db1" / "data.mdb"
    content = bytearray(path.read_bytes())
    start = _page(path, 1)
    node = start + struct.unpack_from("<H", content, start + 16)[0]
    struct.pack_into("<L", content, node, start // 4096)
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="at depth 32"):
        open_database(path.parent).record(0)


def test_heads_of_another_transaction_or_with_tables_in_tables_are_refused(tmp_path: Path) -> None:
    databases(tmp_path)
    path = tmp_path / "db0" / "data.mdb"
    content = bytearray(path.read_bytes())
    last = max(struct.unpack_from("<Q", content, start + 144)[0] for start in (0, 4096))
    with pytest.raises(FileFormatError, match="none of its two heads"):
        list(lmdb_pages.leaves(str(path), 4096, 3, last + 5))
    for start in (0, 4096):
        struct.pack_into("<H", content, start + 88 + 4, 4)
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="flags 0x4"):
        open_database(path.parent).record(0)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_records_of_sound_pages_are_counted(tmp_path: Path, number: int) -> None:
    databases(tmp_path)
    source = tmp_path / f"db{number}"
    db = open_database(source)
    assert sum(lmdb_pages.leaves(str(source / "data.mdb"), *db._as_of)) == db.count == (3, 300, 20)[number]
    assert [db.record(i)[0] for i in range(db.count)] == [b"%08d" % i for i in range(db.count)]
    assert db.record(db.count)[0] == b"00000000"


# Smaller faults that were found


def test_a_path_with_a_zero_byte_is_refused_wherever_a_file_is_named(write) -> None:
    for named in (
        lambda: caffe.Net("a\0b", caffe.TEST),
        lambda: caffe.get_solver("a\0b"),
        lambda: caffe.Net(write(NET), caffe.TEST).copy_from("a\0b"),
        lambda: caffe.formats.binaryproto.read_mean("a\0b"),
        lambda: caffe.data.image_list.read_list("a\0b"),
        lambda: caffe.data.window_file.read_window_file("a\0b", 0.5, 0.5),
        lambda: caffe.data.image.read("a\0b"),
    ):
        with pytest.raises(CaffeError, match=r"(Could not (open|load)).*(null byte|null character)"):
            named()


@pytest.mark.parametrize("states", [{"cpu": torch.zeros(3, dtype=torch.uint8)}, {"no such device": torch.zeros(1)}])
def test_random_states_that_are_none_are_refused(states: dict[str, torch.Tensor]) -> None:
    with pytest.raises(CaffeError, match=f"random state for '{next(iter(states))}'"):
        rng.set_state(states)


@pytest.mark.parametrize("state", ["3", None, -1, 1.5])
def test_a_position_in_memory_data_that_is_none_is_refused(state: object) -> None:
    layer = MemoryData(caffe_pb2.LayerParameter(name="l", type="MemoryData"))
    with pytest.raises(NetError, match=r"Layer 'l'.*saved position"):
        layer.set_state(state)  # type: ignore[arg-type]


@pytest.mark.parametrize("setting", ["base_lr: 1e38 lr_mult", "weight_decay: 1e38 decay_mult"])
def test_a_rate_beyond_single_precision_is_refused(write, setting: str) -> None:
    multiplier = setting.rsplit(" ", 1)[1]
    net = write(NET.replace('bottom: "data"', f'bottom: "data" param {{ {multiplier}: 1e10 }}'))
    text = setting.rsplit(" ", 1)[0] + f' net: "{net}" lr_policy: "fixed" solver_mode: CPU'
    solver = caffe.get_solver(write(text + (" base_lr: 1" if "base_lr" not in text else ""), "solver.prototxt"))
    with pytest.raises(SolverError, match="beyond single precision"):
        solver.step(1)
