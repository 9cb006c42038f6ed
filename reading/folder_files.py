"""The images and labels of a user's own folder, found by the ids of a list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp")


def find_images(folder: Path, ids: Sequence[str], listed_in: Path) -> dict[str, Path]:
    """Return where each image of a list is: the one file in `folder` that is called ID.SUFFIX.

    An ID may name a folder in `folder`: a/1. listed_in: the list's file, for errors. Raises FileNotFoundError for
    images that are missing, and ValueError for ids that several files have.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    missing = [image_id for image_id in ids if image_id not in found]
    if missing:
        suffixed = [image_id for image_id in missing if Path(image_id).suffix.lower() in SUFFIXES]
        hint = " The list is of ids, which are names without a suffix." if suffixed else ""
        raise FileNotFoundError(
            f"{folder.resolve()} lacks {_some(missing)} of the {len(ids)} images that {listed_in} lists: expected "
            f"ID{', ID'.join(SUFFIXES)}.{hint}"
        )
    for image_id in ids:
        if len(found[image_id]) > 1:
            names = ", ".join(path.name for path in found[image_id])
            raise ValueError(f"{folder} has several images of the id {image_id}: {names}. Remove all but one.")
    return {image_id: found[image_id][0] for image_id in ids}


def find_labels(folder: Path, ids: Sequence[str], listed_in: Path) -> None:
    """Raise FileNotFoundError if an id of a list has no label ID.png in `folder`; listed_in: the list's file."""
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    missing = [image_id for image_id in ids if f"{image_id}.png" not in there]
    if missing:
        raise FileNotFoundError(
            f"{folder.resolve()} lacks the labels of {_some(missing)} of the {len(ids)} images that {listed_in} lists: "
            "expected ID.png, whose pixels are class indices."
        )


def _some(ids: Iterable[str]) -> str:
    """Return ids for a sentence, the first five in full."""
    names = list(ids)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
