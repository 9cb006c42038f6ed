"""``python -m nets``: write the prototxts, or with --check say which are not what would be written."""

from __future__ import annotations

import argparse
import sys

from nets.experiments import EXPERIMENTS, ROOT, outdated, write


def main() -> int:
    """Do what the command line asks; the exit status is 1 if --check finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m nets", description="Write the experiments' prototxts.")
    parser.add_argument("name", nargs="*", help=f"experiments (default: all of them): {', '.join(EXPERIMENTS)}")
    parser.add_argument("--check", action="store_true", help="write nothing; list the files that differ")
    options = parser.parse_args()
    unknown = [name for name in options.name if name not in EXPERIMENTS]
    if unknown:
        parser.error(f"no experiment is called {unknown[0]!r}; there are {', '.join(EXPERIMENTS)}")

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
