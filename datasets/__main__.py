"""The data tool's command line: ``python -m datasets make shapes``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from datasets import DatasetError, shapes

# The generated sets by name. Each module has add_arguments(parser), and run(arguments) -> what to print.
GENERATED = {"shapes": shapes}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, or with the reason on stderr 1, 2 (a bad
    option) or 130 (interrupted)."""
    parser = argparse.ArgumentParser(prog="python -m datasets", description="Datasets for the experiments.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    make = commands.add_parser("make", help="generate a dataset: no download, the same files for the same seed")
    names = make.add_subparsers(metavar="NAME", required=True)
    for name, module in GENERATED.items():
        described = (module.__doc__ or "").partition("\n")[0]
        one = names.add_parser(
            name,
            help=described,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(one)
        one.set_defaults(run=module.run)

    arguments = parser.parse_args(argv)
    try:
        print(arguments.run(arguments))
    except DatasetError as error:
        print(f"python -m datasets: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("python -m datasets: interrupted. The same command does it from the start.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
