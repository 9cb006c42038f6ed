"""What every action of the `caffe` command begins with: where its log goes, and the modules that add layer types."""

from __future__ import annotations

import getpass
import importlib
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ... import glog
from ...errors import CaffeError
from ..flags import Flags


def listed(text: str) -> list[str]:
    """Return the parts of a flag that may name several things, separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


@contextmanager
def following(flags: Flags) -> Iterator[None]:
    """Follow -minloglevel, -log_dir and -import, in a process of the command's own; the log file ends with the block.

    Raises CaffeError where the folder cannot be written to, ImportError where a module is not found.
    """
    if "minloglevel" in flags.given:
        glog.init_log(flags.minloglevel)
    file = _log_file(flags.log_dir) if flags.log_dir else None
    try:
        _import_modules(listed(flags.plugins))
        yield
    finally:
        if file is not None:
            glog.logger.removeHandler(file)
            file.close()


def _import_modules(names: list[str]) -> None:
    """Import modules from Python's path, or else from the folder that the command is run in."""
    if names and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise  # the module is there; something that it imports is not
            raise ImportError(
                f"-import names the module '{name}', which is neither on Python's path nor in {os.getcwd()}. "
                "Put its folder on PYTHONPATH."
            ) from error


def _log_file(folder: str) -> logging.Handler:
    """Have the log written to a new file too, of the name that glog gives it; caffe.INFO is a link to it."""
    now = time.strftime("%Y%m%d-%H%M%S")
    name = f"caffe.{socket.gethostname()}.{getpass.getuser()}.log.INFO.{now}.{os.getpid()}"
    try:
        os.makedirs(folder, exist_ok=True)
        handler = logging.FileHandler(os.path.join(folder, name), encoding="utf-8")
        _link(name, os.path.join(folder, "caffe.INFO"))
    except OSError as error:
        raise CaffeError(f"-log_dir: could not write a log in {folder}: {error.strerror}.") from error
    handler.setFormatter(glog.logger.handlers[0].formatter)
    glog.logger.addHandler(handler)
    return handler


def _link(name: str, link: str) -> None:
    """Let `link` lead to the newest log, whichever of several ranks is the last to say so."""
    if os.path.exists(link) and not os.path.islink(link):
        return  # somebody's own file
    with suppress(OSError):  # some systems allow no links; the log itself is there
        os.symlink(name, f"{link}.{os.getpid()}")
        os.replace(f"{link}.{os.getpid()}", link)
