"""published/measurements.py: which result files count for a published row, and what they say; numbers given by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import published
from published import measurements
from published.measurements import Measurements
from tests.published.result_files import put


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """An empty repository, in which result files are put."""
    return tmp_path / "repository"


def measured(repository: Path, name: str, **options: object) -> measurements.Measured:
    table, row = published.find(name)[0]
    return Measurements(repository, **options).of(table, row)


def test_nothing_is_measured_where_there_is_no_file(repository):
    found = measured(repository, "pami3/8s")
    assert (found.values, found.result, found.part) == ({}, None, None)


def test_the_furthest_iteration_counts_wherever_it_lies(repository):
    put(repository, "voc-fcn8s", 0.5, iteration=4000)
    furthest = put(repository, "voc-fcn8s", 0.9, iteration=100_000, folder="results/voc-fcn8s")
    put(repository, "voc-fcn8s", 0.7, iteration=8000, date="2027-01-01T00:00:00+00:00", folder="measured/voc-fcn8s")
    found = measured(repository, "pami3/8s")
    assert found.result == furthest
    assert found.iteration == 100_000
    # 0.9 right of two classes: of 20,000 pixels 18,000, and 9,000 of the 11,000 that are or are called a class.
    assert found.values == pytest.approx(
        {"pixel_accuracy": 90, "mean_accuracy": 90, "mean_iu": 100 * 9 / 11, "fw_iu": 100 * 9 / 11}
    )


def test_of_one_iteration_the_newest_counts(repository):
    put(repository, "voc-fcn8s", 0.5, date="2026-01-01T00:00:00+00:00")
    newest = put(repository, "voc-fcn8s", 0.6, date="2026-03-01T00:00:00+00:00", folder="results/voc-fcn8s")
    put(repository, "voc-fcn8s", 0.7, date="2026-02-01T00:00:00+00:00", folder="measured/voc-fcn8s")
    assert measured(repository, "pami3/8s").result == newest


def test_a_part_of_the_split_is_told_apart(repository):
    path = put(repository, "voc-fcn8s", 0.9, images=228)
    found = measured(repository, "pami3/8s")
    assert (found.values, found.result, found.iteration) == ({}, None, None)
    part = found.part
    assert part is not None
    assert (part.result, part.images, part.iteration) == (path, 228, 100_000)
    assert (part.classes, part.of_classes) == (2, 2)
    iu = 100 * 9 / 11
    assert part.values == pytest.approx({"pixel_accuracy": 90, "mean_accuracy": 90, "mean_iu": iu, "fw_iu": iu})
    put(repository, "voc-fcn8s", 0.6, iteration=4000)
    found = measured(repository, "pami3/8s")
    assert found.values["pixel_accuracy"] == pytest.approx(60)
    assert found.part is None


def test_the_heads_of_a_part_are_of_the_same_weights(repository):
    size = {"split": "test", "images": 20, "split_images": 200}
    put(repository, "siftflow-fcn/8s", 0.8, head="score_sem", **size)
    put(repository, "siftflow-fcn/8s", 0.7, head="score_geo", iteration=4000, **size)
    put(repository, "siftflow-fcn/8s", 0.9, head="score_geo", **size)
    part = measured(repository, "pami6/8s").part
    assert part is not None
    assert part.values["pixel_accuracy"] == pytest.approx(80)
    assert part.values["geometric_accuracy"] == pytest.approx(90)


def test_a_list_that_is_shorter_than_the_papers_is_a_part(repository):
    put(repository, "voc-fcn8s", 0.9, images=228, split_images=228)
    found = measured(repository, "pami3/8s")
    assert found.values == {}
    assert found.part is not None and found.part.images == 228


@pytest.mark.parametrize(
    "different",
    [
        {"rehearsal": True},
        {"stitch": 8},
        {"split": "val"},
        {"mask": "foreground"},
        {"released": True},
        {"iteration": None},
        {"head": "score_geo"},
    ],
    ids=str,
)
def test_another_scoring_does_not_count(repository, different):
    put(repository, "voc-fcn8s", 0.9, **different)
    found = measured(repository, "pami3/8s")
    assert found.values == {}
    assert found.part is None


def test_released_weights_have_a_table_of_their_own(repository):
    put(repository, "voc-fcn8s", 0.9, released=True, iteration=None)
    assert measured(repository, "released/8s").values["pixel_accuracy"] == pytest.approx(90)
    assert measured(repository, "pami3/8s").values == {}


def test_masks_are_told_apart_and_the_background_is_left_out(repository):
    put(repository, "voc-fcn32s", 0.9)
    put(repository, "voc-fcn32s", 0.6, mask="foreground")
    assert measured(repository, "pami8/reference").values == pytest.approx({"mean_iu": 100 * 9 / 11})
    assert measured(repository, "pami8/reference-bg").values == pytest.approx({"mean_iu": 100 * 6 / 14})
    assert measured(repository, "pami8/reference-fg").values == {}


def test_context_is_measured_with_the_background_and_without(repository):
    put(repository, "pascalcontext-fcn/8s", 0.9, split="val", images=5105, split_images=5105)
    values = measured(repository, "pami7/8s").values
    assert values["mean_iu"] == pytest.approx(100 * 9 / 11)
    assert values["mean_iu_without_background"] == pytest.approx(100 * 9 / 11)


def test_both_heads_are_of_the_same_weights(repository):
    size = {"split": "test", "images": 200, "split_images": 200}
    put(repository, "siftflow-fcn/8s", 0.8, head="score_sem", **size)
    put(repository, "siftflow-fcn/8s", 0.7, head="score_geo", iteration=4000, **size)
    assert "geometric_accuracy" not in measured(repository, "pami6/8s").values
    put(repository, "siftflow-fcn/8s", 0.9, head="score_geo", **size)
    values = measured(repository, "pami6/8s").values
    assert values["pixel_accuracy"] == pytest.approx(80)
    assert values["geometric_accuracy"] == pytest.approx(90)


def test_gain_and_share_are_against_the_other_row(repository):
    put(repository, "voc-fcn-ablations/null-background", 0.8)
    assert "gain" not in measured(repository, "pami-text/null-background").values
    put(repository, "voc-fcn32s", 0.9)
    values = measured(repository, "pami-text/null-background").values
    assert values["gain"] == pytest.approx(100 * (8 / 12 - 9 / 11))
    assert values["share"] == pytest.approx(100 * (8 / 12) / (9 / 11))


def test_a_figure_is_read_from_the_log(repository):
    folder = repository / "voc-fcn-ablations" / "sampled-50" / "snapshot"
    folder.mkdir(parents=True)
    lines = [f"{i},1,1,{1 / i},1e-4,1,1" for i in range(20, 1701, 20)]
    columns = "iteration,loss,smoothed_loss,loss_per_pixel,lr,images_per_second,seconds"
    (folder / "log.csv").write_text("\n".join([columns, *lines, ""]))
    values = measured(repository, "fig5/half").values
    assert values["300"] == pytest.approx(1 / 300)
    assert values["750"] == pytest.approx(1 / 740)  # a line every 20 iterations: the one before
    assert values["1700"] == pytest.approx(1 / 1700)
    by_images = measured(repository, "fig5-images/half").values
    assert by_images["10000"] == pytest.approx(1 / 240)  # 250 iterations of 40 images
    assert by_images["33000"] == pytest.approx(1 / 820)
    assert measured(repository, "fig5/full").values == {}


def test_a_log_that_begins_late_or_is_damaged_says_nothing_of_the_beginning(repository, capsys):
    folder = repository / "voc-fcn-ablations" / "sampled-50" / "snapshot"
    folder.mkdir(parents=True)
    columns = "iteration,loss,smoothed_loss,loss_per_pixel,lr,images_per_second,seconds"
    (folder / "log.csv").write_text(f"{columns}\n1000,1,1,0.5,1e-4,1,1\n1700,1,1,0.4,1e-4,1,1\n")
    values = measured(repository, "fig5/half").values
    assert "300" not in values
    assert values["1000"] == 0.5
    (folder / "log.csv").write_text(f"{columns}\n1000,one\n")
    assert measured(repository, "fig5/half").values == {}
    assert "Passed over" in capsys.readouterr().err


def test_the_structure_of_the_nets_is_computed(repository):
    values = measured(repository, "cvpr1/vgg16").values
    assert (values["receptive_field"], values["stride"], values["layers"]) == (404, 32, 16)
    assert values["parameters"] == pytest.approx(134.35, abs=0.005)
    assert measured(repository, "momentum/online").values == pytest.approx({"momentum": 0.99475}, abs=1e-5)


def test_upper_bounds_are_those_of_the_whole_split(repository):
    path = repository / "results" / "upper-bounds" / "seg11valid.json"
    path.parent.mkdir(parents=True)
    bounds = {"images": 736, "bilinear": {"32": {"mean_iu": 0.861}}}
    path.write_text(json.dumps(bounds))
    assert measured(repository, "cvpr-upper-bounds/32").values == pytest.approx({"mean_iu": 86.1})
    path.write_text(json.dumps({**bounds, "images": 228}))
    assert measured(repository, "cvpr-upper-bounds/32").values == {}


@pytest.mark.parametrize("text", ['{"images": 736', '{"images": 736}', '{"images": 736, "bilinear": {"32": {}}}', "[]"])
def test_damaged_upper_bounds_are_passed_over_with_a_word(repository, capsys, text):
    path = repository / "results" / "upper-bounds" / "seg11valid.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert measured(repository, "cvpr-upper-bounds/32").values == {}
    assert f"Passed over: {path}" in capsys.readouterr().err


def test_only_committed_files_count_where_that_is_asked(repository):
    put(repository, "voc-fcn8s", 0.9)
    put(repository, "voc-fcn8s", 0.7, folder="results/voc-fcn8s")
    put(repository, "voc-fcn8s", 0.6, iteration=4000, folder="measured/voc-fcn8s")
    found = measured(repository, "pami3/8s", committed_only=True)
    assert found.values["pixel_accuracy"] == pytest.approx(60)
    assert found.iteration == 4000


def test_a_damaged_file_is_passed_over_with_a_word(repository, capsys):
    put(repository, "voc-fcn8s", 0.6)
    (repository / "results").mkdir()
    (repository / "results" / "cut.json").write_text('{"schema": 2, "confusion": [[')
    (repository / "results" / "other.json").write_text('{"iterations": 3}')
    (repository / "results" / "strange.json").write_text('{"schema": 9, "confusion": [], "classes": []}')
    assert measured(repository, "pami3/8s").values["pixel_accuracy"] == pytest.approx(60)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "cut.json" in said[0] and "strange.json" in said[1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"experiment": None},
        {"date": 3},
        {"iteration": "100000"},
        {"mean_iu": "high"},
        {"weights": None},
        {"confusion": [[1, 2], [3]]},
        {"confusion": [1, 2]},
    ],
    ids=str,
)
def test_a_file_that_is_no_result_within_is_passed_over(repository, capsys, wrong):
    path = put(repository, "voc-fcn8s", 0.6)
    path.write_text(json.dumps({**json.loads(path.read_text()), **wrong}))
    assert measured(repository, "pami3/8s").values == {}
    assert f"Passed over: {path}" in capsys.readouterr().err


def test_results_and_records_are_where_fcn_results_names(repository, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setenv("FCN_RESULTS", str(elsewhere))
    put(elsewhere, "voc-fcn8s", 0.9)
    assert measured(repository, "pami3/8s").values["pixel_accuracy"] == pytest.approx(90)
    assert measurements.record("pami4/8s", {"mean_iu_2012": 67.3}, repository) == elsewhere / "recorded.json"
    assert measured(repository, "pami4/8s").values == {"mean_iu_2012": 67.3}
    assert not repository.exists()


# Numbers put in by hand


def test_what_the_server_said_is_recorded(repository):
    measurements.record("pami4/8s", {"mean_iu_2012": 67.3}, repository, "server, 3 May")
    measurements.record("pami4/8s", {"mean_iu_2011": 67.4}, repository)
    assert measured(repository, "pami4/8s").values == {"mean_iu_2011": 67.4, "mean_iu_2012": 67.3}


@pytest.mark.parametrize(
    "name, values, said",
    [
        ("pami3/8s", {"mean_iu": 70.0}, "all of its numbers come from files"),
        ("cvpr1/vgg16", {"mean_iu": 70.0}, "takes no 'mean_iu' by hand: it takes forward_ms"),
        ("pami4/sds", {"mean_iu_2012": 50.0}, "quoted"),
        ("pami4", {"mean_iu_2012": 50.0}, "name one of its rows, such as pami4/8s"),
        ("pami4/9s", {"mean_iu_2012": 50.0}, "pami4 has no row '9s'; it has 8s"),
        ("pami4/", {"mean_iu_2012": 50.0}, "pami4 has no row ''"),
        ("pami4/8s", {"mean_iu_2012": 672.0}, "mean_iu_2012 is 672: expected 0 to 100, in per cent"),
        ("pami4/8s", {"inference_ms": float("nan")}, "inference_ms is nan: expected 0 or more, in ms"),
        ("pami4/8s", {"inference_ms": float("inf")}, "inference_ms is inf"),
    ],
)
def test_what_a_program_measures_is_not_put_in_by_hand(repository, name, values, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        measurements.record(name, values, repository)
    assert not (repository / "results").exists()


def test_damaged_records_are_not_written_over(repository):
    path = measurements.record("pami4/8s", {"mean_iu_2012": 67.3}, repository)
    for damaged in ("[1]", '{"pami4/8s": {"values": {"mean_iu_2012": "high"}}}'):
        path.write_text(damaged)
        with pytest.raises(ValueError, match="mend or remove"):
            measurements.record("pami4/8s", {"mean_iu_2012": 67.3}, repository)
        assert path.read_text() == damaged
