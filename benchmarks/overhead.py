"""What the engine costs beside the arithmetic: the demo's thin FCN-8s (VGG16's widths / 16, 160 x 160 px, 6 classes).

    python benchmarks/overhead.py [--threads 2] [--rounds 3] [--passes 60] [--json FILE]

At this size an iteration is some 60 small layers, so that what an engine does around each of them shows. Compared
with the same net in plain PyTorch, as in fcn8s.py. With the defaults it takes about a minute.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import comparison


def main() -> int:
    """Measure, print the table, and return 1 if the two engines computed different numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="threads of each engine (default 2)")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each engine and pass (default 3)")
    parser.add_argument("--passes", type=int, default=60, help="timed passes in each process (default 60)")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    args = parser.parse_args()
    found = comparison.compare("THIN", (160, 160), args.passes, args.rounds, args.threads)
    print(table(found))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))
    return int(not comparison.same(found))


def table(found: dict[str, Any]) -> str:
    """Return the result in Markdown."""
    lines = [
        f"Thin FCN-8s, 160 x 160. {comparison.conditions(found)}",
        "",
        "| | forward | iteration | CPU time of an iteration | peak training |",
        "|---|---|---|---|---|",
    ]
    for engine, name in (("engine", "this engine"), ("plain", "plain PyTorch")):
        forward, training = found["forward"][engine], found["training"][engine]
        lines.append(
            f"| {name} | {forward['median'] * 1e3:.1f} ms | {training['median'] * 1e3:.1f} ms "
            f"| {training['cpu'] * 1e3:.1f} ms | {training['peak_mb']:.0f} MB |"
        )
    ratios = [
        found[pass_]["engine"][key] / found[pass_]["plain"][key]
        for pass_, key in (("forward", "median"), ("training", "median"), ("training", "cpu"), ("training", "peak_mb"))
    ]
    lines.append("| engine / plain | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
    return "\n".join([*lines, "", *comparison.agreement_lines(found)])


if __name__ == "__main__":
    raise SystemExit(main())
