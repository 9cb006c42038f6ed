"""Databases of records: LMDB through the package lmdb, LevelDB through plyvel (db_lmdb.cpp, db_leveldb.cpp).

A database is a folder. Records are read in the order of their keys, and round again. Reading an LMDB writes nothing
and takes no lock, so that any number of processes read it, from a read-only folder too; nobody may write to it
meanwhile. A LevelDB can be read by one process at a time, and opening it writes to its folder: LevelDB has no other
way.

A new database is written beside its place and renamed when it is complete, so that there is a whole one or none.
"""

from __future__ import annotations

import os
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import lmdb

from ..errors import CaffeError, FileFormatError
from . import lmdb_pages

BACKENDS = ("lmdb", "leveldb")

_CONTENT = {"lmdb": "data.mdb", "leveldb": "CURRENT"}  # a file that every database of the kind has
_FIRST_MAP_SIZE = 1 << 20  # bytes; doubled whenever they are full
_TRANSACTION = 1000  # records written at once, as Caffe's tools do, or fewer:
_TRANSACTION_BYTES = 64 << 20  # they are held in memory until then


class Database:
    """A database open for reading, one record at a time; fastest where record follows record."""

    source: str
    count: int | None  # how many records there are; None while that is not known

    def __init__(self, source: str, count: int | None) -> None:
        self.source = source
        self.count = count
        self._at = -1  # the record that the cursor is on

    def record(self, number: int) -> tuple[bytes, bytes]:
        """Return the key and the content of record `number`; after the last one comes the first again.

        Raises FileFormatError if the database is empty or damaged.
        """
        with _explained(self.source):
            place = number if self.count is None else number % self.count
            if place < self._at or self._at < 0:
                if not self._first():
                    raise FileFormatError(f"The database {self.source} is empty: it has no records.")
                self._at = 0
            while self._at < place:
                if self._next():
                    self._at += 1
                else:
                    self.count = self._at + 1
                    return self.record(number)
            return self._item()

    def _share(self, shared: _Shared) -> Any:
        """Use a handle for as long as this object lives."""
        weakref.finalize(self, _give_up, shared).atexit = False
        return shared.handle

    def _first(self) -> bool:
        """Go to the first record; False if there is none."""
        raise NotImplementedError

    def _next(self) -> bool:
        """Go to the next record; False if there is none."""
        raise NotImplementedError

    def _item(self) -> tuple[bytes, bytes]:
        """Return key and content of the record that the cursor is on."""
        raise NotImplementedError


class _Lmdb(Database):
    def __init__(self, source: str) -> None:
        environment = self._share(_take(source, "lmdb", _open_lmdb))
        with _explained(source):
            transaction = environment.begin()
            self._cursor = transaction.cursor()
            found = environment.stat()
            self._as_of = found["psize"], environment.info()["last_pgno"] + 1, transaction.id()
            super().__init__(source, found["entries"] or None)
        self._leaves: Iterator[int] = iter(())
        self._sound = 0  # how many records, from the cursor's on, are in a page that was checked

    def _first(self) -> bool:
        self._leaves = lmdb_pages.leaves(os.path.join(self.source, _CONTENT["lmdb"]), *self._as_of)
        self._sound = next(self._leaves, 0)
        return bool(self._cursor.first())

    def _next(self) -> bool:
        self._sound -= 1
        if self._sound <= 0:
            self._sound = next(self._leaves, 0)
        return bool(self._cursor.next())

    def _item(self) -> tuple[bytes, bytes]:
        key, value = self._cursor.item()
        return key, value


class _LevelDb(Database):
    def __init__(self, source: str) -> None:
        self._db = self._share(_take(source, "leveldb", _open_leveldb))
        self._records: Iterator[tuple[bytes, bytes]] = iter(())
        self._current: tuple[bytes, bytes] | None = None
        super().__init__(source, None)

    def _first(self) -> bool:
        self._records = self._db.iterator(fill_cache=False)
        return self._next()

    def _next(self) -> bool:
        found = next(self._records, None)
        self._current = self._current if found is None else found
        return found is not None

    def _item(self) -> tuple[bytes, bytes]:
        assert self._current is not None
        return self._current


def open_database(source: str | os.PathLike[str], backend: str = "lmdb") -> Database:
    """Open a database for reading; `backend` is "lmdb" or "leveldb".

    Raises CaffeError if it is not there, and FileFormatError if it is damaged or of the other kind.
    """
    name = os.fspath(source)
    _check_backend(backend)
    if not os.path.isdir(name):
        found = "is a file; a database is a folder" if os.path.exists(name) else "does not exist"
        raise CaffeError(f"Could not open the database '{name}': it {found}.")
    if not os.path.exists(os.path.join(name, _CONTENT[backend])):
        other = BACKENDS[1 - BACKENDS.index(backend)]
        kind = other if os.path.exists(os.path.join(name, _CONTENT[other])) else None
        found = f"it is one of backend {kind.upper()}; set that" if kind else f"it has no {_CONTENT[backend]}"
        raise FileFormatError(f"The folder '{name}' is no {backend.upper()} database: {found}.")
    return _Lmdb(name) if backend == "lmdb" else _LevelDb(name)


class _Shared:
    """A database's handle, which may be open only once in a process, and how many use it."""

    def __init__(self, identity: tuple[int, int], handle: Any) -> None:
        self.identity = identity
        self.handle = handle
        self.users = 0


_opened: dict[tuple[int, int], _Shared] = {}
_opening = threading.RLock()  # a net, and with it a database, may be given up on any thread, and while another opens


def _take(source: str, backend: str, open_it: Callable[[str], Any]) -> _Shared:
    """Return the handle that this process has on a database, or open it; a database put in its place is another one."""
    with _explained(source), _opening:
        # LevelDB writes its files anew when it opens them.
        status = os.stat(os.path.join(source, _CONTENT["lmdb"]) if backend == "lmdb" else source)
        identity = (status.st_dev, status.st_ino)
        while True:
            shared = _opened.get(identity)
            if shared is None:
                shared = _opened[identity] = _Shared(identity, open_it(source))
            shared.users += 1
            if _opened.get(identity) is shared:  # else the garbage collector gave it up a moment ago
                return shared


def _give_up(shared: _Shared) -> None:
    """Close a handle that nobody uses any more."""
    with _opening:
        shared.users -= 1
        if shared.users == 0:
            del _opened[shared.identity]
            shared.handle.close()


def _open_lmdb(source: str) -> lmdb.Environment:
    environment = lmdb.open(source, readonly=True, lock=False, readahead=True, create=False)
    # LMDB maps the file and trusts it: reading beyond its end would kill the process.
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    found = os.path.getsize(os.path.join(source, _CONTENT["lmdb"]))
    if found < needed:
        environment.close()
        raise FileFormatError(
            f"The database {source} is cut off: data.mdb has {found} bytes and needs {needed}. Copy it again."
        )
    return environment


def _open_leveldb(source: str) -> Any:
    return _plyvel().DB(source, create_if_missing=False, max_open_files=100)


class DatabaseWriter:
    """A new database, as a context: `with DatabaseWriter(path) as db: db.put(key, value)`.

    It takes its place when the block ends, and leaves nothing if the block raises. A process that is killed meanwhile
    leaves a folder `<path>.<process id>.part`. Raises CaffeError if there is something in that place already, or
    where it cannot be written.
    """

    def __init__(self, source: str | os.PathLike[str], backend: str = "lmdb") -> None:
        self.source = os.fspath(source)
        _check_backend(backend)
        self._target = os.path.abspath(self.source)
        self._temporary = f"{self._target}.{os.getpid()}.part"
        self._lmdb = backend == "lmdb"
        self._pending: list[tuple[bytes, bytes]] = []
        self._pending_bytes = 0
        self._db: Any = None

    def __enter__(self) -> DatabaseWriter:
        if os.path.lexists(self._target):
            raise CaffeError(f"'{self.source}' exists already. Remove it, or give the new database another name.")
        with _explained(self.source, "write"):
            shutil.rmtree(self._temporary, ignore_errors=True)
            os.makedirs(self._temporary)
            if self._lmdb:
                self._db = lmdb.open(self._temporary, map_size=_FIRST_MAP_SIZE, sync=False)
            else:
                self._db = _plyvel().DB(self._temporary, create_if_missing=True, error_if_exists=True)
        return self

    def put(self, key: bytes, value: bytes) -> None:
        """Add a record; one of the same key is replaced."""
        self._pending.append((key, value))
        self._pending_bytes += len(value)
        if len(self._pending) >= _TRANSACTION or self._pending_bytes >= _TRANSACTION_BYTES:
            self._write()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
            elif self._db is not None:
                self._db.close()
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _finish(self) -> None:
        try:
            self._write()
            with _explained(self.source, "write"):
                if self._lmdb:
                    self._db.sync(True)
        finally:
            self._db.close()
        with _explained(self.source, "write"):
            os.rename(self._temporary, self._target)

    def _write(self) -> None:
        with _explained(self.source, "write"):
            if not self._lmdb:
                with self._db.write_batch(sync=True) as batch:
                    for key, value in self._pending:
                        batch.put(key, value)
            else:
                while True:
                    try:
                        with self._db.begin(write=True) as transaction:
                            for key, value in self._pending:
                                transaction.put(key, value)
                        break
                    except lmdb.MapFullError:  # the transaction is undone; the file only grows by what is in it
                        self._db.set_mapsize(2 * self._db.info()["map_size"])
                    except lmdb.BadValsizeError as error:
                        longest = max((key for key, _ in self._pending), key=len)
                        limit = self._db.max_key_size()
                        raise CaffeError(
                            f"The database {self.source} cannot hold the key {longest.decode(errors='replace')!r} of "
                            f"{len(longest)} bytes: LMDB's keys have 1 to {limit}. Shorten the path."
                        ) from error
        self._pending.clear()
        self._pending_bytes = 0


def _check_backend(backend: str) -> None:
    if backend not in BACKENDS:
        raise CaffeError(f"Database backend {backend!r} is not known; choose 'lmdb' or 'leveldb'.")
    if backend == "leveldb":
        _plyvel()


def _plyvel() -> Any:
    try:
        import plyvel  # noqa: PLC0415  an extra, needed for LevelDB alone
    except ImportError as error:
        raise CaffeError(
            "LevelDB databases need the package plyvel: pip install 'pycaffe-on-torch[leveldb]'. Without it, use LMDB."
        ) from error
    return plyvel


@contextmanager
def _explained(source: str, doing: str = "read") -> Iterator[None]:
    """Tell what the database libraries and the system say as an error that names the database."""
    try:
        yield
    except CaffeError:
        raise
    except OSError as error:  # plyvel's IOError is one, LevelDB's words in its text
        text = error.strerror or _words(error)
        if "LOCK" in text and doing == "read":
            text += (
                ". One process at a time can open a LevelDB, and it must be able to write there; LMDB has no such need"
            )
        raise CaffeError(f"Could not {doing} the database {source}: {text}.") from error
    except Exception as error:
        if not type(error).__module__.startswith(("lmdb", "plyvel")):
            raise
        if doing == "write" or type(error) is lmdb.Error:  # what is damaged has classes of its own
            raise CaffeError(f"Could not {doing} the database {source}: {_words(error)}.") from error
        raise FileFormatError(f"The database {source} is damaged: {_words(error)}.") from error


def _words(error: BaseException) -> str:
    first = error.args[0] if error.args else error
    return (first.decode(errors="replace") if isinstance(first, bytes) else str(first)).rstrip(".")
