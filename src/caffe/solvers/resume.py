"""What Caffe's .solverstate leaves out, in a file beside it: random states, and where the data layers are.

With it a resumed run equals one that was never stopped, bit by bit, on the same device and number of threads; without
it, as after BVLC Caffe, random numbers and data layers start anew. A Python layer takes part if its class has
`state()`, which returns what JSON can hold, and `set_state(state)`.

Where several solvers train together, the file holds the position of each, and serves as many solvers again.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import torch

from .. import glog, rng
from ..errors import FileFormatError
from ..formats.atomic import atomic_path
from ..net import Net
from ..world import solver_count, solver_rank

Position: TypeAlias = dict[str, Any]  # what JSON holds: "random" by device, "layers" by net and layer


def beside(state_file: str) -> str:
    """Return the name of the file that belongs to a .solverstate or .solverstate.h5."""
    return f"{state_file.removesuffix('.h5').removesuffix('.solverstate')}.resume.json"


def position(nets: Sequence[Net]) -> Position:
    """Return this process's random states and data positions; `nets` are the train net and the test nets."""
    return {
        "random": {where: base64.b64encode(bytes(state.tolist())).decode() for where, state in rng.get_state().items()},
        "layers": {name: source.state() for name, source in _sources(nets)},
    }


def write(state_file: str, iteration: int, positions: Sequence[Position]) -> None:
    """Write the file that belongs to a state, whole or not at all; `positions` are the solvers', by rank."""
    content: dict[str, Any] = {"iteration": iteration, **positions[0]}
    if len(positions) > 1:
        content["others"] = list(positions[1:])
    with atomic_path(beside(state_file)) as path, open(path, "w", encoding="utf-8") as file:
        json.dump(content, file)


def read(state_file: str, iteration: int) -> Position | None:
    """Return this rank's position from the file that belongs to a state; None if it has none for that iteration.

    A file that was written by another number of solvers has none either, and a warning says so.
    Raises FileFormatError if the file is damaged.
    """
    path = beside(state_file)
    if not os.path.exists(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        positions: list[Position] = [content, *content.get("others", [])]
        for one in positions:
            for state in one["random"].values():
                base64.b64decode(state)
            dict(one["layers"])
        same = content["iteration"] == iteration
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileFormatError(
            f"{path} is damaged ({error}). Without it the run goes on with new random numbers and its data from the "
            "start: remove the file to do that."
        ) from error
    if not same:
        glog.warning(f"{path} belongs to another snapshot and is not used.")
        return None
    if len(positions) != solver_count():
        glog.warning(
            f"{path} holds the random states and data positions of {len(positions)} solver(s), and {solver_count()} "
            "train now: it is not used, and random numbers and data start anew."
        )
        return None
    return positions[solver_rank()]


def go_to(found: Position, nets: Sequence[Net]) -> None:
    """Put random states and data layers to a position that `read` returned."""
    rng.set_state(
        {
            where: torch.tensor(list(base64.b64decode(state)), dtype=torch.uint8)
            for where, state in found["random"].items()
        }
    )
    for name, source in _sources(nets):
        if name in found["layers"]:
            source.set_state(found["layers"][name])


def _sources(nets: Sequence[Net]) -> Iterator[tuple[str, Any]]:
    """Yield what has a position in its data, with a name for it: the layer, or what runs it ahead."""
    for number, net in enumerate(nets):
        for name, source in net.data_sources():
            yield f"{'train' if number == 0 else f'test {number - 1}'}: {name}", source
