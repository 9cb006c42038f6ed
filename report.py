"""One HTML file that shows how a training run went, light enough to mail; several runs side by side in one.

    python report.py snapshot/results/seg11valid_iter_100000.json --out report.html
    python report.py 32s/results/*_4800.json 16s/results/*_2000.json 8s/results/*_1600.json --out report.html

Curves of the loss and the scores, the four metrics, each class's IU, the confusion matrix, and images beside their
truth and prediction; a net's second head follows the first. Everything is inside the file: it loads nothing from
anywhere.

A result is a JSON file of score.py's form. Beside it train.py leaves what the curves and pictures are made of:

    RUN/results/SPLIT_iter_N.json    this and the run's earlier scorings
    RUN/log.csv                      the loss
    RUN/panels/ID.jpg ID.truth.png ID.prediction.png        of several heads, a folder each: panels/sem, panels/geo

Where that is missing, as it is for a result of score.py's own, the report leaves it out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from files.writing import replaced
from reporting.page import write
from reporting.pictures import figure


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report that the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="report.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT.json")
    parser.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE", help="(%(default)s)")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="the panels as one small PNG, too")
    parser.add_argument("--title", help="the page's title (default: the experiments' names)")
    options = parser.parse_args(argv)
    try:
        write(options.results, options.out, options.title)
        if options.picture:
            with replaced(options.picture) as partial:
                figure(options.results).save(partial, optimize=True)
    except (OSError, ValueError, ImportError) as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 1
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
