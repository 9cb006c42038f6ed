"""files/writing.py: a file is the old one or the new one, never a part, and nothing is left lying beside it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from files.writing import replaced, write_text


def test_a_file_is_written_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_text(path, "{}\r\n")
    assert path.read_bytes() == b"{}\r\n"
    write_text(path, "n\u00e4chste", encoding="latin-1")
    assert path.read_bytes() == b"n\xe4chste"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_where_the_writer_fails_the_old_file_stays(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "log.csv"
    path.write_text("old")
    with pytest.raises(error), replaced(path) as partial:
        partial.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_being_written_is_hidden_beside_it_under_a_name_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "weights.caffemodel"
    with replaced(path) as first, replaced(path) as second:
        assert first != second
        for partial in (first, second):
            assert partial.parent == tmp_path
            assert partial.name.startswith(".")
            assert partial.suffix == ".caffemodel"  # Some writers go by it.
            partial.write_text(str(partial))
        assert not path.exists()
    assert path.read_text() == str(first)


def test_what_lies_at_a_name_already_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.write_text("somebody else's")
    monkeypatch.setattr("secrets.token_hex", lambda count: "guessed")
    (tmp_path / ".guessed.partial.txt").symlink_to(other)
    with pytest.raises(FileExistsError):
        write_text(tmp_path / "list.txt", "mine")
    assert other.read_text() == "somebody else's"


def test_permissions_stay_and_new_files_have_the_user_s(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    former = os.umask(0o027)
    try:
        write_text(path, "new")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o664)
        write_text(path, "newer")
        assert stat.S_IMODE(path.stat().st_mode) == 0o664
    finally:
        os.umask(former)


def test_of_a_link_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    file, link = tmp_path / "elsewhere" / "file.txt", tmp_path / "link.txt"
    file.write_text("old")
    link.symlink_to(file)
    write_text(link, "new")
    assert link.is_symlink()
    assert file.read_text() == "new"
    assert list(file.parent.iterdir()) == [file]


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "splits.txt"
    synced: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(path.exists()))
    write_text(path, "a\n")
    assert synced == [False]
    assert path.exists()


def test_a_folder_that_is_missing_is_an_error_of_the_system_s(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "none" / "file", "")
