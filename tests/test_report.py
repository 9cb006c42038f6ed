"""report.py: one file that loads nothing, and says what the result files, the log and the panels say."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import report
import vis
from reporting import curves
from reporting import page as pages
from reporting import runs as run_files
from scoring.metrics import Scores
from scoring.results import write_result
from training import logs as run_logs

VOC = vis.CLASSES["voc"]


def make_run(
    folder: Path,
    experiment: str,
    right: float,
    names: tuple[str, ...] = VOC,
    panels: int = 2,
    head: str = "score",
) -> Path:
    """Write a run that is right on a share of every class but the last, which the truth lacks; give its result."""
    rng = np.random.default_rng(len(experiment))
    count = len(names)
    of_head = head.removeprefix("score")
    for iteration, share in ((20, right / 2), (40, right)):
        confusion = np.full((count, count), round(1000 * (1 - share) / (count - 1)))
        np.fill_diagonal(confusion, round(1000 * share))
        confusion[-1] = 0
        result = {
            "schema": 2,
            "experiment": experiment,
            "head": head,
            "mask": None,
            "stitch": None,
            "rehearsal": False,
            "released": False,
            "split_images": 3,
            "split_sha256": "0" * 64,
            "mean_accuracy_without_background": 0.123,
            "mean_iu_without_background": None if head == "score_geo" else 0.456,
            "split": "seg11valid",
            "iteration": iteration,
            "weights": {"path": f"snapshot/train_iter_{iteration}.caffemodel", "sha256": "0123456789abcdef" * 4},
            "code_version": "0123456789ab",
            "date": "2026-11-21T12:00:00+00:00",
            "classes": list(names),
            **Scores(confusion, 0.5, 3).to_json(),
        }
        write_result(folder / "results" / f"seg11valid{of_head}_iter_{iteration}.json", result)
    with run_logs.Logs(folder, 0) as logs:
        for iteration in range(20, 2000, 20):
            logs.csv.add(run_logs.Row(iteration, 3e5, 2.5e5, 3.0 / iteration, 1e-10, 5.0, iteration / 5))
    predictions, own_panels = (folder / kind / of_head.strip("_") for kind in ("predictions", "panels"))
    predictions.mkdir(parents=True)
    for i in range(panels):
        photo = Image.fromarray(rng.integers(0, 256, (375, 500, 3), np.uint8))
        truth = np.repeat(np.arange(375)[:, None] // 40 % count, 500, 1).astype(np.uint8)
        truth[:20] = 255
        vis.save_labels(predictions / f"image{i}.png", truth * (truth != 255) // 2)
        run_files.save_panel(own_panels, f"image{i}", photo, truth, predictions)
    return folder / "results" / f"seg11valid{of_head}_iter_40.json"


def images(page: str) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(uri))) for uri in re.findall(r"base64,([^\"]+)", page)]


def test_an_image_s_id_may_name_a_folder(tmp_path: Path) -> None:
    result = make_run(tmp_path / "run", "voc-fcn8s", 0.8)
    labels = np.zeros((20, 30), np.uint8)
    vis.save_labels(tmp_path / "predictions" / "a" / "1.png", labels)
    photo = Image.new("RGB", (30, 20))
    run_files.save_panel(tmp_path / "run" / "panels", "a/1", photo, labels, tmp_path / "predictions")
    assert "a/1" in run_files.load(result).panels


@pytest.mark.slow
def test_a_report_of_one_run_says_what_its_files_say(tmp_path: Path) -> None:
    result = make_run(tmp_path / "run", "voc-fcn8s", 0.8)
    pages.write([result], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    scores = Scores.from_json(json.loads(result.read_text()))
    for metric in ("pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu"):
        assert f"<b>{100 * getattr(scores, metric):.1f}</b>" in page
    for name, iu in zip(VOC, scores.class_iu, strict=True):
        shown = re.search(rf"<span>{name}</span>.*?<span>(.*?)</span>", page, re.DOTALL)
        assert shown is not None
        assert shown[1] == ("–" if np.isnan(iu) else f"{100 * iu:.1f}")
    # The confusion matrix has a row for every class of the truth.
    heat = page[page.index('<table class="heat">') :]
    assert heat.count("<tr><th>") == 1 + 20
    assert re.search(r'--share:0\.80" class=" diagonal">80</td>', heat)
    assert page.count("<svg") == 2
    assert "0123456789abcdef" in page


@pytest.mark.slow
def test_a_report_loads_nothing_and_is_light_enough_to_mail(tmp_path: Path) -> None:
    # Photographs of noise compress worse than any real ones.
    runs = [make_run(tmp_path / name, f"voc-fcn{name}", 0.5, panels=4) for name in ("32s", "16s", "8s")]
    pages.write(runs, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "http" not in page
    sources = re.findall(r"(?:src|href)=\"([^\"]*)\"|url\(([^)]*)\)|@import", page)
    assert all(source.startswith(("data:", "#")) for pair in sources for source in pair if source)
    assert "<script" not in page
    assert len(page) < 1_500_000


def test_several_runs_stand_side_by_side_beside_the_truth(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, f"shapes-fcn/{name}", 0.5 + i / 10) for i, name in enumerate(("32s", "16s"))]
    pages.write(runs, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert re.findall(r"<span>(image|truth|FCN-\d+s)</span>", page)[:4] == ["image", "FCN-32s", "FCN-16s", "truth"]
    assert 'class="best"' in page.split("</tr>")[2]
    shown = images(page)
    assert len(shown) == 2 * 4
    truth = Image.open(tmp_path / "32s/panels/image0.truth.png")
    assert shown[0].size == truth.size == (320, 240)
    assert np.array_equal(np.asarray(shown[3]), np.asarray(truth))
    for name, labels in (("32s", shown[1]), ("16s", shown[2])):
        saved = Image.open(tmp_path / name / "panels/image0.prediction.png")
        assert np.array_equal(np.asarray(labels), np.asarray(saved))


def test_curves_end_where_the_result_does(tmp_path: Path) -> None:
    result = make_run(tmp_path / "run", "voc-fcn8s", 0.8)
    run = run_files.load(result)
    assert [row.iteration for row in run.log] == [20, 40]
    assert list(run.history) == [20, 40]
    assert list(run_files.load(result.with_name("seg11valid_iter_20.json")).history) == [20]


def test_a_long_curve_is_thinned_to_means() -> None:
    points = np.stack([np.arange(5000.0), np.tile([0.0, 2.0], 2500)], axis=1)
    thin = curves._thinned(points)
    assert len(thin) <= curves.CURVE_POINTS
    assert thin[0, 0] == pytest.approx(np.arange(17).mean())
    assert thin[:, 1] == pytest.approx(1.0, abs=0.1)


def test_a_result_without_log_and_panels_is_reported_without(tmp_path: Path) -> None:
    result = make_run(tmp_path / "run", "voc-fcn8s", 0.8)
    alone = tmp_path / "alone" / "seg11valid.json"
    stored: dict[str, Any] = json.loads(result.read_text())
    write_result(alone, {**stored, "iteration": None})
    pages.write([alone], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<svg" not in page
    assert "<img" not in page
    assert "aeroplane" in page


@pytest.mark.slow
def test_a_part_of_a_split_and_released_weights_are_told(tmp_path: Path) -> None:
    result = make_run(tmp_path / "run", "voc-fcn8s", 0.8)
    pages.write([result], tmp_path / "report.html")
    whole = (tmp_path / "report.html").read_text()
    assert whole.count("3 images of seg11valid") == 2
    stored: dict[str, Any] = json.loads(result.read_text())
    write_result(result, {**stored, "split_images": 736, "released": True})
    pages.write([result], tmp_path / "report.html")
    part = (tmp_path / "report.html").read_text()
    assert part.count("the first 3 of the 736 images of seg11valid") == 2
    assert "released weights" in part
    assert "released weights" not in whole


def test_names_are_text_not_markup(tmp_path: Path) -> None:
    result = make_run(tmp_path / "run", "<script>alert(1)</script>", 0.8, names=("a<b>", "c&d", "e"))
    pages.write([result], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page
    assert "a&lt;b&gt;" in page


@pytest.mark.slow
def test_the_program_writes_the_report_and_the_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(make_run(tmp_path / name, f"shapes-fcn/{name}", 0.5)) for name in ("32s", "16s", "8s")]
    out, picture = tmp_path / "report.html", tmp_path / "picture.png"
    assert report.main([*runs, "--out", str(out), "--picture", str(picture), "--title", "Three strides"]) == 0
    assert "<title>Three strides</title>" in out.read_text()
    sheet = Image.open(picture)
    # Five columns of 320 and two rows of 240 pixels, and what is between them.
    assert 5 * 320 < sheet.width < 5 * 340
    assert 2 * 240 < sheet.height < 2 * 240 + 60

    broken = tmp_path / "broken.json"
    broken.write_text('{"schema": 1}')
    assert report.main([str(broken), "--out", str(out)]) == 1
    assert "broken.json is no result file of score.py" in capsys.readouterr().err
    assert report.main([str(tmp_path / "none.json"), "--out", str(out)]) == 1


@pytest.mark.slow
def test_several_heads_follow_each_other(tmp_path: Path) -> None:
    names = tuple(f"thing {i}" for i in range(33))
    sem = make_run(tmp_path / "run", "siftflow-fcn/16s", 0.7, names, head="score_sem")
    geo = make_run(tmp_path / "run", "siftflow-fcn/16s", 0.9, ("sky", "flat", "upright"), head="score_geo")
    assert list(run_files.load(sem).history) == list(run_files.load(geo).history) == [20, 40]
    pages.write([sem, geo], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<title>siftflow-fcn/16s</title>" in page
    first, second = page[: page.index("Head: geo")], page[page.index("Head: geo") :]
    assert "Head: sem" in first
    for name, there, elsewhere in (("thing 7", first, second), ("upright", second, first)):
        assert f"<span>{name}</span>" in there
        assert f"<span>{name}</span>" not in elsewhere
    assert len(images(first)) == len(images(second)) == 2 * 3
    # The loss is that of both.
    assert (page.count("Training loss per pixel"), page.count("Scores, per cent")) == (1, 2)
    assert "FCN-16s without background: mean accuracy\n  12.3, mean IU\n  45.6" in first
    assert "without background" not in second


def test_a_confusion_matrix_of_sixty_classes_fits_a_screen_and_tells_its_numbers(tmp_path: Path) -> None:
    names = ("background", *(f"class {i}" for i in range(1, 60)))
    result = make_run(tmp_path / "run", "pascalcontext-fcn/8s", 0.8, names, panels=0)
    stored = json.loads(result.read_text())
    stored["confusion"][7][31] += 500
    write_result(result, stored)
    pages.write([result], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    heat = page[page.index('<table class="heat dense">') :]
    # No number is written into a cell, but what it says can be asked of it.
    assert not re.search(r">\d+</td>", heat)
    assert 'title="class 1 → class 1: 82"' in heat
    assert 'title="class 7 → class 31: 34"' in heat
    assert re.search(r"Most often confused:\s+class 7 → class 31 \(34\)", page)
    width = 60 * 0.8 + 8
    assert width < 62  # rem: cells, names, and the page.
    assert len(page) < 500_000


def test_scorings_of_another_kind_are_on_no_curve(tmp_path: Path) -> None:
    result = make_run(tmp_path / "run", "voc-fcn8s", 0.8)
    stored = json.loads(result.read_text())
    for name, changes in (("iter_30_mask_both", {"mask": "both"}), ("released", {"released": True, "iteration": None})):
        write_result(result.with_name(f"seg11valid_{name}.json"), {**stored, "iteration": 30, **changes})
    assert list(run_files.load(result).history) == [20, 40]


def test_a_result_of_the_schema_before_is_read(tmp_path: Path) -> None:
    result = make_run(tmp_path / "run", "voc-fcn8s", 0.8)
    new = {"head", "mask", "stitch", "rehearsal", "released", "split_images"}
    for path in result.parent.iterdir():
        stored = json.loads(path.read_text())
        kept = {key: value for key, value in stored.items() if key not in new and "background" not in key}
        write_result(path, {**kept, "schema": 1})
    pages.write([result], tmp_path / "report.html")
    assert list(run_files.load(result).history) == [20, 40]
