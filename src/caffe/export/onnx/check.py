"""The check of a written ONNX file: onnx.checker, and ONNX Runtime's results beside the engine's."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ...blob import describe
from ...errors import CaffeError
from ...net import Net
from ...tensor_layer import Shape

TOLERANCE = 1e-4  # of max(1, the largest value of an output)
# Of how many values one may differ by more where a layer's result jumps, as ArgMax's does at nearly equal scores.
ONE_IN = 1000


def check_file(
    path: str,
    net: Net,
    outputs: Mapping[str, str],
    examples: Sequence[Mapping[str, Shape]],
    limits: Mapping[str, int],
    steps: bool,
) -> None:
    """Raise CaffeError unless an ONNX file is valid and gives what the net gives, on random input of some shapes.

    `outputs` are the file's names of the net's outputs, `limits` the inputs that hold 0 to n - 1, and n; `steps` says
    that some layer's result jumps.
    """
    import onnx  # noqa: PLC0415  an extra

    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise CaffeError(f"The ONNX net that was made is not valid: {error}") from error
    session = _session(path)
    rng = np.random.default_rng(0)
    for shapes in examples:
        inputs = {name: _draw(rng, shape, limits.get(name)) for name, shape in shapes.items()}
        for name, values in inputs.items():
            net.blobs[name].reshape(*values.shape)
            net.blobs[name].data[...] = values
        wanted = net.forward()
        found = _run(session, list(outputs.values()), inputs)
        for blob, values in zip(outputs, found, strict=True):
            _compare(blob, values, wanted[blob], describe(shapes.values()), steps)


def _session(path: str) -> Any:
    """Open a file in ONNX Runtime."""
    import onnxruntime  # noqa: PLC0415  an extra

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    with _told_as("ONNX Runtime cannot load the net that was made"):
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _run(session: Any, outputs: list[str], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    shapes = describe(values.shape for values in inputs.values())
    with _told_as(f"ONNX Runtime cannot run the net that was made on {shapes}"):
        found: list[np.ndarray] = session.run(outputs, dict(inputs))
    return found


@contextlib.contextmanager
def _told_as(what: str) -> Any:
    """Tell ONNX Runtime's errors, of many classes, as the engine's."""
    try:
        yield
    except Exception as error:
        raise CaffeError(f"{what}: {error}") from error


def _draw(rng: np.random.Generator, shape: Shape, limit: int | None) -> np.ndarray:
    """Draw random values; integers below `limit`, if there is one, of which each comes about as often."""
    if limit is None:
        return rng.standard_normal(shape, dtype=np.float32)
    count = int(np.prod(shape))
    return rng.permutation((np.arange(count) + 1) % limit).reshape(shape).astype(np.float32)


def _compare(blob: str, found: np.ndarray, wanted: np.ndarray, sizes: str, steps: bool) -> None:
    """Raise CaffeError if an output differs by more than rounding."""
    where = f"Output '{blob}' of the ONNX net, run on {sizes}, differs from the engine's"
    if found.shape != wanted.shape:
        raise CaffeError(f"{where}: its shape is {describe([found.shape])}, not {describe([wanted.shape])}.")
    both = np.isfinite(found) & np.isfinite(wanted)
    same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    difference = np.where(both, np.abs(np.where(both, found, 0) - np.where(both, wanted, 0)), np.where(same, 0, np.inf))
    bound = TOLERANCE * max(1.0, float(np.abs(wanted, where=both, out=np.zeros_like(wanted)).max(initial=0)))
    beyond = int((difference > bound).sum())
    if beyond > (found.size // ONE_IN if steps else 0):
        raise CaffeError(
            f"{where}: {beyond} of {found.size} values by more than {bound:.3g}, at most by {difference.max():.3g}."
        )
