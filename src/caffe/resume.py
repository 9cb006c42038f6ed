"""What Caffe's .solverstate leaves out, in a file beside it: random states, and where the data layers are.

With it a resumed run equals one that was never stopped, bit by bit, on the same device and number of threads; without
it, as after BVLC Caffe, random numbers and data layers start anew. A Python layer takes part if its class has
`state()`, which returns what JSON can hold, and `set_state(state)`.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from . import glog, rng
from .errors import FileFormatError
from .net import Net
from .snapshot import atomic_path


def beside(state_file: str) -> str:
    """Return the name of the file that belongs to a .solverstate or .solverstate.h5."""
    return f"{state_file.removesuffix('.h5').removesuffix('.solverstate')}.resume.json"


def write(state_file: str, nets: Sequence[Net], iteration: int) -> None:
    """Write the file that belongs to a state, whole or not at all; `nets` are the train net and the test nets."""
    content = {
        "iteration": iteration,
        "random": {where: base64.b64encode(bytes(state.tolist())).decode() for where, state in rng.get_state().items()},
        "layers": {name: source.state() for name, source in _sources(nets)},
    }
    with atomic_path(beside(state_file)) as path, open(path, "w", encoding="utf-8") as file:
        json.dump(content, file)


def read(state_file: str, nets: Sequence[Net], iteration: int) -> bool:
    """Put random states and data layers back to what the file says; False if there is none for that iteration.

    Raises FileFormatError if the file is damaged.
    """
    path = beside(state_file)
    if not os.path.exists(path):
        return False
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        random = {
            where: torch.tensor(list(base64.b64decode(state)), dtype=torch.uint8)
            for where, state in content["random"].items()
        }
        layers: dict[str, Any] = content["layers"]
        same = content["iteration"] == iteration
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileFormatError(
            f"{path} is damaged ({error}). Without it the run goes on with new random numbers and its data from the "
            "start: remove the file to do that."
        ) from error
    if not same:
        glog.warning(f"{path} belongs to another snapshot and is not used.", "solver.cpp:476")
        return False
    rng.set_state(random)
    for name, source in _sources(nets):
        if name in layers:
            source.set_state(layers[name])
    return True


def _sources(nets: Sequence[Net]) -> Iterator[tuple[str, Any]]:
    """Yield what has a position in its data, with a name for it: the layer, or what runs it ahead."""
    for number, net in enumerate(nets):
        for name, source in net.data_sources():
            yield f"{'train' if number == 0 else f'test {number - 1}'}: {name}", source
