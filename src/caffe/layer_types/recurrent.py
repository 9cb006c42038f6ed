"""Layers over sequences: RNN, LSTM, LSTMUnit (recurrent_layer.cpp, rnn_layer.cpp, lstm_layer.cpp, lstm_unit_layer.cpp).

Caffe unrolls these into a net of a few layers a step. Here all inputs are transformed by one matrix product before the
first step, and all weights' gradients follow from one each after the last; what is left to a step is what needs the
step before.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..blob import Blob, describe
from ..kernels.matrix_product import product
from ..layer import register
from ..proto import caffe_pb2
from ..tensor_layer import Backward, Gradients, Plan, Shape, TensorLayer

ParamShapes = list[tuple[Shape, caffe_pb2.FillerParameter | None]]


class _OverSequences(TensorLayer):
    """A layer one of whose bottoms tells where sequences go on: 1, or 0 at the first step of a new one."""

    continues: ClassVar[int]  # the number of that bottom

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Refuse the indicators."""
        return bottom_index != self.continues

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Refuse a gradient for the indicators, which Caffe has none for either."""
        if propagate_down[self.continues]:
            raise self.fail("cannot backpropagate to its sequence indicators.")
        super().backward(top, propagate_down, bottom)


class _Recurrent(_OverSequences):
    """What RNN and LSTM share: N independent streams of T steps, and a state of `num_output` values, H, in each.

    Bottoms: x (T x N x ...), cont (T x N), then optionally a static input that every step sees (N x ...), and with
    `expose_hidden` the states before the first step (1 x N x H each). Tops: the outputs (T x N x H), and with
    `expose_hidden` the states after the last step. Without it the next forward pass goes on from there, but no gradient
    flows back through that seam. Fewer streams than before keep theirs; more than ever start from 0, all of them
    (RecurrentLayer::Reshape).

    Parameters: W_x (GH x the values of x in one step), b (GH), with a static input W_static (GH x its values), W_h
    (GH x H), then the type's own; G is the number of `gates`.
    """

    bottoms = (2, 5)
    tops = (1, 3)
    refuses_in_place = True
    continues = 1
    gates: ClassVar[int]
    hidden: ClassVar[int]  # how many states are carried from step to step

    # What a type says of itself

    def own_params(self) -> ParamShapes:
        """Return the shapes and fillers of the parameters after W_h."""
        return []

    def run(self, z: Tensor, cont: Tensor, first: list[Tensor], w_h: Tensor, own: list[Tensor]) -> Tensor:
        """Return the outputs, T x N x H, and leave in self.steps what run_back needs of the steps.

        `z` (T x N x GH) is what x and the static input give each step; it may be overwritten. `cont` is T x N x 1, and
        `first` holds the states before the first step, N x H each.
        """
        raise NotImplementedError

    def run_back(
        self, dy: Tensor, last: list[Tensor], cont: Tensor, w_h: Tensor, own: list[Tensor]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return the gradients of z, of the states before the first step, and of the type's own parameters.

        `last` holds the gradients of the states after the last step, N x H each.
        """
        raise NotImplementedError

    # What a TensorLayer gives

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the numbers of bottoms and tops, which depend on expose_hidden, and start from states of 0."""
        param = self.layer_param.recurrent_param
        self.exposed = self.hidden if param.expose_hidden else 0
        self._check_number("bottom", len(bottom), (2 + self.exposed, 3 + self.exposed))
        self._check_number("top", len(top), (1 + self.exposed, 1 + self.exposed))
        self.outputs, self.weight_filler, self.bias_filler = param.num_output, param.weight_filler, param.bias_filler
        self.steps: list[Tensor] = []
        self._carried = [Blob(1, 0, self.outputs) for _ in range(self.hidden - self.exposed)]
        super().setup(bottom, top)

    def configure(self, shapes: list[Shape]) -> None:
        """Note how many values a step has, and whether there is a static input."""
        if self.outputs < 1:
            raise self.fail("recurrent_param needs num_output of 1 or more.")
        self.has_static = len(shapes) > 2 + self.exposed
        self.inputs = math.prod(shapes[0][2:])
        self.static_inputs = math.prod(shapes[2][1:]) if self.has_static else 0

    def param_shapes(self, shapes: list[Shape]) -> ParamShapes:
        """Return the parameters' shapes in Caffe's order."""
        rows = self.gates * self.outputs
        static: ParamShapes = [((rows, self.static_inputs), self.weight_filler)] if self.has_static else []
        return [
            ((rows, self.inputs), self.weight_filler),
            ((rows,), self.bias_filler),
            *static,
            ((rows, self.outputs), self.weight_filler),
            *self.own_params(),
        ]

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan T x N x H, and 1 x N x H for each exposed state."""
        x, cont = shapes[:2]
        if len(x) < 2 or cont != x[:2]:
            raise self.fail(
                f"its bottoms are T x N x ... values and T x N indicators of T steps of N streams, not "
                f"{describe(shapes[:2])}."
            )
        if math.prod(x[2:]) != self.inputs:
            raise self.fail(f"its weights are for {self.inputs} values a step; its bottom is {describe([x])}.")
        state = (1, x[1], self.outputs)
        if self.has_static and (shapes[2][:1] != x[1:2] or math.prod(shapes[2][1:]) != self.static_inputs):
            raise self.fail(
                f"its static input must have {self.static_inputs} values for each of {x[1]} streams; it is "
                f"{describe([shapes[2]])}."
            )
        for given in shapes[2 + self.has_static :]:
            if given != state:
                raise self.fail(f"an initial hidden state must be {describe([state])}, not {describe([given])}.")
        return Plan(((*x[:2], self.outputs), *[state] * self.exposed))

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> list[Tensor]:
        """Return the outputs and, if exposed, the states after the last step; else keep those for the next pass."""
        self.steps = []  # their memory serves the new ones
        y = self._unroll(bottoms, params)
        last = [states[-1:].clone() for states in self._states]
        if not self.needs_backward:
            self.steps = []
        if self.exposed:
            return [y, *last]
        for blob, state in zip(self._carried, last, strict=True):
            with blob.writing_data() as carried:
                carried.copy_(state)
        return [y]

    def gradient(self, plan: Plan, b: Backward) -> Gradients:
        """Return the gradients, from the states and gates that forward left."""
        x, cont = b.bottoms[:2]
        steps, streams = cont.shape
        if not self.steps or self._states[0].shape[:2] != (steps + 1, streams):
            self._unroll(b.bottoms, b.params)  # there was no forward pass, or one of another shape
        self.steps = [kept.to(x.device) for kept in self.steps]
        w_x, _, w_static, w_h, own = self._named(b.params)
        last = [d[0] for d in b.top_diffs[1:]] or [x.new_zeros(streams, self.outputs) for _ in range(self.hidden)]
        dz, d_first, d_own = self.run_back(b.top_diffs[0], last, cont.unsqueeze(-1), w_h, own)

        rows = dz.view(steps * streams, self.gates * self.outputs)
        of_bottoms: list[Tensor | None] = [None] * len(b.bottoms)
        if b.want_bottoms[0]:
            of_bottoms[0] = product(rows, w_x.t()).view(x.shape)
        want = iter(b.want_params)  # in the order of the parameters
        dw_x = product(rows.t(), self._rows(x).t()) if next(want) else None
        of_params = [dw_x, rows.sum(0) if next(want) else None]
        if w_static is not None:
            over_steps = dz.sum(0)
            if b.want_bottoms[2]:
                of_bottoms[2] = product(over_steps, w_static.t()).view(b.bottoms[2].shape)
            of_params.append(product(over_steps.t(), self._static(b.bottoms).t()) if next(want) else None)
        before = (self._states[0][:-1] * cont.unsqueeze(-1)).view(-1, self.outputs)
        of_params.append(product(rows.t(), before.t()) if next(want) else None)
        of_params += [d if wanted else None for d, wanted in zip(d_own, want, strict=True)]
        if self.exposed:
            wanted = b.want_bottoms[-self.exposed :]
            of_bottoms[-self.exposed :] = [d[None] if w else None for d, w in zip(d_first, wanted, strict=True)]
        return Gradients(of_bottoms, of_params)

    def _unroll(self, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Run all steps, and return the outputs."""
        x, cont = bottoms[:2]
        w_x, bias, w_static, w_h, own = self._named(params)
        z = product(self._rows(x), w_x, bias).view(*cont.shape, self.gates * self.outputs)
        if w_static is not None:
            z += product(self._static(bottoms), w_static)
        if self.exposed:
            first = bottoms[-self.exposed :]
        else:
            for blob in self._carried:
                blob.reshape(1, cont.shape[1], self.outputs)
            first = [blob.data_tensor() for blob in self._carried]
        return self.run(z, cont.unsqueeze(-1), [state[0] for state in first], w_h, own)

    @property
    def _states(self) -> list[Tensor]:
        """The states before the first step and after each one, (T + 1) x N x H each, h first."""
        return self.steps[: self.hidden]

    def _rows(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0] * x.shape[1], self.inputs)

    def _static(self, bottoms: list[Tensor]) -> Tensor:
        return bottoms[2].reshape(len(bottoms[2]), self.static_inputs)

    def _named(self, params: list[Tensor]) -> tuple[Tensor, Tensor, Tensor | None, Tensor, list[Tensor]]:
        """Return W_x, b, W_static or None, W_h, and the type's own."""
        w_x, b, *rest = params
        w_static = rest.pop(0) if self.has_static else None
        return w_x, b, w_static, rest[0], rest[1:]

    # Where the streams are

    def state(self) -> list[dict[str, object]]:
        """Return the states that the next forward pass starts from: shape and base64 of the float32 bytes of each."""
        return [
            {"shape": list(blob.dims), "data": base64.b64encode(blob.data.tobytes()).decode()} for blob in self._carried
        ]

    def set_state(self, state: list[dict[str, object]]) -> None:
        """Let the next forward pass start from what state() returned.

        Raises NetError if that was another layer's.
        """
        try:
            read = [np.frombuffer(base64.b64decode(str(s["data"])), np.float32).reshape(s["shape"]) for s in state]
        except (ValueError, KeyError, TypeError) as error:
            raise self.fail(f"its saved state is damaged ({error}).") from error
        if len(read) != len(self._carried) or any(v.ndim != 3 or v.shape[::2] != (1, self.outputs) for v in read):
            raise self.fail(
                f"the saved state is not its own: {describe([v.shape for v in read])}, where {len(self._carried)} of "
                f"1 x streams x {self.outputs} are needed."
            )
        self._carried = [Blob(*values.shape) for values in read]
        for blob, values in zip(self._carried, read, strict=True):
            blob.data[...] = values


@register("RNN")
class RNN(_Recurrent):
    """h_t = tanh(W_hh (cont_t h_{t-1}) + W_xh x_t [+ W_xh_static x_static] + b_h), and outputs tanh(W_ho h_t + b_o)."""

    gates = 1
    hidden = 1

    def own_params(self) -> ParamShapes:
        """Return W_ho (H x H) and b_o (H)."""
        return [((self.outputs, self.outputs), self.weight_filler), ((self.outputs,), self.bias_filler)]

    def run(self, z: Tensor, cont: Tensor, first: list[Tensor], w_h: Tensor, own: list[Tensor]) -> Tensor:
        """Return the outputs; leave h and the outputs."""
        h = z.new_empty(z.shape[0] + 1, *z.shape[1:])
        h[0] = first[0]
        for t in range(z.shape[0]):
            torch.tanh(z[t].add_(product(h[t] * cont[t], w_h)), out=h[t + 1])
        y = product(h[1:].view(-1, self.outputs), *own).view(z.shape).tanh_()
        self.steps = [h, y]
        return y.clone()

    def run_back(
        self, dy: Tensor, last: list[Tensor], cont: Tensor, w_h: Tensor, own: list[Tensor]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return the gradients of z, h_0, and W_ho and b_o."""
        h, y = self.steps
        of_outputs = (dy * (1 - y * y)).reshape(-1, self.outputs)
        of_h = product(of_outputs, own[0].t()).view(y.shape)
        d_own = [product(of_outputs.t(), h[1:].view(-1, self.outputs).t()), of_outputs.sum(0)]
        slope = 1 - h[1:] * h[1:]
        dz, dh = torch.empty_like(y), last[0]
        for t in reversed(range(len(dz))):
            torch.mul(dh + of_h[t], slope[t], out=dz[t])
            dh = product(dz[t], w_h.t()).mul_(cont[t])
        return dz, [dh], d_own


@register("LSTM")
class LSTM(_Recurrent):
    """Long short-term memory: c_t = sigmoid(f) cont_t c_{t-1} + sigmoid(i) tanh(g), and outputs sigmoid(o) tanh(c_t).

    i, f, o and g, in this order, are W_hc (cont_t h_{t-1}) + W_xc x_t [+ W_xc_static x_static] + b_c.
    """

    gates = 4
    hidden = 2

    def run(self, z: Tensor, cont: Tensor, first: list[Tensor], w_h: Tensor, own: list[Tensor]) -> Tensor:
        """Return the outputs; leave h, c and the gates."""
        h, c = (z.new_empty(z.shape[0] + 1, z.shape[1], self.outputs) for _ in range(2))
        h[0], c[0] = first
        for t in range(z.shape[0]):
            z[t] += product(h[t] * cont[t], w_h)
            i, f, o = z[t, :, : 3 * self.outputs].sigmoid_().chunk(3, -1)
            g = z[t, :, 3 * self.outputs :].tanh_()
            torch.mul(f, c[t] * cont[t], out=c[t + 1]).addcmul_(i, g)
            torch.tanh(c[t + 1], out=h[t + 1]).mul_(o)
        self.steps = [h, c, z]
        return h[1:]

    def run_back(
        self, dy: Tensor, last: list[Tensor], cont: Tensor, w_h: Tensor, own: list[Tensor]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return the gradients of z, h_0 and c_0."""
        _, c, gates = self.steps
        i, f, o, g = gates.chunk(4, -1)
        tanh_c = c[1:].tanh()
        c_to_h = o * (1 - tanh_c * tanh_c)
        c_to_c = f * cont
        # What each step's gradients of c, or for o of h, are multiplied with.
        dz = torch.cat((g * i * (1 - i), c[:-1] * c_to_c * (1 - f), tanh_c * o * (1 - o), i * (1 - g * g)), -1)
        dh, dc = last
        for t in reversed(range(len(dz))):
            dh = dh + dy[t]
            dc = torch.addcmul(dc, dh, c_to_h[t])
            dz[t].mul_(torch.cat((dc, dc, dh, dc), -1))
            dh = product(dz[t], w_h.t()).mul_(cont[t])
            dc = dc * c_to_c[t]
        return dz, [dh, dc], []


@register("LSTMUnit")
class LSTMUnit(_OverSequences):
    """One step of an LSTM: c_{t-1} (1 x N x D), the gates' inputs (1 x N x 4D) and cont (1 x N) -> c_t and h_t."""

    bottoms = (3, 3)
    tops = (2, 2)
    continues = 2

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan 1 x N x D twice."""
        c, x, cont = shapes
        if len(c) != 3 or c[0] != 1 or x != (1, c[1], 4 * c[2]) or cont != c[:2]:
            raise self.fail(f"its bottoms must be 1 x N x D, 1 x N x 4D and 1 x N, not {describe(shapes)}.")
        return Plan((c, c))

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> list[Tensor]:
        """Return c_t and h_t."""
        before, x, cont = bottoms
        cells = before.shape[2]
        i, f, o = x[..., : 3 * cells].sigmoid().chunk(3, -1)
        c = f * (before * cont.unsqueeze(-1)) + i * x[..., 3 * cells :].tanh()
        return [c, o * c.tanh()]
