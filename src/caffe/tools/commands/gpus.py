"""Which GPUs a command computes on, and `caffe device_query`."""

from __future__ import annotations

import torch

from ... import device, glog
from ...errors import CaffeError
from ..flags import Flags


def count() -> int:
    """Return how many GPUs PyTorch can use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def chosen(text: str) -> list[int]:
    """Return the GPUs that a -gpu flag names: none for "", and every one for "all".

    Raises CaffeError where they are no numbers, one is named twice, or one of them is not there.
    """
    if text == "all":
        if not count():
            raise CaffeError(f"-gpu all was given, but {_none_found()} Leave -gpu out to compute on the CPU.")
        return list(range(count()))
    if not text:
        return []
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise CaffeError(f"-gpu is {text!r}; it is a GPU's number, several separated by commas, or all.") from None
    missing = [n for n in numbers if not 0 <= n < count()]
    if missing:
        found = f"the GPUs here are 0 to {count() - 1}." if count() else _none_found()
        raise CaffeError(f"-gpu {text} was given, but {found} Leave -gpu out to compute on the CPU.")
    if len(set(numbers)) < len(numbers):
        raise CaffeError(f"-gpu is {text}, which names a GPU twice.")
    return numbers


def use_one(text: str) -> None:
    """Compute on the first GPU that a -gpu flag names, or on the CPU if it names none."""
    numbers = chosen(text)
    for number in reversed(numbers[1:]):
        glog.info(f"Not using GPU #{number} for single-GPU function")
    if not numbers:
        glog.info("Use CPU.", "caffe.cpp:275")
        device.set_mode_cpu()
        return
    glog.info(f"Use GPU with device ID {numbers[0]}", "caffe.cpp:266")
    glog.info(f"GPU device name: {torch.cuda.get_device_name(numbers[0])}", "caffe.cpp:270")
    device.set_device(numbers[0])
    device.set_mode_gpu()


def query(flags: Flags) -> None:
    """Log what the GPUs are that -gpu names, all by default. Raises CaffeError if there is none."""
    text = flags.gpu or "all"
    glog.info(f"Querying GPUs {text}", "caffe.cpp:138")
    if not count():
        raise CaffeError(_none_found())
    for number in chosen(text):
        found = torch.cuda.get_device_properties(number)
        glog.info(f"Device id:                     {number}", "common.cpp:178")
        glog.info(f"Major revision number:         {found.major}", "common.cpp:179")
        glog.info(f"Minor revision number:         {found.minor}", "common.cpp:180")
        glog.info(f"Name:                          {found.name}", "common.cpp:181")
        glog.info(f"Total global memory:           {found.total_memory}", "common.cpp:182")
        glog.info(f"Warp size:                     {found.warp_size}", "common.cpp:185")
        glog.info(f"Number of multiprocessors:     {found.multi_processor_count}", "common.cpp:199")


def _none_found() -> str:
    if torch.version.cuda is None and torch.version.hip is None:
        return f"PyTorch {torch.__version__} is a build for CPUs only; a build for CUDA finds the GPUs."
    return f"PyTorch {torch.__version__} finds no GPU; `nvidia-smi` tells whether the driver does."
