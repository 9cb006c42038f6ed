"""The settings in a Python layer's param_str: a dict, read as a literal, never evaluated, and checked key by key.

SETTINGS = {"classes": Setting(is_count, "the number of classes"), "background": Setting(is_flag, "...", True)}
parse("{'classes': 21}", SETTINGS)      # {"classes": 21, "background": True}
"""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# The default of a key that has none: it must be there.
REQUIRED: Any = object()


@dataclass(frozen=True)
class Setting:
    """What a key may hold: a test of the value, what it has to be in words, and the default."""

    right: Callable[[Any], bool]
    kind: str
    default: Any = REQUIRED


def parse(text: str, settings: Mapping[str, Setting]) -> dict[str, Any]:
    """Return the settings in a param_str, checked, with the defaults filled in.

    Raises ValueError for what is no dict, and for keys that are missing, unknown or of a wrong kind.
    """
    required = [key for key, setting in settings.items() if setting.default is REQUIRED]
    try:
        given = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(
            f"param_str is not a Python literal ({error}): expected a dict, "
            f"{{{', '.join(f'{key!r}: ...' for key in required)}}}, found {text[:200]!r}."
        ) from None
    if not isinstance(given, dict):
        raise ValueError(f"param_str is a {type(given).__name__}, expected a dict: {text[:200]!r}.")
    legal = ", ".join(settings)
    for key in given:
        if key not in settings:
            near = difflib.get_close_matches(str(key), settings, 1)
            raise ValueError(
                f"param_str has the unknown key {key!r}{f'; did you mean {near[0]!r}?' if near else '.'} "
                f"The legal keys are {legal}."
            )
    missing = [key for key in required if key not in given]
    if missing:
        raise ValueError(
            f"param_str lacks {', '.join(map(repr, missing))}. The legal keys are {legal}; "
            f"{', '.join(required)} must be there."
        )
    values = {key: given.get(key, setting.default) for key, setting in settings.items()}
    for key, setting in settings.items():
        if key in given and not setting.right(given[key]):
            raise ValueError(f"param_str's {key!r} is {given[key]!r}, expected {setting.kind}.")
    return values


def is_name(value: object) -> bool:
    """Tell whether a value is text, and not empty."""
    return isinstance(value, str) and bool(value)


def is_flag(value: object) -> bool:
    """Tell whether a value is True or False, or 1 or 0."""
    return isinstance(value, int) and value in (0, 1)


def is_count(value: object) -> bool:
    """Tell whether a value is a whole number of 0 or more."""
    return type(value) is int and value >= 0


def is_seed(value: object) -> bool:
    """Tell whether a value can seed a generator: a whole number, or None for one that the system gives."""
    return value is None or type(value) is int


def is_number(value: object) -> bool:
    """Tell whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_color(value: object) -> bool:
    """Tell whether a value is three finite numbers."""
    return isinstance(value, (tuple, list)) and len(value) == 3 and all(map(is_number, value))
