"""What the peers' programs share: `PROGRAM prepare|measure WORKLOAD HxW FOLDER PASSES THREADS`, one line of JSON."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import workload
from measurement import peak_mb
from workload import Workload

Forward = Callable[[np.ndarray], np.ndarray]


def run(prepare: Callable[[Workload, Path], np.ndarray], load: Callable[[Path, int], Forward], version: str) -> None:
    """Prepare or measure, as the command line says.

    `prepare` writes the peer's files to a folder and returns plain PyTorch's scores. `load` reads them, for a number
    of threads, in a process that has imported nothing else.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("prepare", "measure"))
    parser.add_argument("workload", choices=("FCN8S", "THIN"))
    parser.add_argument("size")
    parser.add_argument("folder", type=Path)
    parser.add_argument("passes", type=int)
    parser.add_argument("threads", type=int)
    args = parser.parse_args()
    height, width = map(int, args.size.split("x"))
    w = dataclasses.replace(getattr(workload, args.workload), height=height, width=width)
    if args.what == "prepare":
        np.save(args.folder / "score.npy", prepare(w, args.folder))
        print(json.dumps({}))
        return
    image, expected = workload.image(w), np.load(args.folder / "score.npy")
    forward = load(args.folder, args.threads)
    seconds = []
    for _ in range(args.passes):
        begin = time.perf_counter()
        score = forward(image)
        seconds.append(time.perf_counter() - begin)
    difference = float(np.abs(score - expected).max() / np.abs(expected).max())
    found = {"seconds": seconds, "peak_mb": peak_mb(), "difference": difference, "version": version}
    print(json.dumps(found))
