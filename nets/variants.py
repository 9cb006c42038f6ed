"""What the solve.py of a folder of variants does: find the one asked for, write its files, and say how it is trained.

cd voc-fcn-ablations && python solve.py                     the variants
cd voc-fcn-ablations && python solve.py sigmoid --gpu 0     train one; the options are train.run's
"""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format

import surgery
from caffe.proto import caffe_pb2
from nets.convolutionalize import BASES
from nets.experiments import ROOT, VARIANTS, evaluation_split, lookup, outdated, write
from nets.recipes import Variant

# Of the base nets: the file, and how to come by it.
BASE_NETS = {
    name: (base.out, f"python -m datasets fetch {base.fetch} && python -m nets convolutionalize {name}")
    for name, base in BASES.items()
} | {"googlenet": ("bvlc_googlenet.caffemodel", "python -m datasets fetch googlenet")}


def chosen(script: str, manual: str | None, argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The arguments of train.run for the variant that the command line names; its prototxts are written.

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
    name, variant = f"{here.name}/{own}", variants[own]
    try:
        if outdated(name):
            write(name)
    except OSError as error:
        raise SystemExit(f"The prototxts of {name} cannot be written: {error}") from None
    files = [weights_file(source) for source in variant.starts_from]
    return {
        "script": script,
        "manual": f"{name}: {variant.about}.",
        "start": start_of(variant),
        "weights": tuple(file for file, _ in files) or None,
        "obtain": "; ".join(obtain for _, obtain in files),
        "split": evaluation_split(name),
        "score_every": (variant.solver or {})["snapshot"],
        "folder": ROOT / name,
        "argv": options,
    }


def listed(variants: dict[str, Variant]) -> str:
    """The variants, one a line: the name, and what it is about."""
    width = max(map(len, variants), default=0)
    return "\n".join(f"{own:{width}}  {variant.about}" for own, variant in variants.items())


def start_of(variant: Variant) -> Callable[..., None]:
    """What fills a variant's net: `start` of the experiment that it varies, or without weights the interpolation."""
    if not variant.starts_from:
        return interpolate
    path = ROOT / str(variant.of) / "solve.py"
    spec = importlib.util.spec_from_file_location(f"{variant.of}/solve", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    start: Callable[..., None] = module.start
    return start


def interpolate(net: Any) -> None:
    """Make the upsampling bilinear; the prototxt's fillers have done the rest."""
    surgery.interp(net, [layer for layer in net.params if "up" in layer])


def weights_file(source: str) -> tuple[str, str]:
    """Where the weights of a base net or an experiment are, from a variant's folder, and how to come by them."""
    if source in BASE_NETS:
        file, obtain = BASE_NETS[source]
        return f"../../data/ilsvrc-nets/{file}", f"{obtain}, in the repository"
    experiment = lookup(source)
    if experiment.solver is None:
        text = (ROOT / source / "solver.prototxt").read_text(encoding="utf-8")
        solver = text_format.Parse(text, caffe_pb2.SolverParameter())
        obtain = f"cd {ROOT / source} && python solve.py"
    else:
        solver = caffe_pb2.SolverParameter(**experiment.solver)
        folder, own = source.split("/")
        obtain = f"cd {ROOT / folder} && python solve.py {own}"
    return f"../../{source}/{solver.snapshot_prefix}_iter_{solver.max_iter}.caffemodel", obtain
