"""Where a net computes: CPU or GPU mode, the chosen device, and the float32 precision on GPUs.

Mode and device are a thread's own, as in Caffe (common.cpp).
"""

from __future__ import annotations

import threading

import torch

from .checked import integer
from .errors import CaffeError

CPU = torch.device("cpu")


class _Mode(threading.local):
    """The calling thread's mode; a new thread starts in CPU mode on device 0."""

    def __init__(self) -> None:
        self.current = CPU
        self.index = 0


_mode = _Mode()


def current() -> torch.device:
    """Return the device that the calling thread's nets compute on."""
    return _mode.current


def set_mode_cpu() -> None:
    """Compute on the CPU from now on (the default)."""
    _mode.current = CPU


def set_mode_gpu() -> None:
    """Compute on the GPU that set_device chose (0 by default) from now on.

    Raises CaffeError if PyTorch finds no CUDA device (BVLC Caffe aborts at the first GPU call).
    """
    _require_cuda(_mode.index)
    _mode.current = torch.device("cuda", _mode.index)


def set_device(device_id: int) -> None:
    """Choose the GPU, by CUDA index, for set_mode_gpu; a thread already in GPU mode moves to it.

    Raises TypeError for what is no integer, CaffeError if there is no such device.
    """
    index = integer(device_id, "set_device's device_id")
    _require_cuda(index)
    _mode.index = index
    torch.cuda.set_device(_mode.index)
    if _mode.current.type == "cuda":
        _mode.current = torch.device("cuda", _mode.index)


def set_precision(name: str) -> None:
    """Choose how float32 products are computed on GPUs: "float32" (the default, Caffe's) or "tf32".

    tf32 keeps 10 bits of the mantissa: faster, and further from Caffe's numbers than any tolerance here.
    """
    if name not in ("float32", "tf32"):
        raise CaffeError(f"Precision {name!r} is not known; choose 'float32' (Caffe's numbers) or 'tf32'.")
    fast = name == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = fast
    torch.backends.cudnn.allow_tf32 = fast


def _require_cuda(device_id: int) -> None:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not 0 <= device_id < count:
        found = f"{count} CUDA device(s)" if count else "no CUDA device"
        raise CaffeError(
            f"GPU {device_id} was asked for, but PyTorch {torch.__version__} finds {found}. "
            "Compute on the CPU, or install a CUDA build of PyTorch."
        )


set_precision("float32")
