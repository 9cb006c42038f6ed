"""train.py and training/: a small net trained end to end, stopped, gone on with, and refused."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

import caffe
import nets.experiments
import score
import surgery
import train
from caffe.proto import caffe_pb2
from datasets import shapes
from nets import folders, starts
from nets.definition import Experiment
from reading import image_files
from scoring import passes
from terminal.progress_bar import duration
from training import scoring, snapshots
from training import screen as screens
from training.logs import Logs, read_log
from training.loss import Loss
from training.screen import Screen
from training.watch import Watch

ROOT = Path(__file__).resolve().parent.parent
SIZE = 48

SOLVER = """
train_net: "train.prototxt" test_net: "val.prototxt" test_iter: 3 test_interval: 1000000 test_initialization: false
base_lr: 1e-9 lr_policy: "poly" power: 0.9 momentum: 0.9 max_iter: 60 random_seed: 1
display: 20 average_loss: 5 snapshot: 25 snapshot_prefix: "snapshot/train"
"""

NET = """
layer {{ name: "data" type: "Python" top: "data" top: "label"
  python_param {{ module: "layers" layer: "{layer}" param_str: "{settings}" }} }}
layer {{ name: "score_fr" type: "Convolution" bottom: "data" top: "score_fr"
  convolution_param {{ num_output: 6 kernel_size: 4 stride: 4 }} }}
layer {{ name: "upscore" type: "Deconvolution" bottom: "score_fr" top: "upscore" param {{ lr_mult: 0 }}
  convolution_param {{ num_output: 6 kernel_size: 8 stride: 4 bias_term: false }} }}
layer {{ name: "score" type: "Crop" bottom: "upscore" bottom: "data" top: "score"
  crop_param {{ axis: 2 offset: 2 }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"
  loss_param {{ ignore_label: 255 normalize: {normalize} }} }}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data that holds a very small set of shapes."""
    folder = tmp_path_factory.mktemp("data")
    shapes.make(folder / "shapes", shapes.Parameters(train=5, val=3, size=SIZE), processes=1)
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment of a net with one convolution, whose loss is a sum over the pixels."""
    monkeypatch.setenv("FCN_DATA", "")
    monkeypatch.setenv("GLOG_minloglevel", "2")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "tiny-fcn"
    folder.mkdir()
    (folder / "solver.prototxt").write_text(SOLVER)
    write_nets(folder)
    return folder


def write_nets(folder: Path, normalize: bool = False) -> None:
    common = {"mean": (104, 117, 123), "seed": 1337}
    train_data = {"sbdd_dir": "../data/shapes/sbdd/dataset", "split": "train", **common}
    val_data = {"voc_dir": "../data/shapes/pascal/VOC2011", "split": "seg11valid", **common}
    for file, layer, settings in (
        ("train", "SBDDSegDataLayer", train_data),
        ("val", "VOCSegDataLayer", val_data),
    ):
        net = NET.format(layer=layer, settings=settings, normalize=str(normalize).lower())
        (folder / f"{file}.prototxt").write_text(net)


@pytest.fixture
def solve(folder: Path, data: Path) -> Callable[..., score.Scores]:
    """Run the experiment with a command line, as its solve.py would."""

    def run(*argv: str, **settings: Any) -> score.Scores:
        arguments = ["--data", str(data), *argv]
        experiment = tiny(**{"score_every": 25, **settings})
        return train.run(str(folder / "solve.py"), "What it is.", start=start, experiment=experiment, argv=arguments)

    return run


def tiny(split: str = "seg11valid", **facts: Any) -> Experiment:
    """The experiment of the fixture, which nets/ does not know."""
    splits = {"train.prototxt": "train", "val.prototxt": split}
    return Experiment(**{"net": None, "splits": splits, "iterations": 60, "score_every": 0, **facts})


def start(net: caffe.Net, *weights: str) -> None:
    for file in weights:
        net.copy_from(file)
    surgery.interp(net, ["upscore"])


def rows(out: Path) -> list[dict[str, float]]:
    with (out / "log.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def iterations(out: Path) -> list[int]:
    return [int(row["iteration"]) for row in rows(out)]


def results(out: Path) -> list[int]:
    return sorted(int(path.stem.rpartition("_")[2]) for path in (out / "results").iterdir())


# A run from its start to its end


@pytest.mark.slow
def test_a_run_leaves_snapshots_logs_results_predictions_and_a_report(
    solve: Callable[..., score.Scores], folder: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = solve()
    out = folder / "snapshot"
    # Every 25 from the solver and for the scorings, and the last.
    for iteration in (25, 50, 60):
        assert (out / f"train_iter_{iteration}.caffemodel").is_file()
        assert (out / f"train_iter_{iteration}.solverstate").is_file()
    assert results(out) == [25, 50, 60]
    result = json.loads((out / "results/seg11valid_iter_60.json").read_text())
    assert (result["images"], result["iteration"]) == (3, 60)
    assert score.Scores.from_json(result).confusion.tolist() == scores.confusion.tolist()
    assert result["weights"]["path"] == "snapshot/train_iter_60.caffemodel"
    assert sorted(path.name for path in (out / "predictions").iterdir()) == [f"val_0000{i}.png" for i in range(3)]
    assert "data:image/jpeg;base64," in (out / "report.html").read_text()

    printed = capsys.readouterr().out
    assert "Training on the CPU; --gpu 0" in printed
    assert "iteration 60 of 60: loss/pixel" in printed
    assert "images/s" in printed
    assert re.search(r"mean IU +\d+\.\d\d", printed)
    assert (folder / "solver.prototxt").read_text() == SOLVER


def test_the_log_has_the_loss_as_caffe_has_it_and_per_pixel(
    solve: Callable[..., score.Scores], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = []
    read = Loss.read
    monkeypatch.setattr(Loss, "read", lambda loss: losses.append(read(loss)) or losses[-1])
    solve("--no-report", "--iterations", "50")
    log = rows(folder / "snapshot")
    assert [row["iteration"] for row in log] == [20, 40, 50]
    # A sum that starts at ln 6 a pixel, with nothing for those that are void.
    assert 0.6 * np.log(6) < losses[0][0] / SIZE**2 <= np.log(6)
    for row in log:
        done = int(row["iteration"])
        assert row["loss"] == pytest.approx(losses[done - 1][0], rel=1e-6)
        assert row["smoothed_loss"] == pytest.approx(np.mean([total for total, _ in losses[done - 5 : done]]), rel=1e-6)
        assert row["loss_per_pixel"] == pytest.approx(row["smoothed_loss"] / SIZE**2, rel=1e-6)
        # With --iterations, the rate falls to zero towards that, not to the solver's max_iter.
        assert row["lr"] == pytest.approx(1e-9 * (1 - (done - 1) / 50) ** 0.9, rel=1e-5)
    assert all(row["images_per_second"] > 0 for row in log)
    assert log[0]["seconds"] < log[1]["seconds"] < log[2]["seconds"]


def test_a_loss_that_is_a_mean_already_is_left_as_it_is(
    solve: Callable[..., score.Scores], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_nets(folder, normalize=True)
    solve("--no-report", "--iterations", "5")
    (row,) = rows(folder / "snapshot")
    assert row["loss_per_pixel"] == row["smoothed_loss"]
    assert "loss/pixel" not in capsys.readouterr().out


def test_tensorboard_reads_the_same_numbers(solve: Callable[..., score.Scores], folder: Path) -> None:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    scores = solve("--no-report", "--iterations", "40", "--score-every", "0")
    (file,) = (folder / "snapshot/events").iterdir()
    events = list(loader.RawEventFileLoader(str(file)).Load())
    values = {}
    from tensorboard.compat.proto.event_pb2 import Event  # noqa: PLC0415  where it is installed

    for event in map(Event.FromString, events):
        for value in event.summary.value:
            values[event.step, value.tag] = value.simple_value
    for row in rows(folder / "snapshot"):
        assert values[row["iteration"], "train/loss_per_pixel"] == pytest.approx(row["loss_per_pixel"], rel=1e-5)
        assert values[row["iteration"], "train/lr"] == pytest.approx(row["lr"], rel=1e-5)
    assert values[40, "val/mean_iu"] == pytest.approx(scores.mean_iu)


def test_out_takes_all_that_a_run_writes(
    solve: Callable[..., score.Scores], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    before = sorted(folder.iterdir())
    solve("--out", "my {run}", "--iterations", "10", "--seed", "7")  # Relative to where the program is called.
    assert sorted(folder.iterdir()) == before
    out = elsewhere / "my {run}"
    assert {"train_iter_10.caffemodel", "train_iter_10.solverstate", "log.csv", "report.html"} <= set(os.listdir(out))
    as_run = text_format.Parse((out / "solver.prototxt").read_text(), caffe_pb2.SolverParameter())
    assert (as_run.max_iter, as_run.random_seed) == (10, 7)
    assert as_run.snapshot_prefix == str(out / "train")


def test_a_run_leaves_the_process_as_it_was_and_caffe_nothing_to_look_for(
    solve: Callable[..., score.Scores], folder: Path, data: Path, tmp_path: Path
) -> None:
    before = Path.cwd(), dict(os.environ)
    solve("--no-report", "--iterations", "1")
    assert (Path.cwd(), dict(os.environ)) == before
    # The run's prototxts find the nets and the data from any folder, the experiment's are as they were.
    out = folder / "snapshot"
    as_run = text_format.Parse((out / "solver.prototxt").read_text(), caffe_pb2.SolverParameter())
    assert (as_run.train_net, as_run.test_net[:]) == (str(out / "train.prototxt"), [str(out / "val.prototxt")])
    for file, key, layout in (("train", "sbdd_dir", "sbdd/dataset"), ("val", "voc_dir", "pascal/VOC2011")):
        settings = folders.data_settings(out / f"{file}.prototxt")
        own = folders.data_settings(folder / f"{file}.prototxt")
        assert settings == {**own, key: str(data / "shapes" / layout)}
        assert own[key] == f"../data/shapes/{layout}"
    # A state names its weights from where the program runs, so that the repository may be moved.
    assert as_run.snapshot_prefix == "tiny-fcn/snapshot/train"


def test_a_run_does_not_write_over_the_experiment(solve: Callable[..., score.Scores], folder: Path) -> None:
    with pytest.raises(SystemExit, match=r"tiny-fcn holds the experiment's own prototxts: name another .*--out"):
        solve("--out", str(folder))
    assert (folder / "solver.prototxt").read_text() == SOLVER


def test_a_moved_experiment_goes_on_from_its_own_weights(
    solve: Callable[..., score.Scores],
    folder: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    solve("--no-report", "--iterations", "5")
    moved = tmp_path / "moved"
    moved.mkdir()
    folder.rename(moved / folder.name)
    monkeypatch.chdir(moved / folder.name)
    argv = ["--data", str(data), "--iterations", "6", "--no-report", "--resume"]
    settings: dict[str, Any] = {"start": start, "experiment": tiny()}
    train.run(str(moved / folder.name / "solve.py"), None, argv=argv, **settings)
    assert "on from iteration 5" in capsys.readouterr().out
    assert results(moved / folder.name / "snapshot") == [5, 6]


def test_a_fixed_rate_just_stops_early(solve: Callable[..., score.Scores], folder: Path) -> None:
    (folder / "solver.prototxt").write_text(SOLVER.replace("poly", "fixed"))
    solve("--no-report", "--iterations", "5")
    as_run = text_format.Parse((folder / "snapshot/solver.prototxt").read_text(), caffe_pb2.SolverParameter())
    assert as_run.max_iter == 60
    assert (folder / "snapshot/train_iter_5.caffemodel").is_file()


def test_no_iterations_score_the_weights_to_start_from(
    solve: Callable[..., score.Scores], folder: Path, tmp_path: Path
) -> None:
    trained = solve("--no-report", "--iterations", "20")
    weights = tmp_path / "trained.caffemodel"
    shutil.copy(folder / "snapshot/train_iter_20.caffemodel", weights)
    out = str(tmp_path / "scored")
    scored = solve(
        "--no-report",
        "--iterations",
        "0",
        "--weights",
        str(weights),
        "--out",
        out,
        starts_from=("not.there.caffemodel",),
    )
    assert scored.confusion.tolist() == trained.confusion.tolist()


def test_a_run_goes_on_without_what_is_not_installed(
    solve: Callable[..., score.Scores],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("tensorboard", "tensorboard.compat.proto", "matplotlib", "jinja2"):
        monkeypatch.setitem(sys.modules, name, None)
    solve("--iterations", "5")
    printed = capsys.readouterr().out
    assert "tensorboard is not installed" in printed
    assert "jinja2 is not installed: no report.html" in printed
    assert iterations(folder / "snapshot") == [5]
    assert not (folder / "snapshot/report.html").exists()


# Stopped, and gone on with


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Have a signal sent to this process in the middle of a given iteration."""

    def prepare(iteration: int, number: int = signal.SIGINT) -> None:
        write = Watch._on_gradients_ready

        def on_gradients_ready(watch: Watch) -> None:
            if watch._solver.iter + 1 == iteration:
                os.kill(os.getpid(), number)
            write(watch)

        monkeypatch.setattr(Watch, "_on_gradients_ready", on_gradients_ready)

    return prepare


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_finishes_its_iteration_and_goes_on_from_there(
    solve: Callable[..., score.Scores],
    interrupt: Callable[..., None],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    number: int,
) -> None:
    interrupt(33, number)
    with pytest.raises(SystemExit) as stopped:
        solve("--no-report")
    assert stopped.value.code == 130
    out = folder / "snapshot"
    assert (out / "train_iter_33.solverstate").is_file()
    assert iterations(out) == [20]
    printed = capsys.readouterr().out
    assert "The same command with --resume goes on from snapshot/train_iter_33.solverstate." in printed
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    solve("--no-report", "--resume")
    assert iterations(out) == [20, 40, 60]
    assert results(out) == [25, 50, 60]
    seconds = [row["seconds"] for row in rows(out)]
    assert seconds == sorted(seconds)


def test_a_stopped_run_that_had_gone_back_is_not_taken_for_the_one_before(
    solve: Callable[..., score.Scores], interrupt: Callable[..., None], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    solve("--no-report")
    state = folder / "snapshot/train_iter_25.solverstate"
    interrupt(33)
    with pytest.raises(SystemExit):
        solve("--no-report", "--resume", str(state))
    stopped = state.with_name("train_iter_33.solverstate")
    assert f"The same command with --resume {stopped} goes on from there." in capsys.readouterr().out


def test_a_run_stopped_while_it_is_scored_goes_on_too(
    solve: Callable[..., score.Scores], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(passes, "score_heads", interrupted)
        with pytest.raises(SystemExit) as stopped:
            solve("--no-report")
    assert stopped.value.code == 130
    solve("--no-report", "--resume")
    assert results(folder / "snapshot") == [50, 60]


def test_a_damaged_image_costs_no_iteration(
    solve: Callable[..., score.Scores], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = itertools.count()
    read_image = image_files.read_image

    def reads_ten(path: Path | str) -> Any:
        if next(calls) > 10:
            raise ValueError(f"{path} is damaged")
        return read_image(path)

    with monkeypatch.context() as patch:
        patch.setattr(image_files, "read_image", reads_ten)
        with pytest.raises(SystemExit, match=r"(?s)Stopped at iteration \d+: .*is damaged.*--resume goes on"):
            solve("--no-report")
    (state,) = (folder / "snapshot").glob("*.solverstate")
    assert 0 < int(state.stem.rpartition("_")[2]) < 25
    solve("--no-report", "--resume")
    assert results(folder / "snapshot") == [25, 50, 60]


@pytest.mark.slow
def test_resuming_drops_what_the_run_will_do_again(solve: Callable[..., score.Scores], folder: Path) -> None:
    solve("--no-report")
    out = folder / "snapshot"
    with (out / "log.csv").open("a") as file:
        file.write("80,1.0,1.")  # As a crash leaves it.
    solve("--no-report", "--resume", str(out / "train_iter_25.solverstate"), "--iterations", "40")
    assert iterations(out) == [20, 40]
    assert results(out) == [25, 40]


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["caffemodel", "solverstate"])
def test_a_snapshot_that_is_cut_off_is_passed_over(
    solve: Callable[..., score.Scores], folder: Path, capsys: pytest.CaptureFixture[str], cut: str
) -> None:
    solve("--no-report")
    out = folder / "snapshot"
    newest = out / f"train_iter_60.{cut}"
    newest.write_bytes(newest.read_bytes()[:-7])
    capsys.readouterr()
    solve("--no-report", "--resume")
    printed = capsys.readouterr().out
    assert "train_iter_60.solverstate or its weights are cut off" in printed
    assert "on from iteration 50" in printed
    for state in out.glob("*.solverstate"):
        state.write_bytes(b"")
    with pytest.raises(SystemExit, match=r"No snapshot in .*snapshot is complete"):
        solve("--no-report", "--resume")


def test_weights_that_do_not_load_are_passed_over(
    solve: Callable[..., score.Scores], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    solve("--no-report")
    # Whole, to look at its fields, but nothing inside them is right.
    (folder / "snapshot/train_iter_60.caffemodel").write_bytes(b"\xa2\x06\x03abc")
    solve("--no-report", "--resume")
    assert "on from iteration 50" in capsys.readouterr().out


def test_resume_without_a_snapshot_starts_anew(solve: Callable[..., score.Scores], folder: Path) -> None:
    solve("--no-report", "--iterations", "3", "--resume")
    assert (folder / "snapshot/train_iter_3.caffemodel").is_file()


# Kept


def kept(out: Path) -> list[int]:
    """Return the iterations of a run's snapshots, all of which have to have all their files."""
    files: dict[int, set[str]] = {}
    for path in out.glob("train_iter_*"):
        iteration, _, ending = path.name.removeprefix("train_iter_").partition(".")
        files.setdefault(int(iteration), set()).add(ending)
    assert all(endings == {"caffemodel", "solverstate", "resume.json"} for endings in files.values())
    return sorted(files)


@pytest.mark.slow
def test_the_newest_snapshots_can_be_kept_and_the_best_one(
    solve: Callable[..., score.Scores], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solve("--no-report", "--iterations", "60", "--score-every", "10")
    out = folder / "snapshot"
    assert kept(out) == [10, 20, 25, 30, 40, 50, 60]
    # Going back, and by another way: what is beyond stays, the best of what was scored up to there too.
    for iteration in (10, 20, 30):
        path = out / f"results/seg11valid_iter_{iteration}.json"
        stored = json.loads(path.read_text())
        path.write_text(json.dumps({**stored, "mean_iu": 1 - iteration / 100}))
    (out / "results/seg11valid_iter_20_mask_both.json").write_text("of score.py, and none of the run's")
    seen: list[list[int]] = []
    run = scoring.Scoring.run
    monkeypatch.setattr(scoring.Scoring, "run", lambda *arguments, **k: seen.append(kept(out)) or run(*arguments, **k))
    state = str(out / "train_iter_30.solverstate")
    solve("--no-report", "--resume", state, "--keep", "2", "--iterations", "57", "--score-every", "17")
    assert seen == [
        [10, 25, 30, 34, 40, 50, 60],  # At once, of those up to 30; then 34, which is scored.
        [10, 40, 50, 51, 60],  # 50 is the solver's own, anew; there 40 was nearer than 34.
        [10, 50, 51, 57, 60],
    ]
    assert kept(out) == [10, 51, 57, 60]


def test_a_snapshot_that_is_cut_off_counts_for_none_that_is_kept(
    solve: Callable[..., score.Scores], folder: Path
) -> None:
    solve("--no-report", "--iterations", "50", "--score-every", "10")
    out = folder / "snapshot"
    state = out / "train_iter_50.solverstate"
    state.write_bytes(state.read_bytes()[:-7])
    settings = text_format.Parse(SOLVER, caffe_pb2.SolverParameter())
    snapshots.Snapshots(out, settings).prune(50, 2, None)
    assert kept(out) == [30, 40, 50]
    (out / "train_iter_40.resume.json").unlink()  # As BVLC Caffe has it.
    snapshots.Snapshots(out, settings).prune(49, 1, None)
    assert sorted(path.name for path in out.glob("train_iter_[34]0*")) == [
        "train_iter_40.caffemodel",
        "train_iter_40.solverstate",
    ]
    with pytest.raises(SystemExit, match="--keep 0 would leave nothing"):
        solve("--resume", "--keep", "0")


# Refused


def test_a_new_run_does_not_write_over_another(solve: Callable[..., score.Scores], folder: Path) -> None:
    solve("--no-report", "--iterations", "5")
    weights = (folder / "snapshot/train_iter_5.caffemodel").read_bytes()
    with pytest.raises(SystemExit, match=r"holds a run, at iteration 5.*--resume.*--out"):
        solve("--no-report", "--iterations", "5")
    assert (folder / "snapshot/train_iter_5.caffemodel").read_bytes() == weights


def test_a_run_that_is_beyond_its_end_is_scored_as_what_it_is(
    solve: Callable[..., score.Scores], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    solve("--no-report", "--iterations", "20")
    solve("--no-report", "--iterations", "10", "--resume")
    printed = capsys.readouterr().out
    assert "Iteration 20 is beyond 10 already: nothing is trained" in printed
    assert "iteration 10, in per cent" not in printed
    assert results(folder / "snapshot") == [20]


def test_a_folder_that_cannot_be_written_to_is_told(solve: Callable[..., score.Scores], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match=r"Nothing can be written to .*file/out: .*--out"):
        solve("--out", str(tmp_path / "file/out"))


def test_a_relative_folder_of_data_begins_where_the_program_is_called(
    folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    monkeypatch.setenv("FCN_DATA", data.name)
    monkeypatch.setenv("FCN_RESULTS", "out")
    argv = ["--iterations", "1", "--no-report"]
    settings: dict[str, Any] = {"start": start, "experiment": tiny()}
    train.run(str(folder / "solve.py"), None, argv=argv, **settings)
    assert (folder / "snapshot/train_iter_1.caffemodel").is_file()
    assert folders.results_folder() == data.parent / "out"
    assert folders.environment()["FCN_RESULTS"] == str(data.parent / "out")
    assert folders.environment()["FCN_DATA"] == str(data)


def test_missing_weights_are_named_with_how_to_get_them(solve: Callable[..., score.Scores], data: Path) -> None:
    with pytest.raises(SystemExit) as refused:
        solve(
            starts_from=("../data/ilsvrc-nets/some.caffemodel",),
            obtain="curl -o {path} http://some.host/some.caffemodel",
        )
    assert f"curl -o {data / 'ilsvrc-nets/some.caffemodel'} http://some.host/some.caffemodel" in str(refused.value)
    with pytest.raises(SystemExit, match=r"no .*other\.caffemodel.*--weights FILE"):
        solve("--weights", "other.caffemodel", starts_from=("../some.caffemodel",))


def test_all_that_is_missing_is_told_at_once(solve: Callable[..., score.Scores], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as refused:
        solve("--data", str(tmp_path / "nowhere"), starts_from=("../data/a.caffemodel", "../data/b.caffemodel"))
    told = str(refused.value)
    for missing in ("a.caffemodel", "b.caffemodel", "sbdd/dataset/train.txt", "seg11valid.txt"):
        assert str(tmp_path / "nowhere") in told
        assert missing in told


def test_as_many_weights_are_named_as_the_experiment_starts_from(solve: Callable[..., score.Scores]) -> None:
    with pytest.raises(SystemExit, match=r"names 1 file, but this experiment starts from none: it is trained from"):
        solve("--weights", "some.caffemodel")
    with pytest.raises(SystemExit, match=r"names 1 file, but this experiment starts from 2 \(a.caffemodel, b"):
        solve("--weights", "some.caffemodel", starts_from=("a.caffemodel", "b.caffemodel"))


def test_weights_and_a_snapshot_are_not_both_gone_on_from(solve: Callable[..., score.Scores]) -> None:
    with pytest.raises(SystemExit, match="give one of the two"):
        solve("--resume", "--weights", "some.caffemodel", starts_from=("a.caffemodel",))
    with pytest.raises(SystemExit, match="leave out --resume"):
        solve("--resume", "--rehearse")


def test_several_files_are_given_to_start_in_their_order(
    solve: Callable[..., score.Scores], folder: Path, data: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{name}.caffemodel" for name in "ab"]
    for path in paths:
        path.write_text("")
    seen: list[tuple[str, ...]] = []
    train.run(
        str(folder / "solve.py"),
        None,
        start=lambda net, *files: seen.append(files),
        experiment=tiny(starts_from=("../a.caffemodel", "../b.caffemodel")),
        argv=["--data", str(data), "--iterations", "1", "--no-report"],
    )
    assert seen == [tuple(map(str, paths))]


def test_a_folder_that_nets_does_not_know_is_refused_with_what_to_do(folder: Path) -> None:
    with pytest.raises(SystemExit, match=r"No experiment is called 'tiny-fcn'.*nets/experiments\.py, or given to"):
        train.run(str(folder / "solve.py"), None, start=start, argv=[])


def test_the_folder_may_be_another_than_the_script_s(folder: Path, data: Path, tmp_path: Path) -> None:
    script = tmp_path / "elsewhere" / "solve.py"
    script.parent.mkdir()
    argv = ["--data", str(data), "--iterations", "1", "--no-report"]
    settings: dict[str, Any] = {"start": start, "experiment": tiny()}
    train.run(str(script), None, folder=folder, argv=argv, **settings)
    assert (folder / "snapshot/train_iter_1.caffemodel").is_file()
    assert list(script.parent.iterdir()) == []


def test_the_classifier_itself_is_told_from_the_net_made_of_it() -> None:
    def refuse(net: caffe.Net, *files: str) -> None:
        raise ValueError("fc6: 4096 x 25088 is not 4096 x 512 x 7 x 7")

    lookup = nets.experiments.lookup
    for experiment, base in (
        (lookup("voc-fcn-alexnet"), "alexnet"),
        (lookup("voc-fcn32s"), "vgg16"),
        (tiny(), "vgg16"),
    ):
        with pytest.raises(SystemExit, match=rf"python -m nets convolutionalize {base}"):
            train._start(refuse, None, ["a.caffemodel"], experiment)


def test_a_net_of_two_heads_is_scored_head_by_head(folder: Path, data: Path) -> None:
    shapes.make(data / "shapes", shapes.Parameters(train=4, val=3, size=SIZE), "siftflow", processes=1)
    for file, split in (("train", "trainval"), ("val", "test")):
        net = NET.format(
            layer="SIFTFlowSegDataLayer",
            settings={"siftflow_dir": "../data/shapes/sift-flow", "split": split, "seed": 1337},
            normalize="true",
        )
        reads, scored = net[: net.index("layer {", 9)], net[net.index("layer {", 9) :]
        for head, loss in (("sem", "loss"), ("geo", "loss_geo")):
            one = scored.replace('"label"', f'"{head}"').replace('"loss"', f'"{loss}"')
            for blob in ("score", "score_fr", "upscore"):
                one = one.replace(f'"{blob}"', f'"{blob}_{head}"')
            reads += one.replace("num_output: 6", f"num_output: {33 if head == 'sem' else 3}")
        (folder / f"{file}.prototxt").write_text(reads.replace('top: "label"', 'top: "sem" top: "geo"'))

    def begin(net: caffe.Net) -> None:
        surgery.interp(net, ["upscore_sem", "upscore_geo"])

    settings: dict[str, Any] = {"start": begin, "experiment": tiny(split="test")}
    argv = ["--data", str(data), "--iterations"]
    scores = train.run(str(folder / "solve.py"), None, argv=[*argv, "4"], **settings)
    out = folder / "snapshot"
    stored = {path.name: json.loads(path.read_text()) for path in (out / "results").iterdir()}
    assert sorted(stored) == ["test_geo_iter_4.json", "test_sem_iter_4.json"]
    sem, geo = stored["test_sem_iter_4.json"], stored["test_geo_iter_4.json"]
    assert (sem["head"], geo["head"]) == ("score_sem", "score_geo")
    assert sem["confusion"] == scores.confusion.tolist()
    assert (len(sem["classes"]), len(geo["classes"])) == (33, 3)
    # Each has the loss of its own.
    assert sem["loss"] == pytest.approx(np.log(33), abs=0.5)
    assert geo["loss"] == pytest.approx(np.log(3), abs=0.3)
    for head in ("sem", "geo"):
        assert len(list((out / "predictions" / head).glob("*.png"))) == 3
        assert len(list((out / "panels" / head).glob("*.truth.png"))) == 3
    page = (out / "report.html").read_text()
    assert page.index("Head: sem") < page.index("Head: geo")
    # A run that goes on drops what both heads will be scored for again.
    train.run(str(folder / "solve.py"), None, argv=[*argv, "6", "--resume", "--no-report"], **settings)
    state = str(out / "train_iter_4.solverstate")
    train.run(str(folder / "solve.py"), None, argv=[*argv, "5", "--resume", state, "--no-report"], **settings)
    assert sorted(path.stem[-6:] for path in (out / "results").iterdir()) == ["iter_4", "iter_4", "iter_5", "iter_5"]


def test_weights_that_are_damaged_are_named(solve: Callable[..., score.Scores], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.caffemodel"
    damaged.write_bytes(b"<html>Not found</html>")

    with pytest.raises(SystemExit, match=r"cannot start from .*damaged\.caffemodel: .*web page"):
        solve("--weights", str(damaged), starts_from=("another.caffemodel",))


def test_missing_data_is_named_with_how_to_get_it(solve: Callable[..., score.Scores], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as refused:
        solve("--data", str(tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere/shapes/sbdd/dataset/train.txt") in str(refused.value)
    assert "python -m datasets make shapes" in str(refused.value)


def test_a_missing_prototxt_or_a_wrong_split_is_refused(solve: Callable[..., score.Scores], folder: Path) -> None:
    with pytest.raises(SystemExit, match="is to be scored on 'seg12test', but its test net reads the split 'seg11"):
        solve(split="seg12test")
    (folder / "solver.prototxt").unlink()
    with pytest.raises(SystemExit, match=r"solver\.prototxt is missing"):
        solve()


@pytest.mark.parametrize("argument", [["--gpu", "99"], ["99"]])
def test_a_gpu_that_is_not_there_is_refused(solve: Callable[..., score.Scores], argument: list[str]) -> None:
    with pytest.raises(SystemExit, match="GPU 99"):
        solve(*argument)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    # The engine stops by itself; BVLC Caffe does not.
    blob = SimpleNamespace(num=1, data=np.array(np.nan))
    net = SimpleNamespace(blobs={"loss": blob}, blob_loss_weights={"loss": 1.0})
    solver = SimpleNamespace(net=net, iter=41, add_callback=lambda *callbacks: None)
    screen = Screen(tmp_path / "caffe.log")
    with Logs(tmp_path, 0) as logs:
        watch = Watch(solver, Loss(net, []), 100, logs, screen, 1, 1)
        with pytest.raises(SystemExit, match="loss is nan at iteration 42"):
            watch._on_gradients_ready()


# The pieces


def test_a_log_of_other_columns_is_not_read_as_ours(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("iteration,loss\n1,2\n")
    with pytest.raises(ValueError, match=r"log\.csv has the columns iteration, loss; expected"):
        read_log(tmp_path / "log.csv")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_a_duration_reads_as_a_person_says_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("content", "whole"),
    [
        (b"\x08\x96\x01\x12\x03abc", True),
        (b"\x08\x96\x01\x12\x03ab", False),
        (b"\x08\x96", False),
        (b"", False),
        (b"<html>", False),
    ],
)
def test_a_file_that_is_cut_off_is_known_by_its_lengths(tmp_path: Path, content: bytes, whole: bool) -> None:
    path = tmp_path / "some.caffemodel"
    path.write_bytes(content)
    assert snapshots._is_whole(path) is whole


def test_without_a_terminal_scoring_says_now_and_then_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = Screen(tmp_path / "caffe.log")
    with screen.images(2) as advance:
        advance("an id")
        assert capsys.readouterr().out == ""
        monkeypatch.setattr(screens, "PLAIN_INTERVAL", 0)
        advance("another")
    assert capsys.readouterr().out == "scored 2 of 2 images\n"


@pytest.mark.slow
def test_on_a_terminal_caffe_s_information_goes_to_its_file_and_warnings_to_the_screen(tmp_path: Path) -> None:
    pytest.importorskip("tqdm")
    program = f"""
import pathlib, sys
from training.screen import Screen
screen = Screen(pathlib.Path({str(tmp_path / "caffe.log")!r}))
print("I1121 02:03:04.567890 1 solver.cpp:45] Initializing solver:\\nbase_lr: 1", file=sys.stderr)
screen.begin(40, 0)
for done in range(1, 41):
    print("I1121 02:03:04.567890 1 solver.cpp:239] Iteration", done, file=sys.stderr)
    if done == 20:
        print("W1121 02:03:04.567890 1 net.cpp:1] Beware\\nof the second line", file=sys.stderr)
        screen.progress(done, "half way")
    screen.iteration(done)
screen.pause()
with screen.images(2) as advance:
    advance("an id")
    advance("another")
screen.close()
print("back", file=sys.stderr)
"""
    master, slave = os.openpty()
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stderr=slave, stdout=subprocess.PIPE, check=True)
    os.close(slave)
    shown = os.read(master, 1 << 16).decode()
    os.close(master)
    assert "half way" in shown
    assert re.search(r"0/2 .*image", shown)
    assert "Beware" in shown
    assert "of the second line" in shown
    assert "Iteration" not in shown
    assert "base_lr" not in shown
    assert shown.rstrip().endswith("back")
    assert b"caffe.log" in run.stdout
    assert "Iteration 40" in (tmp_path / "caffe.log").read_text()


# The experiments


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Return what the solve.py of an experiment calls train.run with."""
    arguments: dict[str, Any] = {}

    def call(name: str) -> dict[str, Any]:
        arguments.clear()
        runpy.run_path(str(ROOT / name / "solve.py"), run_name="__main__")
        return dict(arguments)

    monkeypatch.setattr(train, "run", lambda script, manual, **settings: arguments.update(settings, manual=manual))
    return call


def read_solver(name: str) -> Any:
    return text_format.Parse((ROOT / name / "solver.prototxt").read_text(), caffe_pb2.SolverParameter())


@pytest.mark.parametrize("name", nets.experiments.EXPERIMENTS)
def test_a_solve_py_fits_its_solver_and_its_nets(name: str, called: Callable[[str], dict[str, Any]]) -> None:
    said = called(name)
    known = nets.experiments.lookup(name)
    assert f"cd {name} && python solve.py" in said["manual"]
    solver = read_solver(name)
    assert known.score_every % solver.snapshot == 0
    assert f"{known.total(solver.max_iter):,} iterations" in said["manual"]
    evaluation = folders.evaluation_prototxt(ROOT / name)
    assert known.split == folders.data_settings(evaluation)["split"]
    assert {ROOT / name / solver.test_net[0], ROOT / name / solver.train_net} < set((ROOT / name).iterdir())
    assert ROOT / name / solver.test_net[0] == evaluation
    files = starts.files(known, ROOT / name)
    assert len(files) == len(known.starts_from)
    for file, origin in zip(files, known.starts_from, strict=True):
        before = re.fullmatch(r"(.+)/snapshot/train_iter_(\d+)\.caffemodel", str(file))
        if before:
            assert Path(before[1]) == ROOT / origin
            assert int(before[2]) == nets.experiments.lookup(origin).total(read_solver(origin).max_iter)
        else:
            assert origin in ("vgg16", "alexnet", "googlenet")


# The demo


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """shapes-fcn/demo.py's names."""
    monkeypatch.setenv("GLOG_minloglevel", "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield runpy.run_path(str(ROOT / "shapes-fcn/demo.py"), run_name="demo")


@pytest.mark.slow
def test_the_demo_trains_the_three_stages_and_judges_them(
    demo: dict[str, Any],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # The set that the demo makes is that of `data`, which is small.
    monkeypatch.setattr(shapes, "Parameters", partial(shapes.Parameters, train=5, val=3, size=SIZE))
    out, picture = tmp_path / "demo", tmp_path / "demo.png"
    arguments = ["--data", str(data), "--out", str(out), "--picture", str(picture)]
    # A thousandth of the iterations: 5, 2 and 2, of which nobody can learn anything.
    assert demo["main"]([*arguments, "--scale", "0.001"]) == 1
    printed = capfd.readouterr()
    assert "FCN-16s gains" in printed.err
    assert "less than 0.03" in printed.err
    assert re.search(r"FCN-8s +2 +\d+\.\d", printed.out)
    page = (out / "report.html").read_text()
    assert all(f"FCN-{stage}" in page for stage in ("32s", "16s", "8s"))
    assert picture.read_bytes().startswith(b"\x89PNG")
    finest = re.search(r"python infer\.py PICTURE --net shapes-fcn/8s --weights (\S+)", printed.out)
    assert finest and Path(finest[1]).is_file()
    # A finer stage starts from the coarser one's weights.
    assert f"from {out}/16s/train_iter_2.caffemodel" in printed.out

    # What is done is not done again, and not mixed with another demo.
    demo["main"].__globals__["_call"] = None
    assert demo["main"]([*arguments, "--scale", "0.001"]) == 1
    assert "FCN-8s is trained and scored already" in capfd.readouterr().out
    assert demo["main"]([*arguments, "--scale", "0.002"]) == 1
    assert "other settings" in capfd.readouterr().err


def test_the_demo_takes_no_other_set_than_its_own(
    demo: dict[str, Any], data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert demo["main"](["--data", str(data), "--out", str(tmp_path)]) == 1
    assert re.search(r"train 5 instead of 1200.*the demo takes a folder with --data", capfd.readouterr().err)


@pytest.mark.parametrize(
    ("ius", "status"), [((0.40, 0.50, 0.63), 0), ((0.40, 0.42, 0.63), 1), ((0.4, 0.5, float("nan")), 1)]
)
def test_the_demo_passes_if_every_stage_gains(demo: dict[str, Any], ius: tuple[float, ...], status: int) -> None:
    scores = {stage: SimpleNamespace(mean_iu=iu) for stage, iu in zip(demo["STAGES"], ius, strict=True)}
    assert demo["_judge"](scores) == status
