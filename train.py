"""The training loop that every experiment's solve.py shares.

`run` reads the experiment's solver.prototxt, fills the net, drives the solver in long strides with a scoring after
each, and leaves a run in one folder (OUT, by default the experiment's snapshot/):

    train_iter_N.caffemodel .solverstate    the snapshots, as Caffe names and writes them
    solver.prototxt                         the settings as run
    log.csv  events/  caffe.log             the loss: for anything that reads tables, for TensorBoard, Caffe's own words
    results/SPLIT_iter_N.json               the scores, one file a head and scoring (scoring/results.py has its form)
    predictions/  panels/  report.html      of the last scoring; of several heads, with a folder each

With --rehearse, all of it happens with thin nets on generated data (training/rehearsal.py). It asks nothing of Caffe
beyond pycaffe, so that it drives BVLC Caffe as well.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format

import caffe
import layers
import report
import score
from caffe.proto import caffe_pb2
from datasets import DatasetError
from nets import experiments, starts
from nets.bases import BASES
from nets.definition import Experiment
from nets.folders import (
    ROOT,
    data_layers,
    experiment_name,
    run_folder,
    settle_folders,
    use_device,
)
from scoring import results
from scoring.metrics import Scores
from training import rehearsal
from training.progress import Interrupted, Logs, Loss, Screen, Watch
from training.snapshots import Snapshots, restore

# What fills the net of a run that starts anew: start(net, weights file, ...), without a file where training starts
# from scratch.
Start = Callable[..., object]

# How many images of the scored set the report shows.
PANELS = 8


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
    settle_folders(options.data)
    _choose_device(options)
    # The prototxts' paths are relative to the experiment, as in the reference.
    if options.rehearse is None:
        os.chdir(home)
        out = options.out or (run_folder(name) if home.is_relative_to(ROOT) else home / "snapshot")
        given, score_every = options.weights, _first(options.score_every, experiment.score_every)
    else:
        out = options.out or (run_folder(name, kind="rehearsal") if home.is_relative_to(ROOT) else home / "rehearsal")
        given, score_every = _rehearse(name, out, start, options), _first(options.score_every, 0)

    settings = _read_text("solver.prototxt", caffe_pb2.SolverParameter())
    total = _first(options.rehearse, options.iterations, experiment.total(settings.max_iter))
    snapshots = Snapshots(out, settings)
    states = snapshots.to_resume(options.resume)
    sources, missing = ([], []) if states else _find_weights(given, experiment, home)
    missing += _missing_data(settings)
    if missing:
        raise SystemExit("\n".join(missing))

    try:
        out.mkdir(parents=True, exist_ok=True)
        screen = Screen(out / "caffe.log")
    except OSError as error:
        raise SystemExit(f"Nothing can be written to {out}: {error}. Name another folder with --out.") from None
    try:
        solver = _make_solver(settings, snapshots, total, options.seed)
        begun = restore(solver, states)
        if not states:
            _start(start, solver.net, sources, experiment)
        if begun > total:
            print(f"Iteration {begun} is beyond {total} already: nothing is trained, and it is scored as it is.")
            total = begun
        scoring = Scoring(solver, name, out, experiment.split, screen, options.rehearse is not None)
        scoring.drop_results_beyond(begun)
        origin = f"on from iteration {begun}" if states else f"from {', '.join(sources) or 'scratch'}"
        print(f"{scoring.experiment}: to iteration {total}, {origin}; what it writes goes to {out}", flush=True)
        with Logs(out, begun) as logs:
            loss = Loss(solver.net, _read_text(settings.train_net or settings.net, caffe_pb2.NetParameter()).layer)
            watch = Watch(solver, loss, total, logs, screen, settings.average_loss, settings.iter_size)
            if options.keep is not None:
                snapshots.keep_newest(solver, options.keep, scoring.best)
            _loop(solver, watch, scoring, snapshots, total, score_every)
    except KeyboardInterrupt:
        screen.close()
        _say_how_to_resume(snapshots, options)
        raise SystemExit(130) from None
    finally:
        screen.close()

    if options.keep is not None:
        snapshots.prune(solver.iter, options.keep, scoring.best())
    for head, scores in scoring.last.items():
        of_head = f", {results.head_name(head)}" if results.head_name(head) else ""
        what = f"{scoring.experiment}, {experiment.split}{of_head} ({scores.images} images)"
        print(f"\n{what}, iteration {total}, in per cent:\n")
        print(scores.table(scoring.names[head]))
    if not options.no_report:
        scoring.report()
    if options.rehearse is not None:
        print(f"\n{rehearsal.conclude(out, snapshots.weights(total))}")
    return next(iter(scoring.last.values()))


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


def _rescued(solver: caffe.SGDSolver, snapshots: Snapshots, begun: int) -> str:
    """Snapshot what was learned before an error, and return the sentence that says how to go on."""
    if solver.iter == begun:
        return "Nothing was learned in this run yet."
    try:
        snapshots.keep(solver, begun)
    except (OSError, RuntimeError) as error:
        return f"What was learned since the last snapshot could not be saved: {error}"
    return "What was learned is in a snapshot: mend the cause, and the same command with --resume goes on."


def _rehearse(name: str, out: Path, start: Start, options: argparse.Namespace) -> list[str]:
    """Prepare a rehearsal in `out` and go to its folder; return the files to start from."""
    seed = options.seed if options.seed is not None else 1337
    try:
        prepared = rehearsal.prepare(name, out, seed)
        rehearsal.use(prepared)
        rate, loss = rehearsal.choose_rate(start, prepared.files, options.rehearse, seed)
    except (DatasetError, OSError, ValueError) as error:
        raise SystemExit(f"{name} cannot be rehearsed: {error}") from error
    rehearsal.write_note(out, experiment=name, iterations=options.rehearse, base_lr=rate, loss=loss)
    print(f"A rehearsal: nets of a {rehearsal.THIN}th of the width, generated data, random weights, rate {rate:.3g}.")
    print(f"The loss at its start: {loss:.5g}.")
    return prepared.files


# The command line


def _parse(manual: str | None, argv: Sequence[str]) -> argparse.Namespace:
    """Return the options; the paths among them absolute, since the program leaves the folder it is called in."""
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


def _read_text(path: str, message: Any) -> Any:
    """Read a prototxt into `message` and return it."""
    try:
        return text_format.Parse(Path(path).read_text(encoding="utf-8"), message)
    except FileNotFoundError:
        raise SystemExit(f"{Path(path).absolute()} is missing: `python -m nets` in the repository writes it.") from None
    except text_format.ParseError as error:
        raise SystemExit(f"{Path(path).absolute()}: {error}") from None


def _lookup(name: str) -> Experiment:
    try:
        return experiments.lookup(name)
    except ValueError as error:
        raise SystemExit(
            f"{error} One of your own is an Experiment: in nets/experiments.py, or given to train.run by its solve.py."
        ) from None


def _find_weights(
    asked: Sequence[Path | str] | None, experiment: Experiment, home: Path
) -> tuple[list[str], list[str]]:
    """Return the weights files to start from, and the sentence about those that are missing, if any are.

    asked: those that the user names, in the place of the experiment's own. home: the experiment's folder.
    """
    origins = experiment.starts_from
    if asked is not None and len(asked) != len(origins):
        wanted = f"{len(origins)} ({', '.join(origins)})" if origins else "none: it is trained from scratch"
        raise SystemExit(f"--weights names {_files(len(asked))}, but this experiment starts from {wanted}.")
    paths = [Path(os.path.abspath(path)) for path in asked or starts.files(experiment, home)]
    missing = [path for path in paths if not path.is_file()]
    if not missing:
        return [str(path) for path in paths], []
    obtain = starts.obtain(experiment, missing[0])
    how = f" To get it: {obtain}." if obtain else ""
    return [], [
        f"The weights to start from are missing: there is no {' and no '.join(map(str, missing))}.{how} Weights that "
        "are elsewhere can be named with --weights FILE."
    ]


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"


def _missing_data(settings: Any) -> list[str]:
    """Return what the data layers of a solver's nets have to say against the data that is there.

    They are set up by themselves: to be told what is missing takes no net of half a gigabyte.
    """
    problems = []
    nets = [(settings.train_net or settings.net, caffe.TRAIN), *((net, caffe.TEST) for net in settings.test_net)]
    for path, phase in nets:
        net = _read_text(path, caffe_pb2.NetParameter())
        reading = caffe_pb2.NetParameter(layer=data_layers(net))
        with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as prototxt:
            prototxt.write(text_format.MessageToString(reading))
            prototxt.flush()
            try:
                if reading.layer:
                    caffe.Net(prototxt.name, phase)
            except (FileNotFoundError, ValueError) as error:
                problems.append(str(error))
    return list(dict.fromkeys(problems))


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


def _make_solver(settings: Any, snapshots: Snapshots, total: int, seed: int | None) -> caffe.SGDSolver:
    """Write the settings as run to OUT/solver.prototxt, and return the solver of it.

    The experiment's own solver.prototxt is left as it is; what differs are the folder of the snapshots, the seed,
    and, where the learning rate falls towards max_iter, that.
    """
    as_run = caffe_pb2.SolverParameter()
    as_run.CopyFrom(settings)
    as_run.snapshot_prefix = str(snapshots.prefix)
    if seed is not None:
        as_run.random_seed = seed
    if settings.lr_policy == "poly":
        as_run.max_iter = max(total, 1)
    path = snapshots.prefix.parent / "solver.prototxt"
    path.write_text(text_format.MessageToString(as_run), encoding="utf-8")
    try:
        return caffe.get_solver(str(path))
    except (FileNotFoundError, ValueError) as error:  # The data layers': what is missing or damaged, and what to do.
        raise SystemExit(str(error)) from None


def _say_how_to_resume(snapshots: Snapshots, options: argparse.Namespace) -> None:
    state = snapshots.last()
    instead = " in the place of --weights" if options.weights else ""
    if state is None or options.rehearse is not None:
        print(f"Stopped. There is no {'rehearsal' if options.rehearse is not None else 'snapshot'} to go on from.")
    elif state != snapshots.furthest():
        print(f"Stopped. The same command with --resume {state.absolute()} goes on from there.")
    else:
        print(f"Stopped. The same command with --resume{instead} goes on from {state}.")


# Scoring


class Scoring:
    """Scores a solver's first test net, head by head, writes the results into the run's folder, and reports them."""

    def __init__(
        self, solver: caffe.SGDSolver, experiment: str, out: Path, split: str, screen: Screen, rehearsed: bool
    ) -> None:
        """Score with `solver`'s first test net, whose data layer has to read `split`; out: the run's folder."""
        self.experiment = experiment
        # By head, that is, by its blob of scores.
        self.last: dict[str, Scores] = {}
        self.names: dict[str, tuple[str, ...]] = {}
        self._solver, self._out, self._screen, self._rehearsed = solver, out, screen, rehearsed
        self._folder = out / "results"
        net = solver.test_nets[0] if len(solver.test_nets) else None
        found = score.data_layer(net) if net is not None else None
        if net is None or found is None or found[1].split != split:
            reads = f"reads the split '{found[1].split}'" if found else "has no data layer of layers.py"
            raise SystemExit(f"{experiment} is to be scored on '{split}', but its test net {reads}.")
        self._reader = found[1]
        self._split = split
        self._heads = score.heads(net)
        self._mask = getattr(self._reader, "mask", None)
        self._files: list[Path] = []
        self.ids = list(self._reader.ids)

    def run(self, weights: Path, save_predictions: bool = False) -> dict[str, float]:
        """Score the solver's present weights, which are snapshotted in `weights`; return TensorBoard's scalars."""
        net = self._solver.test_nets[0]
        net.share_with(self._solver.net)
        save = self._out / "predictions" if save_predictions else None
        with self._screen.images(len(self.ids)) as advance:
            self.last = score.score_heads(net, self.ids, self._heads, save, advance)
        scalars = {}
        self._files = []
        for head, scores in self.last.items():
            score.print_scores(self._solver.iter, scores)
            self.names[head] = score.class_names(self.experiment, self._reader, len(scores.confusion))
            scored = results.Scoring(
                self.experiment,
                self._split,
                self.ids,
                len(self.ids),
                weights,
                head,
                self._mask,
                rehearsal=self._rehearsed,
            )
            self._files.append(self._folder / scored.file_name())
            results.write_result(self._files[-1], results.result(scores, self.names[head], scored))
            tag = "/".join(part for part in ("val", results.head_name(head)) if part)
            for metric in ("pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu"):
                scalars[f"{tag}/{metric}"] = getattr(scores, metric)
        return scalars

    def drop_results_beyond(self, iteration: int) -> None:
        """Remove results of iterations that a resumed run will do again."""
        for head, _ in self._heads:
            for done, path in self._results(head).items():
                if done > iteration:
                    path.unlink()

    def best(self) -> int | None:
        """Return the iteration whose results, of the first head, have the best mean IU; None if there are none."""
        first, _ = self._heads[0]
        means = {done: results.read_result(path)["mean_iu"] for done, path in self._results(first).items()}
        ranked = [(mean, done) for done, mean in means.items() if mean is not None]
        return max(ranked)[1] if ranked else None

    def _results(self, head: str) -> dict[int, Path]:
        """Return the files of a head's results in the run's folder, by iteration; others' names go on after it."""
        name = "_".join(part for part in (self._split, results.head_name(head)) if part)
        found = {
            path: re.fullmatch(rf"{re.escape(name)}_iter_(\d+)", path.stem) for path in self._folder.glob("*.json")
        }
        return {int(match[1]): path for path, match in found.items() if match}

    def report(self) -> None:
        """Write report.html, with some of the scored images spread over the list."""
        for head, label in self._heads:
            of_head = results.head_name(head)
            for image_id in self.ids[:: -(-len(self.ids) // PANELS)]:
                image = layers.read_image(self._reader.image_file(image_id))
                truth = self._reader.truth(image_id, label)
                report.save_panel(
                    self._out / "panels" / of_head, image_id, image, truth, self._out / "predictions" / of_head
                )
        try:
            report.write(self._files, self._out / "report.html")
            print(f"\nThe report: {self._out / 'report.html'}")
        except ImportError as error:
            print(f"{error.name} is not installed: no report.html.")
