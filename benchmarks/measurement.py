"""Measurements in processes of their own: each engine and pass in a fresh one, that imports nothing of the others."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ENGINES = ("engine", "plain")  # the modules that run.py can run


def measure(
    engine: str,
    workload: str,
    size: tuple[int, int],
    train: bool,
    passes: int,
    threads: int,
    numbers: Path | None = None,
) -> dict[str, Any]:
    """Measure one engine in a fresh process, and return what run.py printed.

    `numbers` is a file to write scores, or the first iteration's loss and updates, to; dropout is off then.
    Raises RuntimeError with the process's last words if it fails.
    """
    arguments = [engine, workload, "--size", f"{size[0]}x{size[1]}", "--passes", str(passes)]
    arguments += ["--threads", str(threads), *["--train"] * train]
    return start("run.py", [*arguments, *(["--numbers", str(numbers)] if numbers else [])], threads)


def start(program: str, arguments: list[str], threads: int) -> dict[str, Any]:
    """Run one of this folder's programs and return the JSON of its last line.

    Raises RuntimeError with the process's last words if it fails.
    """
    command = [sys.executable, str(HERE / program), *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(f"{program} {' '.join(arguments)} failed: {words[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def peak_mb() -> float:
    """Return the most memory that this process has had resident, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
