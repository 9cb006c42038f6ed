"""Layers without bottoms: Input, DummyData, Parameter (input_layer.cpp, dummy_data_layer.cpp, parameter_layer.hpp)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ..blob import Blob
from ..errors import NetError
from ..filler import fill
from ..layer import register
from ..proto import caffe_pb2
from ..tensor_layer import Plan, Shape, TensorLayer


class _Source(TensorLayer):
    """A layer that shapes its tops once, at setup, so that a program may reshape them and they stay so."""

    bottoms = (0, 0)
    tops: ClassVar[tuple[int, int | None]] = (1, None)

    def shapes_at_setup(self, tops: int) -> list[Shape]:
        """Return the tops' first shapes; none leaves them as they are."""
        raise NotImplementedError

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the settings, and shape the tops."""
        super().setup(bottom, top)
        for blob, shape in zip(top, self.shapes_at_setup(len(top)), strict=False):
            blob.reshape(*shape)

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan the shapes at setup, which the settings give; a program may have changed them since."""
        return Plan(tuple(self.shapes_at_setup(len(self.layer_param.top))))

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Do nothing: the shapes are the program's."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Do nothing: the data is what the program, or setup, wrote."""

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Do nothing: there is nothing below."""

    def _one_each(self, given: Sequence[Shape], tops: int) -> list[Shape]:
        if len(given) not in (1, tops):
            raise self.fail(f"its shape is given {len(given)} times for {tops} tops; once, or once for each top.")
        return list(given) * tops if len(given) == 1 else list(given)


@register("Input")
class Input(_Source):
    """The net's inputs: tops that a program writes to before a forward pass."""

    def shapes_at_setup(self, tops: int) -> list[Shape]:
        """Return input_param's shapes, one for all tops or one for each; none where it has none."""
        shapes = [tuple(shape.dim) for shape in self.layer_param.input_param.shape]
        return self._one_each(shapes, tops) if shapes else []


@register("DummyData")
class DummyData(_Source):
    """Tops filled by fillers: a constant once, random ones anew at each forward."""

    def shapes_at_setup(self, tops: int) -> list[Shape]:
        """Return dummy_data_param's shapes, written as `shape` or as num, channels, height and width."""
        param = self.layer_param.dummy_data_param
        legacy = [list(v) for v in (param.num, param.channels, param.height, param.width)]
        if param.shape and any(legacy):
            raise self.fail("give either shape, or num, channels, height and width, not both.")
        if param.shape:
            return self._one_each([tuple(shape.dim) for shape in param.shape], tops)
        if len({len(v) for v in legacy}) != 1 or not legacy[0]:
            raise self.fail("dummy_data_param needs shape, or num, channels, height and width, equally often each.")
        return self._one_each(list(zip(*legacy, strict=True)), tops)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the tops, and fill those whose filler is a constant."""
        super().setup(bottom, top)
        fillers = list(self.layer_param.dummy_data_param.data_filler) or [caffe_pb2.FillerParameter()]
        if len(fillers) not in (1, len(top)):
            raise self.fail(f"data_filler is given {len(fillers)} times for {len(top)} tops; once, or once for each.")
        fillers = fillers * len(top) if len(fillers) == 1 else fillers
        self._drawn = [None if filler.type == "constant" else filler for filler in fillers]
        for blob, filler in zip(top, fillers, strict=True):
            if filler.type == "constant":
                self._fill(blob, filler)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Draw the tops whose filler is no constant."""
        for blob, filler in zip(top, self._drawn, strict=True):
            if filler is not None:
                self._fill(blob, filler)

    def _fill(self, blob: Blob, filler: caffe_pb2.FillerParameter) -> None:
        try:
            fill(blob, filler)
        except NetError as error:
            raise self.fail(str(error)) from None


@register("Parameter")
class Parameter(_Source):
    """A learned blob as a top."""

    tops = (1, 1)

    def param_shapes(self, shapes: list[Shape]) -> list[tuple[Shape, caffe_pb2.FillerParameter | None]]:
        """Return parameter_param's shape; the values start at 0."""
        return [(tuple(self.layer_param.parameter_param.shape.dim), None)]

    def shapes_at_setup(self, tops: int) -> list[Shape]:
        """Return the parameter's shape."""
        return [self.blobs[0].dims]

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Let the top share the parameter's data, also after another net's has become the parameter's."""
        top[0].share_data(self.blobs[0])

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Add the top's diff to the parameter's, as all parameters' gradients accumulate."""
        if self.param_propagate_down[0] and not top[0].diff_is_zero:
            self.blobs[0].add_diff(top[0].diff_tensor().clone())
