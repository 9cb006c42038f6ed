"""What it takes to measure a row of the papers, from fetching to scoring, as a list of steps; and doing them.

    python paper.py reproduce pami3/8s --gpu 0       a row, or with pami3 a whole table; make reproduce TABLE=pami3
    python paper.py reproduce pami3 --dry-run        print the steps, as commands to type
    python paper.py reproduce pami3/8s --rehearse    the whole chain on thin nets and generated data, in minutes

Each step is a program of the repository. What is done is skipped: data that is there, a training whose last snapshot
is there, a score file of that very snapshot. Stopped at any moment, the same command goes on from there, a training
from its newest complete snapshot. At the end published stands beside measured. A table's tests on the VOC server end
with an archive to hand in.

--iterations N trains each stage for N iterations only, in results/iterations-N, and scores that. --rehearse trains
in results/rehearsal, and its scores are in no table; to begin anew, remove it.
"""

from __future__ import annotations

import argparse
import ast
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import published
from datasets import fetch
from datasets.catalogue import CATALOGUE, needed_by
from nets.bases import BASES
from nets.context33 import CLASSES_FILE
from nets.experiments import lookup, solve
from nets.folders import ROOT, environment, iteration_of, results_folder, run_folder
from published import Row, Table
from published.measurements import BY_HAND, Measurements
from scoring.results import sha256
from scoring.submission import TEST_SPLITS


@dataclass(frozen=True)
class Options:
    """How to reproduce: the command line's options, and the repository that holds programs, trainings and results."""

    gpu: int | None = None
    data: Path | None = None
    iterations: int | None = None
    rehearse: int | None = None
    root: Path = ROOT

    @property
    def data_folder(self) -> Path:
        """Where datasets and weights are."""
        return self.data or Path(os.environ.get("FCN_DATA") or self.root / "data")

    def device(self) -> list[str]:
        """The options that say where to compute."""
        return [] if self.gpu is None else ["--gpu", str(self.gpu)]

    def datasets(self) -> list[str]:
        """The options that say where the data is."""
        return [] if self.data is None else ["--data", str(self.data)]


@dataclass(frozen=True)
class Step:
    """One program to run."""

    what: str
    arguments: tuple[str, ...]
    """The command line, after ``python``."""
    folder: str = ""
    """Where to run it, relative to the repository."""
    done: bool = False
    """Whether what it makes is there already."""

    @property
    def command(self) -> str:
        """The step as a person types it, in the repository's root."""
        command = shlex.join(["python", *self.arguments])
        return f"(cd {shlex.quote(self.folder)} && {command})" if self.folder else command


def main(argv: Sequence[str] | None = None, show: Callable[[str], object] = print) -> int:
    """Run ``paper.py reproduce``; returns 0, the status of the step that failed, or 130 if interrupted.

    show: is called with the table's or row's name once all is measured.
    """
    parser = argparse.ArgumentParser(
        prog="paper.py reproduce", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", metavar="TABLE", help="a table, or a row as TABLE/ROW")
    parser.add_argument("--gpu", type=int, metavar="N", help="compute on GPU N (default: on the CPU)")
    parser.add_argument("--data", type=_path, metavar="DIR", help="the folder of data (default: $FCN_DATA, or data/)")
    parser.add_argument("--dry-run", action="store_true", help="print the steps, and do nothing")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--iterations", type=_count, metavar="N", help="train each stage for N iterations only")
    length.add_argument(
        "--rehearse",
        type=_count,
        nargs="?",
        const=200,
        metavar="N",
        help="thin nets, generated data, N iterations (200)",
    )
    given = parser.parse_args(argv)
    options = Options(given.gpu, given.data, given.iterations, given.rehearse)
    rows = published.find(given.name)
    steps = plan(rows, options)
    if not steps:
        quoted = all(row.quoted for _, row in rows)
        print(f"{given.name} {'is quoted: nothing here produces it' if quoted else 'has nothing to rehearse'}.")
        return 0
    print("".join(f"# {line}\n" for line in _to_bring(rows, options)), end="", flush=True)
    if given.dry_run:
        print("\n".join(f"{step.command}{'    # done' if step.done else ''}" for step in steps))
        return 0
    status = carry_out(steps, options.root)
    if status == 0 and options.rehearse is None:
        print()
        show(given.name)
        print("".join(f"\n{line}" for line in _left_to_the_reader(rows)))
    return status


def carry_out(steps: Sequence[Step], root: Path = ROOT) -> int:
    """Do the steps that are not done, one after another; returns 0, or the exit status of the one that failed."""
    for number, step in enumerate(steps, start=1):
        print(f"[{number}/{len(steps)}] {step.what}{': done already' if step.done else ''}", flush=True)
        if step.done:
            continue
        print(f"    {step.command}", flush=True)
        status = call([sys.executable, *step.arguments], root / step.folder)
        if status in (130, -signal.SIGINT):
            print(f"Stopped in step {number} of {len(steps)}. The same command goes on from there.")
            return 130
        if status:
            print(
                f"Step {number} of {len(steps)} failed with exit status {status}: {step.command}\n"
                "Once its cause is mended, the same command goes on from there.",
                file=sys.stderr,
            )
            return status if status > 0 else 1
    return 0


def call(command: Sequence[str], folder: Path) -> int:
    """Run a program and wait for it, also after Ctrl-C: it is for the program to finish its iteration.

    Returns its exit status; 130 where it ended well in spite of Ctrl-C, which is meant for all steps.
    """
    interrupted = []
    # A handler, not SIG_IGN: the program would inherit that.
    former = signal.signal(signal.SIGINT, lambda number, frame: interrupted.append(number))
    try:
        status = subprocess.Popen(command, cwd=folder, env=environment()).wait()
    finally:
        signal.signal(signal.SIGINT, former)
    return 130 if interrupted and status == 0 else status


# The plan


def plan(found: Iterable[tuple[Table, Row]], options: Options) -> list[Step]:
    """Return the steps that measure some rows, in their order; none for rows that are quoted."""
    found = [(table, row) for table, row in _with_what_they_are_against(found) if not row.quoted]
    rows = [row for _, row in found]
    trained = _chains((row.experiment for row in rows if row.experiment and not row.released), options)
    if options.rehearse is not None:
        return _rehearsals(rows, trained, options)
    steps = [*_fetch(rows, trained, options), *_convolutionalize(trained, options)]
    steps += [_train(name, options) for name in trained]
    measurements = Measurements(options.root)
    for table, row in found:
        steps += _measure(table, row, options, measurements)
    # Rows share steps: the same net is in several tables, and is scored in each.
    return list({step.command: step for step in steps}.values())


def commands(table: Table, row: Row) -> list[str]:
    """Return the commands that train a row's experiment and give its numbers, none for one that is quoted.

    They are those of a first time, whatever is done already; what it starts from has to be there.
    """
    if row.quoted:
        return []
    steps = _measure(table, row, Options(), None)
    if row.experiment and not row.released:
        folder, arguments = solve(row.experiment)
        steps = [Step(f"train {row.experiment}", tuple(arguments), folder), *steps]
    return [step.command for step in steps]


def _with_what_they_are_against(found: Iterable[tuple[Table, Row]]) -> list[tuple[Table, Row]]:
    """Return the rows, each after the one that its gain is taken against."""
    result: list[tuple[Table, Row]] = []
    for table, row in found:
        result += published.find(row.against) if row.against else []
        result.append((table, row))
    return result


def _chains(names: Iterable[str], options: Options) -> list[str]:
    """Return experiments, each after those whose weights it still has to start from."""
    found: dict[str, None] = {}
    for name in names:
        sources = [source for source in _starts_from(name, options) if source not in BASES]
        found.update(dict.fromkeys([*_chains(sources, options), name]))
    return list(found)


def _starts_from(name: str, options: Options) -> tuple[str, ...]:
    """Return whose weights an experiment's training takes: nothing's, once it has begun."""
    begun = _has_begun(name, options) or _final_weights(name, options).is_file()
    return () if begun and options.rehearse is None else lookup(name).starts_from


def _has_begun(name: str, options: Options) -> bool:
    """Whether an experiment's training has left a state to go on from."""
    return any(_out(name, options).glob("*.solverstate*"))


def _fetch(rows: Sequence[Row], trained: Sequence[str], options: Options) -> list[Step]:
    """Return the step that fetches the data and weights that are not there, if any are."""
    models = [row.experiment for row in rows if row.released]
    bases = {base.fetch for base in BASES.values()}
    data = {name for experiment in [*trained, *models] for name in needed_by(experiment)} - bases
    if any("upper-bounds" in row.analyses for row in rows):
        data |= {"voc2011", "sbd"}
    weights = {
        BASES[source].fetch
        for name in trained
        for source in _starts_from(name, options)
        if source in BASES and not _base_weights(source, options).is_file()
    }
    # In the catalogue's order, whatever asks for it first.
    wanted = [name for name in CATALOGUE if name in data | weights or name in models]
    missing = fetch.missing(wanted, options.data_folder)
    if not missing:
        return []
    return [Step(f"fetch {' '.join(missing)}", ("-m", "datasets", "fetch", *missing, *options.datasets()))]


def _convolutionalize(trained: Sequence[str], options: Options) -> list[Step]:
    steps = []
    for name, base in BASES.items():
        if base.inner_products and any(name in _starts_from(experiment, options) for experiment in trained):
            out = _base_weights(name, options)
            files = () if options.data is None else (str(out.with_name(base.source)), str(out))
            arguments = ("-m", "nets", "convolutionalize", name, *files)
            steps.append(Step(f"make {name}'s inner products convolutions", arguments, done=out.is_file()))
    return steps


def _base_weights(base: str, options: Options) -> Path:
    """Return the file of a base net's weights that training starts from."""
    return options.data_folder / "ilsvrc-nets" / BASES[base].weights


def _out(name: str, options: Options) -> Path:
    """Return the folder of an experiment's training."""
    if options.iterations is not None:
        return results_folder(options.root) / f"iterations-{options.iterations}" / name
    return run_folder(name, options.root)


def _final_weights(name: str, options: Options) -> Path:
    """Return the weights that an experiment's training ends with; where there are none yet, as they will be called."""
    out = _out(name, options)
    final = options.iterations if options.iterations is not None else lookup(name).iterations
    there = [path for path in out.glob("*.caffemodel*") if iteration_of(path) == final]
    return there[0] if there else out / f"train_iter_{final}.caffemodel"


def _train(name: str, options: Options) -> Step:
    folder, arguments = solve(name)
    out = _out(name, options)
    here = options.root / folder
    going_on = _has_begun(name, options)
    if options.iterations is not None:
        arguments += ["--iterations", str(options.iterations), "--out", _relative(out, here)]
        sources = [source for source in lookup(name).starts_from if source not in BASES]
        weights = [_relative(_final_weights(source, options), here) for source in sources]
        arguments += ["--weights", *weights] if weights and not going_on else []
    arguments += options.device() + options.datasets() + (["--resume"] if going_on else [])
    return Step(f"train {name}", tuple(arguments), folder, done=_final_weights(name, options).is_file())


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path, folder)


def _rehearsals(rows: Sequence[Row], trained: Sequence[str], options: Options) -> list[Step]:
    """Return the steps that rehearse experiments, and score the rehearsed as rows ask that are scored otherwise."""
    steps = []
    for name in trained:
        folder, arguments = solve(name)
        out = results_folder(options.root) / "rehearsal" / name
        arguments += ["--rehearse", str(options.rehearse), "--out", _relative(out, options.root / folder)]
        arguments += options.device() + options.datasets()
        done = any(out.glob(f"results/*_iter_{options.rehearse}.json"))
        steps.append(Step(f"rehearse {name}", tuple(arguments), folder, done))
    for row in rows:
        if row.split is not None and row.experiment in trained and row.mask != own_mask(row.experiment):
            run = results_folder(options.root) / "rehearsal" / row.experiment
            there = _relative(run, options.root)
            weights = f"{there}/train_iter_{options.rehearse}.caffemodel"
            arguments = ["score.py", "--split", row.split.name, "--net", f"{there}/{row.experiment}"]
            arguments += ["--weights", weights, "--mask", row.mask or "none", "--out", f"{there}/scored"]
            arguments += [*options.device(), "--data", _relative(options.data_folder / "shapes", options.root)]
            done = any(run.glob(f"scored/*_iter_{options.rehearse}_mask_{row.mask}*.json"))
            steps.append(Step(f"score the rehearsed {row.experiment}, {row.mask} masked", tuple(arguments), done=done))
    return steps


def _measure(table: Table, row: Row, options: Options, measurements: Measurements | None) -> list[Step]:
    """Return the steps that give a row's numbers once its experiment is trained.

    Without measurements, no scoring counts as done. None for a row whose training itself gives the numbers.
    """
    steps = [_score(row, options, measurements)] if row.split is not None and row.experiment else []
    steps += [_submit(row, column.metric, options) for column in table.columns if column.source == "server"]
    return steps + [_analysis(analysis, options) for analysis in row.analyses]


def _submit(row: Row, split: str, options: Options) -> Step:
    arguments = ["score.py", "--split", split, "--net", row.experiment, *_weights(row, options), "--submit"]
    arguments += options.device() + options.datasets()
    return Step(f"pack {row.experiment}'s predictions on {split} for the VOC server", tuple(arguments))


def _to_bring(found: Iterable[tuple[Table, Row]], options: Options) -> list[str]:
    """Return what a person has to put in place because no program can fetch it, a line each; none where it is there."""
    if options.rehearse is not None:
        return []
    lines = {}
    for table, row in found:
        for split in [column.metric for column in table.columns if column.source == "server" and not row.quoted]:
            voc = options.data_folder / "pascal" / TEST_SPLITS[split]
            lists = [voc / "ImageSets" / "Segmentation" / f"{name}.txt" for name in (split, "test")]
            if not any(path.is_file() for path in lists):
                lines[voc] = f"To bring: the test images of {TEST_SPLITS[split]}, from the VOC server, into {voc}."
        names = options.data_folder / CATALOGUE["pascal-context"].path / CLASSES_FILE
        if "pascalcontext-fcn-33" in row.experiment and not names.is_file():
            lines[names] = f"To bring: the names of the 33 classes, which no download has, as {names}."
    return list(lines.values())


def _left_to_the_reader(found: Iterable[tuple[Table, Row]]) -> list[str]:
    """Return what remains to be done by hand: the numbers that a person has to put in."""
    lines = []
    for table, row in found:
        keys = [column.key for column in table.columns if column.source in BY_HAND and column.key in row.published]
        if keys and not row.quoted:
            lines.append(f"python paper.py record {table.name}/{row.name} {' '.join(f'{key}=NUMBER' for key in keys)}")
    return ["What is left to put in by hand:", *lines] if lines else []


def _score(row: Row, options: Options, measurements: Measurements | None) -> Step:
    """Return the step that scores a row; done where a whole scoring of these very weights is there."""
    assert row.split is not None
    arguments = ["score.py", "--split", row.split.name, "--net", row.experiment, *_weights(row, options)]
    if row.mask and row.mask != own_mask(row.experiment):
        arguments += ["--mask", row.mask]
    arguments += options.device() + options.datasets()
    done = False
    if measurements is not None and row.released:
        done = measurements.best(row) is not None
    elif measurements is not None and (weights := _final_weights(row.experiment, options)).is_file():
        done = measurements.best(row, weights=_digest(weights)) is not None
    masked = f", {row.mask} masked" if row.mask else ""
    return Step(f"score {row.experiment} on {row.split.name}{masked}", tuple(arguments), done=done)


def own_mask(experiment: str) -> str | None:
    """Return the mask that an experiment's own evaluation net has."""
    for layer in lookup(experiment).net(lookup(experiment).split).layer:
        if layer.type == "Python" and not layer.bottom:
            return ast.literal_eval(layer.python_param.param_str).get("mask")
    return None


def _weights(row: Row, options: Options) -> list[str]:
    """Return the option that names a row's weights, where score.py would not find them by itself."""
    if row.released:
        return ["--released"]
    if options.iterations is None:
        return []
    return ["--weights", _relative(_final_weights(row.experiment, options), options.root)]


@cache
def _digest(weights: Path) -> str:
    return sha256(weights)


def _analysis(analysis: str, options: Options) -> Step:
    arguments = ["analyze.py", *analysis.split()]
    arguments += options.datasets() if analysis == "upper-bounds" else []
    arguments += options.device() if analysis.startswith("time ") else []
    return Step(f"analyse: {analysis}", tuple(arguments))


def _path(text: str) -> Path:
    return Path(text).expanduser().resolve()


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return count
