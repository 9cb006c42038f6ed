"""published/: every row of the papers is there with its numbers, an experiment, and commands that parse."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

import analyze
import datasets.__main__
import datasets.fetch
import nets.__main__
import nets.convolutionalize
import published
import score
import train
from nets.experiments import EXPERIMENTS, lookup
from published import reproduce
from published.reproduce import Options

ROOT = Path(__file__).resolve().parents[2]
KEYS = ("pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu", "geometric_accuracy")

ALL_ROWS = [(table, row) for table in published.TABLES.values() for row in table.rows]
OURS = [pytest.param(table, row, id=f"{table.name}/{row.name}") for table, row in ALL_ROWS if not row.quoted]


def row_of(name: str) -> published.Row:
    return published.find(name)[0][1]


# What is published: from the papers, not from the module

ROWS = {
    "cvpr1": 3,
    "cvpr2": 4,
    "cvpr3": 3,
    "cvpr4": 6,
    "cvpr5": 8,
    "cvpr-context": 13,
    "cvpr-upper-bounds": 6,
    "pami1": 3,
    "pami2": 3,
    "pami3": 8,
    "pami4": 3,
    "pami5": 5,
    "pami6": 8,
    "pami7": 5,
    "pami8": 6,
}

# Pixel accuracy, mean accuracy, mean IU, f.w. IU, and geometric accuracy.
PUBLISHED = {
    "cvpr2/32s-fixed": (83.0, 59.7, 45.4, 72.0),
    "cvpr2/32s": (89.1, 73.3, 59.4, 81.4),
    "cvpr2/16s": (90.0, 75.7, 62.4, 83.0),
    "cvpr2/8s": (90.3, 75.9, 62.7, 83.2),
    "cvpr4/gupta": (60.3, None, 28.6, 47.0),
    "cvpr4/32s-rgb": (60.0, 42.2, 29.2, 43.9),
    "cvpr4/32s-rgbd": (61.5, 42.4, 30.5, 45.5),
    "cvpr4/32s-hha": (57.1, 35.2, 24.2, 40.4),
    "cvpr4/32s-rgb-hha": (64.3, 44.9, 32.8, 48.0),
    "cvpr4/16s-rgb-hha": (65.4, 46.1, 34.0, 49.5),
    "cvpr5/liu": (76.7, None, None, None),
    "cvpr5/tighe": (None, None, None, None, 90.8),
    "cvpr5/tighe-svm": (75.6, 41.1, None, None),
    "cvpr5/tighe-mrf": (78.6, 39.2, None, None),
    "cvpr5/farabet-balanced": (72.3, 50.8, None, None),
    "cvpr5/farabet-natural": (78.5, 29.6, None, None),
    "cvpr5/pinheiro": (77.7, 29.8, None, None),
    "cvpr5/16s": (85.2, 51.7, 39.5, 76.1, 94.3),
    "cvpr-context/o2p": (None, None, 18.1, None),
    "cvpr-context/cfm": (None, None, 31.5, None),
    "cvpr-context/32s": (63.8, 42.7, 31.8, 48.3),
    "cvpr-context/16s": (65.7, 46.2, 34.8, 50.7),
    "cvpr-context/8s": (65.9, 46.5, 35.1, 51.0),
    "cvpr-context/32s-later": (65.4, 47.2, 35.1, 50.3),
    "cvpr-context/16s-later": (66.8, 49.6, 37.6, 52.3),
    "cvpr-context/8s-later": (67.0, 50.7, 37.8, 52.5),
    "cvpr-context/o2p-33": (None, None, 29.2, None),
    "cvpr-context/cfm-33": (None, None, 46.1, None),
    "cvpr-context/32s-33": (69.8, 65.1, 50.4, 54.9),
    "cvpr-context/16s-33": (71.8, 68.0, 53.4, 57.5),
    "cvpr-context/8s-33": (71.8, 67.6, 53.5, 57.7),
    "pami2/accum": (86.0, 66.5, 51.9, 76.5),
    "pami2/online": (89.3, 76.2, 60.7, 81.8),
    "pami2/heavy": (90.5, 76.5, 63.6, 83.5),
    "pami3/32s": (90.5, 76.5, 63.6, 83.5),
    "pami3/16s": (91.0, 78.1, 65.0, 84.3),
    "pami3/8s-atonce": (91.1, 78.5, 65.4, 84.4),
    "pami3/8s": (91.2, 77.6, 65.5, 84.5),
    "pami3/32s-fixed": (82.9, 64.6, 46.6, 72.3),
    "pami3/pool5": (87.4, 60.5, 50.0, 78.5),
    "pami3/pool4": (78.7, 31.7, 22.4, 67.0),
    "pami3/pool3": (70.9, 13.7, 9.2, 57.6),
    "pami5/gupta": (60.3, None, 28.6, 47.0),
    "pami5/32s-rgb": (61.8, 44.7, 31.6, 46.0),
    "pami5/32s-rgbd": (62.1, 44.8, 31.7, 46.3),
    "pami5/32s-hha": (58.3, 35.7, 25.2, 41.7),
    "pami5/32s-rgb-hha": (65.3, 44.0, 33.3, 48.6),
    "pami6/farabet-natural": (72.3, 50.8, None, None),
    "pami6/farabet-balanced": (78.5, 29.6, None, None),
    "pami6/8s": (85.9, 53.9, 41.2, 77.2, 94.6),
    "pami7/o2p": (None, None, 18.1, None),
    "pami7/cfm": (None, None, 34.4, None),
    "pami7/32s": (65.5, 49.1, 36.7, 50.9),
    "pami7/16s": (66.9, 51.3, 38.4, 52.3),
    "pami7/8s": (67.5, 52.3, 39.1, 53.0),
    "pami8/reference": (None, None, 84.8, None),
    "pami8/reference-fg": (None, None, 81.0, None),
    "pami8/reference-bg": (None, None, 19.8, None),
    "pami8/fg-only": (None, None, 76.1, None),
    "pami8/bg-only": (None, None, 37.8, None),
    "pami8/shape": (None, None, 29.1, None),
    "released/32s": (90.4810, 76.4824, 63.6261, 83.4580),
    "released/16s": (90.9971, 78.0710, 65.0050, 84.2614),
    "released/8s": (91.2212, 77.6146, 65.5126, 84.5445),
    "released/8s-atonce": (91.1288, 78.4979, 65.3998, 84.4326),
}

for others in ("liu", "tighe", "tighe-svm", "tighe-mrf", "pinheiro"):
    PUBLISHED[f"pami6/{others}"] = PUBLISHED[f"cvpr5/{others}"]

ALEXNET = {"layers": 8, "parameters": 57, "receptive_field": 355, "stride": 32}
VGG16 = {"layers": 16, "parameters": 134, "receptive_field": 404, "stride": 32}
GOOGLENET = {"layers": 22, "parameters": 6, "receptive_field": 907, "stride": 32}
RCNN = {"mean_iu_2011": 47.9}
SDS = {"mean_iu_2011": 52.6, "mean_iu_2012": 51.6, "inference_ms": 50_000}

BOUNDS = {128: 50.9, 64: 73.3, 32: 86.1, 16: 92.8, 8: 96.4, 4: 98.5}

ITERATIONS = (300, 400, 500, 750, 1000, 1250, 1500, 1700)
IMAGES = (5000, 7500, 10_000, 15_000, 20_000, 25_000, 30_000, 33_000)
LOSSES = {
    "fig5/full": (ITERATIONS, (0.68, 0.58, 0.54, 0.48, 0.46, 0.47, 0.44, 0.41)),
    "fig5/half": (ITERATIONS, (0.73, 0.55, 0.49, 0.49, 0.43, 0.45, 0.42, 0.42)),
    "fig5/quarter": (ITERATIONS, (0.67, 0.58, 0.53, 0.47, 0.45, 0.42, 0.40, 0.41)),
    "fig5-images/full": (IMAGES, (0.81, 0.63, 0.54, 0.48, 0.46, 0.47, 0.44, 0.40)),
    "fig5-images/half": (IMAGES, (None, None, 0.86, 0.59, 0.49, 0.48, 0.49, 0.49)),
    "fig5-images/quarter": (IMAGES, (None, None, None, None, 0.81, 0.64, 0.59, 0.57)),
}
RETRAINED = {
    **{"chainer-32s": 63.8180, "chainer-16s": 65.0911, "chainer-16s-again": 65.3628, "chainer-8s": 65.4789},
    **{"chainer-8s-again": 65.8444, "chainer-8s-atonce": 65.3433},
    **{"pytorch-32s": 62.84, "pytorch-16s": 64.91, "pytorch-8s": 65.49, "pytorch-8s-atonce": 64.74},
}

# Other numbers.
OTHERS = {
    "cvpr1/alexnet": {"mean_iu": 39.8, "forward_ms": 50, **ALEXNET},
    "cvpr1/vgg16": {"mean_iu": 56.0, "forward_ms": 210, **VGG16},
    "cvpr1/googlenet": {"mean_iu": 42.5, "forward_ms": 59, **GOOGLENET},
    "pami1/alexnet": {"mean_iu": 39.8, "forward_ms": 16, **ALEXNET},
    "pami1/vgg16": {"mean_iu": 56.0, "forward_ms": 100, **VGG16},
    "pami1/googlenet": {"mean_iu": 42.5, "forward_ms": 20, **GOOGLENET},
    "cvpr3/rcnn": RCNN,
    "cvpr3/sds": SDS,
    "cvpr3/8s": {"mean_iu_2011": 62.7, "mean_iu_2012": 62.2, "inference_ms": 175},
    "pami4/rcnn": RCNN,
    "pami4/sds": SDS,
    "pami4/8s": {"mean_iu_2011": 67.5, "mean_iu_2012": 67.2, "inference_ms": 100},
    **{f"cvpr-upper-bounds/{stride}": {"mean_iu": bound} for stride, bound in BOUNDS.items()},
    "pami-text/voc-train": {"mean_iu": 57.7},
    "pami-text/alexnet": {"mean_iu": 48.0},
    "pami-text/null-background": {"gain": -1.0},
    "pami-text/null-background-sigmoid": {"gain": -1.0},
    "pami-text/fixed-share": {"share": 73},
    "cvpr-text/extra-data": {"gain": 3.4},
    "cvpr-text/fixed-share": {"share": 70},
    **{
        name: {str(x): loss for x, loss in zip(at, losses, strict=True) if loss is not None}
        for name, (at, losses) in LOSSES.items()
    },
    "momentum/online": {"momentum": 0.99},
    "times/classify-batch": {"time": 1.2},
    "times/classify-one": {"time": 5.4},
    "times/fcn": {"time": 22},
    "times/classify-backward": {"time": 2.4},
    "times/fcn-backward": {"time": 37},
    "hours/cvpr-32s": {"time": 72},
    "hours/cvpr-16s": {"time": 24},
    "hours/cvpr-8s": {"time": 24},
    "hours/pami-8s": {"time": 36},
    "hours/pami-8s-atonce": {"time": 18},
    "released/alexnet": {"mean_iu": 48.0},
    **{f"retrained/{name}": {"mean_iu": mean_iu} for name, mean_iu in RETRAINED.items()},
}


def test_every_table_has_its_rows():
    assert {name: len(published.TABLES[name].rows) for name in ROWS} == ROWS
    ablations = {row.name for row in published.TABLES["pami-text"].rows}
    assert ablations >= {
        *("voc-train", "alexnet", "null-background", "sigmoid", "no-dropout", "augmentation", "max-fusion"),
        *("class-balancing", "random-init", "learned-interpolation", "lr-drop", "from-scratch", "dilated"),
    }
    assert all(len({row.name for row in table.rows}) == len(table.rows) for table in published.TABLES.values())


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_metrics_are_the_papers(name):
    expected = {key: value for key, value in zip(KEYS, PUBLISHED[name], strict=False) if value is not None}
    assert row_of(name).published == expected


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_numbers_are_the_papers(name):
    assert row_of(name).published == OTHERS[name]


def test_no_number_is_published_that_is_not_above():
    stated = {f"{table.name}/{row.name}" for table, row in ALL_ROWS if row.published}
    assert stated == {*PUBLISHED, *OTHERS}


# What a row is scored on: the experiment, the split with its count of images, the mask, and the other weights.
SCORED = {
    "cvpr1/vgg16": ("voc-fcn-ablations/table1-vgg16", "val", 1111, None, False),
    "pami1/googlenet": ("voc-fcn-ablations/table1-googlenet", "val", 1111, None, False),
    "cvpr2/32s-fixed": ("cvpr-recipe/voc-fcn32s-fixed", "seg11valid", 736, None, False),
    "cvpr4/16s-rgb-hha": ("cvpr-recipe/nyud-fcn-color-hha-16s", "test", 654, None, False),
    "cvpr5/16s": ("cvpr-recipe/siftflow-fcn-16s", "test", 200, None, False),
    "cvpr-context/8s-33": ("cvpr-recipe/pascalcontext-fcn-33-8s", "val", 5105, None, False),
    "pami2/heavy": ("voc-fcn32s", "seg11valid", 736, None, False),
    "pami5/32s-rgbd": ("nyud-fcn/color-d-32s", "test", 654, None, False),
    "pami6/8s": ("siftflow-fcn/8s", "test", 200, None, False),
    "pami7/16s": ("pascalcontext-fcn/16s", "val", 5105, None, False),
    "pami8/reference": ("voc-fcn32s", "seg11valid", 736, None, False),
    "pami8/reference-fg": ("voc-fcn32s", "seg11valid", 736, "background", False),
    "pami8/reference-bg": ("voc-fcn32s", "seg11valid", 736, "foreground", False),
    "pami8/fg-only": ("voc-fcn-ablations/fg-only", "seg11valid", 736, "background", False),
    "pami8/bg-only": ("voc-fcn-ablations/bg-only", "seg11valid", 736, "foreground", False),
    "pami8/shape": ("voc-fcn-ablations/shape", "seg11valid", 736, "both", False),
    "released/8s-atonce": ("voc-fcn8s-atonce", "seg11valid", 736, None, True),
}


@pytest.mark.parametrize("name", SCORED)
def test_what_is_scored_is_what_the_paper_scored(name):
    row = row_of(name)
    assert row.split is not None
    assert (row.experiment, row.split.name, row.split.images, row.mask, row.released) == SCORED[name]


def test_the_cvpr_paper_has_its_own_recipe_and_the_other_none_of_it():
    """But for Table 1, which is the same in both."""
    for table, row in ALL_ROWS:
        if row.experiment and table.name not in ("cvpr1", "pami1"):
            recipe = row.experiment.startswith("cvpr-recipe/")
            assert recipe == (table.name.startswith("cvpr") or row.name.startswith("cvpr")), f"{table.name}/{row.name}"


def test_every_published_number_has_a_column():
    for table, row in ALL_ROWS:
        assert set(row.published) <= {column.key for column in table.columns}, f"{table.name}/{row.name}"


def test_other_methods_are_quoted_and_nothing_else_of_the_tables_is():
    others = {"rcnn", "sds", "gupta", "liu", "tighe", "tighe-svm", "tighe-mrf", "pinheiro", "o2p", "cfm"}
    others |= {"farabet-balanced", "farabet-natural", "o2p-33", "cfm-33"}
    assert {row.name for name in ROWS for row in published.TABLES[name].rows if row.quoted} == others


@pytest.mark.parametrize(
    "name, words",
    [
        ("pami6/farabet-natural", "other way round"),
        ("pami4/8s", "CVPR paper's 175 ms"),
        ("pami2/accum", "learning rate"),
        ("pami2/online", "learning rate"),
        ("cvpr-text/extra-data", "two sets"),
        ("pami-text/alexnet", "1e-4"),
        ("cvpr4/32s-rgb-hha", "sums"),
        ("cvpr5/16s", "cow, desert and moon"),
        ("cvpr1/googlenet", "907"),
    ],
)
def test_what_the_papers_leave_open_is_noted_beside_the_row(name, words):
    assert words in row_of(name).note


@pytest.mark.parametrize(
    "name, words",
    [("pami8", "neither the split nor the protocol"), ("cvpr-upper-bounds", "do not say how"), ("pami7", "background")],
)
def test_what_the_papers_leave_open_is_noted_beside_the_table(name, words):
    assert words in published.TABLES[name].note


# Every row has an experiment, and a command that runs


def test_a_slash_asks_for_a_row():
    assert len(published.find("pami3")) == 8
    with pytest.raises(ValueError, match="pami3 has no row ''; it has 32s, 16s"):
        published.find("pami3/")


@pytest.mark.parametrize("table, row", OURS)
def test_a_row_has_an_experiment_and_its_commands_parse(table, row, monkeypatch):
    if row.experiment:
        lookup(row.experiment)
        assert lookup(row.experiment).iterations > 0
    commands = reproduce.commands(table, row)
    assert commands
    assert any("solve.py" in command for command in commands) == bool(row.experiment and not row.released)
    steps = reproduce.plan([(table, row)], Options(gpu=0, data=Path("/nowhere")))
    assert steps
    for command in [*commands, *(step.command for step in steps)]:
        check_command(command, monkeypatch)


def check_command(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold that the program of a command exists and takes its arguments, without running it."""
    folder = ROOT
    if command.startswith("("):
        there, command = command.strip("()").split(" && ")
        folder = ROOT / there.removeprefix("cd ")
    python, *words = shlex.split(command)
    assert python == "python"
    if words[0] == "-m":
        module, *arguments = words[1:]
        {"datasets": check_fetch, "nets": check_convolutionalize}[module](arguments, monkeypatch)
        return
    program, *arguments = words
    assert (folder / program).is_file(), f"{folder / program} is missing"
    if program == "score.py":
        monkeypatch.setattr(score, "_run", lambda options: None)
        assert score.main(arguments) == 0
    elif program == "analyze.py":
        for name in ("_nets", "_time", "_upper_bounds", "momentum_table"):
            monkeypatch.setattr(analyze, name, lambda *options: None)
        assert analyze.main(arguments) == 0
    else:
        assert program == "solve.py"
        if folder.relative_to(ROOT).as_posix() not in EXPERIMENTS:
            variant = arguments.pop(0)
            assert lookup(f"{folder.name}/{variant}").of
        train._parse("", arguments)


def check_fetch(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    monkeypatch.setattr(datasets.fetch, "run", lambda options: fetched.extend(options.names) or "")
    assert datasets.__main__.main(arguments) == 0
    assert fetched and set(fetched) <= set(reproduce.CATALOGUE)


def check_convolutionalize(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(nets.convolutionalize, "convolutionalize", lambda *given: called.append(given) or Path("out"))
    assert nets.__main__.main(arguments) == 0
    assert len(called) == 1


def test_the_iterations_are_those_that_the_reference_trains_for():
    expected = {"voc-fcn32s": 100_000, "nyud-fcn/color-32s": 100_000, "pascalcontext-fcn/8s": 400_000}
    assert {name: lookup(name).iterations for name in expected} == expected
    assert lookup("voc-fcn-ablations/accum").iterations == 5000
