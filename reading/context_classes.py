"""PASCAL-Context's lists of class names, and the table from its 459 labels to the classes of a task.

The lists are text files with a class a line, its number before its name:

    1: aeroplane
    2: bicycle

labels.txt numbers the 459 names of the annotations. A task's list names the classes that are learned, in the order
of the net's outputs, where everything else is class 0, the background: 59_labels.txt, which comes with the dataset, or
the user's own, such as 33_labels.txt.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from reading.image_files import read_lines

# What three of the 59 are called in labels.txt.
OTHER_NAMES = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}

SHIPPED = "59_labels.txt"


def read_names(path: Path) -> dict[int, str]:
    """Return a list's names by their numbers, in the order of the lines; blanks in a name do not count.

    Raises FileNotFoundError, and ValueError for lines of another form, numbers that do not rise, and names that
    come twice.
    """
    names: dict[int, str] = {}
    previous = -1
    for line in read_lines(path, "class names, such as '1: aeroplane'"):
        before, colon, name = line.partition(":")
        name = "".join(name.split())
        number = int(before) if before.strip().isdecimal() else -1
        if not colon or not name or number <= previous:
            raise ValueError(
                f"{path} has the line {line[:80]!r}: expected a number, higher than the line before it, a colon "
                "and a name, such as '1: aeroplane'."
            )
        if name in names.values():
            raise ValueError(f"{path} has the name {name!r} twice.")
        names[number] = name
        previous = number
    return names


def read_task(path: Path, all_names: dict[int, str], all_path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Return a task's class names, background first, and its table: at each label of the dataset, the class.

    path: the task's list; all_names: those of labels.txt, which is at all_path. The table is uint8 and 0 for whatever
    the task does not name. Raises FileNotFoundError, and ValueError for names that labels.txt does not have.
    """
    try:
        listed = read_names(path)
    except FileNotFoundError:
        if path.name == SHIPPED:
            raise
        raise FileNotFoundError(
            f"There is no {path.resolve()}, which is to name the classes of the task. The dataset does not come with a "
            "list of this name: write it, a class a line, in the order of the net's outputs, without the background: "
            f"'1: aeroplane', '2: bicycle', ...; the names are those of {all_path.name}."
        ) from None
    tasks = [name for number, name in listed.items() if number != 0 or name != "background"]
    if not 0 < len(tasks) < 255:
        raise ValueError(f"{path} names {len(tasks)} classes: expected 1 to 254, beside the background.")
    numbers = {name: number for number, name in all_names.items()}
    table = np.zeros(max(all_names) + 1, np.uint8)
    for index, name in enumerate(tasks, 1):
        known = name if name in numbers else OTHER_NAMES.get(name)
        if known not in numbers:
            raise ValueError(f"{path} names the class {name!r}, which {all_path} does not.")
        if table[numbers[known]]:
            raise ValueError(f"{path} names one class twice: {known!r} and {name!r} are the same.")
        table[numbers[known]] = index
    return ("background", *tasks), table
