"""files/locking.py: one holds a lock, the next waits and says so, and a lock goes with its process."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from files.locking import locked

ROOT = Path(__file__).resolve().parent.parent.parent


def test_a_second_one_says_that_it_waits_and_waits(tmp_path: Path) -> None:
    path, events = tmp_path / "made" / "records.lock", []
    waits = threading.Event()

    def second() -> None:
        with locked(path, on_wait=lambda: (events.append("waits"), waits.set())):
            events.append("second")

    with locked(path, on_wait=lambda: events.append("nobody is there")):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(10)
        events.append("first")
    thread.join(10)
    assert events == ["waits", "first", "second"]
    with locked(path, on_wait=lambda: events.append("nobody is there")):
        pass
    assert len(events) == 3


def test_a_lock_goes_with_its_process_however_that_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    program = (
        "import sys; from pathlib import Path; from files.locking import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        waited: list[bool] = []
        with locked(path, on_wait=lambda: (waited.append(True), holder.kill())):
            pass
    assert waited == [True]


def test_without_filelock_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "filelock", None)
    with pytest.raises(OSError, match="pip install filelock"), locked(tmp_path / "lock"):
        pass
