"""Graph: a NetParameter's layers, made and wired: blobs, parameters and their sharing, who needs a gradient.

The rules are net.cpp's Init, AppendTop, AppendBottom and AppendParam.
"""

from __future__ import annotations

import importlib
from collections import Counter
from dataclasses import dataclass, field

from . import (
    glog,
    layer_types,  # noqa: F401  importing it registers them
)
from .blob import Blob, BoolVec, RawBlobVec, describe
from .data.ahead import Ahead
from .errors import CaffeError, NetError, nearest
from .formats.stored_blob import blob_from_proto
from .layer import Layer, layer_class, type_names
from .proto import caffe_pb2
from .splits import filter_layers, insert_splits
from .world import multiprocess, solver_count

AUTOMATIC = "(automatic)"  # the name of a top that a loss layer was not given


@dataclass
class Node:
    """One layer with its place in the net."""

    name: str
    layer: Layer
    bottom: RawBlobVec
    top: RawBlobVec
    bottom_names: list[str]
    top_names: list[str]
    bottom_need_backward: BoolVec
    need_backward: bool
    param_need_backward: list[bool] = field(default_factory=list)
    loss_weights: list[float] = field(default_factory=list)
    ahead: Ahead | None = None  # where a data layer is run ahead of the net

    def __post_init__(self) -> None:
        self.explained = explained(self.name, self.layer.layer_param.type, self.bottom)


@dataclass
class LearnableParam:
    """A parameter blob that the solver updates, with its multipliers; shared ones appear once, by their owner."""

    blob: Blob
    lr_mult: float
    decay_mult: float
    layer_name: str
    index: int
    explicit_lr: bool = False
    explicit_decay: bool = False


class Graph:
    """The wired layers of a net."""

    def __init__(self, param: caffe_pb2.NetParameter) -> None:
        """Build from a NetParameter of today's form whose `state` is set.

        Raises NetError, naming the layer, for whatever cannot be wired; ImportError for a Python layer whose
        module is not found.
        """
        self.param = insert_splits(filter_layers(param))
        self.phase = param.state.phase
        self.nodes: list[Node] = []
        self.blobs: dict[str, Blob] = {}  # in order of creation
        self.loss_weights: dict[str, float] = {}
        self.learnable: list[LearnableParam] = []
        self.borrowed: list[Blob] = []  # parameter blobs whose memory is another layer's
        self.inputs: list[str] = []
        self._blob_needs_backward: dict[str, bool] = {}
        self._available: set[str] = set()
        self._named_params: dict[str, LearnableParam] = {}
        self._warn_of_equal_names()
        for layer_param in self.param.layer:
            self._append(layer_param)
        self.outputs = sorted(self._available)
        self._prune_backward()
        if param.force_backward:
            self._force_backward()
        for node in self.nodes:
            node.layer._note_gradients(node.param_need_backward, node.need_backward)

    def _warn_of_equal_names(self) -> None:
        for name, count in Counter(layer.name for layer in self.param.layer).items():
            if count > 1:
                glog.warning(
                    f"{count} layers are named '{name}'. Weights are found by layer name, and only the first of them "
                    "will be found."
                )

    def owns(self, blob: Blob) -> bool:
        """Tell whether a parameter blob's memory is its own layer's."""
        return not any(blob is b for b in self.borrowed)

    def _append(self, param: caffe_pb2.LayerParameter) -> None:
        """Make one layer, wire it to the blobs so far and set it up."""
        if not param.HasField("phase"):
            param.phase = self.phase
        if param.propagate_down and len(param.propagate_down) != len(param.bottom):
            raise NetError(
                f"Layer '{param.name}': propagate_down is given {len(param.propagate_down)} times for "
                f"{len(param.bottom)} bottoms; give it once for each, or not at all."
            )
        layer = make_layer(param)
        bottoms, wants = self._take_bottoms(param)
        top_names = self._name_tops(param, layer)
        top = RawBlobVec(self.blobs[n] for n in top_names)
        bottom = RawBlobVec(self.blobs[n] for n in bottoms)
        if param.type == "Input":
            self.inputs.extend(top_names)
        with explained(param.name, param.type, bottom):
            _load_stored_blobs(layer, param)
            layer.setup(bottom, top)
            layer.reshape(bottom, top)
        weights = self._loss_weights(param, layer, top_names)
        params_want = self._append_params(layer)
        need = any(wants) or any(params_want)
        if need:
            self._blob_needs_backward.update(dict.fromkeys(top_names, True))
        ahead = Ahead(layer) if Ahead.allowed(layer, bottom) else None
        self.nodes.append(
            Node(param.name, layer, bottom, top, bottoms, top_names, wants, need, params_want, weights, ahead)
        )

    def _take_bottoms(self, param: caffe_pb2.LayerParameter) -> tuple[list[str], BoolVec]:
        """Return the bottoms' names and whether each needs a gradient; they are outputs of the net no more."""
        wants = BoolVec()
        for j, name in enumerate(param.bottom):
            self._available.discard(name)
            wants.append(
                param.propagate_down[j] if param.propagate_down else self._blob_needs_backward.get(name, False)
            )
        return list(param.bottom), wants

    def _name_tops(self, param: caffe_pb2.LayerParameter, layer: Layer) -> list[str]:
        """Make the blobs of the tops, but for one that a layer writes over its own bottom."""
        names = [*param.top, *[AUTOMATIC] * layer._unnamed_tops(len(param.top))]
        for j, name in enumerate(names):
            in_place = j < len(param.bottom) and param.bottom[j] == name
            if not in_place:
                if name in self.blobs and name != AUTOMATIC:
                    raise NetError(
                        f"Top blob '{name}' of layer '{param.name}' is made by an earlier layer already. A layer may "
                        "write over a blob only if that is its own bottom, in the same place."
                    )
                self.blobs[name] = Blob(0)
                self._blob_needs_backward[name] = False
                self.loss_weights[name] = 0.0
            if name != AUTOMATIC:
                self._available.add(name)
        return names

    def _loss_weights(self, param: caffe_pb2.LayerParameter, layer: Layer, top_names: list[str]) -> list[float]:
        """Return each top's weight in the loss; it waits in the top's diff, from where backward starts."""
        given = list(param.loss_weight)
        if given and len(given) != len(param.top):
            raise NetError(
                f"Layer '{param.name}': loss_weight is given {len(given)} times for {len(param.top)} tops; "
                "give it once for each, or not at all."
            )
        if not given and layer._default_loss_weight:
            given = [layer._default_loss_weight]
        weights = given + [0.0] * (len(top_names) - len(given))
        for name, weight in zip(top_names, weights, strict=True):
            if weight:
                self.loss_weights[name] = weight
                blob = self.blobs[name]
                blob.set_diff(blob.diff_tensor().new_full(blob.dims, weight))
        return weights

    def _append_params(self, layer: Layer) -> list[bool]:
        """List the layer's parameters for the solver; tell of each whether it needs a gradient."""
        param = layer.layer_param  # setup may have changed it: BatchNorm's lr_mult is 0 whatever the prototxt says
        if len(param.param) > len(layer.blobs):
            raise NetError(
                f"Layer '{param.name}' ({param.type}) has {len(layer.blobs)} parameter blobs, but {len(param.param)} "
                "param { } messages."
            )
        wanted = []
        for index, blob in enumerate(layer.blobs):
            spec = param.param[index] if index < len(param.param) else caffe_pb2.ParamSpec()
            wanted.append(spec.lr_mult != 0)
            owner = self._named_params.get(spec.name) if spec.name else None
            if owner is not None:
                self.borrowed.append(blob)
            if owner is None:
                owner = LearnableParam(
                    blob, spec.lr_mult, spec.decay_mult, param.name, index,
                    spec.HasField("lr_mult"), spec.HasField("decay_mult"),
                )  # fmt: skip
                self.learnable.append(owner)
                if spec.name:
                    self._named_params[spec.name] = owner
            else:
                _share(owner, blob, spec, param.name, index)
        return wanted

    def _prune_backward(self) -> None:
        """Find, from the last layer up, which layers lie above no loss or below a propagate_down: false."""
        under_loss: set[str] = set()
        skipped: set[str] = set()
        for node in reversed(self.nodes):
            contributes = any(node.loss_weights) or any(n in under_loss for n in node.top_names)
            skip = all(n in skipped for n in node.top_names)
            if skip:
                node.need_backward = False
                node.bottom_need_backward = BoolVec([False] * len(node.bottom_names))
            if not contributes:
                node.need_backward = False
            for j, name in enumerate(node.bottom_names):
                if contributes:
                    under_loss.add(name)
                else:
                    node.bottom_need_backward[j] = False
                if not node.bottom_need_backward[j]:
                    skipped.add(name)

    def _force_backward(self) -> None:
        """Ask for every gradient there is (NetParameter.force_backward)."""
        for node in self.nodes:
            node.need_backward = True
            for j in range(len(node.bottom_names)):
                node.bottom_need_backward[j] |= node.layer.allow_force_backward(j)
            node.param_need_backward = [True] * len(node.layer.blobs)


# What torch says where an allocation fails, on the CPU and on a GPU; on the CPU its exception is a plain RuntimeError.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


class explained:
    """Tell an error of torch's in Caffe's terms: the layer and its bottoms' shapes."""

    __slots__ = ("bottom", "name", "type")

    def __init__(self, name: str, type_: str, bottom: RawBlobVec) -> None:
        self.name, self.type, self.bottom = name, type_, bottom

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, CaffeError) and self.type != "Python" and f"'{self.name}'" not in str(error):
            raise NetError(f"Layer '{self.name}' ({self.type}): {error}") from None
        if self.type == "Python" or isinstance(error, CaffeError):
            return
        if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
            raise NetError(
                f"Layer '{self.name}' ({self.type}): there is not enough memory to run it on its bottoms "
                f"({describe(self.bottom)})."
            ) from error
        if isinstance(error, (RuntimeError, ValueError, TypeError, IndexError, ArithmeticError)):
            raise NetError(
                f"Layer '{self.name}' ({self.type}) failed on its bottoms ({describe(self.bottom)}): {error}"
            ) from error


def make_layer(param: caffe_pb2.LayerParameter) -> Layer:
    """Make the layer that a LayerParameter describes.

    Raises NetError for an unknown type, ImportError for a Python layer whose module or class is not found.
    """
    if param.type == "Python":
        return _make_python_layer(param)
    cls = layer_class(param.type)
    if cls is None:
        close = nearest(param.type, type_names())
        hint = f" Did you mean '{close}'?" if close else ""
        raise NetError(
            f"Unknown layer type: {param.type} (layer '{param.name}').{hint} Known types: {', '.join(type_names())}. "
            "A type of another Caffe can be added with @caffe.layer_type (docs/adding-a-layer-type.md)."
        )
    return cls(param)


def _make_python_layer(param: caffe_pb2.LayerParameter) -> Layer:
    setting = param.python_param
    if param.phase == caffe_pb2.TRAIN and solver_count() > 1 and not multiprocess():
        raise NetError(
            f"Layer '{param.name}': a Python layer trains under {solver_count()} solvers only where each has a process "
            "of its own. Start one process a GPU, and call caffe.set_multiprocess(True) in each (python_layer.hpp)."
        )
    try:
        module = importlib.import_module(setting.module)
    except ModuleNotFoundError as error:
        if error.name and not setting.module.startswith(error.name):
            raise  # the module is there; something that it imports is not
        raise ImportError(
            f"Layer '{param.name}': its python_param names module '{setting.module}', which is not found on "
            "sys.path. Put its folder on PYTHONPATH."
        ) from error
    except (TypeError, ValueError) as error:  # TypeError: a relative name, which no package here can lead
        raise ImportError(f"Layer '{param.name}': python_param needs a module ({error}).") from error
    cls = getattr(module, setting.layer, None)
    if cls is None:
        raise ImportError(f"Layer '{param.name}': module '{setting.module}' has no class '{setting.layer}'.")
    if not (isinstance(cls, type) and issubclass(cls, Layer)):
        raise NetError(f"Layer '{param.name}': {setting.module}.{setting.layer} is no subclass of caffe.Layer.")
    layer = cls(param)
    layer.layer_param = param
    layer.param_str = setting.param_str
    layer.phase = param.phase
    return layer


def _load_stored_blobs(layer: Layer, param: caffe_pb2.LayerParameter) -> None:
    """Start from the blobs that a LayerParameter carries, if it does (layer.hpp's constructor)."""
    if param.blobs:
        for index, proto in enumerate(param.blobs):
            stored = blob_from_proto(proto, f"Layer '{param.name}' ({param.type}): blob {index} of the prototxt")
            layer.blobs.add_blob(*stored.shape)
            layer.blobs[-1].data[...] = stored.data


def _share(owner: LearnableParam, blob: Blob, spec: caffe_pb2.ParamSpec, layer_name: str, index: int) -> None:
    """Let `blob` use the owner's memory, if shape and multipliers agree."""
    where = f"Cannot share param '{spec.name}' owned by layer '{owner.layer_name}' with layer '{layer_name}'"
    if spec.share_mode == caffe_pb2.ParamSpec.PERMISSIVE:
        if owner.blob.count != blob.count:
            raise NetError(
                f"{where}: their counts differ, {describe([owner.blob, blob])} (parameter {index}, PERMISSIVE)."
            )
    elif owner.blob.dims != blob.dims:
        raise NetError(
            f"{where}: their shapes differ, {describe([owner.blob, blob])} (parameter {index}). "
            "share_mode: PERMISSIVE asks for equal counts only."
        )
    for kind, explicit in (("lr_mult", "explicit_lr"), ("decay_mult", "explicit_decay")):
        if spec.HasField(kind):
            if not getattr(owner, explicit):
                setattr(owner, explicit, True)
                setattr(owner, kind, getattr(spec, kind))
            elif getattr(owner, kind) != getattr(spec, kind):
                raise NetError(f"{where}: their {kind} differ, {getattr(owner, kind):g} and {getattr(spec, kind):g}.")
    blob.share_data(owner.blob)
    blob.share_diff(owner.blob)
