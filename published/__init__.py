"""Every number that the two FCN papers publish, row by row, with the experiment that gives it.

The papers: *Fully Convolutional Networks for Semantic Segmentation*, CVPR 2015 (arXiv 1411.4038: version 2, the
camera-ready paper, and the authors' later copy), and TPAMI 39(4), 2017 (arXiv 1605.06211).

`definition` says what a row is; `cvpr`, `pami` and `text` hold the rows; `measurements` sets result files beside them,
and `reproduce` lists the steps that a row takes, and does them.
"""

from __future__ import annotations

import difflib

from published import cvpr, pami, text
from published.definition import Column, Row, Split, Table

__all__ = ["TABLES", "Column", "Row", "Split", "Table", "find"]

TABLES: dict[str, Table] = {table.name: table for table in (*cvpr.TABLES, *pami.TABLES, *text.TABLES)}


def find(name: str) -> list[tuple[Table, Row]]:
    """Return the rows of a table (pami3), or the one of a row (pami3/8s), each with its table.

    Raises ValueError with the near names where there is none such.
    """
    table, slash, row = name.partition("/")
    if table not in TABLES:
        near = difflib.get_close_matches(name, [*TABLES, *_row_names()], 3) or list(TABLES)
        raise ValueError(f"No table is called '{table}'; there are {', '.join(near)}.")
    rows = {one.name: one for one in TABLES[table].rows}
    if not slash:
        return [(TABLES[table], one) for one in rows.values()]
    if row not in rows:
        near = difflib.get_close_matches(row, rows, 3, 0.5) or list(rows)
        raise ValueError(f"{table} has no row '{row}'; it has {', '.join(near)}.")
    return [(TABLES[table], rows[row])]


def _row_names() -> list[str]:
    return [f"{table.name}/{row.name}" for table in TABLES.values() for row in table.rows]
