"""The version is pyproject.toml's; what cannot be derived from it says the same, and Caffe's own is written once."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
VERSION = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]


def test_the_citation_is_of_this_version():
    stated = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert stated and stated[1] == VERSION


def sections() -> list[tuple[str, str]]:
    """Return the changelog's sections: what the heading says, and the text."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def test_the_changelog_has_a_section_a_release_newest_first():
    headings = [heading for heading, _ in sections()]
    assert headings[0] == "[Unreleased]"
    dated = [re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - \d{4}-\d\d-\d\d", heading) for heading in headings[1:]]
    assert all(dated), headings
    versions = [tuple(map(int, found.groups())) for found in dated if found]
    assert versions == sorted(versions, reverse=True)
    assert len(set(versions)) == len(versions)


def test_the_changelog_knows_this_version():
    """Either it is released, or what is unreleased says that it will be."""
    released = any(heading.startswith(f"[{VERSION}] - ") for heading, _ in sections())
    assert released or f"To be {VERSION}" in sections()[0][1]


@pytest.mark.parametrize("path", sorted(ROOT.glob("src/**/*.py")), ids=lambda path: path.name)
def test_no_module_writes_a_version_of_its_own(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    targets = [target for node in ast.walk(tree) if isinstance(node, ast.Assign) for target in node.targets]
    written = {target.id for target in targets if isinstance(target, ast.Name)}
    assert "__version__" not in written or path.name == "_caffe.py"


def test_the_pythons_that_are_promised_are_those_that_are_tested():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    promised = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)
    workflow = (ROOT / ".github" / "workflows" / "checks.yml").read_text(encoding="utf-8")
    matrix = re.search(r"^ +python: \[(.+)\]$", workflow, re.MULTILINE)
    assert matrix and re.findall(r'"([\d.]+)"', matrix[1]) == promised
    assert f'requires-python = ">={promised[0]}"' in text
