"""The data tool's command line: ``python -m datasets fetch | verify | status | splits | make | hha``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from datasets import DatasetError, fetch, hha, shapes, splits, status, verify

# The generated sets by name. Each module has add_arguments(parser), and run(arguments) -> what to print.
GENERATED = {"shapes": shapes}

# The other commands, modules with the same two functions, and what each is for.
COMMANDS = {
    "fetch": (fetch, "download datasets and weights, check and unpack them"),
    "verify": (verify, "check what is there: digests, files, splits"),
    "status": (status, "what is there, what is not, what it is for"),
    "splits": (splits, "write the splits that follow from the data, and count all"),
    "hha": (hha, "turn depth images into HHA images"),
}

# What an interrupt leaves behind.
_KEPT = "What has been downloaded is kept: the same command goes on from there."
_FROM_START = "The same command does it from the start."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, or with the reason on stderr 1, 2 (a bad
    option) or 130 (interrupted)."""
    parser = argparse.ArgumentParser(prog="python -m datasets", description="Datasets for the experiments.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    for name, (module, described) in COMMANDS.items():
        _add(commands, name, module, described, _KEPT if name == "fetch" else _FROM_START)
    make = commands.add_parser("make", help="generate a dataset: no download, the same files for the same seed")
    names = make.add_subparsers(metavar="NAME", required=True)
    for name, module in GENERATED.items():
        _add(names, name, module, (module.__doc__ or "").partition("\n")[0], _FROM_START)

    arguments = parser.parse_args(argv)
    try:
        print(arguments.run(arguments), flush=True)
    except DatasetError as error:
        print(f"python -m datasets: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever reads this, such as `head`, has enough; at exit Python would write the rest once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename is not None else ""
        print(f"python -m datasets: {place}{error.strerror or error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"python -m datasets: interrupted. {arguments.interrupted}", file=sys.stderr)
        return 130
    return 0


def _add(commands: argparse._SubParsersAction, name: str, module: ModuleType, described: str, interrupted: str) -> None:  # type: ignore[type-arg]
    """Add the command of a module."""
    one = commands.add_parser(
        name,
        help=described,
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(one)
    one.set_defaults(run=module.run, interrupted=interrupted)


if __name__ == "__main__":
    sys.exit(main())
