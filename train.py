"""The training loop that every experiment's solve.py shares.

`run` reads the experiment's solver.prototxt, fills the net, drives the solver in long strides with a scoring after
each, and leaves a run in one folder (OUT, by default the experiment's snapshot/):

    train_iter_N.caffemodel .solverstate    the snapshots, as Caffe names and writes them
    solver.prototxt, and the nets it names  the settings as run
    log.csv  events/  caffe.log             the loss: for anything that reads tables, for TensorBoard, Caffe's own words
    results/SPLIT_iter_N.json               the scores, one file a head and scoring (scoring/results.py has its form)
    predictions/  panels/  report.html      of the last scoring; of several heads, with a folder each

With --rehearse, all of it happens with thin nets on generated data (training/rehearsal.py). It asks nothing of Caffe
beyond pycaffe, so that it drives BVLC Caffe as well.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import caffe
from datasets import DatasetError
from nets import experiments, starts
from nets.bases import BASES
from nets.definition import Experiment
from nets.folders import ROOT, experiment_name, run_folder, use_device
from scoring import results
from scoring.metrics import Scores
from training import rehearsal
from training.logs import Logs
from training.loss import Loss
from training.rehearsal import Rehearsal
from training.scoring import Scoring
from training.screen import Screen
from training.settings import Settings
from training.signals import Interrupted
from training.snapshots import Snapshots, restore
from training.watch import Watch

# What fills the net of a run that starts anew: start(net, weights file, ...), without a file where training starts
# from scratch.
Start = Callable[..., object]


def run(
    script: str,
    manual: str | None,
    *,
    start: Start,
    experiment: Experiment | None = None,
    folder: str | Path | None = None,
    argv: Sequence[str] | None = None,
) -> Scores:
    """Train an experiment, score it, and report.

    script: the experiment's solve.py, whose folder holds the prototxts; folder: where they are if not there, such as
    a variant's. manual: the script's docstring, for --help. start: fills the net, from the weights files that the
    experiment starts from, or from nothing. experiment: what nets/experiments.py says of the folder; to be given for a
    folder that it does not know. argv: the command line.

    Returns the last scores, of the first head. Raises SystemExit with a sentence where data, weights or a state is
    missing or a run is in the way, and with status 130 after Ctrl-C, once the iteration at hand is finished and
    snapshotted.
    """
    options = _parse(manual, sys.argv[1:] if argv is None else argv)
    home = Path(script).resolve().parent
    if folder is not None:
        home = (home / folder).resolve()
    name = experiment_name(home)
    experiment = experiment or _lookup(name)
    _choose_device(options)
    place = _place(name, home, start, options)

    settings = Settings(place.home, place.data)
    total = _first(options.rehearse, options.iterations, experiment.total(settings.solver.max_iter))
    every = _first(options.score_every, experiment.score_every if options.rehearse is None else 0)
    snapshots = Snapshots(place.out, settings.solver, place.home)
    states = snapshots.to_resume(options.resume)
    sources, missing = ([], []) if states else _find_weights(place.weights, experiment, place.home, place.data)
    missing += settings.missing_data()
    if missing:
        raise SystemExit("\n".join(missing))

    screen = _open_screen(place.out)
    try:
        solver = _make_solver(settings, snapshots, total, options.seed)
        begun = restore(solver, states)
        if not states:
            _start(start, solver.net, sources, experiment)
        if begun > total:
            print(f"Iteration {begun} is beyond {total} already: nothing is trained, and it is scored as it is.")
            total = begun
        scoring = Scoring(solver, name, snapshots, experiment.split, screen, options.rehearse is not None)
        scoring.drop_results_beyond(begun)
        origin = f"on from iteration {begun}" if states else f"from {', '.join(sources) or 'scratch'}"
        print(f"{name}: to iteration {total}, {origin}; what it writes goes to {place.out}", flush=True)
        if options.keep is not None:
            snapshots.keep_newest(solver, options.keep, scoring.best)
        with Logs(place.out, begun) as logs:
            loss = Loss(solver.net, settings.train_net.layer)
            watch = Watch(solver, loss, total, logs, screen, settings.solver.average_loss, settings.solver.iter_size)
            _loop(solver, watch, scoring, snapshots, total, every)
    except KeyboardInterrupt:
        screen.close()
        _say_how_to_resume(snapshots, options)
        raise SystemExit(130) from None
    finally:
        screen.close()

    if options.keep is not None:
        snapshots.prune(solver.iter, options.keep, scoring.best())
    _print_scores(scoring, experiment.split, total)
    _report(scoring, snapshots.weights(total), place.out, options)
    return next(iter(scoring.last.values()))


@dataclass(frozen=True)
class _Place:
    """Where a run reads and writes: the prototxts' folder, its own, the data's; weights given for the experiment's."""

    home: Path
    out: Path
    data: Path | None
    weights: Sequence[Path | str] | None


def _place(name: str, home: Path, start: Start, options: argparse.Namespace) -> _Place:
    """Return where the run reads and writes; a rehearsal is prepared, with nets, data and weights of its own."""
    kind = "snapshot" if options.rehearse is None else "rehearsal"
    out = options.out or (run_folder(name, kind=kind) if home.is_relative_to(ROOT) else home / kind)
    if options.rehearse is None:
        place = _Place(home, out, options.data, options.weights)
    else:
        prepared = _rehearse(name, out, start, options)
        place = _Place(prepared.folder, out, prepared.data, prepared.files)
    if place.out == place.home:
        raise SystemExit(f"{out} holds the experiment's own prototxts: name another folder for the run with --out.")
    return place


def _open_screen(out: Path) -> Screen:
    """Make the run's folder, and return what shows the run."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        return Screen(out / "caffe.log")
    except OSError as error:
        raise SystemExit(f"Nothing can be written to {out}: {error}. Name another folder with --out.") from None


def _loop(
    solver: caffe.SGDSolver, watch: Watch, scoring: Scoring, snapshots: Snapshots, total: int, every: int
) -> None:
    """Train to iteration `total`, with a scoring at every multiple of `every` (0: none) and one at the end.

    What is scored is snapshotted, so that each result has its weights. A run asked to stop does so between two
    iterations: it is snapshotted, and KeyboardInterrupt raised.
    """
    begun = solver.iter
    try:
        while solver.iter < total:
            following = (solver.iter // every + 1) * every if every else total
            watch.step(min(total, following) - solver.iter)
            if solver.iter < total:
                watch.log_scores(scoring.run(snapshots.keep(solver, begun)))
        watch.log_scores(scoring.run(snapshots.keep(solver, begun), save_predictions=True))
    except Interrupted:
        snapshots.keep(solver, begun)
        raise KeyboardInterrupt from None
    except (OSError, ValueError, RuntimeError) as error:  # a damaged image, a label out of range, a full disk
        raise SystemExit(
            f"Stopped at iteration {solver.iter}: {error}\n{_rescued(solver, snapshots, begun)}"
        ) from error


def _report(scoring: Scoring, weights: Path, out: Path, options: argparse.Namespace) -> None:
    """Write the report, unless it is not wanted, and say how a rehearsal went."""
    if not options.no_report:
        scoring.report()
    if options.rehearse is not None:
        print(f"\n{rehearsal.conclude(out, weights)}")


def _print_scores(scoring: Scoring, split: str, iteration: int) -> None:
    for head, scores in scoring.last.items():
        of_head = f", {results.head_name(head)}" if results.head_name(head) else ""
        print(
            f"\n{scoring.experiment}, {split}{of_head} ({scores.images} images), iteration {iteration}, in per cent:\n"
        )
        print(scores.table(scoring.names[head]))


def _rescued(solver: caffe.SGDSolver, snapshots: Snapshots, begun: int) -> str:
    """Snapshot what was learned before an error, and return the sentence that says how to go on."""
    if solver.iter == begun:
        return "Nothing was learned in this run yet."
    try:
        snapshots.keep(solver, begun)
    except (OSError, RuntimeError) as error:
        return f"What was learned since the last snapshot could not be saved: {error}"
    return "What was learned is in a snapshot: mend the cause, and the same command with --resume goes on."


def _rehearse(name: str, out: Path, start: Start, options: argparse.Namespace) -> Rehearsal:
    """Prepare a rehearsal in `out`, and say so."""
    seed = options.seed if options.seed is not None else 1337
    try:
        prepared = rehearsal.prepare(name, out, seed, options.data)
        rate, loss = rehearsal.choose_rate(start, prepared, options.rehearse, seed)
    except (DatasetError, OSError, ValueError) as error:
        raise SystemExit(f"{name} cannot be rehearsed: {error}") from error
    rehearsal.write_note(out, experiment=name, iterations=options.rehearse, base_lr=rate, loss=loss)
    print(f"A rehearsal: nets of a {rehearsal.THIN}th of the width, generated data, random weights, rate {rate:.3g}.")
    print(f"The loss at its start: {loss:.5g}.")
    return prepared


# The command line


def _parse(manual: str | None, argv: Sequence[str]) -> argparse.Namespace:
    """Return the options; the paths among them absolute."""
    parser = argparse.ArgumentParser(
        prog="python solve.py", description=manual, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    device = parser.add_mutually_exclusive_group()
    device.add_argument("device", nargs="?", type=int, metavar="N", help="the same as --gpu N")
    device.add_argument("--gpu", type=int, metavar="N", help="train on GPU N")
    device.add_argument("--cpu", action="store_true", help="train on the CPU (the default)")
    parser.add_argument("--data", type=_path, metavar="DIR", help="the folder of data (default: $FCN_DATA, or data/)")
    parser.add_argument(
        "--weights", type=_path, nargs="+", metavar="FILE", help="the .caffemodel, or several, to start from"
    )
    parser.add_argument("--iterations", type=_count, metavar="N", help="stop after so many (the solver's max_iter)")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        metavar="STATE",
        help="go on from a .solverstate; without a name, from the newest in OUT that is complete",
    )
    parser.add_argument("--out", type=_path, metavar="OUT", help="where all that the run writes goes (snapshot/)")
    parser.add_argument("--seed", type=_count, metavar="N", help="of the weights' filling and of dropout")
    parser.add_argument(
        "--score-every", type=_count, metavar="N", help="score after every N iterations; 0: at the end only"
    )
    parser.add_argument(
        "--keep",
        type=_count,
        metavar="N",
        help="keep of the run's snapshots the newest N and the one of the best mean IU (all of them)",
    )
    parser.add_argument("--no-report", action="store_true", help="write no report.html")
    parser.add_argument(
        "--rehearse",
        nargs="?",
        type=_count,
        const=rehearsal.ITERATIONS,
        metavar="N",
        help="try it all out with thin nets on generated data, from random weights, for N iterations "
        f"({rehearsal.ITERATIONS}); what that writes goes to OUT (rehearsal/)",
    )
    options = parser.parse_args(argv)
    if options.keep == 0:
        raise SystemExit("--keep 0 would leave nothing to go on from: keep 1 snapshot or more.")
    if options.resume and options.weights:
        raise SystemExit(
            "--resume goes on with the weights of its snapshot, and --weights names others to start from: give one of "
            "the two."
        )
    if options.rehearse is not None and (options.resume or options.weights or options.iterations is not None):
        raise SystemExit("--rehearse N starts anew, from random weights: leave out --resume, --weights, --iterations.")
    if isinstance(options.resume, str):
        options.resume = _path(options.resume)
    return options


def _path(text: str) -> Path:
    return Path(text).expanduser().resolve()


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise argparse.ArgumentTypeError(f"{text} is less than 0")
    return count


def _choose_device(options: argparse.Namespace) -> None:
    gpu = _first(options.gpu, options.device)
    try:
        use_device(gpu)
    except RuntimeError as error:
        raise SystemExit(str(error)) from None
    if gpu is not None:
        print(f"Training on GPU {gpu}.")
    else:
        print("Training on the CPU." if options.cpu else "Training on the CPU; --gpu 0 trains on the first GPU.")


def _first(*values: int | None) -> Any:
    """Return the first value that is given."""
    return next((value for value in values if value is not None), None)


# What a run starts from


def _lookup(name: str) -> Experiment:
    try:
        return experiments.lookup(name)
    except ValueError as error:
        raise SystemExit(
            f"{error} One of your own is an Experiment: in nets/experiments.py, or given to train.run by its solve.py."
        ) from None


def _find_weights(
    asked: Sequence[Path | str] | None, experiment: Experiment, home: Path, data: Path | None
) -> tuple[list[str], list[str]]:
    """Return the weights files to start from, and the sentence about those that are missing, if any are.

    asked: those that the user names, in the place of the experiment's own. home: the experiment's folder. data: the
    folder of data, by default what FCN_DATA says.
    """
    origins = experiment.starts_from
    if asked is not None and len(asked) != len(origins):
        wanted = f"{len(origins)} ({', '.join(origins)})" if origins else "none: it is trained from scratch"
        raise SystemExit(f"--weights names {_files(len(asked))}, but this experiment starts from {wanted}.")
    paths = [Path(os.path.abspath(path)) for path in asked or starts.files(experiment, home, data)]
    missing = [path for path in paths if not path.is_file()]
    if not missing:
        return [str(path) for path in paths], []
    obtain = starts.obtain(experiment, missing[0], data)
    how = f" To get it: {obtain}." if obtain else ""
    return [], [
        f"The weights to start from are missing: there is no {' and no '.join(map(str, missing))}.{how} Weights that "
        "are elsewhere can be named with --weights FILE."
    ]


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"


def _start(start: Start, net: caffe.Net, sources: Sequence[str], experiment: Experiment) -> None:
    """Fill the net of a new run; SystemExit where the weights to start from are damaged or another net's."""
    try:
        start(net, *sources)
    except (OSError, RuntimeError, ValueError) as error:
        if not sources:  # No file is to blame: the program is.
            raise
        hint = ""
        if "fc6" in str(error):  # A classifier's inner product, where a convolution is wanted.
            base = next((origin for origin in experiment.starts_from if origin in BASES), "vgg16")
            hint = (
                f" If that is the file of the ILSVRC classifier itself: `python -m nets convolutionalize {base}` in "
                "the repository makes of it the one to start from."
            )
        raise SystemExit(f"The run cannot start from {', '.join(sources)}: {error}{hint}") from error


def _make_solver(settings: Settings, snapshots: Snapshots, total: int, seed: int | None) -> caffe.SGDSolver:
    """Write the settings as run into the run's folder, and return the solver of them."""
    try:
        return caffe.get_solver(str(settings.write(snapshots.folder, snapshots.snapshot_prefix, total, seed)))
    except (FileNotFoundError, ValueError) as error:  # The data layers': what is missing or damaged, and what to do.
        raise SystemExit(str(error)) from None


def _say_how_to_resume(snapshots: Snapshots, options: argparse.Namespace) -> None:
    state = snapshots.last()
    instead = " in the place of --weights" if options.weights else ""
    if state is None or options.rehearse is not None:
        print(f"Stopped. There is no {'rehearsal' if options.rehearse is not None else 'snapshot'} to go on from.")
    elif state != snapshots.furthest():
        print(f"Stopped. The same command with --resume {state} goes on from there.")
    else:
        print(f"Stopped. The same command with --resume{instead} goes on from {snapshots.within(state)}.")
