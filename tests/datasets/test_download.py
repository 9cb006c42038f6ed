"""Downloading: whatever a server does, the file comes whole and right or a sentence says why not."""

from __future__ import annotations

import hashlib
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from datasets import DatasetError, download
from datasets.catalogue import Download
from datasets.download import Fetched, Patience, fetch_file
from tests.datasets import hostile_server as server
from tests.datasets.hostile_server import Server

CONTENT = random.Random(0).randbytes(300_000)
OK = b"HTTP/1.1 200 OK\r\n"
PATIENCE = Patience(connect=1.0, stall=0.3, waits=(0.0, 0.01))


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with server.serving() as serving:
        serving.files["/file"] = CONTENT
        yield serving


class Case:
    """A file to download, of which the digest is known or not, and whose content may be anything."""

    def __init__(self, folder: Path) -> None:
        self.target = folder / "file"
        self.part = folder / "file.part"
        self.said: list[str] = []

    def fetch(self, web: Server, *addresses: str, digest: bool = True, kind: str = "any", room: float = 0.0) -> Fetched:
        known = f"md5:{hashlib.md5(CONTENT).hexdigest()}" if digest else ""
        wanted = Download((f"{web.address}/file",), kind, known, most=10**6)
        return fetch_file(
            wanted, addresses or wanted.addresses, self.target, patience=PATIENCE, say=self.said.append, room=room
        )


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setitem(download.formats.KINDS, "any", lambda path, file, start: None)
    return Case(tmp_path)


def test_a_file_comes_whole_with_its_digest(web: Server, case: Case) -> None:
    fetched = case.fetch(web)
    assert fetched == Fetched(f"{web.address}/file", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert case.target.read_bytes() == CONTENT
    assert [path.name for path in case.target.parent.iterdir()] == ["file"]
    assert web.requests[0][1]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.parametrize(
    "answers",
    [
        [server.break_off(100_000)],
        [server.break_off(100_000), server.break_off(50_000)],
        [server.break_off(0)],
        [server.stall(1000)],
        [server.say_nothing],
        [server.drip],
        [server.chunked(5000)],
        [server.status(503)],
        [server.status(500), server.status(429, Retry_After="0")],
        [server.break_off(1000), server.status(502)],
        [server.break_off(1000), server.without_ranges],
        [server.break_off(1000), server.other_part("bytes 0-299999/300000")],
        [server.break_off(1000), server.other_part("nonsense")],
        [server.break_off(1000), server.other_part("bytes 1000-299999/400000")],
        [server.break_off(1000), server.other_part("bytes 1000-1999/*")],
        [server.break_off(1000), server.status(416, Content_Range="bytes */77")],
        [server.other_part("bytes 5-9/10")],
        [server.raw(OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n")],
        [server.raw(OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello")],
        [server.raw(OK + b"X: " + b"a" * 5_000_000 + b"\r\n\r\n")],
        [server.raw(OK + b"X: a\r\n" * 10_000 + b"\r\n")],
        [server.raw(b"\0\1\2\r\n\r\n")],
        [server.raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, every=0.01, endless=True)],
        [server.raw(OK + b"X: ", b"a", every=0.05, endless=True)],
        [server.raw(OK + b"Transfer-Encoding: chunked\r\n\r\n5", b" ", every=0.05, endless=True)],
        [server.raw(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n" * 99, every=0.01, endless=True)],
        [server.announce(300_001)],  # then a 416 for byte 300,000 tells that all is there
        [server.announce("many")],
        [server.unannounced],
        [server.chunked()],
    ],
    ids=lambda answers: "-".join(getattr(each, "__qualname__", "").split(".")[0] for each in answers),
)
def test_a_bad_moment_is_got_over(web: Server, case: Case, answers: list[server.Answer], digest: bool) -> None:
    web.scripts["/file"] = list(answers)
    fetched = case.fetch(web, digest=digest)
    assert case.target.read_bytes() == CONTENT
    assert fetched.sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_a_break_is_resumed_where_it_was(web: Server, case: Case) -> None:
    web.scripts["/file"] = [server.break_off(100_000)]
    case.fetch(web)
    assert web.ranges() == [None, "bytes=100000-"]
    assert web.requests[1][1]["If-Range"] == '"one"'


def test_a_part_is_resumed_by_a_later_call(web: Server, case: Case) -> None:
    web.scripts["/file"] = [server.break_off(100_000), *[server.status(503)] * 2]
    with pytest.raises(DatasetError, match="503 Service Unavailable, 3 times in a row"):
        case.fetch(web)
    assert case.part.read_bytes() == CONTENT[:100_000]
    case.fetch(web)
    assert web.ranges()[-1] == "bytes=100000-"
    assert "after 100 kB" in case.said[-1]
    assert case.target.read_bytes() == CONTENT


def test_a_part_that_is_the_whole_file_is_taken(web: Server, case: Case) -> None:
    case.part.write_bytes(CONTENT)
    case.fetch(web)
    assert web.ranges() == ["bytes=300000-"]
    assert case.target.read_bytes() == CONTENT


@pytest.mark.parametrize("known_by", ["ETag", "Last_Modified"])
def test_a_file_that_changed_on_the_server_starts_again(web: Server, case: Case, known_by: str) -> None:
    web.files["/file"] = b"x" * len(CONTENT)
    web.scripts["/file"] = [server.break_off(100_000, **{known_by: "before"}), *[server.status(503)] * 2]
    with pytest.raises(DatasetError):
        case.fetch(web, digest=False)
    web.files["/file"], web.etag = CONTENT, "now"
    case.fetch(web, digest=False)
    assert web.requests[-1][1]["If-Range"] == "before"
    assert case.target.read_bytes() == CONTENT


def test_a_weak_etag_is_not_relied_on(web: Server, case: Case) -> None:
    web.scripts["/file"] = [server.break_off(100_000, ETag='W/"one"')]
    case.fetch(web)
    assert "If-Range" not in web.requests[1][1]


def test_pieces_that_do_not_fit_are_fetched_again_in_one(web: Server, case: Case) -> None:
    case.part.write_bytes(b"x" * 1000)
    case.fetch(web)
    assert web.ranges() == ["bytes=1000-", None]
    assert case.target.read_bytes() == CONTENT


def test_pieces_of_two_addresses_are_joined_only_where_a_digest_tells(web: Server, case: Case) -> None:
    web.files["/mirror/file"] = CONTENT
    for digest, asked in ((True, "bytes=1000-"), (False, None)):
        web.scripts["/file"] = [server.break_off(1000), *[server.status(404)]]
        case.fetch(web, f"{web.address}/file", f"{web.address}/mirror/file", digest=digest)
        assert web.ranges()[-1] == asked
        assert case.target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (server.status(404), "answers 404 Not Found"),
        (server.status(403), "answers 403"),
        (server.status(204), "answers 204"),
        (server.sends(b"other bytes"), "has the md5 [0-9a-f]{32}, not "),
        (server.WEB_PAGE, "is a web page, no any file"),
        (server.sends(b""), "is empty"),
        (server.status(302, Location="/file"), "redirects in circles"),
        (server.status(302, Location="ftp://127.0.0.1/file"), "cannot be asked"),
        (server.status(302, Location="file:///etc/passwd"), "cannot be asked"),
        (server.status(302, Location="http://[::x/"), "cannot be asked"),
        (server.status(302, Location=f"http://{'a' * 80}.example/"), "cannot be asked"),
        (server.status(302), "answers 302"),
        (server.raw(b"HTTP/1.1 404 \x1b[2J\r\n\r\n"), r"answers 404 \\x1b\[2J"),
        (server.raw(OK + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b"), "has the md5"),
        (server.announce(10**9), "announces 1.0 GB, more than file can have"),
        (server.endless, "sends more than 1.0 MB"),
        (server.announce(1000), "has the md5"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_next_address_is_tried(web: Server, case: Case, answer: server.Answer, said: str) -> None:
    web.scripts["/file"] = [answer] * 30
    with pytest.raises(DatasetError, match=f"{web.address}/file .*{said}.* --mirror URL, or .* --from FILE"):
        case.fetch(web)
    assert not case.target.exists()
    web.files["/mirror/file"] = CONTENT
    assert case.fetch(web, f"{web.address}/file", f"{web.address}/mirror/file").address.endswith("/mirror/file")
    assert case.target.read_bytes() == CONTENT


def test_redirects_are_followed(web: Server, case: Case) -> None:
    web.scripts["/old"] = [server.status(301, Location="/older")]
    web.scripts["/older"] = [server.status(302, Location=f"{web.address}/file")]
    case.fetch(web, f"{web.address}/old")
    assert case.target.read_bytes() == CONTENT


def test_what_comes_with_a_redirect_is_not_read(web: Server, case: Case) -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: /file\r\nContent-Encoding: gzip\r\n\r\n"
    web.scripts["/old"] = [server.raw(head, b"\0" * 65536, endless=True)]
    case.fetch(web, f"{web.address}/old")
    assert [path for path, _ in web.requests] == ["/old", "/file"]
    assert case.target.read_bytes() == CONTENT


def test_a_time_limit_leaves_the_alarm_as_it_was() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(download._Broken, match="nothing of use"), download._within(0.01):
        time.sleep(1)
    with download._within(0.01):
        pass
    time.sleep(0.02)
    assert signal.getsignal(signal.SIGALRM) is before


def test_an_address_that_has_nothing_costs_nothing(web: Server, case: Case) -> None:
    web.scripts["/file"] = [server.break_off(100_000), *[server.status(503)] * 2]
    with pytest.raises(DatasetError):
        case.fetch(web, digest=False)
    web.scripts["/portal"] = [server.WEB_PAGE]
    case.fetch(web, f"{web.address}/none", f"{web.address}/portal", f"{web.address}/file", digest=False)
    assert web.ranges()[-3:] == [None, None, "bytes=100000-"]
    assert case.target.read_bytes() == CONTENT
    case.part.write_bytes(CONTENT[:100_000])
    web.scripts["/file"] = [server.WEB_PAGE]
    with pytest.raises(DatasetError, match="answers with a web page"):
        case.fetch(web)
    assert case.part.read_bytes() == CONTENT[:100_000]


def test_a_whole_part_that_is_wrong_is_fetched_again(web: Server, case: Case) -> None:
    case.part.write_bytes(b"x" * len(CONTENT))
    case.fetch(web)
    assert web.ranges() == ["bytes=300000-", None]
    assert case.target.read_bytes() == CONTENT


def test_a_file_that_is_another_each_time_is_given_up(web: Server, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_PROGRESS", 20_000)
    web.scripts["/file"] = [server.renewed_each_time(after) for after in [50_000, 10_000] * 50]
    with pytest.raises(DatasetError, match="3 times in a row"):
        case.fetch(web)
    assert len(web.requests) == 3


def test_a_server_that_lies_for_ever_is_given_up(web: Server, case: Case) -> None:
    web.scripts["/file"] = [server.announce(300_001), *[server.announce(300_001)] * 20]
    with pytest.raises(DatasetError, match=r"announces 300001 bytes and has sent 300000|breaks off after 300 kB"):
        case.fetch(web)
    assert len(web.requests) == 1 + len(PATIENCE.waits)


def test_breaks_with_progress_do_not_count_as_a_row(web: Server, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_PROGRESS", 20_000)
    web.scripts["/file"] = [server.break_off(20_000)] * 10
    case.fetch(web)
    assert len(web.requests) == 11


def test_no_server_at_all(web: Server, case: Case) -> None:
    with pytest.raises(DatasetError, match=r"http://127.0.0.1:9/file gives no answer .*refused"):
        case.fetch(web, "http://127.0.0.1:9/file")


def test_a_disk_that_is_too_small_is_told_before(web: Server, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    free = type("Usage", (), {"free": 500_000})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: free)
    with pytest.raises(DatasetError, match=r"file needs 750 kB in .*, and 500 kB are free there"):
        case.fetch(web, room=1.5)
    case.fetch(web)


def test_without_requests_a_person_is_told_what_to_do(web: Server, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "requests", None)
    with pytest.raises(DatasetError, match=r"pip install requests.*--from FILE"):
        case.fetch(web)


def test_an_interrupt_keeps_what_came(web: Server, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    web.scripts["/file"] = [server.stall(200_000)]
    count = 0

    class Interrupting:
        def __init__(self, *arguments: object) -> None: ...
        def __enter__(self) -> Interrupting:
            return self

        def __exit__(self, *arguments: object) -> None: ...
        def add(self, size: int) -> None:
            nonlocal count
            count += size
            if count >= 200_000:
                raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(download, "ProgressBar", Interrupting)
        with pytest.raises(KeyboardInterrupt):
            case.fetch(web)
    assert case.part.read_bytes() == CONTENT[:200_000]
    case.fetch(web)
    assert web.ranges()[-1] == "bytes=200000-"


def test_a_digest_of_another_kind(web: Server, case: Case) -> None:
    wanted = Download((f"{web.address}/file",), "any", f"sha1:{hashlib.sha1(CONTENT).hexdigest()}", most=10**6)
    fetch_file(wanted, wanted.addresses, case.target, patience=PATIENCE, say=case.said.append)
    wrong = replace(wanted, digest="sha1:" + "0" * 40)
    with pytest.raises(DatasetError, match="has the sha1"):
        fetch_file(wrong, wanted.addresses, case.target, patience=PATIENCE, say=case.said.append)
