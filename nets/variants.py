"""What the solve.py of a folder of variants does: find the one asked for, write its files, and say which it is.

cd voc-fcn-ablations && python solve.py                     the variants
cd voc-fcn-ablations && python solve.py sigmoid --gpu 0     train one; the options are train.run's
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nets.experiments import ROOT, VARIANTS, outdated, write
from nets.recipes import Variant


def chosen(script: str, manual: str | None, argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The arguments of train.run, but for ``start``, for the variant that the command line names; it is written.

    ``script`` is the folder's solve.py, ``manual`` its docstring. Without a variant, and with --list or --help,
    prints what there is and raises SystemExit; so does a name that is none.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    here = Path(script).resolve().parent
    variants = {name.split("/")[1]: one for name, one in VARIANTS.items() if name.split("/")[0] == here.name}
    if not argv or argv[0] in ("--list", "-h", "--help"):
        print(f"{(manual or '').strip()}\n\n{listed(variants)}")
        raise SystemExit
    own, *options = argv
    if own not in variants:
        near = difflib.get_close_matches(own, variants, 3) or list(variants)
        raise SystemExit(f"{here.name} has no variant '{own}'; there are {', '.join(near)}. --list says what they are.")
    name = f"{here.name}/{own}"
    try:
        if outdated(name):
            write(name)
    except OSError as error:
        raise SystemExit(f"The prototxts of {name} cannot be written: {error}") from None
    return {
        "script": script,
        "manual": f"{name}: {variants[own].about}.",
        "folder": ROOT / name,
        "argv": options,
    }


def listed(variants: dict[str, Variant]) -> str:
    """The variants, one a line: the name, and what it is about."""
    width = max(map(len, variants), default=0)
    return "\n".join(f"{own:{width}}  {variant.about}" for own, variant in variants.items())
