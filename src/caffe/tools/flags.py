"""The command's flags, and how Google's gflags, which BVLC Caffe's tools use, reads a command line.

`-name value`, `-name=value` and the same with two dashes; a boolean is `-name`, `-noname` or `-name=false`. Flags may
stand before or after the words, and `--` ends them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ..errors import CaffeError, nearest

_YES, _NO = ("1", "t", "true", "y", "yes"), ("0", "f", "false", "n", "no")


def _flag(default: Any, meaning: str) -> Any:
    return dataclasses.field(default=default, metadata={"meaning": meaning})


@dataclasses.dataclass
class Flags:
    """Every flag's value; `given` names those that stood on the command line."""

    solver: str = _flag("", "the solver's prototxt")
    model: str = _flag("", "the net's prototxt")
    weights: str = _flag("", "weights to start from, several separated by commas; not together with -snapshot")
    snapshot: str = _flag("", "the .solverstate to go on from")
    gpu: str = _flag("", "compute on these GPUs: 0, or 0,1, or all; train divides the work among them")
    iterations: int = _flag(50, "how many iterations to run; train: instead of the solver's max_iter")
    phase: str = _flag("", "TRAIN or TEST")
    level: int = _flag(0, "the net's level, for layers with min_level or max_level")
    stage: str = _flag("", "the net's stages, separated by commas, for layers with stage or not_stage")
    sigint_effect: str = _flag("stop", "what Ctrl-C does: stop (with a snapshot), snapshot (and go on) or none")
    sighup_effect: str = _flag("snapshot", "what SIGHUP does: stop, snapshot or none")
    # Of this engine only:
    plugins: str = _flag("", "Python modules to import first, separated by commas: those that add layer types")
    rankdir: str = _flag("LR", "from data to loss: LR (left to right), TB (down) or BT (up)")
    display_lrm: bool = _flag(False, "show the learning rate multipliers")
    shape: str = _flag("", "other shapes for the inputs: data=1,3,224,224, several separated by semicolons")
    # Of convert_imageset and compute_image_mean:
    gray: bool = _flag(False, "read the images as gray ones")
    shuffle: bool = _flag(False, "shuffle the list")
    seed: int = _flag(-1, "the shuffle's seed; below 0 for another order each time")
    backend: str = _flag("lmdb", "the kind of database: lmdb or leveldb")
    resize_width: int = _flag(0, "resize the images to this width; 0 leaves them")
    resize_height: int = _flag(0, "resize the images to this height; 0 leaves them")
    check_size: bool = _flag(False, "insist that all images have one size")
    encoded: bool = _flag(False, "store the images compressed")
    encode_type: str = _flag("", "compress them as this: png, jpg, ...")
    # Of glog, and of every command:
    minloglevel: int = _flag(0, "log from 0 INFO, 1 WARNING, 2 ERROR or 3 FATAL on")
    log_dir: str = _flag("", "write the log to a file in this folder too")
    logtostderr: bool = _flag(True, "accepted and without effect: the log always goes to stderr")
    alsologtostderr: bool = _flag(True, "the same")
    traceback: bool = _flag(False, "show where in the program an error arose (or set CAFFE_TRACEBACK=1)")
    help: bool = _flag(False, "explain the command")
    version: bool = _flag(False, "tell the version")
    given: set[str] = dataclasses.field(default_factory=set)


# How a flag is written, where that is no name for a field.
_WRITTEN = {"plugins": "import"}
_FIELDS = {_WRITTEN.get(f.name, f.name): f for f in dataclasses.fields(Flags) if f.name != "given"}
_SHORT = {"h": "help", "helpshort": "help"}
EVERYWHERE = ("import", "minloglevel", "log_dir", "logtostderr", "alsologtostderr", "traceback", "help", "version")


def parse(arguments: Sequence[str]) -> tuple[list[str], Flags]:
    """Tell a command line's words from its flags. Raises CaffeError for an unknown flag and a value it cannot have."""
    words: list[str] = []
    flags = Flags()
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            words += rest
            break
        if not argument.startswith("-") or argument == "-":
            words.append(argument)
            continue
        name, equals, value = argument.removeprefix("-").removeprefix("-").partition("=")
        field, negated = _find(name)
        if field.type == "bool":
            value = "false" if negated else value if equals else "true"
        elif not equals:
            if not rest:
                raise CaffeError(f"flag '{argument}' is missing its argument: {field.metadata['meaning']}.")
            value = rest.pop(0)
        setattr(flags, field.name, _value(field, value))
        flags.given.add(_WRITTEN.get(field.name, field.name))
    return words, flags


def explain(name: str) -> str:
    """Return a flag's line in the usage text."""
    field = _FIELDS[name]
    default = f" [{field.default}]" if field.type != "bool" and field.default not in ("", -1) else ""
    return f"  -{name:<16}{field.metadata['meaning']}{default}"


def _find(written: str) -> tuple[dataclasses.Field[Any], bool]:
    """Return the flag of a name, and whether the name says no to it."""
    name = written.replace("-", "_")
    name = _SHORT.get(name, name)
    if name in _FIELDS:
        return _FIELDS[name], False
    plain = name.removeprefix("no")
    if plain != name and plain in _FIELDS and _FIELDS[plain].type == "bool":
        return _FIELDS[plain], True
    close = nearest(name, _FIELDS)
    raise CaffeError(f"unknown command line flag '{written}'" + (f"; did you mean -{close}?" if close else "."))


def _value(field: dataclasses.Field[Any], text: str) -> str | int | bool:
    if field.type == "int":
        try:
            return int(text, 0)
        except ValueError:
            raise CaffeError(f"illegal value '{text}' specified for the flag '{field.name}'; it is a number.") from None
    if field.type == "bool":
        if text.lower() not in (*_YES, *_NO):
            raise CaffeError(f"illegal value '{text}' specified for the flag '{field.name}'; it is true or false.")
        return text.lower() in _YES
    return text
