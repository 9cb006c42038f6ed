"""Run one engine in this process, and print one line of JSON: what each pass took, and the peak memory.

measurement.py starts this program; it is of use by hand too, under a profiler for instance:

    python benchmarks/run.py engine FCN8S --size 375x500 --passes 3 --threads 2 --train
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import resource
import time
from pathlib import Path

import numpy as np
import torch
import workload
from measurement import ENGINES, peak_mb


def main() -> None:
    """Run the passes, and print seconds, CPU seconds and page faults of each, and the peak memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("workload", choices=("FCN8S", "THIN"))
    parser.add_argument("--size", required=True, help="the image's HEIGHTxWIDTH")
    parser.add_argument("--train", action="store_true", help="forward, backward and update; else forward")
    parser.add_argument("--passes", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--numbers", type=Path, help="write the numbers there, with dropout off")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    height, width = map(int, args.size.split("x"))
    w = dataclasses.replace(getattr(workload, args.workload), height=height, width=width)
    if args.numbers:
        w = dataclasses.replace(w, dropout=0.0)
    run = importlib.import_module(args.engine).Run(w, args.train)
    seconds, cpu, faults = [], [], []
    for _ in range(args.passes):
        wall, used, faulted = time.perf_counter(), time.process_time(), _faults()
        result = run.step() if args.train else run.forward()
        seconds.append(time.perf_counter() - wall)
        cpu.append(time.process_time() - used)
        faults.append(_faults() - faulted)
    peak = peak_mb()
    if args.numbers:
        results = {"loss": np.float64(result), **run.updates()} if args.train else {"score": result}
        np.savez(args.numbers, **results)
    found = {"seconds": seconds, "cpu_seconds": cpu, "page_faults": faults, "peak_mb": peak}
    print(json.dumps({**found, "load": os.getloadavg()[0], "versions": run.versions()}))


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


if __name__ == "__main__":
    main()
