"""Databases: LMDB and LevelDB, read in the order of keys and round again, written whole or not at all."""

import gc
import os
import resource
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import lmdb
import pytest

import caffe
from caffe.data.database import DatabaseWriter, open_database
from caffe.errors import FileFormatError
from tests import forked

RECORDS = [(b"%08d" % i, b"value %d" % i * (i + 1)) for i in range(7)]


def make(path, backend="lmdb", records=RECORDS):
    with DatabaseWriter(path, backend) as db:
        for key, value in records:
            db.put(key, value)
    return str(path)


@pytest.fixture(params=["lmdb", "leveldb"])
def backend(request):
    if request.param == "leveldb":
        pytest.importorskip("plyvel", reason="the extra leveldb is not installed")
    return request.param


def test_records_come_in_the_order_of_their_keys_and_round_again(tmp_path, backend):
    db = open_database(make(tmp_path / "db", backend, RECORDS[::-1]), backend)
    assert [db.record(i) for i in range(17)] == (RECORDS * 3)[:17]
    assert db.count == 7


@pytest.mark.parametrize("numbers", [[3, 4, 1], [6, 7, 8], [20], [100, 99, 2], [0, 0, 5, 5]])
def test_any_record_can_be_read(tmp_path, backend, numbers):
    db = open_database(make(tmp_path / "db", backend), backend)
    assert [db.record(i) for i in numbers] == [RECORDS[i % 7] for i in numbers]


def test_reading_an_lmdb_writes_nothing(tmp_path):
    path = make(tmp_path / "db")
    os.unlink(os.path.join(path, "lock.mdb"))
    before = os.stat(os.path.join(path, "data.mdb"))
    os.chmod(path, 0o555)
    try:
        assert open_database(path).record(6) == RECORDS[6]
        assert os.listdir(path) == ["data.mdb"]
        after = os.stat(os.path.join(path, "data.mdb"))
        assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)
    finally:
        os.chmod(path, 0o755)


@pytest.mark.slow
def test_a_database_can_be_open_more_than_once_and_in_several_processes(tmp_path, backend):
    path = make(tmp_path / "db", backend)
    first, second = open_database(path, backend), open_database(os.path.join(path, "..", "db"), backend)
    assert (first.record(2), second.record(5), first.record(3)) == (RECORDS[2], RECORDS[5], RECORDS[3])
    if backend == "lmdb":
        code = f"from caffe.data.database import open_database; print(open_database({path!r}).record(4)[0].decode())"
        done = forked.run("-c", code)
        assert done.stdout.strip() == RECORDS[4][0].decode(), done.stderr


def test_another_lmdb_in_the_place_of_an_open_one_is_another_one(tmp_path):
    path = make(tmp_path / "db")
    old = open_database(path)
    os.rename(path, tmp_path / "old")
    make(path, records=[(b"new", b"content")])
    assert open_database(path).record(0) == (b"new", b"content")
    assert old.record(1) == RECORDS[1]


@pytest.mark.slow
def test_a_database_that_nobody_reads_any_more_is_closed(tmp_path):
    path = make(tmp_path / "db")
    db = open_database(path)
    other = open_database(path)
    del db
    gc.collect()
    with pytest.raises(lmdb.Error, match="already open"):
        lmdb.open(path, readonly=True, lock=False)
    assert other.record(1) == RECORDS[1]
    del other
    gc.collect()
    with (
        lmdb.open(path, readonly=True, lock=False),
        pytest.raises(caffe.CaffeError, match=r"Could not read .*already open"),
    ):
        open_database(path)


def test_databases_are_opened_and_given_up_on_many_threads(tmp_path, backend):
    path = make(tmp_path / "db", backend)

    def read(number):
        return open_database(path, backend).record(number)

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(read, range(400))) == [RECORDS[n % 7] for n in range(400)]


def test_what_is_not_there_or_no_database_is_an_error_that_says_so(tmp_path):
    with pytest.raises(caffe.CaffeError, match=r"Could not open the database '.*none': it does not exist"):
        open_database(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    with pytest.raises(caffe.CaffeError, match="is a file; a database is a folder"):
        open_database(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileFormatError, match=r"no LMDB database: it has no data\.mdb"):
        open_database(tmp_path / "folder")
    assert not list((tmp_path / "folder").iterdir())
    with pytest.raises(caffe.CaffeError, match="backend 'sqlite' is not known"):
        open_database(tmp_path / "folder", "sqlite")


def test_a_database_of_the_other_backend_is_named(tmp_path):
    pytest.importorskip("plyvel", reason="the extra leveldb is not installed")
    with pytest.raises(FileFormatError, match=r"no LEVELDB database: it is one of backend LMDB; set that"):
        open_database(make(tmp_path / "lm"), "leveldb")
    with pytest.raises(FileFormatError, match=r"no LMDB database: it is one of backend LEVELDB"):
        open_database(make(tmp_path / "lv", "leveldb"))


def test_an_empty_database_is_an_error_at_the_first_record(tmp_path, backend):
    db = open_database(make(tmp_path / "db", backend, []), backend)
    with pytest.raises(FileFormatError, match=r"db is empty: it has no records"):
        db.record(0)


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 9000], ids=["empty", "short", "junk"])
def test_a_damaged_lmdb_is_refused(tmp_path, content):
    path = make(tmp_path / "db")
    with open(os.path.join(path, "data.mdb"), "wb") as file:
        file.write(content)
    with pytest.raises(caffe.CaffeError, match=r"database .*db"):
        open_database(path).record(0)


def test_an_lmdb_that_is_cut_off_is_refused_and_does_not_kill_the_process(tmp_path):
    path = make(tmp_path / "db", records=[(b"%d" % i, bytes(5000)) for i in range(20)])
    os.truncate(os.path.join(path, "data.mdb"), 20000)
    with pytest.raises(FileFormatError, match=r"is cut off: data\.mdb has 20000 bytes and needs \d{6}"):
        open_database(path)


def test_a_damaged_or_busy_leveldb_is_refused(tmp_path):
    plyvel = pytest.importorskip("plyvel", reason="the extra leveldb is not installed")
    path = make(tmp_path / "db", "leveldb")
    other = plyvel.DB(path)
    with pytest.raises(caffe.CaffeError, match="One process at a time can open a LevelDB"):
        open_database(path, "leveldb")
    other.close()
    (tmp_path / "db" / "CURRENT").write_text("junk")
    with pytest.raises(FileFormatError, match=r"db is damaged: .*CURRENT"):
        open_database(path, "leveldb")


def test_without_plyvel_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plyvel", None)
    for make_it in (open_database, DatabaseWriter):
        with pytest.raises(caffe.CaffeError, match=r"pip install 'pycaffe-on-torch\[leveldb\]'"):
            make_it(tmp_path, "leveldb")


def test_an_lmdb_grows_as_it_is_filled_and_no_further(tmp_path):
    records = [(b"%05d" % i, bytes([i % 251]) * 9000) for i in range(1500)]
    path = make(tmp_path / "db", records=records)
    db = open_database(path)
    assert [db.record(i) for i in (0, 999, 1000, 1499)] == [records[i] for i in (0, 999, 1000, 1499)]
    assert db.count == 1500
    size = os.path.getsize(os.path.join(path, "data.mdb"))
    assert size < 1.5 * 1500 * 9000
    del db
    gc.collect()
    environment = lmdb.open(path, map_size=1, readonly=True, lock=False)
    assert environment.info()["map_size"] <= 4 * size
    environment.close()


def test_large_records_are_written_before_they_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("caffe.data.database._TRANSACTION_BYTES", 10_000)
    with DatabaseWriter(tmp_path / "db") as db:
        for number in range(10):
            db.put(b"%d" % number, bytes(6000))
            assert len(db._pending) <= 1
    assert open_database(tmp_path / "db").count == 10


def test_an_interrupted_writer_leaves_nothing(tmp_path, backend):
    with pytest.raises(KeyboardInterrupt), DatabaseWriter(tmp_path / "db", backend) as db:
        for key, value in RECORDS * 300:
            db.put(key, value)
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_not_taken_for_a_database(tmp_path):
    left = tmp_path / f"db.{os.getpid()}.part"
    left.mkdir()
    (left / "data.mdb").write_bytes(b"half")
    assert open_database(make(tmp_path / "db")).record(0) == RECORDS[0]
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


def test_a_database_is_not_written_over_anything(tmp_path, backend):
    path = make(tmp_path / "db", backend)
    with pytest.raises(caffe.CaffeError, match=r"db' exists already"):
        make(path, backend, [(b"a", b"b")])
    assert open_database(path, backend).record(0) == RECORDS[0]


def test_what_cannot_be_written_is_an_error_that_names_the_database(tmp_path):
    with pytest.raises(caffe.CaffeError, match=r"cannot hold the key .* of 600 bytes: LMDB's keys have 1 to 511"):
        make(tmp_path / "db", records=[(b"k" * 600, b"v")])
    (tmp_path / "file").write_text("x")
    with pytest.raises(caffe.CaffeError, match=r"Could not write the database .*file/db: Not a directory"):
        make(tmp_path / "file" / "db")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_nothing(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(caffe.CaffeError, match=r"Could not write the database .*db: .*"):
            make(tmp_path / "db", records=[(b"%d" % i, bytes(9000)) for i in range(100)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())


def test_a_copy_of_the_folder_is_the_database(tmp_path):
    shutil.copytree(make(tmp_path / "db"), tmp_path / "copy")
    assert open_database(tmp_path / "copy").record(6) == RECORDS[6]
