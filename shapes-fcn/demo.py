"""The demo: FCN-32s from scratch, FCN-16s from it, FCN-8s from that; each scored, and the three beside the truth.

    make demo                             (or: cd shapes-fcn && python demo.py)

Makes the data if there is none, trains on 1,200 generated images of 160 x 160 pixels, scores on 200 others, and
writes results/demo/report.html. It takes some 6 minutes on two CPU cores. Interrupted, it goes on where it stopped
when called again. It fails if a finer stride gains less than 0.03 mean IU.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets import DatasetError, shapes
from files.writing import replaced, write_text
from nets.experiments import lookup
from nets.folders import data_folder, results_folder
from published.reproduce import call
from reporting.page import write
from reporting.pictures import figure
from scoring.metrics import Scores
from terminal.progress_bar import duration

HERE = Path(__file__).resolve().parent

STAGES = ("32s", "16s", "8s")
SPLIT = "seg11valid"

# The least mean IU, of 1, by which each stage has to be better than the one before.
GAIN = 0.03


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status: 0, 1 with the reason on stderr, 130 if interrupted."""
    parser = argparse.ArgumentParser(
        prog="demo.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=results_folder() / "demo", metavar="DIR", help="(results/demo)")
    parser.add_argument("--data", type=Path, default=data_folder(), metavar="DIR", help="where shapes/ is (data/)")
    parser.add_argument("--gpu", type=int, metavar="N", help="train on GPU N (default: on the CPU)")
    parser.add_argument("--seed", type=int, metavar="N", help="of the weights that training starts from")
    parser.add_argument(
        "--scale", type=float, default=1.0, metavar="X", help="X times the iterations, for a quick look"
    )
    parser.add_argument("--fresh", action="store_true", help="train all stages anew, even those that are done")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="write some of the panels as one small PNG")
    options = parser.parse_args(argv)
    options.out, options.data = options.out.resolve(), options.data.resolve()

    begun = time.monotonic()
    iterations = {stage: _iterations(stage, options.scale) for stage in STAGES}
    try:
        _make_data(options.data / "shapes")
        _prepare(options, iterations)
        results = _train(options, iterations)
    except (DatasetError, ValueError, OSError) as error:
        print(f"demo.py: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        if error.returncode == 130:
            print("The demo goes on from there when it is called again.")
        return error.returncode

    scores = {stage: Scores.from_json(json.loads(path.read_text())) for stage, path in results.items()}
    names = json.loads(results["32s"].read_text())["classes"]
    print(f"\n{_table(iterations, scores, names)}\n")
    _report(list(results.values()), options.out / "report.html", options.picture)
    finest = options.out / STAGES[-1] / f"train_iter_{iterations[STAGES[-1]]}.caffemodel"
    print(f"To segment a picture with FCN-8s: python infer.py PICTURE --net shapes-fcn/8s --weights {finest}")
    print(f"That took {duration(time.monotonic() - begun)}.")
    return _judge(scores)


def _iterations(stage: str, scale: float) -> int:
    """Return how many iterations a stage trains for: as many as the experiment does, scaled."""
    return max(1, round(scale * lookup(f"shapes-fcn/{stage}").iterations))


def _make_data(folder: Path) -> None:
    print(f"The generated images are in {folder}; what is not there yet is made now.", flush=True)
    try:
        shapes.make(folder, shapes.Parameters())
    except DatasetError as error:
        raise DatasetError(
            f"{error} (Those are options of `python -m datasets make shapes`; the demo takes a folder with --data.)"
        ) from None


def _prepare(options: argparse.Namespace, iterations: dict[str, int]) -> None:
    """Make the folder of the runs; what it holds of another demo is neither mixed in nor lost.

    Raises ValueError if the folder holds a demo with other settings.
    """
    settings = {"iterations": iterations, "seed": options.seed, "data": str(options.data)}
    note = options.out / "demo.json"
    if note.is_file():
        if options.fresh:
            for stage in STAGES:
                shutil.rmtree(options.out / stage, ignore_errors=True)
        elif json.loads(note.read_text()) != settings:
            raise ValueError(
                f"{options.out} holds a demo with other settings ({note.read_text().strip()}). Train anew with "
                "--fresh, or choose another folder with --out."
            )
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(note, json.dumps(settings) + "\n")


def _train(options: argparse.Namespace, iterations: dict[str, int]) -> dict[str, Path]:
    """Train the stages that are not done yet, each with its own solve.py; return the result files by stage."""
    results = {}
    weights: list[str] = []
    for stage in STAGES:
        out = options.out / stage
        results[stage] = out / "results" / f"{SPLIT}_iter_{iterations[stage]}.json"
        if results[stage].is_file():
            print(f"FCN-{stage} is trained and scored already (--fresh trains it anew).")
        else:
            command = ["--out", str(out), "--data", str(options.data), "--iterations", str(iterations[stage])]
            command += ["--gpu", str(options.gpu)] if options.gpu is not None else ["--cpu"]
            command += ["--seed", str(options.seed)] if options.seed is not None else []
            command += ["--resume"] if any(out.glob("*.solverstate")) else weights
            command = [sys.executable, str(HERE / stage / "solve.py"), *command]
            if status := call(command, HERE):
                raise subprocess.CalledProcessError(status, command)
        weights = ["--weights", str(out / f"train_iter_{iterations[stage]}.caffemodel")]
    return results


def _table(iterations: dict[str, int], scores: dict[str, Scores], names: Sequence[str]) -> str:
    """Return the stages' metrics and each class's IU as text, in per cent."""
    lines = [f"{'':10}{'iterations':>11}{'pixel acc.':>12}{'mean acc.':>11}{'mean IU':>9}{'f.w. IU':>9}"]
    for stage, s in scores.items():
        values = (
            f"{100 * s.pixel_accuracy:12.1f}{100 * s.mean_accuracy:11.1f}{100 * s.mean_iu:9.1f}{100 * s.fw_iu:9.1f}"
        )
        lines.append(f"{'FCN-' + stage:10}{iterations[stage]:>11}{values}")
    lines += ["", f"{'IU':10}" + "".join(f"{name:>11}" for name in names)]
    lines += [f"{'FCN-' + stage:10}" + "".join(f"{100 * iu:11.1f}" for iu in s.class_iu) for stage, s in scores.items()]
    return "\n".join(lines)


def _report(results: list[Path], out: Path, picture: Path | None) -> None:
    try:
        write(results, out, "FCN-32s, FCN-16s and FCN-8s on generated shapes")
        print(f"The report: {out}")
    except ImportError as error:
        print(f"{error.name} is not installed: no report.")
    if picture is not None:
        with replaced(picture) as partial:
            figure(results).save(partial, optimize=True)
        print(f"The picture: {picture}")


def _judge(scores: dict[str, Scores]) -> int:
    """Return 0 if every stage is better than the one before by GAIN, else 1, having said which is not."""
    status = 0
    for coarse, fine in pairwise(STAGES):
        gain = scores[fine].mean_iu - scores[coarse].mean_iu
        if not gain >= GAIN:
            print(
                f"FCN-{fine} gains {gain:.3f} mean IU over FCN-{coarse}, less than {GAIN}: the demo has failed.",
                file=sys.stderr,
            )
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
