"""The order in which the images of a list come to a net."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any


class ImageOrder:
    """The order in which a list's images come.

    shuffle False: the list's own, round and round. True: each drawn from all, with replacement, exactly as
    `random.seed(seed)` and one `random.randint(0, count - 1)` an image would draw, but from a generator that
    nothing else draws from. (Python 2, which the reference was run with, draws other images from the same seed.) With
    no seed, one is taken from the system, and kept in the state.

    Of several solvers that train together, rank r of n takes images r, r + n, r + 2n, ... of that order.
    """

    def __init__(self, count: int, shuffle: bool, seed: int | None, rank: int = 0, ranks: int = 1) -> None:
        self.count = count
        self.rank, self.ranks = rank, ranks
        self.seed = (random.SystemRandom().getrandbits(32) if seed is None else seed) if shuffle else None
        self._start()

    def _start(self) -> None:
        self._random = random.Random(self.seed)
        # How many images of the order, all solvers' together, there have been with the one whose turn it is.
        self.draws = 0
        # The image whose turn it is, as an index into the list.
        self.index = -1
        self._go_on(self.rank + 1)

    def _go_on(self, images: int) -> None:
        self.draws += images
        if self.seed is None:
            self.index = (self.index + images) % self.count
        else:
            for _ in range(images):
                self.index = self._random.randint(0, self.count - 1)

    def advance(self) -> None:
        """Go on to the next image."""
        self._go_on(self.ranks)

    def state(self) -> dict[str, int | None]:
        """Return the position as JSON can hold it: the seed and how often it has been drawn from."""
        return {"images": self.count, "seed": self.seed, "draws": self.draws, "next": self.index}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go to a position that `state` returned, by drawing again; raise ValueError if it cannot be one."""
        if state["images"] != self.count or (state["seed"] is None) != (self.seed is None):
            raise ValueError(
                f"The saved position is in a list of {state['images']} images, "
                f"{'in order' if state['seed'] is None else 'shuffled'}, but this list has {self.count}, "
                f"{'in order' if self.seed is None else 'shuffled'}: use the list that the run began with."
            )
        self.seed = state["seed"]
        self._start()
        if self.seed is None:
            self.draws, self.index = state["draws"], state["next"] % self.count
            return
        self._go_on(max(0, state["draws"] - self.draws))
        if self.index != state["next"]:
            raise ValueError(
                f"The saved position does not agree with itself: draw {self.draws} from the seed {self.seed} "
                f"is image {self.index}, not {state['next']}."
            )
