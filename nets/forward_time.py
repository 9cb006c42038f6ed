"""How long a net's forward pass takes, and on what device."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path

import numpy as np

from nets.loading import load
from nets.structure import deploy_net


def forward_times(name: str, size: int, trials: int) -> list[float]:
    """Return the seconds that each of some forward passes takes, after two that do not count.

    The net has random weights and a random image of size x size, a batch of one. A pass ends with the scores in the
    host's memory, where pycaffe hands them out.
    """
    param = deploy_net(name)
    for layer in param.layer:
        if layer.type == "Input":
            for shape in layer.input_param.shape:
                shape.dim[2:] = [size, size]
    net = load(param)
    random = np.random.default_rng(0)
    for blobs in net.params.values():
        for blob in blobs:
            values = random.standard_normal(blob.data.shape, dtype=np.float32)
            blob.data[...] = values * np.sqrt(2 / max(1, blob.data[0].size))
    for top in net.inputs:
        net.blobs[top].data[...] = 64 * random.standard_normal(net.blobs[top].data.shape, dtype=np.float32)
    seconds = []
    for _ in range(2 + trials):
        begun = time.perf_counter()
        net.forward()
        seconds.append(time.perf_counter() - begun)
    return seconds[2:]


def device_name(gpu: int | None) -> str:
    """Return what the device calls itself, as far as it can be found out."""
    if gpu is None:
        return f"CPU {_cpu()}, {os.cpu_count()} threads"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    number = visible[gpu] if visible != [""] and gpu < len(visible) else str(gpu)
    query = ["nvidia-smi", f"--id={number}", "--query-gpu=name", "--format=csv,noheader"]
    try:
        name = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        name = "of unknown make"
    return f"GPU {gpu}, {name}"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
