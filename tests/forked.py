"""Programs in processes that are forked from one that has imported the engine, so that not each imports it anew.

For tests that need a process to kill, to limit, to signal or to watch. Where how a program starts or ends is what is
tested, a test starts a Python of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import types
from collections.abc import Mapping
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

# What the common ancestor imports. It computes nothing, and so has no threads of PyTorch's, which a fork would lose.
PRELOADED = ["caffe", "caffe_command", "h5py", "scipy.ndimage", "pytest"]
# Where the system cannot fork, each process imports for itself.
CONTEXT: Any = multiprocessing.get_context(
    "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
)
CONTEXT.set_forkserver_preload(PRELOADED)


def start(
    *words: str | Path,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: IO[Any] | None = None,
    stdout: IO[Any] | None = None,
    stderr: IO[Any] | None = None,
) -> Any:
    """Start a program and return its multiprocessing.Process: `pid`, `kill()`, `join(timeout)`, `exitcode`.

    words: what would follow `python`: -c and code, -m and a module, or a script; then the program's own words. A stream
    that is not given is empty. The environment counts but for what was read while the engine was imported.
    """
    with ExitStack() as opened:
        ends = []
        for file in (stdin, stdout, stderr):
            number = os.open(os.devnull, os.O_RDWR) if file is None else os.dup(file.fileno())
            ends.append(opened.enter_context(Connection(number)))  # which multiprocessing knows how to hand on
        settings = (str(cwd or os.getcwd()), dict(os.environ if env is None else env))
        process = CONTEXT.Process(target=_become, args=([str(word) for word in words], *settings, ends))
        process.start()
    return process


def run(
    *words: str | Path,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    input: str = "",
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as subprocess.run does with capture_output and text."""
    with (
        tempfile.TemporaryFile("w+") as given,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        given.write(input)
        given.seek(0)
        process = start(*words, cwd=cwd, env=env, stdin=given, stdout=out, stderr=err)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, timeout)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(words, process.exitcode, out.read(), err.read())


# In the process


def _become(words: list[str], cwd: str, env: dict[str, str], ends: list[Connection]) -> None:
    """Be `python words...`."""
    for number, end in enumerate(ends):
        os.dup2(end.fileno(), number)
        end.close()
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    if "OMP_NUM_THREADS" in env:  # which OpenMP read when PyTorch was imported
        import torch  # noqa: PLC0415

        torch.set_num_threads(int(env["OMP_NUM_THREADS"]))
    try:
        _run_as_main(words)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    finally:
        sys.stdout.flush()


def _run_as_main(words: list[str]) -> None:
    kind, *rest = words
    if kind == "-c":
        sys.argv, sys.path[:0] = ["-c", *rest[1:]], [""]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    elif kind == "-m":
        sys.argv, sys.path[:0] = rest, [""]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[:0] = words, [str(Path(kind).resolve().parent)]
        runpy.run_path(kind, run_name="__main__")
