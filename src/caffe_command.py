"""The entry of the `caffe` command: runs the engine's, unless Python finds another `caffe` in its place.

It is a module of its own so that it can say so: another `caffe`, such as BVLC Caffe on PYTHONPATH or the empty package
of that name on PyPI, has no command to import.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path


def main() -> int:
    """Run the command and return its exit code."""
    problem = _what_is_wrong()
    if problem:
        print(f"caffe: {problem}", file=sys.stderr)
        return 1
    import caffe.tools.cli  # noqa: PLC0415  only now is it known to be there

    return caffe.tools.cli.main()


def _what_is_wrong() -> str | None:
    """Return why the `caffe` that Python imports cannot be run here, or None if it is the engine."""
    found = importlib.util.find_spec("caffe")
    if found is None:
        return f"Python finds no module caffe. Install this command's engine again: {_INSTALL}."
    if found.origin is None:
        folders = ", ".join(map(str, found.submodule_search_locations or []))
        return (
            f"Python's `import caffe` finds {folders}, a folder without an __init__.py, and no module. Run the command "
            f"from another folder, or install its engine again: {_INSTALL}."
        )
    folder = Path(found.origin).parent
    if not (folder / "tools" / "cli.py").is_file():
        return (
            f"Python's `import caffe` finds {found.origin}, which is another caffe than the engine of this command. "
            f"{_way_on(folder)} To use that other caffe, run its own programs."
        )
    import caffe  # noqa: PLC0415

    if not hasattr(caffe, "CaffeError"):
        return (
            f"{found.origin} is of another package that was installed over this command's engine. "
            f"Remove it, then repair: pip uninstall caffe; {_INSTALL}."
        )
    return None


_INSTALL = "pip install --force-reinstall --no-deps pycaffe-on-torch"


def _way_on(folder: Path) -> str:
    """Say how Python is made to find the engine instead of the package in `folder`."""
    for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        if entry and Path(entry).resolve() == folder.parent.resolve():
            return f"Take {entry} out of PYTHONPATH to run this one."
    if folder.parent.resolve() == Path.cwd().resolve():
        return "Run the command from another folder to run this one."
    return f"Remove it (pip uninstall caffe) and repair this one: {_INSTALL}."


if __name__ == "__main__":
    sys.exit(main())
