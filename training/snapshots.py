"""A run's snapshots: which there are, which are whole, and going on from one.

A snapshot is two files that the solver writes, weights first: PREFIX_iter_N.caffemodel and PREFIX_iter_N.solverstate
(.caffemodel.h5 and .solverstate.h5 where the solver's snapshot_format is HDF5). Our engine writes a third between
them, PREFIX_iter_N.resume.json, for what a state leaves out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import caffe


class Snapshots:
    """The snapshots in a run's folder."""

    def __init__(self, folder: Path, settings: Any, home: Path | None = None) -> None:
        """Look after a run's snapshots in `folder`, an absolute path.

        settings: the solver's (a SolverParameter message). home: the experiment's folder.
        """
        self.folder = folder
        self.prefix = folder / (Path(settings.snapshot_prefix).name or "train")
        self._home = home
        self._every = settings.snapshot
        self._suffix = ".h5" if settings.snapshot_format == settings.HDF5 else ""

    @property
    def snapshot_prefix(self) -> str:
        """The prefix as Caffe is told it.

        Relative where the run lies in the experiment's folder, and that where the program runs: a state names its
        weights by this, and the repository may be moved.
        """
        here = Path.cwd()
        inside = self._home is not None and self.folder.is_relative_to(self._home) and self._home.is_relative_to(here)
        return str(self.prefix.relative_to(here) if inside else self.prefix)

    def within(self, path: Path) -> Path:
        """Return a path as the experiment's folder has it, where it is in that."""
        return path.relative_to(self._home) if self._home is not None and path.is_relative_to(self._home) else path

    def weights(self, iteration: int) -> Path:
        """Return the weights file of an iteration's snapshot."""
        return self.prefix.with_name(f"{self.prefix.name}_iter_{iteration}.caffemodel{self._suffix}")

    def keep(self, solver: caffe.SGDSolver, begun: int) -> Path:
        """See to it that the solver's present state is snapshotted; return the weights file.

        `step` itself writes a snapshot at every multiple of the solver's `snapshot`, and none at its end. begun:
        the iteration at which this process took the run up.
        """
        if solver.iter == begun or not self._every or solver.iter % self._every:
            solver.snapshot()
        return self.weights(solver.iter)

    def keep_newest(self, solver: caffe.SGDSolver, count: int, best: Callable[[], int | None]) -> None:
        """Have older snapshots removed whenever there is a new one, from now on; see `prune`."""

        def on_start() -> None:  # Of an iteration: what was to be snapshotted of the one before is.
            if self.weights(solver.iter).is_file():
                self.prune(solver.iter, count, best())

        solver.add_callback(on_start, lambda: None)

    def prune(self, iteration: int, count: int, best: int | None) -> None:
        """Remove the snapshots up to an iteration, but for the newest `count` of them and that of iteration `best`.

        What is beyond `iteration`, where a run was begun again from an earlier state, is neither counted nor removed.
        Nor is what is cut off: the newest that are kept are whole.
        """
        found = [found for found in _pairs(self.prefix) if found[0] <= iteration and all(map(_is_whole, found[1:]))]
        for done, state, weights in sorted(found, reverse=True)[count:]:
            if done != best:
                beside = state.with_name(state.name.removesuffix(".h5").removesuffix(".solverstate") + ".resume.json")
                for path in (state, beside, weights):
                    path.unlink(missing_ok=True)

    def furthest(self) -> Path | None:
        """Return the state of the furthest iteration, None if there is no snapshot."""
        return max(_pairs(self.prefix), default=(0, None, None))[1]

    def last(self) -> Path | None:
        """Return the state that was written last, None if there is none: not the furthest, where a run went back."""
        return max(
            (state for _, state, _ in _pairs(self.prefix)), key=lambda path: path.stat().st_mtime_ns, default=None
        )

    def to_resume(self, asked: bool | Path) -> list[Path]:
        """Return the states to try to go on from, the newest first; none where the run is to start anew.

        asked: a state file; True for the newest complete one of the folder; False for a new run. Raises SystemExit
        where there is none such, and where a new run would write over another.
        """
        if isinstance(asked, Path):
            if not asked.is_file():
                raise SystemExit(f"There is no {asked} to go on from.")
            return [asked]
        found = sorted(_pairs(self.prefix), reverse=True)
        if not found:
            if asked:
                print(f"--resume: {self.folder} has no snapshot yet, so the run starts anew.")
            return []
        if not asked:
            raise SystemExit(
                f"{self.folder} holds a run, at iteration {found[0][0]}. Go on with it with --resume, choose "
                "another folder for the new one with --out, or remove it."
            )
        states = []
        for _, state, weights in found:
            if _is_whole(state) and _is_whole(weights):
                states.append(state)
            else:
                print(f"{self.within(state)} or its weights are cut off: passed over.")
        if not states:
            raise SystemExit(f"No snapshot in {self.folder} is complete. To start anew, remove them.")
        return states


def restore(solver: caffe.SGDSolver, states: Sequence[Path]) -> int:
    """Restore the first of the states that the solver can load; return its iteration, 0 if there are none.

    Raises SystemExit where there are states and none of them can be loaded.
    """
    for state in states:
        try:
            solver.restore(str(state))
        except (RuntimeError, ValueError, OSError) as error:
            print(f"{state} cannot be gone on from: {error}")
        else:
            return int(solver.iter)
    if states:
        raise SystemExit(f"There is no snapshot to go on from: {', '.join(map(str, states))} cannot be loaded.")
    return 0


def _pairs(prefix: Path) -> Iterator[tuple[int, Path, Path]]:
    """Yield the snapshots of a prefix that have both files: iteration, state, weights."""
    name = re.compile(re.escape(prefix.name) + r"_iter_(\d+)\.solverstate(\.h5)?")
    for state in prefix.parent.glob("*.solverstate*"):
        found = name.fullmatch(state.name)
        weights = state.with_name(state.name.replace(".solverstate", ".caffemodel"))
        if found and weights.is_file():
            yield int(found[1]), state, weights


def _is_whole(path: Path) -> bool:
    """Tell whether a binary protobuf file ends where its last field does; one that a crash cut off does not.

    Only the outermost fields' lengths are read. It matters under BVLC Caffe, which writes in place, and ends the
    process when told to load such a file. HDF5 files are taken for whole.
    """
    if path.suffix == ".h5":
        return True
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            while file.tell() < size:
                kind = _varint(file) & 7
                if kind == 0:
                    _varint(file)
                else:
                    file.seek({1: 8, 2: _varint(file) if kind == 2 else 0, 5: 4}[kind], os.SEEK_CUR)
        except (EOFError, KeyError):
            return False
        return 0 < size == file.tell()


def _varint(file: BinaryIO) -> int:
    """Read protobuf's variable-length integer."""
    value = shift = 0
    while True:
        byte = file.read(1)
        if not byte:
            raise EOFError
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
        shift += 7
