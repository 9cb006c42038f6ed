"""A server on loopback that has every file which the data tool fetches, and a folder for them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from datasets import catalogue, fetch, splits
from datasets.catalogue import CATALOGUE, Source
from datasets.download import Patience
from tests.datasets import hostile_server as server
from tests.datasets.hostile_server import Server
from tests.datasets.small_archives import ARCHIVES, CAFFEMODEL

ROOT = Path(__file__).resolve().parents[3]
SCENE = splits.SIFTFLOW_FOLDER


def known_as(source: Source, content: bytes, companions: dict[str, bytes]) -> Source:
    """The source as if the published digests were those of other files."""

    def renewed(download: catalogue.Download, content: bytes) -> catalogue.Download:
        algorithm = download.digest.partition(":")[0]
        return replace(download, digest=algorithm and f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}")

    return replace(
        source,
        download=renewed(source.download, content),
        companions=tuple(
            replace(each, download=renewed(each.download, companions.get(each.download.name, b"")))
            for each in source.companions
        ),
    )


@pytest.fixture(scope="module")
def archives() -> dict[str, bytes]:
    return {name: make() for name, make in ARCHIVES.items()}


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, archives: dict[str, bytes]) -> Iterator[Server]:
    """A mirror with everything; the homes of all files are on loopback too, where nothing listens."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("FCN_MIRRORS", raising=False)
    monkeypatch.delenv("FCN_DATA", raising=False)
    monkeypatch.setattr(fetch, "PATIENCE", Patience(1.0, 0.5, (0.0,)))
    with server.serving() as serving:
        for source in list(CATALOGUE.values()):
            name = source.download.name
            content = archives.get(name, CAFFEMODEL)
            at_home = known_as(source, content, archives)
            monkeypatch.setitem(CATALOGUE, source.name, _moved_home(at_home))
            serving.files[f"/m/{name}"] = content
        serving.files |= {f"/m/{name}": content for name, content in archives.items()}
        yield serving


def _moved_home(source: Source) -> Source:
    def moved(download: catalogue.Download) -> catalogue.Download:
        return replace(download, addresses=("http://127.0.0.1:9/home/" + download.name,), file=download.name)

    companions = tuple(replace(each, download=moved(each.download)) for each in source.companions)
    return replace(source, download=moved(source.download), companions=companions)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"
