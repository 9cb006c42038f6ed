"""Blob: a shape, data and diff, each one float32 array with a host and a device side kept in step.

The rules that programs rely on (facts of blob.cpp, syncedmem.cpp and _caffe.cpp):

* On the CPU the numpy view that `.data` and `.diff` hand out *is* the memory that layers compute with.
  A view taken once follows every later pass, and may be written at any moment.
* A layer's result replaces a blob's memory without a copy while nobody holds a view of it; when somebody
  does, the result is copied into the memory that the view shows.
* An array that was never written is zero and takes no memory until it is looked at.
* In GPU mode, reading `.data` fetches the device's values and makes the host side the current one; views that
  are still held are refreshed after every pass and sent again before the next.
"""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from . import device
from .checked import integer
from .errors import NetError

MAX_AXES = 32
MAX_COUNT = 2**31 - 1

_NOWHERE, _HOST, _DEVICE, _BOTH = range(4)  # which side holds the current values

# Versions are never the same in two memories: a blob may come to use another's (Net.share_with), and what was derived
# from the first must not pass for what follows from the second.
_versions = itertools.count()


class Memory:
    """One float32 array: a blob's data or diff. Blobs that share it (Split, shared parameters) hold the same one."""

    __slots__ = ("_anchor", "_device", "_head", "_host", "_lent", "version")

    def __init__(self) -> None:
        self._host: torch.Tensor | None = None
        self._device: torch.Tensor | None = None
        self._head = _NOWHERE
        self._anchor: weakref.ref[np.ndarray] | None = None
        self._lent = False  # the device tensor was given out since both sides were last found equal
        self.version = next(_versions)  # another one after every write that the engine can know of

    @property
    def held(self) -> bool:
        """True while some numpy view of this memory is alive, so that it may change unseen."""
        return self._anchor is not None and self._anchor() is not None

    @property
    def is_zero(self) -> bool:
        """True if nothing was ever written, so that every value is zero and nothing is allocated."""
        return self._head == _NOWHERE

    def fit(self, count: int) -> None:
        """Forget the values if `count` of them no longer fit; new memory starts at zero."""
        if self._head == _DEVICE and self.held and self._device is not None and self._device.numel() < count:
            self._on_host(())  # the views may show more memory than the device's last result filled
        holder = self._device if self._head == _DEVICE else self._host
        if holder is not None and holder.numel() < count:
            self._host = self._device = self._anchor = None  # views of the old memory go stale, as in Caffe
            self._head = _NOWHERE
            self.version = next(_versions)

    def clear(self) -> None:
        """Make every value zero."""
        self.version = next(_versions)
        if self.held and self._host is not None:
            self._host.zero_()
            self._head = _HOST
        else:
            self._host = self._device = None
            self._head = _NOWHERE

    def discard(self) -> None:
        """Let go of values that are about to be overwritten, so that their memory serves to compute the new ones."""
        if not self.held:
            self.clear()

    def tensor(self, dims: tuple[int, ...]) -> torch.Tensor:
        """Return the current values on the current device as a tensor of shape `dims` that shares this memory."""
        where = device.current()
        on_host = where.type == "cpu"
        values = self._on_host(dims) if on_host else self._on_device(dims, where)
        if values.shape == dims:
            return values
        if not values.is_contiguous():  # a view in another shape needs Caffe's order of values
            values = values.contiguous()
            if on_host:
                self._host = values
            else:
                self._device = values
        return _shaped(values, dims)

    def numpy(self, dims: tuple[int, ...]) -> np.ndarray:
        """Return a C-contiguous view of the host side, which becomes the current one."""
        host = self._on_host(dims)
        anchor = self._anchor() if self._anchor is not None else None
        if anchor is None:
            if not host.is_contiguous():
                host = self._host = host.contiguous()
            # Every numpy view keeps this flat array alive, so its weak reference tells whether any view is held.
            anchor = host.view(-1).numpy()
            self._anchor = weakref.ref(anchor)
        self._head = _HOST
        self.version = next(_versions)
        return anchor[: math.prod(dims)].reshape(dims)

    def assign(self, values: torch.Tensor) -> None:
        """Take `values`, a tensor of nobody else's, as the new values."""
        self.version = next(_versions)
        if values.device.type == "cpu":
            if self.held and self._host is not None and self._host.numel() >= values.numel():
                _shaped(self._host, tuple(values.shape)).copy_(values)
            else:
                self._host = values
                self._anchor = None
            self._device = None
            self._head = _HOST
        else:
            self._device = values
            if not self.held or (self._host is not None and self._host.numel() < values.numel()):
                self._host = self._anchor = None
            self._head = _DEVICE

    def refresh(self) -> None:
        """Bring held numpy views up to date after the device has written."""
        self._lent = False
        if self._head == _DEVICE and self.held and self._host is not None and self._device is not None:
            _shaped(self._host, tuple(self._device.shape)).copy_(self._device)
            self._head = _BOTH

    def touch(self) -> None:
        """Record that the tensor was written in place, if it was given out; `Writing` calls this."""
        self.version = next(_versions)
        if self._head == _BOTH:
            if device.current().type == "cpu":
                self._head = _HOST
            elif self._lent:  # else what a program wrote through its view since the last pass would be lost
                self._head = _DEVICE

    def _on_host(self, dims: tuple[int, ...]) -> torch.Tensor:
        if self._head == _DEVICE:
            assert self._device is not None
            if self.held and self._host is not None and self._host.numel() >= self._device.numel():
                self.refresh()
            else:
                self._host = self._device.contiguous().cpu()
                self._anchor = None
                self._head = _BOTH
        if self._host is None:
            self._host = _zeros(dims, device.CPU)
            self._anchor = None
            self._head = _HOST
        if self._head == _BOTH:
            self._head = _HOST  # what computes on the host may write there
        return self._host

    def _on_device(self, dims: tuple[int, ...], where: torch.device) -> torch.Tensor:
        if self._head == _NOWHERE:
            self._device = _zeros(dims, where)
            self._head = _DEVICE
        stale = self._head == _HOST or (self._head == _BOTH and self.held)
        if stale:
            assert self._host is not None
            if self._device is not None and self._device.device == where and self._device.shape == self._host.shape:
                self._device.copy_(self._host)
            else:
                self._device = self._host.to(where)
            self._head = _BOTH
        assert self._device is not None
        if self._device.device != where:
            self._device = self._device.to(where)
        if not self.held:
            self._host = self._anchor = None  # the device is written next; keep one copy, not two
            self._head = _DEVICE
        self._lent = True
        return self._device


class Writing:
    """A memory while it is written in place; however the writing ends, the memory has then changed."""

    __slots__ = ("_memory", "_out")

    def __init__(self, memory: Memory, out: torch.Tensor) -> None:
        self._memory, self._out = memory, out

    def __enter__(self) -> torch.Tensor:
        return self._out

    def __exit__(self, *error: object) -> None:
        self._memory.touch()


def _zeros(dims: tuple[int, ...], where: torch.device) -> torch.Tensor:
    """Allocate zeros, or say in Caffe's terms that there is no memory for them."""
    try:
        return torch.zeros(dims, device=where)
    except (RuntimeError, MemoryError) as error:
        size = math.prod(dims) * 4 / 2**30
        raise NetError(f"There is no memory on {where} for a blob of {_times(dims)} ({size:.1f} GiB).") from error


def _shaped(values: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
    """View the first values as `dims`; a blob may be smaller than its memory."""
    flat = values.reshape(-1)
    count = math.prod(dims)
    return (flat if flat.numel() == count else flat[:count]).view(dims)


class Blob:
    """An N-dimensional array of values and their gradients, `data` and `diff` (float32), N x C x H x W by custom."""

    __slots__ = ("__weakref__", "_data", "_diff", "dims")

    def __init__(self, *dims: int) -> None:
        self.dims: tuple[int, ...] = ()
        self._data = Memory()
        self._diff = Memory()
        self.reshape(*dims)

    # pycaffe's surface

    @property
    def data(self) -> np.ndarray:
        """The values: a writable numpy view, float32, C-contiguous, of the blob's shape."""
        return self._data.numpy(self.dims)

    @property
    def diff(self) -> np.ndarray:
        """The gradients: a writable numpy view, float32, C-contiguous, of the blob's shape."""
        return self._diff.numpy(self.dims)

    @property
    def shape(self) -> IntVec:
        """The extents, outermost first."""
        return IntVec(self.dims)

    @property
    def count(self) -> int:
        """The number of values; 1 for a scalar."""
        return math.prod(self.dims)

    @property
    def num(self) -> int:
        """The first of the four legacy extents; missing axes read as 1."""
        return self._legacy_extent(0)

    @property
    def channels(self) -> int:
        """The second of the four legacy extents."""
        return self._legacy_extent(1)

    @property
    def height(self) -> int:
        """The third of the four legacy extents."""
        return self._legacy_extent(2)

    @property
    def width(self) -> int:
        """The fourth of the four legacy extents."""
        return self._legacy_extent(3)

    def reshape(self, *dims: int, **kwargs: object) -> None:
        """Change the shape: values are kept while they fit, and start at zero where memory has to grow.

        Raises RuntimeError for keywords, TypeError for an extent that is no integer, and NetError for more than 32
        axes, a negative extent, or an extent or number of values above 2^31 - 1 (blob.cpp:22).
        """
        if kwargs:
            raise RuntimeError("Blob.reshape takes no kwargs")
        new = tuple(integer(d, "Each extent of Blob.reshape(*shape)") for d in dims)
        if new == self.dims and dims:
            return
        if len(new) > MAX_AXES:
            raise NetError(f"A blob may have up to {MAX_AXES} axes; {len(new)} were asked for: {_times(new)}.")
        if any(d < 0 for d in new):
            raise NetError(f"A blob cannot have a negative extent: {_times(new)}.")
        count = math.prod(new)
        if math.prod(d for d in new if d) > MAX_COUNT:  # a zero does not excuse the others: no tensor can have them
            raise NetError(f"A blob of {_times(new)} is beyond Caffe's limit of {MAX_COUNT} values.")
        self.dims = new
        self._data.fit(count)
        self._diff.fit(count)

    @property
    def _gpu_data_ptr(self) -> int:
        return self.data_tensor().data_ptr()

    @property
    def _gpu_diff_ptr(self) -> int:
        return self.diff_tensor().data_ptr()

    # the engine's side

    def data_tensor(self) -> torch.Tensor:
        """Return the values on the current device, sharing the blob's memory."""
        return self._data.tensor(self.dims)

    def diff_tensor(self) -> torch.Tensor:
        """Return the gradients on the current device, sharing the blob's memory."""
        return self._diff.tensor(self.dims)

    def set_data(self, values: torch.Tensor) -> None:
        """Take `values`, which nobody else may hold, as data; the blob gets their shape."""
        if values.shape != self.dims:
            self.dims = tuple(values.shape)
            self._diff.fit(values.numel())
        self._data.assign(values)

    def set_diff(self, values: torch.Tensor) -> None:
        """Take `values`, of the blob's shape and held by nobody else, as diff."""
        if values.shape != self.dims:
            raise NetError(f"A gradient of {_times(values.shape)} was computed for a blob of {_times(self.dims)}.")
        self._diff.assign(values)

    def add_diff(self, values: torch.Tensor) -> None:
        """Add `values` to diff, as parameters' gradients accumulate over the passes of an iteration."""
        if self._diff.is_zero:
            self.set_diff(values)
        else:
            self.diff_tensor().add_(values)
            self._diff.touch()

    @property
    def data_version(self) -> int | None:
        """A number that changes whenever data may have; None while a numpy view is held, which tells nothing."""
        return None if self._data.held else self._data.version

    @property
    def diff_is_zero(self) -> bool:
        """True if no gradient was ever written."""
        return self._diff.is_zero

    def clear_diff(self) -> None:
        """Set every gradient to zero."""
        self._diff.clear()

    def clear_data(self) -> None:
        """Set every value to zero, which takes no memory until the blob is looked at."""
        self._data.clear()

    @property
    def data_memory(self) -> Memory:
        """The memory that holds the values, which blobs that share it have in common."""
        return self._data

    @property
    def diff_memory(self) -> Memory:
        """The memory that holds the gradients, which blobs that share it have in common."""
        return self._diff

    def discard_data(self, unless_of: Iterable[Blob]) -> None:
        """Let go of data that is about to be overwritten, unless it is the memory of one of some blobs."""
        if not any(self._data is other._data for other in unless_of):
            self._data.discard()

    def discard_diff(self, unless_of: Iterable[Blob]) -> None:
        """Let go of a diff that is about to be overwritten, unless it is the memory of one of some blobs."""
        if not any(self._diff is other._diff for other in unless_of):
            self._diff.discard()

    def writing_data(self, like: torch.Tensor | None = None) -> Writing:
        """Write data in place: `with blob.writing_data() as out` gives the tensor that holds it, of the blob's shape.

        `like`: all values are to be overwritten, and laid out in memory as that tensor's are (channels_last or not).
        """
        out = self._data.tensor(self.dims)
        if like is not None and out.is_contiguous() != like.is_contiguous():
            self._data.assign(self._laid_out_as(like))
            out = self._data.tensor(self.dims)
        return Writing(self._data, out)

    def writing_diff(self, like: torch.Tensor | None = None) -> Writing:
        """Write diff in place, as writing_data does data."""
        out = self._diff.tensor(self.dims)
        if like is not None and out.is_contiguous() != like.is_contiguous():
            self._diff.assign(self._laid_out_as(like))
            out = self._diff.tensor(self.dims)
        return Writing(self._diff, out)

    def _laid_out_as(self, like: torch.Tensor) -> torch.Tensor:
        channels_last = len(self.dims) == 4 and not like.is_contiguous()
        layout = torch.channels_last if channels_last else torch.contiguous_format
        return torch.empty(self.dims, device=like.device, memory_format=layout)

    def share_data(self, other: Blob) -> None:
        """Use `other`'s data memory as this blob's own from now on."""
        self._data = other._data

    def share_diff(self, other: Blob) -> None:
        """Use `other`'s diff memory as this blob's own from now on."""
        self._diff = other._diff

    def refresh_views(self) -> None:
        """Bring numpy views that a program still holds up to date after a GPU pass."""
        self._data.refresh()
        self._diff.refresh()

    def _legacy_extent(self, axis: int) -> int:
        if len(self.dims) > 4:
            raise NetError(
                f"num, channels, height and width are for blobs of up to 4 axes; this one is {_times(self.dims)}. "
                "Use blob.shape."
            )
        return self.dims[axis] if axis < len(self.dims) else 1

    def __repr__(self) -> str:
        return f"<caffe.Blob {_times(self.dims)}>"


class BlobVec(list[Blob]):
    """A layer's parameter blobs: a list that can also make one of a given shape."""

    def add_blob(self, *shape: int, **kwargs: object) -> None:
        """Append a new zero blob of `shape`: a Python layer's way to have parameters."""
        if kwargs:
            raise RuntimeError("BlobVec.add_blob takes no kwargs")
        self.append(Blob(*shape))


class IntVec(list[int]):
    """A list of ints, as pycaffe returns shapes."""


class BoolVec(list[bool]):
    """A list of bools, as pycaffe passes propagate_down."""


class StringVec(list[str]):
    """A list of strings, as pycaffe returns names."""


class DtypeVec(list[float]):
    """A list of floats, as pycaffe returns loss weights."""


class RawBlobVec(tuple[Blob, ...]):
    """A layer's bottom or top blobs."""

    __slots__ = ()


def describe(blobs: Iterable[Blob] | Iterable[Sequence[int]]) -> str:
    """Spell shapes for an error text: "1 x 3 x 5 x 5 and 1 x 21 x 5 x 5"."""
    return " and ".join(_times(b.dims if isinstance(b, Blob) else b) for b in blobs) or "none"


def _times(dims: Sequence[int]) -> str:
    return " x ".join(str(d) for d in dims) if len(dims) else "a scalar"
