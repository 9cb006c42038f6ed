"""Other engines that can run FCN-8s forward, where they are installed: OpenCV's DNN module and ONNX Runtime.

Neither trains. Each is measured like the others, in fresh processes, and its scores are compared with plain PyTorch's.
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
from typing import Any

from measurement import start

# The program, the modules that it needs, and what to install for them (OpenCV 5 no longer reads Caffe's files).
PEERS = {
    "OpenCV DNN": ("peer_opencv.py", ["cv2"], "opencv-python-headless<5"),
    "ONNX Runtime": ("peer_onnxruntime.py", ["onnxruntime", "onnx", "onnxscript"], "onnxruntime onnx onnxscript"),
}


def compare(workload: str, size: tuple[int, int], passes: int, rounds: int, threads: int) -> dict[str, dict[str, Any]]:
    """Return for each peer its median seconds, peak memory, difference and version, or why it was not measured."""
    found: dict[str, dict[str, Any]] = {}
    for name, (program, modules, install) in PEERS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if missing:
            found[name] = {"skipped": f"not installed (pip install '{install}')"}
            continue
        with tempfile.TemporaryDirectory() as folder:
            arguments = [workload, f"{size[0]}x{size[1]}", folder, str(passes + 1), str(threads)]
            try:
                start(program, ["prepare", *arguments], threads)
                measured = [start(program, ["measure", *arguments], threads) for _ in range(rounds)]
            except RuntimeError as error:
                found[name] = {"skipped": str(error)}
                continue
        found[name] = {
            "median": statistics.median(s for m in measured for s in m["seconds"][1:]),
            "peak_mb": max(m["peak_mb"] for m in measured),
            "difference": measured[0]["difference"],
            "version": measured[0]["version"],
        }
    return found


def lines(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return one line for each peer."""
    return [
        f"{name}: {r['skipped']}."
        if "skipped" in r
        else f"{name} {r['version']}: forward {r['median']:.2f} s, peak {r['peak_mb'] / 1e3:.2f} GB, "
        f"relative difference {r['difference']:.1e}."
        for name, r in found.items()
    ]
