"""FCN-8s (VGG16's widths, 21 classes, 375 x 500 px) on this engine, beside the same net in plain PyTorch.

    python benchmarks/fcn8s.py [--threads 2] [--rounds 3] [--passes 3] [--json FILE]

Both engines compute the same numbers, which is checked first. Each measurement is a fresh process, the engines take
turns, and seconds are medians over all rounds. Peak memory is the process's largest resident size. OpenCV and ONNX
Runtime run the forward pass too, where they are installed. With the defaults it takes about 5 minutes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import comparison
import peers

# "BVLC Caffe 3.4 s forward, 9.2 s a training step (this one at 500x334), 3.8 and 5.2 GB": measured by this project
# with BVLC Caffe at commit 9b89154 (CPU build, OpenBLAS) on a machine of 2 AMD EPYC cores with AVX2.
CAFFE_GB = {"forward": 3.8, "training": 5.2}


def main() -> int:
    """Measure, print the tables, and return 1 if the two engines computed different numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="threads of each engine (default 2)")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each engine and pass (default 3)")
    parser.add_argument("--passes", type=int, default=3, help="timed passes in each process (default 3)")
    parser.add_argument("--height", type=int, default=375, help="the image's height (default 375)")
    parser.add_argument("--width", type=int, default=500, help="the image's width (default 500)")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    args = parser.parse_args()
    size = (args.height, args.width)
    found = comparison.compare("FCN8S", size, args.passes, args.rounds, args.threads)
    found["peers"] = peers.compare("FCN8S", size, args.passes, args.rounds, args.threads)
    print(table(found))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))
    return int(not comparison.same(found))


def table(found: dict[str, Any]) -> str:
    """Return the result in Markdown."""
    height, width = found["size"]
    lines = [
        f"FCN-8s, {height} x {width}. {comparison.conditions(found)}",
        "",
        "| | forward | fastest to slowest | training step | fastest to slowest | peak forward | peak training |",
        "|---|---|---|---|---|---|---|",
    ]
    for engine, name in (("engine", "this engine"), ("plain", "plain PyTorch")):
        forward, training = found["forward"][engine], found["training"][engine]
        lines.append(
            f"| {name} | {forward['median']:.2f} s | {_range(forward)} | {training['median']:.2f} s "
            f"| {_range(training)} | {forward['peak_mb'] / 1e3:.2f} GB | {training['peak_mb'] / 1e3:.2f} GB |"
        )
    ratios = [_ratio(found, pass_, key) for key in ("median", "peak_mb") for pass_ in ("forward", "training")]
    lines.append(
        f"| engine / plain | {ratios[0]:.2f} | | {ratios[1]:.2f} | | {ratios[2]:.2f} | {ratios[3]:.2f} |",
    )
    share = {p: found[p]["engine"]["peak_mb"] / 1e3 / gb for p, gb in CAFFE_GB.items()}
    lines.append(
        f"| engine / BVLC Caffe's {CAFFE_GB['forward']} and {CAFFE_GB['training']} GB | | | | "
        f"| {share['forward']:.0%} | {share['training']:.0%} |"
    )
    lines.append("")
    for pass_ in ("forward", "training"):
        ours, theirs = found[pass_]["engine"], found[pass_]["plain"]
        lines.append(
            f"{pass_}: first pass {ours['first']:.2f} s (plain {theirs['first']:.2f}), CPU time {ours['cpu']:.2f} s "
            f"({theirs['cpu']:.2f}), page faults {ours['page_faults']:,.0f} ({theirs['page_faults']:,.0f})."
        )
    lines += comparison.agreement_lines(found)
    return "\n".join([*lines, *peers.lines(found["peers"])])


def _range(summary: dict[str, float]) -> str:
    return f"{summary['fastest']:.2f} to {summary['slowest']:.2f}"


def _ratio(found: dict[str, Any], pass_: str, key: str) -> float:
    return found[pass_]["engine"][key] / found[pass_]["plain"][key]


if __name__ == "__main__":
    raise SystemExit(main())
