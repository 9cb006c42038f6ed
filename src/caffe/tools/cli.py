"""The `caffe` command: its actions, its usage text, and how it ends (tools/caffe.cpp).

    caffe train -solver solver.prototxt -gpu 0

Errors are one line in the log's form and exit code 1; -traceback or CAFFE_TRACEBACK=1 shows where they arose.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .. import glog
from .._caffe import __version__
from ..errors import CaffeError, nearest
from .commands import gpus, images, nets
from .commands.setup import following
from .commands.train import train
from .commands.upgrade import upgrade
from .flags import EVERYWHERE, Flags, explain, parse

DISTRIBUTION = "pycaffe-on-torch"
_INTERRUPTED = 130  # what a shell says of a process that Ctrl-C ended
_BROKEN_PIPE = 141


@dataclass(frozen=True)
class Action:
    """One thing that the command does: its words (in brackets where they may be left out) and its flags."""

    run: Callable[..., None]
    summary: str
    words: tuple[str, ...]
    flags: tuple[str, ...]


_NET_STATE = ("level", "stage", "gpu")
ACTIONS = {
    "train": Action(
        train,
        "train or finetune a model",
        (),
        ("solver", "weights", "snapshot", "iterations", *_NET_STATE, "sigint_effect", "sighup_effect"),
    ),
    "test": Action(nets.test, "score a model", (), ("model", "weights", "iterations", *_NET_STATE)),
    "time": Action(nets.time, "benchmark model execution time", (), ("model", "iterations", "phase", *_NET_STATE)),
    "device_query": Action(gpus.query, "show GPU diagnostic information", (), ("gpu",)),
    "upgrade": Action(upgrade, "rewrite an old net, solver or weights in today's form", ("OLD", "NEW"), ()),
    "draw": Action(
        nets.draw,
        "draw a net as .png, .svg, .pdf or .dot",
        ("NET", "PICTURE"),
        ("model", "rankdir", "phase", "display_lrm"),
    ),
    "convert": Action(
        images.convert,
        "make a database of a list of images",
        ("FOLDER", "LIST", "DATABASE"),
        ("gray", "shuffle", "seed", "backend", "resize_width", "resize_height", "check_size", "encoded", "encode_type"),
    ),
    "mean": Action(images.mean, "compute the mean image of a database", ("DATABASE", "[MEAN]"), ("backend",)),
    "summary": Action(
        nets.summary,
        "list a net's layers, shapes, parameters and work",
        ("NET",),
        ("model", "phase", "shape"),
    ),
    "export": Action(
        nets.export,
        "write a net as .onnx, or weights as .safetensors",
        ("[NET]", "WEIGHTS", "OUT"),
        ("model", "weights"),
    ),
}
# The words that a flag may be given for, as for Caffe's own actions.
_STANDS_FOR = {"NET": "model", "WEIGHTS": "weights"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command on its arguments (default: the process's), and return its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    flags = Flags(traceback=any(a.lstrip("-") == "traceback" for a in given))  # until they are parsed
    try:
        words, flags = parse(given)
        _run(words, flags)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        _report("Interrupted.", flags)
        return _INTERRUPTED
    except (CaffeError, ImportError, OSError) as error:
        _report(str(error), flags)
        return 1
    return 0


def usage(name: str | None = None) -> str:
    """Return the usage text of the command, or of one action."""
    if name is None:
        lines = ["command line brew", "usage: caffe <command> <args>", "", "commands:"]
        lines += [f"  {action:<16}{ACTIONS[action].summary}" for action in ACTIONS]
        return "\n".join([*lines, "", "caffe help <command> explains one of them, with its flags."])
    action = ACTIONS[name]
    lines = [" ".join(["usage: caffe", name, *action.words, "[flags]"]), f"  {action.summary}", ""]
    lines += ["flags, as -flag value or --flag=value; booleans as -flag or -noflag:"]
    return "\n".join([*lines, *map(explain, action.flags), "", "flags of every command:", *map(explain, EVERYWHERE)])


def _run(words: list[str], flags: Flags) -> None:
    if flags.version:
        print(_version())
        return
    asks_for_help = flags.help or words[:1] == ["help"]
    words = words[1:] if words[:1] == ["help"] else words
    if not words:
        print(usage())
        return
    name, *rest = words
    if name not in ACTIONS:
        close = nearest(name, ACTIONS)
        hint = f"; did you mean {close}?" if close else "."
        raise CaffeError(f"Unknown action: {name}{hint} The actions are {', '.join(ACTIONS)}.")
    if asks_for_help:
        print(usage(name))
        return
    action = ACTIONS[name]
    files = _files(name, action, rest, flags)
    for flag in sorted(flags.given.difference(action.flags, EVERYWHERE)):
        glog.warning(f"-{flag} has no effect on caffe {name}.")
    with following(flags):
        action.run(flags, *files)


def _files(name: str, action: Action, rest: list[str], flags: Flags) -> list[str]:
    """Return the words that an action gets, some of which may have been given as flags."""
    words = [(w.strip("[]"), w.startswith("[")) for w in action.words]
    by_flag = {w: getattr(flags, _STANDS_FOR[w]) for w, _ in words if _STANDS_FOR.get(w) in flags.given}
    open_words = [(w, optional) for w, optional in words if w not in by_flag]
    least = sum(not optional for _, optional in open_words)
    if not least <= len(rest) <= len(open_words):
        wanted = " ".join(action.words) or "no words, only flags"
        raise CaffeError(f"caffe {name} takes {wanted}, not {' '.join(rest) or 'nothing'}; see caffe help {name}.")
    spare = len(rest) - least  # how many of those that may be left out are there
    taken = []
    for word, optional in words:
        if word in by_flag:
            taken.append(by_flag[word])
        elif not optional or spare > 0:
            spare -= optional
            taken.append(rest.pop(0))
    return taken


def _version() -> str:
    try:
        own = importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        own = "(not installed)"
    return (
        f"caffe version {__version__}\n"
        f"{DISTRIBUTION} {own}, PyTorch {torch.__version__}, Python {platform.python_version()}"
    )


def _report(text: str, flags: Flags) -> None:
    """Log what ended the command, whatever the least level is that else is logged."""
    if flags.traceback or os.environ.get("CAFFE_TRACEBACK", "0") not in ("", "0"):
        traceback.print_exc()
    glog.logger.error("%s", text)
