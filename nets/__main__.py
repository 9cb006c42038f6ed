"""``python -m nets``: write the prototxts, or with --check say which are not what would be written.

A first word that is a command's name is done by that command's module.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nets import convolutionalize, new
from nets.experiments import EXPERIMENTS, ROOT, lookup, outdated, write

COMMANDS = {"convolutionalize": convolutionalize.main, "new": new.main}


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks; the exit status is 1 if --check finds a difference."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in COMMANDS:
        return COMMANDS[argv[0]](argv[1:])
    parser = argparse.ArgumentParser(
        prog="python -m nets",
        description="Write the experiments' prototxts.",
        epilog="\n".join(
            [
                f"Other commands, each with a --help of its own: {', '.join(COMMANDS)}.",
                "",
                "The experiments:",
                *EXPERIMENTS,
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="*", help="experiments, or variants (default: all experiments)")
    parser.add_argument("--check", action="store_true", help="write nothing; list the files that differ")
    options = parser.parse_args(argv)
    for name in options.name:
        try:
            lookup(name)
        except ValueError as error:
            parser.error(str(error))

    differ = False
    for name in options.name or EXPERIMENTS:
        for path in outdated(name) if options.check else write(name):
            print(f"{path.relative_to(ROOT)}{' is not what nets/ writes' if options.check else ''}")
            differ = options.check
    if differ:
        print("`python -m nets` writes them anew.")
    return int(differ)


if __name__ == "__main__":
    sys.exit(main())
