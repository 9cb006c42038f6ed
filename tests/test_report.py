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

import progress
import report
import score
import vis

VOC = vis.CLASSES["voc"]


def make_run(folder: Path, experiment: str, right: float, names: tuple[str, ...] = VOC, panels: int = 2) -> Path:
    """Write a run that is right on a share of every class but the last, which the truth lacks; give its result."""
    rng = np.random.default_rng(len(experiment))
    count = len(names)
    for iteration, share in ((20, right / 2), (40, right)):
        confusion = np.full((count, count), round(1000 * (1 - share) / (count - 1)))
        np.fill_diagonal(confusion, round(1000 * share))
        confusion[-1] = 0
        result = {
            "schema": 1,
            "experiment": experiment,
            "split": "seg11valid",
            "iteration": iteration,
            "weights": {"path": f"snapshot/train_iter_{iteration}.caffemodel", "sha256": "0123456789abcdef" * 4},
            "code_version": "0123456789ab",
            "date": "2026-11-21T12:00:00+00:00",
            "classes": list(names),
            **score.Scores(confusion, 0.5, 3).to_json(),
        }
        score.write_result(folder / "results" / f"seg11valid_iter_{iteration}.json", result)
    with progress.Logs(folder, 0) as logs:
        for iteration in range(20, 2000, 20):
            logs.csv.add(progress.Row(iteration, 3e5, 2.5e5, 3.0 / iteration, 1e-10, 5.0, iteration / 5))
    (folder / "predictions").mkdir()
    for i in range(panels):
        photo = Image.fromarray(rng.integers(0, 256, (375, 500, 3), np.uint8))
        truth = np.repeat(np.arange(375)[:, None] // 40 % count, 500, 1).astype(np.uint8)
        truth[:20] = 255
        vis.save_labels(folder / "predictions" / f"image{i}.png", truth * (truth != 255) // 2)
        report.save_panel(folder / "panels", f"image{i}", photo, truth, folder / "predictions")
    return folder / "results/seg11valid_iter_40.json"


def images(page: str) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(uri))) for uri in re.findall(r"base64,([^\"]+)", page)]


def test_a_report_of_one_run_says_what_its_files_say(tmp_path: Path) -> None:
    result = make_run(tmp_path / "run", "voc-fcn8s", 0.8)
    report.write([result], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    scores = score.Scores.from_json(json.loads(result.read_text()))
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


def test_a_report_loads_nothing_and_is_light_enough_to_mail(tmp_path: Path) -> None:
    # Photographs of noise compress worse than any real ones.
    runs = [make_run(tmp_path / name, f"voc-fcn{name}", 0.5, panels=4) for name in ("32s", "16s", "8s")]
    report.write(runs, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "http" not in page
    sources = re.findall(r"(?:src|href)=\"([^\"]*)\"|url\(([^)]*)\)|@import", page)
    assert all(source.startswith(("data:", "#")) for pair in sources for source in pair if source)
    assert "<script" not in page
    assert len(page) < 1_500_000


def test_several_runs_stand_side_by_side_beside_the_truth(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, f"shapes-fcn/{name}", 0.5 + i / 10) for i, name in enumerate(("32s", "16s"))]
    report.write(runs, tmp_path / "report.html")
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
    run = report.load(result)
    assert [row.iteration for row in run.log] == [20, 40]
    assert list(run.history) == [20, 40]
    assert list(report.load(result.with_name("seg11valid_iter_20.json")).history) == [20]


def test_a_long_curve_is_thinned_to_means() -> None:
    points = np.stack([np.arange(5000.0), np.tile([0.0, 2.0], 2500)], axis=1)
    thin = report._thinned(points)
    assert len(thin) <= report.CURVE_POINTS
    assert thin[0, 0] == pytest.approx(np.arange(17).mean())
    assert thin[:, 1] == pytest.approx(1.0, abs=0.1)


def test_a_result_without_log_and_panels_is_reported_without(tmp_path: Path) -> None:
    result = make_run(tmp_path / "run", "voc-fcn8s", 0.8)
    alone = tmp_path / "alone" / "seg11valid.json"
    stored: dict[str, Any] = json.loads(result.read_text())
    score.write_result(alone, {**stored, "iteration": None})
    report.write([alone], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<svg" not in page
    assert "<img" not in page
    assert "aeroplane" in page


def test_names_are_text_not_markup(tmp_path: Path) -> None:
    result = make_run(tmp_path / "run", "<script>alert(1)</script>", 0.8, names=("a<b>", "c&d", "e"))
    report.write([result], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page
    assert "a&lt;b&gt;" in page


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
