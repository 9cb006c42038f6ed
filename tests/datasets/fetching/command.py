"""The command that fetches, called here or in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from datasets import splits
from datasets.__main__ import main
from tests.datasets.hostile_server import Server

ROOT = Path(__file__).resolve().parents[3]
SCENE = splits.SIFTFLOW_FOLDER

PROGRAM = """
import sys
{before}
sys.path.insert(0, {root!r})
from dataclasses import replace
from datasets.__main__ import main
from datasets.catalogue import CATALOGUE
source = CATALOGUE["googlenet"]
home = replace(source.download, addresses=({address!r},), digest="")
CATALOGUE["googlenet"] = replace(source, download=home)
sys.exit(main(["fetch", "googlenet", "--data", {data!r}]))
"""


def call(web: Server | None, data: Path, *words: str) -> int:
    mirror = ["--mirror", f"{web.address}/m/"] if web is not None else []
    return main(["fetch", *words, "--data", str(data), *mirror])


def tree(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def started(web: Server, data: Path, before: str = "") -> subprocess.Popen[str]:
    program = PROGRAM.format(
        root=str(ROOT), address=f"{web.address}/m/bvlc_googlenet.caffemodel", data=str(data), before=before
    )
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=data.parent
    )


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)
