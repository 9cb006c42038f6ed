"""Which extents of a net's inputs are free: found by giving the net other sizes, and seeing what it accepts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ...errors import CaffeError
from ...net import Net
from ...tensor_layer import Shape

BATCH = "batch"
# What the axes from 2 on are called, by their number.
IMAGE: dict[int, tuple[str, ...]] = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}

# Other extents that are tried. The first is odd, so that windows do not fit; nets that need a multiple of some stride
# accept one of the others, and the largest changes the extents of every blob that depends on it.
GROWTHS: Sequence[Callable[[int], int]] = (lambda n: n + 13, lambda n: n + 32, lambda n: 2 * n, lambda n: 8 * n)
BATCH_GROWTHS: Sequence[Callable[[int], int]] = (lambda n: n + 1, lambda n: 2 * n)

Shapes = dict[str, Shape]
Place = tuple[str, int]  # an input and one of its axes


@dataclass
class Sizes:
    """A net's sizes: the names of free extents beside fixed ones, and examples of input shapes.

    The examples are the net's own shapes and, if any extent is free, others; with the bytes that the blobs then take.
    """

    inputs: dict[str, list[int | str]]
    outputs: dict[str, list[int | str]]
    examples: list[tuple[Shapes, int]]


@dataclass
class _Free:
    """Places whose extents are free together, and the sizes tried that the net accepts."""

    places: list[Place]
    names: dict[Place, str]
    accepted: list[Shapes] = field(default_factory=list)


def free_sizes(net: Net, fixed_image: bool = False) -> Sizes:
    """Find the free extents of a net's inputs, and name them; `fixed_image` keeps all but the batch as they are.

    An extent is free if the net accepts others there, all inputs' batches (heights, ...) changed together or, failing
    that, one input's alone. The net's shapes are in the end what they were.
    """
    probe = _Probe(net)
    found: list[_Free] = []
    for role, places in _roles(probe.base).items():
        if role == BATCH or not fixed_image:
            together = probe.free(places, role)
            found += [together] if together else filter(None, (probe.free([place], role) for place in places))
    other = probe.base
    for free in found:
        for accepted in free.accepted:
            changed = _changed(other, free.places, accepted)
            if probe.accepts(changed):
                other = changed
                break
    examples = [(probe.base, probe.memory(probe.base))]
    if other != probe.base:
        examples.append((other, probe.memory(other)))
        probe.accepts(probe.base)
    names = {place: name for free in found for place, name in free.names.items()}
    inputs = {n: [names.get((n, i), e) for i, e in enumerate(dims)] for n, dims in probe.base.items()}
    outputs = {n: probe.output_axes(n, inputs) for n in net.outputs}
    return Sizes(inputs, outputs, examples)


class _Probe:
    """Gives a net other input shapes, and notes what its outputs' shapes become."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.base: Shapes = {name: net.blobs[name].dims for name in net.inputs}
        self._trials: list[tuple[Shapes, Shapes]] = []  # accepted inputs, and the outputs that they give
        self.accepts(self.base)

    def accepts(self, inputs: Shapes) -> bool:
        """Reshape the net; tell whether it could be."""
        try:
            for name, dims in inputs.items():
                self.net.blobs[name].reshape(*dims)
            self.net.reshape()
        except CaffeError:
            return False
        self._trials.append((inputs, {name: self.net.blobs[name].dims for name in self.net.outputs}))
        return True

    def memory(self, inputs: Shapes) -> int:
        """Return the bytes of all blobs for input shapes that the net accepts."""
        self.accepts(inputs)
        return 4 * sum({id(blob.data_memory): blob.count for blob in self.net.blobs.values()}.values())

    def free(self, places: list[Place], role: str) -> _Free | None:
        """Return what the net accepts in some places, or None if it accepts nothing but what it has."""
        extents = {self.base[name][axis] for name, axis in places}
        alike = len(places) == len(self.base) and len(extents) == 1  # one name will do
        free = _Free(places, {place: role if alike else f"{place[0]}_{role}" for place in places})
        for grow in BATCH_GROWTHS if role == BATCH else GROWTHS:
            larger = {name: tuple(map(grow, dims)) for name, dims in self.base.items()}
            grown = _changed(self.base, places, larger)
            if self.accepts(grown):
                free.accepted.append(grown)
        return free if free.accepted else None

    def output_axes(self, output: str, inputs: dict[str, list[int | str]]) -> list[int | str]:
        """Return an output's extents: the name of the input's extent that it equals, a name of its own, or a number."""
        axes: list[int | str] = []
        for axis, extent in enumerate(self._trials[0][1][output]):
            seen = [shapes[output][axis] for _, shapes in self._trials]
            followed = [
                name
                for source, dims in inputs.items()
                for place, name in enumerate(dims)
                if isinstance(name, str) and seen == [given[source][place] for given, _ in self._trials]
            ]
            varies = any(e != extent for e in seen)
            axes.append(extent if not varies else followed[0] if followed else f"{output}_{axis}")
        return axes


def _roles(base: Shapes) -> dict[str, list[Place]]:
    """Return the places of the batch, the height, ... in all inputs."""
    roles: dict[str, list[Place]] = {}
    for name, dims in base.items():
        for axis, role in enumerate((BATCH, None, *IMAGE.get(len(dims) - 2, ()))[: len(dims)]):
            if role is not None:
                roles.setdefault(role, []).append((name, axis))
    return roles


def _changed(base: Shapes, places: list[Place], other: Shapes) -> Shapes:
    """Return `base` with `other`'s extents in some places."""
    return {n: tuple(other[n][i] if (n, i) in places else e for i, e in enumerate(d)) for n, d in base.items()}
