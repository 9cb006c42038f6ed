"""The documentation: its code runs as it stands, and its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")])
# Pages whose blocks are a program, from top to bottom. The others show pieces of one, which other tests hold.
PROGRAMS = ["bringing-an-old-project.md", "writing-a-python-layer.md"]

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# ([\w.]+\.(?:py|prototxt))\n")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def program(page: str) -> str:
    """Return a page as one Python program: blocks that begin with a file's name write it, `sh` blocks are run."""
    lines = ["import subprocess"]
    for kind, text in BLOCK.findall(page):
        name = FILE_NAME.match(text)
        if name:
            lines.append(f"open({name[1]!r}, 'w').write({text!r})")
        elif kind == "python":
            lines.append(text)
        elif kind == "sh":
            lines += [f"subprocess.run({command!r}, shell=True, check=True)" for command in text.splitlines()]
        else:
            raise AssertionError(f"a block of kind {kind!r} that begins with {text[:40]!r} has no file name")
    return "\n".join(lines)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_code_of_a_page_runs(name, tmp_path):
    (tmp_path / "page.py").write_text(program((ROOT / "docs" / name).read_text(encoding="utf-8")), encoding="utf-8")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        [sys.executable, "page.py"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as they are made of them: lower case, hyphens for spaces."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):  # another site
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT) and target.exists(), f"{page.name} links to {link}, which is not there"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {link}; the page has no such heading"


def test_every_page_can_be_found_from_the_index():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    linked = {link.partition("#")[0] for link in LINK.findall(index)}
    missing = {page.name for page in (ROOT / "docs").glob("*.md")} - linked - {"README.md"}
    assert not missing, f"docs/README.md does not name {', '.join(sorted(missing))}"


@pytest.mark.parametrize("script", sorted((ROOT / "examples").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_example_can_be_found_from_its_list(script):
    parts = script.relative_to(ROOT / "examples").parts
    linked = LINK.findall((ROOT / "examples" / "README.md").read_text(encoding="utf-8"))
    assert "/".join(parts) in linked or parts[0] in {link.rstrip("/") for link in linked}
