"""The training loop that every experiment's solve.py shares.

`run` reads the experiment's solver.prototxt, fills the net, drives the solver in long strides with a scoring after
each, and leaves a run in one folder (OUT, by default the experiment's snapshot/):

    train_iter_N.caffemodel .solverstate    the snapshots, as Caffe names and writes them
    solver.prototxt                         the settings as run
    log.csv  events/  caffe.log             the loss: for anything that reads tables, for TensorBoard, Caffe's own words
    results/SPLIT_iter_N.json               the scores, one file a scoring (score.py says what is in it)
    predictions/  panels/  report.html      of the last scoring

It asks nothing of Caffe beyond pycaffe, so that it drives BVLC Caffe as well.
"""

from __future__ import annotations

import argparse
import os
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
import vis
from caffe import layers as L
from caffe import params as P
from caffe.proto import caffe_pb2
from experiment import experiment_name, use_device
from nets import vgg16
from progress import Interrupted, Logs, Loss, Screen, Watch
from snapshots import Snapshots, restore

# What fills the net of a run that starts anew: start(net, weights file or None).
Start = Callable[[caffe.Net, Any], object]

# How many images of the scored set the report shows.
PANELS = 8


def run(
    script: str,
    manual: str | None,
    *,
    start: Start,
    weights: str | None,
    split: str,
    score_every: int,
    obtain: str = "",
    iterations: int | None = None,
    layer: str = "score",
    gt: str = "label",
    argv: Sequence[str] | None = None,
) -> score.Scores:
    """Train an experiment, score it, and report.

    script: the experiment's solve.py, whose folder holds the prototxts. manual: its docstring, for --help.
    start: fills the net, from the weights file or from nothing. weights: that file, relative to the experiment's
    folder, None to train from scratch; obtain says how to come by it, and {path} in that where it goes. split: what
    the test net reads and is scored on. score_every: iterations from one scoring to the next. iterations: to stop
    after (default: the solver's max_iter). layer, gt: the test net's blobs of scores and labels. argv: the command
    line.

    Returns the last scores. Raises SystemExit with a sentence where data, weights or a state is missing or a run is
    in the way, and with status 130 after Ctrl-C, once the iteration at hand is finished and snapshotted.
    """
    options = _parse(manual, sys.argv[1:] if argv is None else argv)
    folder = Path(script).resolve().parent
    os.chdir(folder)  # The prototxts' paths are relative to the experiment, as in the reference.
    if options.data is not None:
        os.environ["FCN_DATA"] = str(options.data)
    _choose_device(options)

    settings = _read_text("solver.prototxt", caffe_pb2.SolverParameter())
    total = _first(options.iterations, iterations, settings.max_iter)
    out = options.out or folder / "snapshot"
    snapshots = Snapshots(out, settings)
    states = snapshots.to_resume(options.resume)
    source = None if states else _find_weights(options.weights, weights, obtain)

    out.mkdir(parents=True, exist_ok=True)
    screen = Screen(out / "caffe.log")
    try:
        solver = _make_solver(settings, snapshots, total, options.seed)
        begun = restore(solver, states)
        if not states:
            _start(start, solver.net, source)
        scoring = Scoring(solver, experiment_name(folder), out, split, layer, gt)
        scoring.drop_results_beyond(begun)
        origin = f"on from iteration {begun}" if states else f"from {source or 'scratch'}"
        print(f"{scoring.experiment}: to iteration {total}, {origin}; what it writes goes to {out}", flush=True)
        with Logs(out, begun) as logs:
            loss = Loss(solver.net, _read_text(settings.train_net or settings.net, caffe_pb2.NetParameter()).layer)
            watch = Watch(solver, loss, total, logs, screen, settings.average_loss, settings.iter_size)
            _loop(solver, watch, scoring, snapshots, total, _first(options.score_every, score_every))
    except KeyboardInterrupt:
        screen.close()
        _say_how_to_resume(snapshots)
        raise SystemExit(130) from None
    finally:
        screen.close()

    print(f"\n{scoring.experiment}, {split} ({len(scoring.ids)} images), iteration {total}, in per cent:\n")
    print(scoring.last.table(scoring.names))
    if not options.no_report:
        scoring.report()
    return scoring.last


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


def vgg16_classifier(weights: str) -> caffe.Net:
    """Return ILSVRC's VGG16 to fc7, its fully connected layers as they were trained: to transplant, not to run.

    weights: VGG_ILSVRC_16_layers.caffemodel. Its fc8 scores ImageNet's classes and has no place in an FCN.
    """
    n = caffe.NetSpec()
    n.data = top = L.Input(shape={"dim": [1, 3, 224, 224]})
    for group, (depth, width) in enumerate(zip(vgg16.DEPTHS, vgg16.WIDTHS, strict=True), start=1):
        for i in range(1, depth + 1):
            n[f"conv{group}_{i}"] = top = L.Convolution(top, num_output=width, kernel_size=3, pad=1)
        n[f"pool{group}"] = top = L.Pooling(top, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    for name in ("fc6", "fc7"):
        n[name] = top = L.InnerProduct(top, num_output=vgg16.FC_WIDTH)
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as prototxt:
        prototxt.write(str(n.to_proto()))
        prototxt.flush()
        return caffe.Net(prototxt.name, caffe.TEST, weights=weights)


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
    parser.add_argument("--data", type=_path, metavar="DIR", help="the folder of datasets and weights (data/)")
    parser.add_argument("--weights", type=_path, metavar="FILE", help="the .caffemodel to start from")
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
    parser.add_argument("--no-report", action="store_true", help="write no report.html")
    options = parser.parse_args(argv)
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


def _find_weights(asked: Path | None, default: str | None, obtain: str) -> str | None:
    """Return the weights file to start from; None where the experiment trains from scratch."""
    if asked is None and default is None:
        return None
    path = asked if asked is not None else layers.data_path(str(default))
    if path.is_file():
        return str(path)
    missing = os.path.abspath(path)
    how = f" To get it: {obtain.format(path=missing)}." if obtain else ""
    raise SystemExit(
        f"The weights to start from are missing: there is no {missing}.{how} Weights that "
        "are elsewhere can be named with --weights FILE."
    )


def _start(start: Start, net: caffe.Net, source: str | None) -> None:
    """Fill the net of a new run; SystemExit where the weights to start from are damaged or another net's."""
    try:
        start(net, source)
    except (OSError, RuntimeError, ValueError) as error:
        if source is None:  # No file is to blame: the program is.
            raise
        raise SystemExit(f"The run cannot start from {source}: {error}") from error


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


def _say_how_to_resume(snapshots: Snapshots) -> None:
    state = snapshots.newest()
    if state is None:
        print("Stopped. There is no snapshot to go on from.")
    else:
        print(f"Stopped. The same command with --resume goes on from {state}.")


# Scoring


class Scoring:
    """Scores a solver's first test net, writes the results into the run's folder, and reports them."""

    def __init__(self, solver: caffe.SGDSolver, experiment: str, out: Path, split: str, layer: str, gt: str) -> None:
        """Score with `solver`'s first test net, whose data layer has to read `split`; out: the run's folder."""
        self.experiment = experiment
        self.last: score.Scores
        self.names: tuple[str, ...] = ()
        self._solver, self._out, self._layer, self._gt = solver, out, layer, gt
        found = score.data_layer(solver.test_nets[0]) if len(solver.test_nets) else None
        if found is None or found[1].split != split:
            reads = f"reads the split '{found[1].split}'" if found else "has no data layer of layers.py"
            raise SystemExit(f"{experiment} is to be scored on '{split}', but its test net {reads}.")
        self._reader = found[1]
        self._split = split
        self.ids = list(self._reader.ids)

    def run(self, weights: Path, save_predictions: bool = False) -> dict[str, float]:
        """Score the solver's present weights, which are snapshotted in `weights`; return TensorBoard's scalars."""
        # seg_tests takes a format, in which braces have a meaning.
        folder = str(self._out / "predictions").replace("{", "{{").replace("}", "}}")
        save = folder if save_predictions else False
        self.last = score.seg_tests(self._solver, save, self.ids, self._layer, self._gt)
        self.names = vis.class_names(self.experiment, len(self.last.confusion))
        result = score.result(self.last, self.names, self.experiment, self._split, self.ids, weights)
        score.write_result(self._result_file(self._solver.iter), result)
        return {
            "val/pixel_accuracy": self.last.pixel_accuracy,
            "val/mean_accuracy": self.last.mean_accuracy,
            "val/mean_iu": self.last.mean_iu,
            "val/fw_iu": self.last.fw_iu,
        }

    def drop_results_beyond(self, iteration: int) -> None:
        """Remove results of iterations that a resumed run will do again."""
        for path in (self._out / "results").glob(f"{self._split}_iter_*.json"):
            if int(path.stem.rpartition("_")[2]) > iteration:
                path.unlink()

    def report(self) -> None:
        """Write report.html, with some of the scored images spread over the list."""
        for image_id in self.ids[:: -(-len(self.ids) // PANELS)]:
            image = layers.read_image(self._reader.image_file(image_id))
            truth = self._reader.read_label(self._reader.label_file(image_id))
            report.save_panel(self._out / "panels", image_id, image, truth, self._out / "predictions")
        try:
            report.write([self._result_file(self._solver.iter)], self._out / "report.html")
            print(f"\nThe report: {self._out / 'report.html'}")
        except ImportError as error:
            print(f"{error.name} is not installed: no report.html.")

    def _result_file(self, iteration: int) -> Path:
        return self._out / "results" / f"{self._split}_iter_{iteration}.json"
