"""Nets and solvers of older Caffe versions, rewritten in today's fields, as Caffe does when it reads them.

Four generations of nets are read: V0 (`layers { layer { type: "conv" } }`), V1 (`layers { type: CONVOLUTION }`, the
form of most published weights), today's `layer` with the net's inputs in fields of their own, and today's. The source
is Caffe's src/caffe/util/upgrade_proto.cpp.
"""

from __future__ import annotations

import os
from typing import Any

from google.protobuf.message import Message

from .. import glog
from ..errors import NetError, SolverError
from ..proto import caffe_pb2

_V1 = caffe_pb2.V1LayerParameter

# Today's name of each V1 layer type.
V1_TYPES = {
    _V1.NONE: "",
    _V1.ABSVAL: "AbsVal",
    _V1.ACCURACY: "Accuracy",
    _V1.ARGMAX: "ArgMax",
    _V1.BNLL: "BNLL",
    _V1.CONCAT: "Concat",
    _V1.CONTRASTIVE_LOSS: "ContrastiveLoss",
    _V1.CONVOLUTION: "Convolution",
    _V1.DATA: "Data",
    _V1.DECONVOLUTION: "Deconvolution",
    _V1.DROPOUT: "Dropout",
    _V1.DUMMY_DATA: "DummyData",
    _V1.EUCLIDEAN_LOSS: "EuclideanLoss",
    _V1.ELTWISE: "Eltwise",
    _V1.EXP: "Exp",
    _V1.FLATTEN: "Flatten",
    _V1.HDF5_DATA: "HDF5Data",
    _V1.HDF5_OUTPUT: "HDF5Output",
    _V1.HINGE_LOSS: "HingeLoss",
    _V1.IM2COL: "Im2col",
    _V1.IMAGE_DATA: "ImageData",
    _V1.INFOGAIN_LOSS: "InfogainLoss",
    _V1.INNER_PRODUCT: "InnerProduct",
    _V1.LRN: "LRN",
    _V1.MEMORY_DATA: "MemoryData",
    _V1.MULTINOMIAL_LOGISTIC_LOSS: "MultinomialLogisticLoss",
    _V1.MVN: "MVN",
    _V1.POOLING: "Pooling",
    _V1.POWER: "Power",
    _V1.RELU: "ReLU",
    _V1.SIGMOID: "Sigmoid",
    _V1.SIGMOID_CROSS_ENTROPY_LOSS: "SigmoidCrossEntropyLoss",
    _V1.SILENCE: "Silence",
    _V1.SOFTMAX: "Softmax",
    _V1.SOFTMAX_LOSS: "SoftmaxWithLoss",
    _V1.SPLIT: "Split",
    _V1.SLICE: "Slice",
    _V1.TANH: "TanH",
    _V1.WINDOW_DATA: "WindowData",
    _V1.THRESHOLD: "Threshold",
}

# The V1 type of each V0 layer type; "padding" has none, since it goes into the layer that it pads for.
V0_TYPES = {
    "accuracy": _V1.ACCURACY,
    "bnll": _V1.BNLL,
    "concat": _V1.CONCAT,
    "conv": _V1.CONVOLUTION,
    "data": _V1.DATA,
    "dropout": _V1.DROPOUT,
    "euclidean_loss": _V1.EUCLIDEAN_LOSS,
    "flatten": _V1.FLATTEN,
    "hdf5_data": _V1.HDF5_DATA,
    "hdf5_output": _V1.HDF5_OUTPUT,
    "im2col": _V1.IM2COL,
    "images": _V1.IMAGE_DATA,
    "infogain_loss": _V1.INFOGAIN_LOSS,
    "innerproduct": _V1.INNER_PRODUCT,
    "lrn": _V1.LRN,
    "multinomial_logistic_loss": _V1.MULTINOMIAL_LOGISTIC_LOSS,
    "pool": _V1.POOLING,
    "relu": _V1.RELU,
    "sigmoid": _V1.SIGMOID,
    "softmax": _V1.SOFTMAX,
    "softmax_loss": _V1.SOFTMAX_LOSS,
    "split": _V1.SPLIT,
    "tanh": _V1.TANH,
    "window_data": _V1.WINDOW_DATA,
}

# Where each V0 field goes, by V0 layer type ("*": whatever the type). What is not named here was never read by Caffe.
_SOURCES = {
    "data": "data_param.source",
    "hdf5_data": "hdf5_data_param.source",
    "images": "image_data_param.source",
    "window_data": "window_data_param.source",
    "infogain_loss": "infogain_loss_param.source",
}
_V0_FIELDS = {
    "num_output": {"conv": "convolution_param.num_output", "innerproduct": "inner_product_param.num_output"},
    "biasterm": {"conv": "convolution_param.bias_term", "innerproduct": "inner_product_param.bias_term"},
    "weight_filler": {
        "conv": "convolution_param.weight_filler",
        "innerproduct": "inner_product_param.weight_filler",
    },
    "bias_filler": {"conv": "convolution_param.bias_filler", "innerproduct": "inner_product_param.bias_filler"},
    "pad": {"conv": "convolution_param.pad", "pool": "pooling_param.pad"},
    "kernelsize": {"conv": "convolution_param.kernel_size", "pool": "pooling_param.kernel_size"},
    "group": {"conv": "convolution_param.group"},
    "stride": {"conv": "convolution_param.stride", "pool": "pooling_param.stride"},
    "pool": {"pool": "pooling_param.pool"},
    "dropout_ratio": {"dropout": "dropout_param.dropout_ratio"},
    "local_size": {"lrn": "lrn_param.local_size"},
    "alpha": {"lrn": "lrn_param.alpha"},
    "beta": {"lrn": "lrn_param.beta"},
    "k": {"lrn": "lrn_param.k"},
    "source": _SOURCES,
    "scale": {"*": "transform_param.scale"},
    "meanfile": {"*": "transform_param.mean_file"},
    "batchsize": {
        "data": "data_param.batch_size",
        "hdf5_data": "hdf5_data_param.batch_size",
        "images": "image_data_param.batch_size",
        "window_data": "window_data_param.batch_size",
    },
    "cropsize": {"*": "transform_param.crop_size"},
    "mirror": {"*": "transform_param.mirror"},
    "rand_skip": {"data": "data_param.rand_skip", "images": "image_data_param.rand_skip"},
    "shuffle_images": {"images": "image_data_param.shuffle"},
    "new_height": {"images": "image_data_param.new_height"},
    "new_width": {"images": "image_data_param.new_width"},
    "concat_dim": {"concat": "concat_param.concat_dim"},
    "det_fg_threshold": {"window_data": "window_data_param.fg_threshold"},
    "det_bg_threshold": {"window_data": "window_data_param.bg_threshold"},
    "det_fg_fraction": {"window_data": "window_data_param.fg_fraction"},
    "det_context_pad": {"window_data": "window_data_param.context_pad"},
    "det_crop_mode": {"window_data": "window_data_param.crop_mode"},
    "hdf5_output_param": {"hdf5_output": "hdf5_output_param"},
    "name": {"*": "name"},
    "blobs": {"*": "blobs"},
    "blobs_lr": {"*": "blobs_lr"},
    "weight_decay": {"*": "weight_decay"},
}

# V1 data layers and the settings of theirs that transform_param took over.
_OLD_TRANSFORMS = {_V1.DATA: "data_param", _V1.IMAGE_DATA: "image_data_param", _V1.WINDOW_DATA: "window_data_param"}
_TRANSFORM_FIELDS = ("scale", "mean_file", "crop_size", "mirror")

_SOLVER_TYPES = {
    caffe_pb2.SolverParameter.SGD: "SGD",
    caffe_pb2.SolverParameter.NESTEROV: "Nesterov",
    caffe_pb2.SolverParameter.ADAGRAD: "AdaGrad",
    caffe_pb2.SolverParameter.RMSPROP: "RMSProp",
    caffe_pb2.SolverParameter.ADADELTA: "AdaDelta",
    caffe_pb2.SolverParameter.ADAM: "Adam",
}


def upgrade_net(net: caffe_pb2.NetParameter) -> bool:
    """Rewrite a net of any age in today's fields, in place, its blobs kept; return whether anything changed.

    Raises NetError where there is no such net today: a V0 type that Caffe never had, a padding layer before a layer
    that cannot pad, `layer` and `layers` in one net, fewer input shapes than inputs.
    """
    old_layers, old_inputs = bool(net.layers), bool(net.input)
    if any(layer.HasField("layer") for layer in net.layers):
        _fold_padding_layers(net)
        for layer in net.layers:
            if layer.HasField("layer"):
                _upgrade_v0_layer(layer)
    if old_layers:
        _upgrade_v1_net(net)
    if old_inputs:
        _upgrade_inputs(net)
    return _stop_batch_norm_updates(net) or old_layers or old_inputs


def upgrade_solver(solver: caffe_pb2.SolverParameter, path: str | None = None) -> bool:
    """Rewrite a solver of any age in today's fields, in place; return whether anything changed.

    With the solver file's `path`, an unset snapshot_prefix becomes that path without its extension, and one that is a
    folder becomes a file of the solver's name in it. Nets that stand in the solver itself are upgraded too.
    Raises SolverError if both `solver_type` (old) and `type` are set, NetError as upgrade_net does.
    """
    changed = False
    if solver.HasField("solver_type"):
        if solver.HasField("type"):
            raise SolverError(
                "The solver has both solver_type (the old enum) and type (a string) set; remove solver_type."
            )
        solver.type = _SOLVER_TYPES[solver.solver_type]
        solver.ClearField("solver_type")
        changed = True
    if path is not None:
        stem = os.path.splitext(path)[0]
        if not solver.HasField("snapshot_prefix"):
            solver.snapshot_prefix = stem
            changed = True
        elif os.path.isdir(solver.snapshot_prefix):
            solver.snapshot_prefix = os.path.join(solver.snapshot_prefix, os.path.basename(stem))
            changed = True
    for name in ("net_param", "train_net_param"):
        if solver.HasField(name):
            changed = upgrade_net(getattr(solver, name)) or changed
    for net in solver.test_net_param:
        changed = upgrade_net(net) or changed
    return changed


def _fold_padding_layers(net: caffe_pb2.NetParameter) -> None:
    """Drop V0's padding layers; the convolution or pooling that reads one takes over its pad and its bottom."""
    maker: dict[str, Any] = dict.fromkeys(net.input)
    kept = []
    for layer in net.layers:
        for index, bottom in enumerate(layer.bottom):
            if bottom not in maker:
                raise NetError(f'Layer "{layer.layer.name}" reads the blob "{bottom}", which no layer before it makes.')
            source = maker[bottom]
            if source is None or source.layer.type != "padding":
                continue
            if layer.layer.type not in ("conv", "pool"):
                raise NetError(
                    f'Layer "{layer.layer.name}" of type "{layer.layer.type}" reads the padding layer '
                    f'"{source.layer.name}"; only conv and pool layers can pad.'
                )
            if len(layer.bottom) != 1 or len(source.bottom) != 1 or len(source.top) != 1:
                raise NetError(
                    f'The padding layer "{source.layer.name}" and the layer "{layer.layer.name}" that reads it must '
                    f"each have one bottom and one top; they have bottoms {list(source.bottom)}, {list(layer.bottom)}."
                )
            layer.layer.pad = source.layer.pad
            layer.bottom[index] = source.bottom[0]
        maker.update(dict.fromkeys(layer.top, layer))
        if layer.layer.type != "padding":
            kept.append(layer)
    folded = caffe_pb2.NetParameter(layers=kept)
    net.ClearField("layers")
    net.layers.MergeFrom(folded.layers)


def _upgrade_v0_layer(layer: caffe_pb2.V1LayerParameter) -> None:
    """Move what a V0 layer's inner message says to the V1 message around it."""
    old = caffe_pb2.V0LayerParameter()
    old.CopyFrom(layer.layer)
    layer.ClearField("layer")
    if old.HasField("type"):
        if old.type not in V0_TYPES:
            raise NetError(f'Layer "{old.name}" has the unknown type "{old.type}". V0 has {", ".join(V0_TYPES)}.')
        layer.type = V0_TYPES[old.type]
    for field, value in old.ListFields():
        if field.name == "type":
            continue
        places = _V0_FIELDS.get(field.name, {})
        place = places.get(old.type) or places.get("*")
        if place is None:
            glog.warning(f'Layer "{old.name}": a {old.type} layer has no {field.name}; it is left out.')
        else:
            _put(layer, place, value)


def _put(message: Message, place: str, value: Any) -> None:
    """Set the field that a dotted path names; a repeated one takes a single value as its first."""
    *owners, name = place.split(".")
    for owner in owners:
        message = getattr(message, owner)
    if isinstance(value, Message):
        getattr(message, name).CopyFrom(value)
    elif not isinstance(getattr(message, name), int | float | str | bool):
        getattr(message, name).extend(value if hasattr(value, "__len__") else [value])
    else:
        setattr(message, name, value)


def _upgrade_v1_net(net: caffe_pb2.NetParameter) -> None:
    if net.layer:
        raise NetError(
            f'The net "{net.name}" has both layer and layers fields. Today\'s are layer {{ type: "Convolution" }}, the '
            "old ones layers { type: CONVOLUTION }; write all of them in one form."
        )
    for layer in net.layers:
        _move_transform(layer)
        _upgrade_v1_layer(layer, net.layer.add())
    net.ClearField("layers")


def _move_transform(layer: caffe_pb2.V1LayerParameter) -> None:
    """Move scale, mean_file, crop_size and mirror of a data layer to its transform_param."""
    if layer.type in _OLD_TRANSFORMS and layer.HasField(_OLD_TRANSFORMS[layer.type]):
        settings = getattr(layer, _OLD_TRANSFORMS[layer.type])
        for name in _TRANSFORM_FIELDS:
            if settings.HasField(name):
                setattr(layer.transform_param, name, getattr(settings, name))
                settings.ClearField(name)


def _upgrade_v1_layer(old: caffe_pb2.V1LayerParameter, new: caffe_pb2.LayerParameter) -> None:
    new.type = V1_TYPES[old.type]
    for index, name in enumerate(old.param):
        _spec(new, index).name = name
    for index, mode in enumerate(old.blob_share_mode):
        # The two enums have the same numbers.
        _spec(new, index).share_mode = caffe_pb2.ParamSpec.PERMISSIVE if mode else caffe_pb2.ParamSpec.STRICT
    for index, multiplier in enumerate(old.blobs_lr):
        _spec(new, index).lr_mult = multiplier
    for index, multiplier in enumerate(old.weight_decay):
        _spec(new, index).decay_mult = multiplier
    for field, value in old.ListFields():
        if field.name in ("type", "param", "blob_share_mode", "blobs_lr", "weight_decay"):
            continue
        if isinstance(value, Message):
            getattr(new, field.name).CopyFrom(value)
        elif isinstance(value, str):
            setattr(new, field.name, value)
        else:
            getattr(new, field.name).MergeFrom(value)


def _spec(layer: caffe_pb2.LayerParameter, index: int) -> caffe_pb2.ParamSpec:
    while len(layer.param) <= index:
        layer.param.add()
    return layer.param[index]


def _upgrade_inputs(net: caffe_pb2.NetParameter) -> None:
    """Turn the net's inputs into an Input layer at its head; without shapes (a weights file's) they are dropped."""
    count = len(net.input)
    if net.input_shape or net.input_dim:
        given = len(net.input_shape) if net.input_shape else len(net.input_dim) // 4
        if given < count:
            raise NetError(
                f'The net "{net.name}" has {count} inputs and shapes for {given} of them; each input needs an '
                "input_shape, or four input_dim."
            )
        layers = caffe_pb2.NetParameter()
        head = layers.layer.add(name="input", type="Input", top=net.input)
        for index in range(count):
            dims = net.input_shape[index].dim if net.input_shape else net.input_dim[4 * index : 4 * index + 4]
            head.input_param.shape.add(dim=dims)
        layers.layer.MergeFrom(net.layer)
        net.ClearField("layer")
        net.layer.MergeFrom(layers.layer)
    for name in ("input", "input_shape", "input_dim"):
        net.ClearField(name)


def _stop_batch_norm_updates(net: caffe_pb2.NetParameter) -> bool:
    """Set the multipliers of a BatchNorm's three param blocks to 0: old nets gave them to its statistics."""
    changed = False
    for layer in net.layer:
        if layer.type == "BatchNorm" and len(layer.param) == 3:
            for spec in layer.param:
                changed = changed or (spec.lr_mult, spec.decay_mult) != (0, 0)
                spec.lr_mult = spec.decay_mult = 0
    return changed


__all__ = ["V0_TYPES", "V1_TYPES", "upgrade_net", "upgrade_solver"]
