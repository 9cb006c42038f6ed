"""This engine beside plain PyTorch: alternating fresh processes, medians, and a check that both compute the same."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from measurement import ENGINES, measure

# The differences up to which two results count as the same. Scores: the largest difference by the largest score.
# Updates: the norm of the difference by the norm. A unit whose input is within rounding of 0 passes its gradient on in
# one engine and not in the other: plain PyTorch differs from itself, between AVX2 and AVX-512, by 2e-3 in conv1_1.
AGREEMENT = {"forward": 1e-5, "training": 5e-3}


@dataclass
class Cell:
    """One engine's forward or training passes, over all rounds. The first pass of a process is kept apart."""

    first: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    page_faults: list[int] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)

    def add(self, found: dict[str, Any]) -> None:
        """Take one process's measurement."""
        self.first.append(found["seconds"][0])
        self.seconds += found["seconds"][1:]
        self.cpu_seconds += found["cpu_seconds"][1:]
        self.page_faults += found["page_faults"][1:]
        self.peak_mb.append(found["peak_mb"])

    def summary(self) -> dict[str, float]:
        """Return medians, with the fastest and slowest pass; the peak memory is the largest of all processes."""
        return {
            "median": statistics.median(self.seconds),
            "fastest": min(self.seconds),
            "slowest": max(self.seconds),
            "first": statistics.median(self.first),
            "cpu": statistics.median(self.cpu_seconds),
            "page_faults": statistics.median(self.page_faults),
            "peak_mb": max(self.peak_mb),
        }


def compare(workload: str, size: tuple[int, int], passes: int, rounds: int, threads: int) -> dict[str, Any]:
    """Return {"forward" and "training": {engine: summary}}, the agreement, and what was measured where."""
    cells = {(train, engine): Cell() for train in (False, True) for engine in ENGINES}
    loads: list[float] = []
    versions: dict[str, str] = {}
    agreement = {
        "forward": _agreement(workload, size, False, threads),
        "training": _agreement(workload, size, True, threads),
    }
    for number in range(rounds):
        # Whoever is first in one round is second in the next.
        order = list(ENGINES) if number % 2 == 0 else list(reversed(ENGINES))
        for train in (False, True):
            for engine in order:
                found = measure(engine, workload, size, train, passes + 1, threads)
                cells[train, engine].add(found)
                loads.append(found["load"])
                versions |= found["versions"]
    return {
        "forward": {engine: cells[False, engine].summary() for engine in ENGINES},
        "training": {engine: cells[True, engine].summary() for engine in ENGINES},
        "agreement": agreement,
        "size": size,
        "passes": passes,
        "rounds": rounds,
        "threads": threads,
        "load": [min(loads), max(loads)],
        "versions": {"python": platform.python_version(), **versions},
        "machine": machine(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def conditions(found: dict[str, Any]) -> str:
    """Return one sentence on where and how something was measured."""
    versions = ", ".join(f"{name} {value}" for name, value in found["versions"].items())
    low, high = found["load"]
    return (
        f"{found['machine']}; {found['threads']} threads; {versions}; {found['rounds']} rounds of {found['passes']} "
        f"passes in each process, after one that is not counted; load average {low:.1f} to {high:.1f}; {found['date']}."
    )


def machine() -> str:
    """Return the processor's name and its number of cores."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count()} cores"


def same(found: dict[str, Any]) -> bool:
    """Tell whether the two engines computed the same, as AGREEMENT says."""
    return all(max(d.values()) <= AGREEMENT[pass_] for pass_, d in found["agreement"].items())


def agreement_lines(found: dict[str, Any]) -> list[str]:
    """Return a line each for forward and training: whether the numbers are the same, and the largest difference."""
    lines = []
    for pass_, differences in found["agreement"].items():
        name, worst = max(differences.items(), key=lambda item: item[1])
        verdict = "the same" if worst <= AGREEMENT[pass_] else "NOT THE SAME"
        lines.append(
            f"{pass_}: both engines compute {verdict} numbers; of {len(differences)} results the largest relative "
            f"difference is {worst:.1e} ({name})."
        )
    return lines


def _agreement(workload: str, size: tuple[int, int], train: bool, threads: int) -> dict[str, float]:
    """Return the differences between the two engines' results, dropout off.

    Forward: the scores. Training: the loss, and the update that the first iteration made of each parameter, called
    by its layer and index.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for engine in ENGINES:
            path = Path(folder, f"{engine}.npz")
            measure(engine, workload, size, train, 1, threads, path)
            with np.load(path) as numbers:
                found.append(dict(numbers))
    ours, theirs = found
    if ours.keys() != theirs.keys():
        raise SystemExit(f"The two nets differ: {sorted(ours.keys() ^ theirs.keys())} are in one of them only.")
    return {name: _difference(ours[name], theirs[name], train) for name in theirs}


def _difference(ours: np.ndarray, theirs: np.ndarray, by_norm: bool) -> float:
    if ours.shape != theirs.shape:
        raise SystemExit(f"The two nets differ: a result is {ours.shape} in one and {theirs.shape} in the other.")
    size = np.linalg.norm if by_norm else np.max
    least = np.finfo(np.float32).tiny
    return float(size(np.abs(ours - theirs)) / max(size(np.abs(theirs)), least))
