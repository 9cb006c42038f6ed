"""terminal/progress_bar.py: on a terminal how far a file is, from where it was resumed; images are counted anywhere."""

from __future__ import annotations

import io
import sys

import pytest

from terminal.progress_bar import ProgressBar, image_bar, is_installed


class Terminal(io.StringIO):
    """Text that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_resumed_file_begins_where_it_was(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with ProgressBar("vgg16.caffemodel", total=80_000_000, done=40_000_000) as bar:
        shown = sys.stderr.getvalue()
        assert "vgg16.caffemodel" in shown and "50%" in shown and "40.0M/80.0M" in shown
        bar.add(40_000_000)
    assert sys.stderr.getvalue().rstrip(" ").endswith("\r")  # The line is given back.


def test_a_file_of_unknown_length_is_counted(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with ProgressBar("labels.txt", total=None, done=1500):
        assert "1.50kB" in sys.stderr.getvalue()


@pytest.mark.parametrize("why", ["no terminal", "no tqdm", "not asked for"])
def test_nothing_is_shown(why, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO() if why == "no terminal" else Terminal())
    if why == "no tqdm":
        monkeypatch.setitem(sys.modules, "tqdm", None)
    with ProgressBar("labels.txt", total=10, shown=why != "not asked for") as bar:
        bar.add(10)
    assert sys.stderr.getvalue() == ""


def test_images_are_counted_without_a_terminal_too_and_the_line_stays(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with image_bar(3) as advance:
        for image_id in "abc":
            advance(image_id)
    assert "3/3" in sys.stderr.getvalue()
    assert sys.stderr.getvalue().endswith("\n")


def test_without_tqdm_images_are_gone_through_all_the_same(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert not is_installed()
    with image_bar(1) as advance:
        advance("a")
    assert sys.stderr.getvalue() == ""
