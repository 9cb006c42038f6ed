"""The papers' tables: every published row, what was measured for it here, and the command that produces it.

    python paper.py                      all tables; python paper.py pami3 cvpr1, or pami3/8s: only those
    python paper.py --json               the same, for programs
    python paper.py --write              refresh the tables in RESULTS.md
    python paper.py reproduce pami3/8s   fetch, train and score all that a row or a table takes (published/reproduce.py)
    python paper.py record pami4/8s mean_iu_2012=67.2        note what the VOC server said, or a time that you took

"publ." is the papers' number, "here" what was measured: published/measurements.py says which result file counts. A row
without one has "-", until its commands are run.
--committed reads only measured/, the result files that come with the repository; the tables in RESULTS.md, as
committed, are what `python paper.py --write --committed` makes. Without it your own results are in them, too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from files.writing import write_text
from nets.experiments import lookup
from nets.folders import ROOT
from published import TABLES, Column, Row, Table, reproduce
from published.measurements import Measured, Measurements, Part, record, rows_of

WIDTH = 120
RESULTS = ROOT / "RESULTS.md"
BEGIN = "<!-- The tables below are written by `python paper.py --write`. -->"
END = "<!-- The end of what `python paper.py --write` writes. -->"

_SUBHEADS = ("publ.", "here", "diff")
LEGEND = (
    "publ.: the number in the paper; here: what was measured with this repository, - where nothing was; diff: the "
    "second less the first. In per cent, unless a heading says otherwise."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status: 0, 1 with the reason on stderr, 130 if interrupted, or a step's own."""
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        if argv[:1] == ["reproduce"]:
            return reproduce.main(argv[1:], show=lambda name: _print_tables([name], Measurements()))
        if argv[:1] == ["record"]:
            return _record(argv[1:])
        return _list(argv[1:] if argv[:1] == ["list"] else argv)
    except BrokenPipeError:  # the reader has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or else Python complains once more at its end
        return 1
    except (OSError, ValueError, RuntimeError) as error:
        print(f"paper.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _list(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="paper.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="*", metavar="TABLE", help="tables, or rows as TABLE/ROW (default: all)")
    parser.add_argument("--committed", action="store_true", help="read only the result files in measured/")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--write", action="store_true", help="refresh the tables in RESULTS.md")
    options = parser.parse_args(argv)
    if options.write and options.name:
        raise ValueError("--write refreshes all tables: name none.")
    rows_of(options.name)  # A wrong name is said before files are looked for.
    measurements = Measurements(committed_only=options.committed)
    if options.write:
        print("RESULTS.md is refreshed." if refresh(RESULTS, measurements) else "RESULTS.md is as it should be.")
    elif options.json:
        found = rows_of(options.name)
        rows = [as_json(table, row, measurements.of(table, row)) for table, rows in found for row in rows]
        print(json.dumps(rows), flush=True)
    else:
        _print_tables(options.name, measurements)
        if not options.name:
            print("\n".join(["", "", *_wrapped("", f"Tables: {', '.join(TABLES)}."), "", *_GUIDE]), flush=True)
    return 0


def _print_tables(names: Sequence[str], measurements: Measurements) -> None:
    print("\n".join(_wrapped("", LEGEND)))
    for table, rows in rows_of(names):
        print(f"\n\n{as_text(table, rows, measurements)}", flush=True)


def _record(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="paper.py record", description="Note numbers that no program here measures.")
    parser.add_argument("row", metavar="TABLE/ROW")
    parser.add_argument("values", nargs="+", metavar="COLUMN=NUMBER", help="such as mean_iu_2012=67.2")
    parser.add_argument("--note", default="", help="where the numbers are from")
    options = parser.parse_args(argv)
    values = {}
    for text in options.values:
        key, _, number = text.partition("=")
        try:
            values[key] = float(number)
        except ValueError:
            raise ValueError(f"'{text}' is no COLUMN=NUMBER, such as mean_iu_2012=67.2.") from None
    print(f"Noted in {record(options.row, values, note=options.note)}.")
    return 0


_GUIDE = (
    "  python paper.py pami3                            one table; pami3/8s: one row; --json for programs",
    "  python paper.py reproduce pami3/8s --gpu 0       fetch, train and score; stopped, the same command goes on",
    "  python paper.py reproduce pami3/8s --dry-run     only print the steps",
    "  python paper.py reproduce pami3/8s --rehearse    all of it in miniature, on generated data, in minutes",
    "  python paper.py --write                          put what was measured into RESULTS.md",
)


# What a row comes to


def difference(column: Column, row: Row, measured: Measured) -> float | None:
    """Return measured less published; None where one of them is missing."""
    if column.key not in row.published or column.key not in measured.values:
        return None
    return measured.values[column.key] - row.published[column.key]


def remarks(table: Table, row: Row, measured: Measured) -> list[str]:
    """Return what has to be said of a row's numbers, in sentences or less."""
    said = [row.note] if row.note else []
    if measured.iteration is not None and not row.released:
        trained = lookup(row.experiment).iterations
        if measured.iteration < trained:
            said.append(f"Here at iteration {measured.iteration:,} of {trained:,}.")
    return said + ([partly(table, row, measured.part)] if measured.part is not None else [])


def partly(table: Table, row: Row, part: Part) -> str:
    """Return in a sentence what was measured on a part of a row's images, and on how many."""
    assert row.split is not None
    of_all = "" if row.released else f" of {lookup(row.experiment).iterations:,}"
    trained = f" at iteration {part.iteration:,}{of_all}" if part.iteration else ""
    values = [
        f"{column.heading} {_number(column, part.values[column.key])}"
        for column in table.columns
        if column.key in part.values
    ]
    return (
        f"Here only a part is measured: {part.images:,} of the {row.split.images:,} images{trained}, which have "
        f"{part.classes} of the {part.of_classes} classes: {', '.join(values)}."
    )


def as_json(table: Table, row: Row, measured: Measured) -> dict[str, Any]:
    """Return a row as JSON can hold it."""
    differences = {column.key: difference(column, row, measured) for column in table.columns}
    return {
        "table": table.name,
        "row": row.name,
        "label": row.label,
        "published": dict(row.published),
        "measured": measured.values,
        "difference": {key: value for key, value in differences.items() if value is not None},
        "units": {column.key: column.unit for column in table.columns},
        "quoted": row.quoted,
        "experiment": row.experiment or None,
        "split": row.split.name if row.split else None,
        "mask": row.mask,
        "commands": reproduce.commands(table, row),
        "reproduce": None if row.quoted else f"python paper.py reproduce {table.name}/{row.name}",
        "result": str(measured.result) if measured.result else None,
        "iteration": measured.iteration,
        "part": None if measured.part is None else {**asdict(measured.part), "result": str(measured.part.result)},
        "remarks": remarks(table, row, measured),
        "table_note": table.note,
    }


# As text


def as_text(table: Table, rows: Sequence[Row], measurements: Measurements) -> str:
    """Return a table for the terminal: numbers, then notes, then commands, in lines of WIDTH at most."""
    found = [measurements.of(table, row) for row in rows]
    lines = [f"{table.name}   {table.title}"]
    for block in _blocks(table, rows, found):
        lines += ["", *block]
    lines.append("")
    lines += _wrapped("", table.note)
    for row, measured in zip(rows, found, strict=True):
        lines += _wrapped(f"{row.name}: ", " ".join(remarks(table, row, measured)))
    quoted = [row.name for row in rows if row.quoted]
    if quoted:
        lines += _wrapped("quoted, nothing here produces it: ", ", ".join(quoted))
    lines += _commands(table, [row for row in rows if not row.quoted])
    return "\n".join(line.rstrip() for line in lines)


def _commands(table: Table, rows: Sequence[Row]) -> list[str]:
    """Return as lines how the rows' numbers are come by."""
    if not rows:
        return []
    all_alike = len(rows) > 1 and len({tuple(reproduce.commands(table, row)) for row in rows}) == 1
    wanted = table.name if all_alike else f"{table.name}/{rows[0].name if len(rows) == 1 else 'ROW'}"
    lines = [f"To produce it, from fetching to scoring: python paper.py reproduce {wanted}"]
    lines.append("By hand, with the data there:")
    width = len("all") if all_alike else max(len(row.name) for row in rows)
    for row in rows[:1] if all_alike else rows:
        for i, command in enumerate(reproduce.commands(table, row)):
            head, start = ("all" if all_alike else row.name, _start(row)) if i == 0 else ("", "")
            lines.append(f"  {head:<{width}}  {command}{start}")
    return lines


def _start(row: Row) -> str:
    """Return as a comment whose weights a row's training starts from; those of its own folder by their last name."""
    if row.released or not row.experiment:
        return ""
    folder = row.experiment.partition("/")[0]
    sources = [source.removeprefix(f"{folder}/") for source in lookup(row.experiment).starts_from]
    return f"  # from {', '.join(sources)}" if sources else ""


def _blocks(table: Table, rows: Sequence[Row], found: Sequence[Measured]) -> list[list[str]]:
    """Return the numbers as lines, in as many blocks of columns, one below the other, as WIDTH asks for."""
    label = [row.label for row in rows]
    edge = max(map(len, label))
    blocks: list[list[str]] = []
    for column in table.columns:
        group = _group(column, rows, found)
        if not blocks or len(blocks[-1][0]) + len(group[0]) > WIDTH:
            blocks.append([f"{text:<{edge}}" for text in ["", "", *label]])
        blocks[-1] = [line + part for line, part in zip(blocks[-1], group, strict=True)]
    return blocks


def _group(column: Column, rows: Sequence[Row], found: Sequence[Measured]) -> list[str]:
    """Return a column's lines: heading, subheadings, and of each row published, measured and difference."""
    cells = [_SUBHEADS]
    for row, measured in zip(rows, found, strict=True):
        less = difference(column, row, measured)
        published = _number(column, row.published.get(column.key))
        here = _number(column, measured.values.get(column.key))
        # Rounded, and a zero without its sign.
        cells.append(
            (published, here, "" if less is None else f"{round(less, column.digits) + 0.0:+.{column.digits}f}")
        )
    widths = [max(len(line[i]) for line in cells) for i in range(3)]
    lines = ["  " + " ".join(f"{text:>{w}}" for text, w in zip(line, widths, strict=True)) for line in cells]
    heading = f"{column.heading:>{len(lines[0])}}"
    return [heading, *(f"{line:>{len(heading)}}" for line in lines)]


def _number(column: Column, value: float | None) -> str:
    return "-" if value is None else f"{value:.{column.digits}f}"


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(head + text, WIDTH, subsequent_indent="  ", break_on_hyphens=False) if text else []


# As Markdown


def refresh(path: Path, measurements: Measurements) -> bool:
    """Write the tables between the two marks of a Markdown file; return whether that changed it.

    Raises ValueError where the file does not have the two marks, in their order.
    """
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} does not have the two lines that the tables go between:\n{BEGIN}\n{END}")
    renewed = f"{before}{BEGIN}\n\n{as_markdown(measurements)}\n{END}{after}"
    if renewed != text:
        write_text(path, renewed)
    return renewed != text


def as_markdown(measurements: Measurements) -> str:
    """Return all tables as Markdown."""
    return "\n".join(_markdown(table, rows, measurements) for table, rows in rows_of([]))


def _markdown(table: Table, rows: Sequence[Row], measurements: Measurements) -> str:
    found = [measurements.of(table, row) for row in rows]
    headings = [table.name, "", *(column.heading for column in table.columns), "experiment"]
    lines = [f"### {table.title}", "", *textwrap.wrap(table.note, WIDTH, break_on_hyphens=False)]
    lines += [""] if table.note else []
    lines += [_line(headings), _line(["---"] * len(headings))]
    for row, measured in zip(rows, found, strict=True):
        by = (
            f"`{row.experiment}`" if row.experiment else f"`analyze.py {row.analyses[0]}`" if row.analyses else "quoted"
        )
        cells = [_cell(column, row, measured) for column in table.columns]
        lines.append(_line([row.name, row.label, *cells, by]))
    notes = [
        "\n".join(_wrapped(f"* {row.name}: ", " ".join(remarks(table, row, measured))))
        for row, measured in zip(rows, found, strict=True)
        if remarks(table, row, measured)
    ]
    return "\n".join([*lines, *([""] if notes else []), *notes, ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |".replace("  ", " ")


def _cell(column: Column, row: Row, measured: Measured) -> str:
    """Return published and, in bold, measured; "" where there is neither."""
    published = row.published.get(column.key)
    here = measured.values.get(column.key)
    cells = [_number(column, published)] if published is not None or here is not None else []
    return " / ".join([*cells, *([f"**{_number(column, here)}**"] if here is not None else [])])


if __name__ == "__main__":
    sys.exit(main())
