"""Downloads one file over HTTP: resumed where it broke off, checked while it comes, from several addresses in turn.

What has come lies in NAME.part, beside NAME.part.json, which says from where and of which version it is; the file
gets its own name when it is whole and right. A resumed download asks for the rest of the same version (If-Range);
servers that ignore the question, have another version or answer with another part start the file again.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from datasets import DatasetError, formats
from datasets.catalogue import Download
from datasets.digests import Digests, of_file, sizes
from files.writing import write_text
from terminal.progress_bar import ProgressBar

_CHUNK = 2**16
# Answers that may be others in a moment; any other but 200, 206 and 416 is an address's last word.
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
_REDIRECTS = 10
# After so many new bytes a break no longer counts towards the last: a large file may break many times.
_PROGRESS = 2**20
# Slower than this for as long as a stall may take is a stall, bytes a second.
_PACE = 100


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server, in seconds."""

    connect: float = 20.0
    """For a connection."""
    stall: float = 60.0
    """For the next bytes of an answer."""
    waits: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0)
    """Before each new try after a break; one more break in a row, and the address is given up."""


PATIENCE = Patience()


@dataclass(frozen=True)
class Fetched:
    """A file that came whole."""

    address: str
    size: int
    sha256: str


class _Refused(Exception):
    """An address cannot give the file; the message follows on the address."""


class _Broken(Exception):
    """A connection ended early; the message follows on the address."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        """Let `wait` be the seconds that the server asked for, if it did."""
        super().__init__(message)
        self.wait = wait


def fetch_file(
    download: Download,
    addresses: Sequence[str],
    target: Path,
    *,
    patience: Patience = PATIENCE,
    say: Callable[[str], None] = print,
    room: float = 0.0,
) -> Fetched:
    """Download a file to `target` from the first of the addresses that gives it whole and right.

    `room` is how many times the file's own size has to be free on the disk beside it. Raises DatasetError that says
    of each address why it failed, or that the disk is too small, and OSError where the file cannot be written. What
    has come is kept for the next call.
    """
    try:
        import requests  # noqa: PLC0415
    except ImportError:
        raise DatasetError(
            f"requests, which downloads, is not installed: pip install requests. Or download {addresses[0]} by other "
            "means and name the file with --from FILE."
        ) from None
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(target, download.digest)
    reasons = []
    with requests.Session() as session:
        # Redirects are followed in _ask: requests reads what comes with one, which may have no end.
        session.get_redirect_target = lambda response: None  # type: ignore[assignment, method-assign]
        for address in addresses:
            say(f"{download.name}: from {address}{f', after {sizes(part.size)}' if part.size else ''}")
            try:
                _from_address(session, address, download, part, patience, say, room)
            except _Refused as refused:
                reasons.append(f"{address} {refused}.")
                say(f"  {refused}")
                continue
            fetched = Fetched(address, part.size, part.digests.sha256)
            part.finish(target)
            return fetched
    raise DatasetError(
        f"{download.name} cannot be downloaded. {' '.join(reasons)} Name another place that has it with --mirror URL, "
        "or a file that you have with --from FILE."
    )


class _Part:
    """NAME.part: the bytes that have come, their digests, and what server and version they are of."""

    def __init__(self, target: Path, digest: str) -> None:
        self.path = target.with_name(target.name + ".part")
        self._notes = target.with_name(target.name + ".part.json")
        self._expected = digest
        # Whether bytes of more than one answer are in it, which may not belong together.
        self.mixed = False
        self.address, self.version, self.total = self._read_notes()
        self.digests = of_file(self.path, digest) if self.path.exists() else Digests(digest)
        self.size = self.path.stat().st_size if self.path.exists() else 0

    def _read_notes(self) -> tuple[str, str, int | None]:
        try:
            notes = json.loads(self._notes.read_text(encoding="utf-8"))
            return str(notes["address"]), str(notes["version"]), notes["total"]
        except (OSError, ValueError, KeyError, TypeError):
            return "", "", None

    def belongs_to(self, address: str) -> bool:
        """Whether it may be completed from there: without a digest to tell in the end, only if it is the same file."""
        known = bool(self.version) or self.total is not None
        return bool(self._expected) or (address == self.address and known)

    def restart(self) -> None:
        """Drop what has come."""
        self.path.write_bytes(b"")
        self.digests = Digests(self._expected)
        self.size, self.mixed = 0, False

    def note(self, address: str, version: str, total: int | None) -> None:
        """Keep what the answer at hand says of the file."""
        self.address, self.version, self.total = address, version, total
        write_text(self._notes, json.dumps({"address": address, "version": version, "total": total}))

    def finish(self, target: Path) -> None:
        """Give the file its name."""
        self.path.replace(target)
        self._notes.unlink(missing_ok=True)


def _from_address(
    session: Any,
    address: str,
    download: Download,
    part: _Part,
    patience: Patience,
    say: Callable[[str], None],
    room: float,
) -> None:
    """Complete the part from one address; raises _Refused when that cannot be."""
    failed, anew = 0, False
    # Only bytes further than any before are progress: where nothing can be resumed, each break begins at 0.
    furthest = part.size
    while True:
        try:
            _receive(session, address, download, part, patience, room)
        except _Broken as broken:
            failed = 1 if part.size - furthest >= _PROGRESS else failed + 1
            furthest = max(furthest, part.size)
            if failed > len(patience.waits):
                raise _Refused(f"{broken}, {failed} times in a row") from None
            wait = max(patience.waits[failed - 1], min(broken.wait, patience.waits[-1]))
            say(f"  {broken}; trying again in {wait:g} s")
            time.sleep(wait)
            continue
        wrong = _what_is_wrong(download, part)
        if not wrong:
            return
        mixed = part.mixed
        part.restart()
        if anew or not mixed:
            raise _Refused(f"sends a file that {wrong}")
        anew, furthest = True, 0
        say(f"  what came in pieces {wrong}; starting again")


def _what_is_wrong(download: Download, part: _Part) -> str:
    try:
        formats.check(part.path, download.kind)
    except formats.FormatError as error:
        return str(error)
    return part.digests.wrong


def _receive(session: Any, address: str, download: Download, part: _Part, patience: Patience, room: float) -> None:
    """Make one connection and add what it sends to the part.

    Raises _Broken if that is not the rest of the file, and _Refused if the address has no such file.
    """
    from requests import exceptions  # noqa: PLC0415

    # What has come and does not belong to this address stays until the address has something better.
    asked = part.size if part.belongs_to(address) else 0
    # As the file is: an answer packed on the way would have another length and other bytes.
    headers = {"Accept-Encoding": "identity"}
    if asked:
        headers["Range"] = f"bytes={asked}-"
        if part.version and address == part.address:
            headers["If-Range"] = part.version
    try:
        with _ask(session, address, headers, patience) as response:
            if _begin(response, address, download, part, asked, room):
                _stream(response, download, part, patience)
    except exceptions.SSLError as error:
        raise _Refused(f"has no valid certificate ({_cause(error)})") from None
    except exceptions.Timeout:
        raise _Broken(f"does not answer within {patience.connect:g} to {patience.stall:g} s") from None
    except (exceptions.ConnectionError, exceptions.ChunkedEncodingError) as error:
        raise _Broken(f"gives no answer ({_cause(error)})") from None
    except exceptions.BaseHTTPError as error:  # type: ignore[attr-defined]
        raise _Broken(f"breaks off after {sizes(part.size)} ({_cause(error)})") from None
    except exceptions.RequestException as error:
        raise _Refused(f"cannot be asked ({_cause(error)})") from None
    if part.total is not None and part.size != part.total:
        size, total = part.size, part.total
        if size > total:
            part.restart()
        raise _Broken(f"announces {total} bytes and has sent {size} when it ends")


def _ask(session: Any, address: str, headers: dict[str, str], patience: Patience) -> Any:
    """Return an answer, its body still to come, after the redirects before it."""
    for _ in range(_REDIRECTS + 1):
        try:
            with _within(patience.connect + 2 * patience.stall):
                response = session.get(
                    address, headers=headers, stream=True, timeout=(patience.connect, patience.stall)
                )
            if not response.is_redirect:
                return response
            response.close()
            address = urljoin(address, response.headers["Location"])
        except ValueError as error:
            raise _Refused(f"cannot be asked ({_cause(error)})") from None
    raise _Refused(f"redirects in circles (more than {_REDIRECTS} times)")


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise _Broken in what takes longer: the time limits of requests begin anew with every byte.

    That is done by the process's alarm, which only its main thread can use; in another there is no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: object) -> None:
        raise _Broken(f"has sent nothing of use for {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _cause(error: BaseException) -> str:
    """Return the last and plainest part of what requests says."""
    while isinstance(inner := getattr(error, "reason", None) or (error.args[-1] if error.args else None), Exception):
        error = inner
    return shown(str(error).rpartition(": ")[2] or type(error).__name__)


def shown(text: str) -> str:
    """Return a stranger's text as it can be printed: not too long, and nothing in it that a terminal obeys."""
    return repr(text if len(text) <= 120 else f"{text[:100]}...")[1:-1]


def _begin(response: Any, address: str, download: Download, part: _Part, asked: int, room: float) -> bool:
    """Bring the part in step with the answer's head; False if nothing is left to come.

    asked: the first byte that was asked for.
    """
    status, head = response.status_code, response.headers
    start, total = _content_range(head.get("Content-Range", ""))
    answer = f"answers {status} {shown(response.reason or '')}".rstrip()
    if status == 416 and asked:
        if total == part.size:
            part.mixed = True
            part.note(address, "", total)
            return False
        part.restart()
        raise _Broken("has no such part of the file")
    if status in _TRANSIENT:
        wait = head.get("Retry-After", "")
        raise _Broken(answer, float(wait) if re.fullmatch(r"\d{1,6}", wait) else 0.0)
    if status == 206:
        other = address == part.address and part.total is not None and total is not None and total != part.total
        if not asked or start != asked or other:
            if asked:
                part.restart()
            found = shown(head.get("Content-Range", "no Content-Range"))
            raise _Broken(f"answers with another part of the file than asked for (from {asked}: {found})")
        part.mixed = True
        if total is None and address == part.address:
            total = part.total
    elif status == 200:
        if part.size and download.kind != "text" and head.get("Content-Type", "").startswith("text/html"):
            # As networks answer where one has to log in first: no reason to drop what has come.
            raise _Refused("answers with a web page")
        part.restart()
        length = head.get("Content-Length", "")
        total = int(length) if re.fullmatch(r"\d{1,18}", length) else None
    else:
        raise _Refused(answer)
    if total is not None and total > download.most:
        raise _Refused(f"announces {sizes(total)}, more than {download.name} can have")
    if total is not None:
        check_room(part.path.parent, total - part.size + room * total, download.name)
    # A weak ETag does not promise the same bytes.
    version = head.get("ETag", "")
    if not version or version.startswith("W/"):
        version = head.get("Last-Modified", "")
    part.note(address, version, total)
    return True


def _content_range(text: str) -> tuple[int | None, int | None]:
    """Return the first byte and the whole size that a Content-Range tells; None for what it does not."""
    found = re.fullmatch(r"bytes (?:(\d{1,18})-\d{1,18}|\*)/(?:(\d{1,18})|\*)", text.strip())
    if found is None:
        return None, None
    return int(found[1]) if found[1] else None, int(found[2]) if found[2] else None


def _stream(response: Any, download: Download, part: _Part, patience: Patience) -> None:
    """Write an answer's bytes to the part as they come."""
    # read1 gives what is there; where urllib3 is too old for it, a break may cost the last _CHUNK.
    read = getattr(response.raw, "read1", response.raw.read)
    since, came = time.monotonic(), 0
    with part.path.open("ab") as file, ProgressBar(download.name, part.total, part.size) as bar:
        while True:
            with _within(2 * patience.stall):
                chunk = read(_CHUNK, decode_content=False)
            if not chunk:
                break
            if part.size + len(chunk) > download.most:
                part.restart()
                raise _Refused(f"sends more than {sizes(download.most)}, which {download.name} cannot have")
            file.write(chunk)
            part.digests.add(chunk)
            part.size += len(chunk)
            bar.add(len(chunk))
            came += len(chunk)
            passed = time.monotonic() - since
            if passed > patience.stall:
                if came < _PACE * passed:
                    raise _Broken(f"has sent {came} bytes in {passed:.0f} s")
                since, came = time.monotonic(), 0


def check_room(folder: Path, needed: float, what: str) -> None:
    """Raise DatasetError if the disk of a folder has not so many bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DatasetError(
            f"{what} needs {sizes(needed)} in {folder}, and {sizes(free)} are free there. Free some, or choose a "
            "folder on another disk with --data DIR; what has come is kept."
        )
