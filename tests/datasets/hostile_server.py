"""A web server on loopback that does what bad servers do: each path has a script of answers, and then is honest."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers with the next step of the path's script, or honestly, with ranges."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        script = self.server.scripts.get(self.path, [])
        content = self.server.files.get(self.path, b"")
        try:
            if script:
                script.pop(0)(self, content)
            elif self.path in self.server.files:
                honest(self, content)
            else:
                status(404)(self, content)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def head(self, code: int, headers: Mapping[str, object]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    def range_start(self) -> int:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(found[1]) if found else 0

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """The server; `files` are what it has, `scripts` what it does before it is honest, `requests` what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.scripts: dict[str, list[Answer]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.etag = '"one"'
        self.ending = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def ranges(self) -> list[str | None]:
        """The ranges that were asked for, in order."""
        return [headers.get("Range") for _, headers in self.requests]


Answer = Callable[[Handler, bytes], None]


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ending.set()
        server.shutdown()
        server.server_close()
        thread.join()


def honest(handler: Handler, content: bytes) -> None:
    start, etag = handler.range_start(), handler.server.etag
    if handler.headers.get("If-Range", etag) != etag:
        start = 0
    if start and start >= len(content):
        handler.head(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": 0})
    elif start:
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        handler.head(206, {"Content-Range": span, "Content-Length": len(content) - start, "ETag": etag})
        handler.wfile.write(content[start:])
    else:
        handler.head(200, {"Content-Length": len(content), "ETag": etag})
        handler.wfile.write(content)


def without_ranges(handler: Handler, content: bytes) -> None:
    handler.head(200, {"Content-Length": len(content)})
    handler.wfile.write(content)


def break_off(after: int, **headers: str) -> Answer:
    """Announce the rest, send `after` bytes of it, and hang up."""

    def answer(handler: Handler, content: bytes) -> None:
        start = handler.range_start()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named = named or {"ETag": handler.server.etag}
        if start:
            named["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        handler.head(206 if start else 200, {"Content-Length": len(content) - start, **named})
        handler.wfile.write(content[start : start + after])
        handler.close_connection = True

    return answer


def stall(after: int) -> Answer:
    """Send `after` bytes and then nothing, with the connection open."""

    def answer(handler: Handler, content: bytes) -> None:
        handler.head(200, {"Content-Length": len(content), "ETag": handler.server.etag})
        handler.wfile.write(content[:after])
        handler.server.ending.wait(20)
        handler.close_connection = True

    return answer


def say_nothing(handler: Handler, content: bytes) -> None:
    handler.server.ending.wait(20)
    handler.close_connection = True


def drip(handler: Handler, content: bytes) -> None:
    """Send a byte at a time, often enough that no read waits long."""
    handler.head(200, {"Content-Length": len(content)})
    for byte in content:
        handler.wfile.write(bytes([byte]))
        if handler.server.ending.is_set():
            break
        time.sleep(0.02)
    handler.close_connection = True


def announce(length: object) -> Answer:
    """Send the whole file under another Content-Length, and hang up."""

    def answer(handler: Handler, content: bytes) -> None:
        handler.head(200, {"Content-Length": length})
        handler.wfile.write(content)
        handler.close_connection = True

    return answer


def unannounced(handler: Handler, content: bytes) -> None:
    """Send the whole file with no length at all."""
    handler.head(200, {"Connection": "close"})
    handler.wfile.write(content)
    handler.close_connection = True


def chunked(content_sent: int | None = None) -> Answer:
    """Send in chunks; with a number hang up after so many bytes."""

    def answer(handler: Handler, content: bytes) -> None:
        handler.head(200, {"Transfer-Encoding": "chunked"})
        sent = content[:content_sent]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(sent), sent))
        if content_sent is None:
            handler.wfile.write(b"0\r\n\r\n")
        handler.close_connection = True

    return answer


def endless(handler: Handler, content: bytes) -> None:
    handler.head(200, {"Connection": "close"})
    while not handler.server.ending.is_set():
        handler.wfile.write(b"\0" * 65536)


def other_part(content_range: str) -> Answer:
    """Answer a question for a part with this Content-Range and the whole file."""

    def answer(handler: Handler, content: bytes) -> None:
        handler.head(206, {"Content-Range": content_range, "Content-Length": len(content)})
        handler.wfile.write(content)

    return answer


def status(code: int, **headers: object) -> Answer:
    def answer(handler: Handler, content: bytes) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.head(code, {"Content-Length": 0, **named})

    return answer


def sends(other: bytes, kind: str = "application/octet-stream") -> Answer:
    """Send other bytes than the file's."""

    def answer(handler: Handler, content: bytes) -> None:
        handler.head(200, {"Content-Length": len(other), "Content-Type": kind})
        handler.wfile.write(other)

    return answer


WEB_PAGE = sends(b"<!DOCTYPE html>\n<html><title>Please log in</title></html>", "text/html")


def raw(*pieces: bytes, every: float = 0.0, endless: bool = False) -> Answer:
    """Send these bytes and no others, head included, with a pause after each piece; the last again without end."""

    def answer(handler: Handler, content: bytes) -> None:
        handler.close_connection = True
        for piece in pieces:
            handler.wfile.write(piece)
            handler.server.ending.wait(every)
        while endless and not handler.server.ending.is_set():
            handler.wfile.write(pieces[-1])
            handler.server.ending.wait(every)

    return answer


def renewed_each_time(after: int) -> Answer:
    """Break off after so many bytes, and have another version at every request, so that no part is ever resumed."""

    def answer(handler: Handler, content: bytes) -> None:
        handler.head(200, {"Content-Length": len(content), "ETag": f'"{len(handler.server.requests)}"'})
        handler.wfile.write(content[:after])
        handler.close_connection = True

    return answer
