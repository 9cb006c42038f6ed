"""Caffe's random numbers: one generator a device, for fillers, dropout and whatever else a layer draws.

Python's and numpy's generators are never touched, as in Caffe.
"""

from __future__ import annotations

import secrets

import torch

from . import device
from .checked import integer
from .errors import CaffeError

_generators: dict[torch.device, torch.Generator] = {}
_seed: int | None = None
_shared_seed: int | None = None


def set_random_seed(seed: int, shared: int | None = None) -> None:
    """Seed every device's generator; the same seed draws the same numbers again on the same device.

    `shared` is the seed of what all the solvers that train together draw alike (default: `seed`). Raises TypeError for
    a seed that is no integer.
    """
    global _seed, _shared_seed
    _seed = integer(seed, "set_random_seed's seed")
    _shared_seed = _seed if shared is None else integer(shared, "set_random_seed's shared seed")
    for generator in _generators.values():
        generator.manual_seed(_seed)


def shared_seed() -> int:
    """Return the seed of the sequence that solvers who train together share, as data layers do; from entropy if unset.

    Rank r of n takes draws r, r + n, ... of that sequence.
    """
    global _shared_seed
    if _shared_seed is None:
        _shared_seed = secrets.randbits(48)
    return _shared_seed


def generator(where: torch.device | None = None) -> torch.Generator:
    """Return the generator of a device (default: the current one), seeded from entropy if no seed was set."""
    where = device.current() if where is None else where
    if where not in _generators:
        made = torch.Generator(device=where)
        if _seed is None:
            made.seed()
        else:
            made.manual_seed(_seed)
        _generators[where] = made
    return _generators[where]


def get_state() -> dict[str, torch.Tensor]:
    """Return the state of every generator in use, by device name, for a snapshot."""
    return {str(where): made.get_state() for where, made in _generators.items()}


def set_state(states: dict[str, torch.Tensor]) -> None:
    """Put generators back to what get_state returned; devices that are missing here are left out.

    Raises CaffeError for what is no generator's state.
    """
    for name, state in states.items():
        try:
            where = torch.device(name)
            if where.type == "cpu" or torch.cuda.is_available():
                generator(where).set_state(state)
        except (RuntimeError, TypeError) as error:
            raise CaffeError(f"The random state for '{name[:50]}' cannot be used: {error}") from error
