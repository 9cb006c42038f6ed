"""The images and labels of a user's own folder, found by the ids of a list."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp")
LABEL_SUFFIXES = (".png",)


def files_by_id(folder: Path, suffixes: Collection[str]) -> dict[str, list[Path]]:
    """Return the files in `folder`, and in the folders in it, that are called ID.SUFFIX, by their ids: a, b/1.

    Suffixes count in capitals too. Hidden files and folders, which systems and editors leave (._a.png), do not.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        within = path.relative_to(folder)
        if path.suffix.lower() in suffixes and not any(part.startswith(".") for part in within.parts):
            found.setdefault(within.with_suffix("").as_posix(), []).append(path)
    return found


def find_images(folder: Path, ids: Sequence[str], listed_in: Path) -> dict[str, Path]:
    """Return where each image of a list is: the one file in `folder` that is called ID.SUFFIX.

    An ID may name a folder in `folder`: a/1. listed_in: the list's file, for errors. Raises FileNotFoundError for
    images that are missing, and ValueError for ids that several files have.
    """
    found = files_by_id(folder, SUFFIXES)
    missing = [image_id for image_id in ids if image_id not in found]
    if missing:
        suffixed = [image_id for image_id in missing if Path(image_id).suffix.lower() in SUFFIXES]
        hint = " The list is of ids, which are names without a suffix." if suffixed else ""
        raise FileNotFoundError(
            f"{folder.resolve()} lacks {some(missing)} of the {len(ids)} images that {listed_in} lists: expected "
            f"ID{', ID'.join(SUFFIXES)}.{hint}"
        )
    return _only(found, ids, folder, "images")


def find_labels(folder: Path, ids: Sequence[str], listed_in: Path) -> dict[str, Path]:
    """Return where each image's label is: the one file in `folder` that is called ID.png.

    Raises FileNotFoundError and ValueError as find_images does.
    """
    found = files_by_id(folder, LABEL_SUFFIXES)
    missing = [image_id for image_id in ids if image_id not in found]
    if missing:
        raise FileNotFoundError(
            f"{folder.resolve()} lacks the labels of {some(missing)} of the {len(ids)} images that {listed_in} lists: "
            "expected ID.png, whose pixels are class indices."
        )
    return _only(found, ids, folder, "labels")


def _only(found: dict[str, list[Path]], ids: Sequence[str], folder: Path, kind: str) -> dict[str, Path]:
    """Return the one file that each id has; raise ValueError for an id that several files have."""
    for image_id in ids:
        if len(found[image_id]) > 1:
            names = ", ".join(path.name for path in found[image_id])
            raise ValueError(f"{folder} has several {kind} of the id {image_id}: {names}. Remove all but one.")
    return {image_id: found[image_id][0] for image_id in ids}


def some(ids: Iterable[str]) -> str:
    """Return ids for a sentence, the first five in full."""
    names = list(ids)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
