"""The documentation: its code runs as it stands, and its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from datasets.catalogue import CATALOGUE
from tests import forked

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


@pytest.mark.slow
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


# The commands that guides tell a user to type.

GUIDES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *(ROOT / "docs" / "questions.md", ROOT / "docker" / "welcome.py"),
]
TYPED_LINE = re.compile(r"^ {2,}\(?((?:cd|fcn|make|python) .*)$", re.MULTILINE)
COMMAND = re.compile(r"(?:cd (?P<folder>[\w/.-]+) && )?python (?P<program>-m \w+|[\w/.-]+\.py)(?P<words>[^#|;&)]*)")


def code(guide: Path) -> list[str]:
    """Return a guide's indented commands and its `spans`, each on one line."""
    text = re.sub(r"```.*?```", "", guide.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line.split("  ")[0] for line in TYPED_LINE.findall(text)]  # what follows says what it is for
    spans = re.findall(r"`([^`]+)`", TYPED_LINE.sub("", text))
    return [" ".join(piece.split()) for piece in lines + spans]


def typed() -> dict[str, tuple[set[str], set[str]]]:
    """Return each program that is called, with its subcommand, and the options and other words that it is given."""
    given: dict[str, tuple[set[str], set[str]]] = {}
    for found in (found for guide in GUIDES for piece in code(guide) for found in COMMAND.finditer(piece)):
        program, words = found["program"], found["words"].split()
        if program == "solve.py":  # without a folder it stands for any
            program = f"{found['folder'] or 'voc-fcn32s'}/solve.py"
        if words and (program.startswith("-m") or program == "analyze.py"):
            program = f"{program} {words.pop(0)}"
        options = {word for word in words if word.startswith("--")}
        known = given.setdefault(program, (set(), set()))
        known[0].update(options)
        known[1].update(set(words) - options)
    return given


@pytest.mark.parametrize("program", sorted(typed()))
def test_a_command_that_a_guide_names_is_one(program):
    asked = forked.run(*program.split(), "--help", cwd=ROOT)
    assert asked.returncode == 0, asked.stderr
    strange = typed()[program][0] - set(re.findall(r"--[a-z-]+", asked.stdout))
    assert not strange, f"{program} does not know {', '.join(sorted(strange))}"


def test_what_a_guide_fetches_is_in_the_catalogue():
    names = typed()["-m datasets fetch"][1]
    assert {"voc2011", "sbd", "vgg16"} <= names <= set(CATALOGUE)


def test_every_make_target_that_a_guide_names_is_one():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {target for guide in GUIDES for piece in code(guide) for target in re.findall(r"^make ([\w-]+)", piece)}
    assert {"demo", "test"} <= named
    assert named - {"shapes"} <= targets  # `make shapes` is python -m datasets'


def test_what_contributing_names_is_there():
    text = re.sub(r"```.*?```", "", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    named = {span for span in re.findall(r"`([^`\s]+/[^`\s]*)`", text) if "*" not in span}
    assert {"src/caffe/layer_types/", "src/caffe/kernels/", "nets/experiments.py"} <= named
    missing = sorted(path for path in named if not (ROOT / path).exists() and not (ROOT / "src/caffe" / path).exists())
    assert not missing


def test_the_house_that_contributing_draws_has_every_package_of_the_root():
    house = re.search(r"^```\ntrain\.py.*?^```$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M | re.S)
    assert house
    missing = {path.parent.name for path in ROOT.glob("*/__init__.py")} - set(re.findall(r"(\w+)/", house[0]))
    assert not missing, f"CONTRIBUTING.md does not draw {', '.join(sorted(missing))}"
