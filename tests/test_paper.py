"""paper.py: the tables as text, as JSON and in RESULTS.md."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import paper
import published
from published.measurements import Measurements
from tests.result_files import put

ROOT = Path(__file__).resolve().parent.parent
ALL_ROWS = [f"{table.name}/{row.name}" for table in published.TABLES.values() for row in table.rows]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """An empty repository, in which result files are put."""
    return tmp_path / "repository"


@pytest.fixture
def of_repository(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that paper.py takes for its own."""
    monkeypatch.setattr(paper, "Measurements", lambda **options: Measurements(repository, **options))
    return repository


def test_published_stands_beside_measured(of_repository, capsys):
    put(of_repository, "voc-fcn8s", 0.9, iteration=4000)
    put(of_repository, "voc-fcn16s", 0.9, images=100)
    assert paper.main(["pami3"]) == 0
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if line.startswith("FCN-8s staged"))
    assert line.split() == [
        *("FCN-8s", "staged", "91.2", "90.0", "-1.2", "77.6", "90.0", "+12.4", "65.5", "81.8", "+16.3"),
        *("84.5", "81.8", "-2.7"),
    ]
    line = next(line for line in text.splitlines() if line.startswith("FCN-16s"))
    assert line.split() == ["FCN-16s", "91.0", "-", "78.1", "-", "65.0", "-", "84.3", "-"]
    assert "8s: Here at iteration 4,000 of 100,000." in text
    assert "16s: Measured on 100 of the 736 images only" in text
    assert "python score.py --split seg11valid --net voc-fcn8s\n" in text
    assert "cvpr2" not in text


def test_all_of_it_fits_the_screen(of_repository, capsys):
    put(of_repository, "voc-fcn8s", 0.9, iteration=4000)
    assert paper.main([]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 120
    assert all(f"\n{name}   " in f"\n{text}" for name in published.TABLES)


def test_one_row_can_be_asked_for(of_repository, capsys):
    assert paper.main(["list", "pami3/8s", "pami8/shape"]) == 0
    text = capsys.readouterr().out
    assert "FCN-8s staged" in text and "FCN-16s" not in text and "Shape" in text


def test_quoted_rows_are_said_to_be(of_repository, capsys):
    assert paper.main(["pami5"]) == 0
    assert "quoted, nothing here produces it: gupta" in capsys.readouterr().out


def test_json_has_every_row(of_repository, capsys):
    put(of_repository, "voc-fcn8s", 0.9)
    assert paper.main(["--json"]) == 0
    rows = {f"{row['table']}/{row['row']}": row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(ALL_ROWS)
    row = rows["pami3/8s"]
    assert row["published"]["mean_iu"] == 65.5
    assert row["difference"]["pixel_accuracy"] == pytest.approx(-1.2)
    assert row["reproduce"] == "python paper.py reproduce pami3/8s"
    assert rows["cvpr4/gupta"]["reproduce"] is None


@pytest.mark.parametrize(
    "argv, said",
    [
        (["pami33"], "No table is called 'pami33'; there are pami3"),
        (["pami3/8a"], "pami3 has no row '8a'; it has 8s"),
        (["reproduce", "pamy3"], "No table is called 'pamy3'; there are pami3"),
        (["record", "pami4/8s", "mean_iu_2012=high"], "'mean_iu_2012=high' is no COLUMN=NUMBER"),
        (["--write", "pami3"], "--write refreshes all tables"),
    ],
)
def test_what_is_not_there_is_said_with_what_is_near(argv, said, capsys):
    assert paper.main(argv) == 1
    assert said in capsys.readouterr().err


# RESULTS.md


def test_the_rest_of_the_page_is_left_and_writing_twice_changes_nothing(repository, tmp_path):
    page = tmp_path / "RESULTS.md"
    page.write_text(f"# Results\n\nabove\n{paper.BEGIN}\nout of date\n{paper.END}\nbelow\n")
    put(repository, "voc-fcn8s", 0.9)
    assert paper.refresh(page, Measurements(repository))
    text = page.read_text()
    assert text.startswith(f"# Results\n\nabove\n{paper.BEGIN}\n") and text.endswith(f"{paper.END}\nbelow\n")
    assert "out of date" not in text
    assert "| 8s | FCN-8s staged | 91.2 / **90.0** | 77.6 / **90.0** | 65.5 / **81.8** | 84.5 / **81.8** |" in text
    assert all(table.title in text for table in published.TABLES.values())
    assert not paper.refresh(page, Measurements(repository))
    assert page.read_text() == text


def test_a_page_without_the_marks_is_left_alone(repository, tmp_path):
    page = tmp_path / "RESULTS.md"
    page.write_text("# Results\n")
    with pytest.raises(ValueError, match="does not have the two lines"):
        paper.refresh(page, Measurements(repository))
    assert page.read_text() == "# Results\n"


def test_the_results_page_is_what_the_result_files_make(tmp_path):
    """As committed, it is what measured/ makes; after `make reproduce`, what all result files do."""
    page = (ROOT / "RESULTS.md").read_text()
    made = []
    for committed_only in (True, False):
        copy = tmp_path / "RESULTS.md"
        copy.write_text(page)
        paper.refresh(copy, Measurements(committed_only=committed_only))
        made.append(copy.read_text())
    assert page in made, "`python paper.py --write --committed` refreshes it"
