"""paper.py: the tables as text, as JSON and in RESULTS.md."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import paper
import published
from published.measurements import Measurements
from tests.published.result_files import put

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
    assert "16s: Here only a part is measured: 100 of the 736 images at iteration 100,000" in text
    assert "8s         (cd voc-fcn8s && python solve.py)  # from voc-fcn16s\n" in text
    assert "           python score.py --split seg11valid --net voc-fcn8s\n" in text
    assert "python paper.py reproduce pami3/ROW\n" in text
    assert "cvpr2" not in text


def test_all_of_it_fits_the_screen(of_repository, capsys):
    put(of_repository, "voc-fcn8s", 0.9, iteration=4000)
    assert paper.main([]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 120
    assert all(f"\n{name}   " in f"\n{text}" for name in published.TABLES)
    assert text.startswith("publ.: the number in the paper; here: what was measured")
    guide = text[text.index("\nTables: ") :]
    assert all(name in guide for name in published.TABLES)
    assert "python paper.py reproduce pami3/8s --rehearse" in guide


def test_one_row_can_be_asked_for(of_repository, capsys):
    assert paper.main(["list", "pami3/8s", "pami8/shape"]) == 0
    text = capsys.readouterr().out
    assert "FCN-8s staged" in text and "FCN-16s" not in text and "Shape" in text


@pytest.mark.parametrize("name", ["cvpr1/googlenet", "pami1/googlenet"])
def test_a_part_is_shown_as_a_part(name, of_repository, capsys, tmp_path):
    folder = "measured/voc-fcn-ablations/table1-googlenet"
    part = {"split": "val", "images": 228, "split_images": 228, "iteration": 400, "folder": folder}
    put(of_repository, "voc-fcn-ablations/table1-googlenet", 0.9, **part)
    assert paper.main(["--committed", name]) == 0
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if line.startswith("FCN-GoogLeNet"))
    assert line.split()[:3] == ["FCN-GoogLeNet", "42.5", "-"]
    sentence = (
        "Here only a part is measured: 228 of the 1,111 images at iteration 400 of 9,730, which have 2 of the 2 "
        "classes: mean IU 81.8."
    )
    assert sentence in text.replace("\n  ", " ")

    assert paper.main(["--committed", "--json", name]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert "mean_iu" not in row["measured"] and "mean_iu" not in row["difference"]
    assert (row["result"], row["part"]["images"], row["part"]["iteration"]) == (None, 228, 400)
    assert row["part"]["values"] == pytest.approx({"mean_iu": 100 * 9 / 11})

    page = tmp_path / "RESULTS.md"
    page.write_text(f"{paper.BEGIN}\n{paper.END}\n")
    paper.refresh(page, Measurements(of_repository, committed_only=True))
    written = page.read_text()
    assert "| googlenet | FCN-GoogLeNet | 42.5 |" in written
    assert sentence in written.replace("\n  ", " ")


def test_rows_that_one_command_gives_have_it_once(of_repository, capsys):
    assert paper.main(["cvpr-upper-bounds"]) == 0
    assert capsys.readouterr().out.count("python analyze.py upper-bounds\n") == 1


@pytest.mark.slow
def test_what_no_one_reads_on_is_no_error():
    """As `python paper.py | head` does."""
    command = [sys.executable, "paper.py"]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None and running.stderr is not None
    running.stdout.close()
    assert running.wait(timeout=60) == 1
    assert running.stderr.read() == b""
    running.stderr.close()


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
        (["pami3/"], "pami3 has no row ''"),
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
