"""published/reproduce.py: the plan of a row, what of it is done already, and carrying it out, stopping and going on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import paper
import published
from datasets import records, shapes
from published import reproduce
from published.measurements import Measurements
from published.reproduce import Options, Step
from tests.published.result_files import put

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose programs are stubs: each notes its call, a training writes a snapshot, scoring a result."""
    monkeypatch.delenv("FCN_DATA", raising=False)
    clone = tmp_path / "clone"
    for name in ("voc-fcn32s", "voc-fcn16s", "voc-fcn8s"):
        (clone / name).mkdir(parents=True)
        (clone / name / "solve.py").write_text(STUB_SOLVE)
    (clone / "score.py").write_text(STUB_SCORE)
    for package in ("datasets", "nets"):
        (clone / package).mkdir()
        (clone / package / "__init__.py").write_text("")
        (clone / package / "__main__.py").write_text(STUB_MODULE)
    return clone


STUB_SOLVE = """
import pathlib, sys
here = pathlib.Path.cwd()
with open(here.parent / "calls", "a") as calls:
    calls.write(" ".join([here.name, *sys.argv[1:]]) + "\\n")
out = here / "snapshot"
out.mkdir(exist_ok=True)
if (here / "broken").exists():
    sys.exit(3)
if here.name == "voc-fcn16s" and "--resume" not in sys.argv:
    (out / "train_iter_4000.solverstate").write_text("state")
    sys.exit(130)
(out / "train_iter_100000.caffemodel").write_text(here.name)
(out / "train_iter_100000.solverstate").write_text("state")
"""
STUB_SCORE = """
import sys
with open("calls", "a") as calls:
    calls.write(" ".join(["score", *sys.argv[1:]]) + "\\n")
"""
STUB_MODULE = """
import pathlib, sys
words = sys.argv[1:]
with open("calls", "a") as calls:
    calls.write(" ".join([pathlib.Path(__file__).parent.name, *words]) + "\\n")
made = [words[-1]] if words[0] == "convolutionalize" else []
for path in made:
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(path).write_text("weights")
"""


VOC2011 = ("pascal/VOC2011/JPEGImages/a.jpg", "pascal/VOC2011/ImageSets/Segmentation/val.txt")
SBD = ("sbdd/dataset/img/a.jpg", "sbdd/dataset/cls/a.mat", "sbdd/dataset/train.txt")


def touch(folder: Path, *files: str) -> None:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def steps_of(name: str, options: Options) -> list[Step]:
    return reproduce.plan(published.find(name), options)


def test_the_plan_of_fcn8s(clone, tmp_path):
    data = tmp_path / "data"
    steps = steps_of("pami3/8s", Options(gpu=1, data=data, root=clone))
    assert [step.command for step in steps] == [
        f"python -m datasets fetch voc2011 sbd vgg16 --data {data}",
        f"python -m nets convolutionalize vgg16 {data}/ilsvrc-nets/VGG_ILSVRC_16_layers.caffemodel "
        f"{data}/ilsvrc-nets/vgg16-fcn.caffemodel",
        f"(cd voc-fcn32s && python solve.py --gpu 1 --data {data})",
        f"(cd voc-fcn16s && python solve.py --gpu 1 --data {data})",
        f"(cd voc-fcn8s && python solve.py --gpu 1 --data {data})",
        f"python score.py --split seg11valid --net voc-fcn8s --gpu 1 --data {data}",
    ]
    assert not any(step.done for step in steps)


def test_a_table_trains_each_net_once(clone):
    commands = [step.command for step in steps_of("pami3", Options(root=clone))]
    assert len(set(commands)) == len(commands)
    trained = [command for command in commands if "solve.py" in command]
    assert trained == [
        "(cd voc-fcn32s && python solve.py)",
        "(cd voc-fcn16s && python solve.py)",
        "(cd voc-fcn8s-atonce && python solve.py)",
        "(cd voc-fcn8s && python solve.py)",
        *(f"(cd voc-fcn-ablations && python solve.py {name})" for name in ("32s-fixed", "pool5", "pool4", "pool3")),
    ]
    assert sum("score.py" in command for command in commands) == 8


@pytest.mark.parametrize(
    "name, fetched, expected",
    [
        ("pami5/32s-rgb-hha", "nyud vgg16", ["nyud-fcn/color-32s", "nyud-fcn/hha-32s", "nyud-fcn/color-hha-32s"]),
        ("pami6", "siftflow vgg16", ["siftflow-fcn/32s", "siftflow-fcn/16s", "siftflow-fcn/8s"]),
        ("pami7/32s", "voc2010 pascal-context vgg16", ["pascalcontext-fcn/32s"]),
        ("pami-text/alexnet", "voc2011 sbd caffenet", ["voc-fcn-ablations table1-alexnet", "voc-fcn-alexnet"]),
        ("pami1/googlenet", "voc2011 sbd googlenet", ["voc-fcn-ablations table1-googlenet"]),
        ("released/8s", "voc2011 sbd voc-fcn8s", []),
        ("cvpr-upper-bounds", "voc2011 sbd", []),
        ("momentum", None, []),
    ],
)
def test_what_a_row_takes_is_found_from_its_experiment(clone, name, fetched, expected):
    commands = [step.command for step in steps_of(name, Options(root=clone))]
    fetching = [command for command in commands if "fetch" in command]
    assert fetching == ([f"python -m datasets fetch {fetched}"] if fetched else [])
    trained = [re.fullmatch(r"\(cd (\S+) && python solve.py ?(.*)\)", command) for command in commands]
    assert [f"{found[1]} {found[2]}".strip() for found in trained if found] == expected


def test_masks_are_asked_for_where_the_net_has_none_of_its_own(clone):
    scored = {step.command for step in steps_of("pami8", Options(root=clone)) if "score.py" in step.command}
    assert scored == {
        "python score.py --split seg11valid --net voc-fcn32s",
        "python score.py --split seg11valid --net voc-fcn32s --mask foreground",
        "python score.py --split seg11valid --net voc-fcn32s --mask background",
        "python score.py --split seg11valid --net voc-fcn-ablations/fg-only",
        "python score.py --split seg11valid --net voc-fcn-ablations/bg-only",
        "python score.py --split seg11valid --net voc-fcn-ablations/shape",
    }


def test_the_server_gets_an_archive_of_each_year(clone):
    commands = [step.command for step in steps_of("pami4/8s", Options(root=clone))]
    assert "python score.py --split seg11test --net voc-fcn8s --submit" in commands
    assert "python score.py --split seg12test --net voc-fcn8s --submit" in commands


def test_fewer_iterations_have_a_folder_of_their_own(clone):
    commands = [step.command for step in steps_of("pami3/16s", Options(root=clone, iterations=20))]
    assert commands[-3:] == [
        "(cd voc-fcn32s && python solve.py --iterations 20 --out ../results/iterations-20/voc-fcn32s)",
        "(cd voc-fcn16s && python solve.py --iterations 20 --out ../results/iterations-20/voc-fcn16s "
        "--weights ../results/iterations-20/voc-fcn32s/train_iter_20.caffemodel)",
        "python score.py --split seg11valid --net voc-fcn16s "
        "--weights results/iterations-20/voc-fcn16s/train_iter_20.caffemodel",
    ]
    (clone / "results/iterations-20/voc-fcn16s").mkdir(parents=True)
    (clone / "results/iterations-20/voc-fcn16s/train_iter_10.solverstate").touch()
    command = steps_of("pami3/16s", Options(root=clone, iterations=20))[-2].command
    assert command.endswith("--resume)") and "--weights" not in command


def test_what_is_done_is_skipped_and_a_stopped_plan_goes_on(clone, tmp_path, capfd):
    data = tmp_path / "data"
    options = Options(data=data, root=clone)

    def carry_out() -> int:
        return reproduce.carry_out(steps_of("pami3/8s", options), clone)

    assert carry_out() == 130  # the stub of 16s stops as after Ctrl-C
    calls = (clone / "calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["datasets", "nets", "voc-fcn32s", "voc-fcn16s"]
    assert "Stopped in step 4 of 6. The same command goes on from there." in capfd.readouterr().out

    touch(data, *VOC2011, *SBD, "ilsvrc-nets/VGG_ILSVRC_16_layers.caffemodel")
    (clone / "calls").unlink()
    assert carry_out() == 0
    calls = (clone / "calls").read_text().splitlines()
    assert calls == [
        f"voc-fcn16s --data {data} --resume",
        f"voc-fcn8s --data {data}",
        f"score --split seg11valid --net voc-fcn8s --data {data}",
    ]
    assert carry_out() == 0
    assert "train voc-fcn8s: done already" in capfd.readouterr().out


def test_what_a_training_starts_from_is_not_made_again_once_it_has_begun(clone, tmp_path):
    data = tmp_path / "data"
    touch(data, *VOC2011, *SBD, "ilsvrc-nets/vgg16-fcn.caffemodel")
    options = Options(data=data, root=clone)
    assert [step.what for step in steps_of("pami3/16s", options) if not step.done] == [
        *("train voc-fcn32s", "train voc-fcn16s", "score voc-fcn16s on seg11valid"),
    ]
    touch(clone, "voc-fcn16s/snapshot/train_iter_4000.solverstate")
    assert [step.what for step in steps_of("pami3/16s", options)] == [
        *("train voc-fcn16s", "score voc-fcn16s on seg11valid"),
    ]
    touch(clone, "voc-fcn16s/snapshot/train_iter_100000.caffemodel")
    assert [step.done for step in steps_of("pami3/16s", options)] == [True, False]


def test_a_scoring_of_these_very_weights_is_done(clone):
    path = put(clone, "voc-fcn8s", 0.9)
    assert not steps_of("pami3/8s", Options(root=clone))[-1].done  # there is no snapshot that it is of
    snapshot = clone / "voc-fcn8s" / "snapshot" / "train_iter_100000.caffemodel"
    snapshot.write_bytes(b"voc-fcn8s 100000")  # as `put` has it
    assert [step.done for step in steps_of("pami3/8s", Options(root=clone))][-2:] == [True, True]
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "images": 228}))
    assert not steps_of("pami3/8s", Options(root=clone))[-1].done
    path.write_text(json.dumps({**stored, "weights": {**stored["weights"], "sha256": "other"}}))
    assert not steps_of("pami3/8s", Options(root=clone))[-1].done


def test_data_that_is_half_fetched_is_missing(clone, tmp_path):
    data = tmp_path / "data"
    touch(data, *VOC2011, SBD[0])
    assert "fetch sbd vgg16" in steps_of("pami3/32s", Options(data=data, root=clone))[0].what
    records.write(data, "voc2011", records.Record("http://somewhere", whole=False))
    assert "fetch voc2011 sbd vgg16" in steps_of("pami3/32s", Options(data=data, root=clone))[0].what


def test_a_step_that_fails_is_said_with_its_command(clone, tmp_path, capfd):
    (clone / "voc-fcn32s" / "broken").touch()
    assert reproduce.carry_out(steps_of("pami3/8s", Options(data=tmp_path / "data", root=clone)), clone) == 3
    said = capfd.readouterr().err
    assert "Step 3 of 6 failed with exit status 3: (cd voc-fcn32s && python solve.py" in said


def test_a_dry_run_does_nothing(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(reproduce, "carry_out", lambda *given: pytest.fail("a step was carried out"))
    assert paper.main(["reproduce", "pami3/8s", "--dry-run", "--data", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"python -m datasets fetch voc2011 sbd vgg16 --data {tmp_path}"
    assert paper.main(["reproduce", "cvpr4/gupta"]) == 0
    assert "cvpr4/gupta is quoted" in capsys.readouterr().out


def test_at_the_end_published_stands_beside_measured_with_what_is_left_to_do(capsys, monkeypatch):
    monkeypatch.setattr(reproduce, "carry_out", lambda *given: 0)
    assert paper.main(["reproduce", "pami4/8s"]) == 0
    text = capsys.readouterr().out
    assert next(line for line in text.splitlines() if line.startswith("FCN-8s")).split()[1] == "67.5"
    left = "python paper.py record pami4/8s mean_iu_2011=NUMBER mean_iu_2012=NUMBER inference_ms=NUMBER"
    assert text.index("67.5") < text.index(left)


def test_what_a_person_has_to_bring_is_said_first(capsys, tmp_path):
    dry = ["--dry-run", "--data", str(tmp_path)]
    assert paper.main(["reproduce", "pami4", *dry]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("# ")]
    assert [f"{tmp_path}/pascal/{year}" in line for line, year in zip(said, ("VOC2011", "VOC2012"), strict=True)]
    touch(tmp_path / "pascal", *(f"VOC{year}/ImageSets/Segmentation/test.txt" for year in (2011, 2012)))
    assert paper.main(["reproduce", "pami4", *dry]) == 0
    assert "# " not in capsys.readouterr().out

    assert paper.main(["reproduce", "cvpr-context/16s-33", *dry]) == 0
    assert f"# To bring: the names of the 33 classes, which no download has, as {tmp_path}" in capsys.readouterr().out
    assert paper.main(["reproduce", "cvpr-context/16s", *dry]) == 0
    assert "# " not in capsys.readouterr().out


@pytest.mark.slow
def test_ctrl_c_reaches_the_step_and_is_waited_for(tmp_path):
    """As a terminal sends it: to the whole group of processes."""
    (tmp_path / "step.py").write_text(
        "import pathlib, sys, time\n"
        "pathlib.Path('begun').touch()\n"
        "try:\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    time.sleep(0.3)\n    pathlib.Path('kept').touch()\n    sys.exit(130)\n"
    )
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import pathlib\nfrom published import reproduce\n"
        "sys.exit(reproduce.carry_out([reproduce.Step('sleep', ('step.py',))], pathlib.Path.cwd()))\n"
    )
    running = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < deadline and running.poll() is None
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(timeout=120) == 130
    finally:
        running.kill()
    assert (tmp_path / "kept").exists()


def test_ctrl_c_ends_it_also_where_the_step_does_not_mind(tmp_path, capsys):
    (tmp_path / "step.py").write_text("import os, signal\nos.kill(os.getppid(), signal.SIGINT)\n")
    steps = [Step("one", ("step.py",)), Step("two", ("step.py",))]
    assert reproduce.carry_out(steps, tmp_path) == 130
    assert "Stopped in step 1 of 2" in capsys.readouterr().out


@pytest.mark.slow
def test_a_row_is_rehearsed_from_end_to_end(tmp_path, monkeypatch, capfd):
    """With the real programs: the training of the row's net, thin, and the masked scoring that the row asks for."""
    data = tmp_path / "data"
    shapes.make(data / "shapes", shapes.Parameters(train=4, val=2, size=64), "voc", processes=1)
    monkeypatch.setenv("FCN_RESULTS", str(tmp_path / "results"))
    rehearsals = tmp_path / "results" / "rehearsal"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    command = ["reproduce", "pami8/reference-bg", "--rehearse", "2", "--data", str(data)]
    assert paper.main(command) == 0, capfd.readouterr().err
    scored = rehearsals / "voc-fcn32s" / "scored" / "seg11valid_iter_2_mask_foreground.json"
    stored = json.loads(scored.read_text())
    assert (stored["rehearsal"], stored["mask"], stored["images"]) == (True, "foreground", 2)
    assert (rehearsals / "voc-fcn32s" / "results" / "seg11valid_iter_2.json").is_file()
    table, row = published.find("pami8/reference-bg")[0]
    found = Measurements(tmp_path).of(table, row)
    assert (found.values, found.part) == ({}, None)
    capfd.readouterr()
    steps = reproduce.plan([(table, row)], Options(data=data, rehearse=2))
    assert [step.done for step in steps] == [True, True]


def test_what_needs_no_training_has_no_rehearsal(capsys):
    assert paper.main(["reproduce", "momentum", "--rehearse"]) == 0
    assert "nothing to rehearse" in capsys.readouterr().out
