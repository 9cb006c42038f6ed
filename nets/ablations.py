"""The VOC nets that the papers compare FCN-32s with: each is FCN-32s with one thing changed.

They are written when they are asked for, into voc-fcn-ablations/NAME; VARIANTS says of each what differs. Where
nothing else is said a net is trained as FCN-32s is: from VGG16, on SBD's 8,498 images, by the TPAMI recipe, and scored
on seg11valid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import caffe
from caffe import coord_map
from caffe import layers as L
from caffe import params as P
from nets import heads, vgg16, voc
from nets.dilated import rarefy
from nets.multipliers import FIXED, LEARNED
from nets.recipes import Variant, accumulated, heavy, lengths
from vis import VOID

FOLDER = "voc-fcn-ablations"
DATA = "../../data"

SPLITS = {"train.prototxt": "train", "val.prototxt": "seg11valid", "deploy.prototxt": voc.DEPLOY}
OWN_VAL_SPLITS = {**SPLITS, "val.prototxt": "val"}  # VOC's own val, of which SBD's train has a third
SEG11VALID, VAL = 736, 1111  # how many images they have


def fcn(
    split: str,
    thin: int = 1,
    *,
    trunk: Callable[..., Any] = vgg16.trunk,
    head: Callable[[Any, Any, int], None] = heads.fcn32s,
    loss: Callable[[Any, str], None] | None = None,
    **options: Any,
) -> Any:
    """FCN-32s, but for what is given in the place of one of its parts; ``options`` are the data layer's."""
    n = caffe.NetSpec()
    voc.data(n, split, f"{DATA}/sbdd/dataset", f"{DATA}/pascal/VOC2011", **options)
    features = trunk(n, n.data, dropout=split != voc.DEPLOY, thin=thin)
    head(n, features, voc.CLASSES)
    if loss is None:
        voc.loss(n, split, normalize=False)
    else:
        loss(n, split)
    return n.to_proto()


# Trunks


def undropped(n: Any, bottom: Any, dropout: bool, **options: Any) -> Any:
    """VGG16 without its dropout."""
    return vgg16.trunk(n, bottom, dropout=False, **options)


def unlearned(n: Any, bottom: Any, **options: Any) -> Any:
    """VGG16 with random weights (He et al. 2015), which want an input near unit scale."""
    n.scaled = L.Power(bottom, scale=1 / 64)
    return vgg16.trunk(n, n.scaled, weight_filler={"type": "msra"}, **options)


# Heads


def from_pool(n: Any, features: Any, classes: int, *, pool: str) -> None:
    """Score the trunk's last layer, a pooling layer, and up-sample by its stride at once."""
    stride = 2 ** int(pool.removeprefix("pool"))
    n[f"score_{pool}"] = top = heads.score(features, classes)
    n[f"upscore{stride}"] = top = heads.upsample(top, classes, kernel_size=2 * stride, stride=stride)
    n.score = coord_map.crop(top, n.data)


def larger(scores: Any, finer_scores: Any) -> Any:
    """The larger of two scores, at each place and for each class."""
    return L.Eltwise(scores, finer_scores, operation=P.Eltwise.MAX)


def null_background(n: Any, features: Any, classes: int) -> None:
    """Scores of the objects' classes, score_objects; in ``score`` the background's, a constant 0, comes before them."""
    heads.fcn32s(n, features, classes - 1, suffix="_objects")
    first, others = L.Slice(n.score_objects, axis=1, slice_point=[1], ntop=2)
    n.score_first, n.score_others = first, others
    n.unused = L.Silence(n.score_others, ntop=0)
    n.score_background = L.Power(n.score_first, scale=0)
    n.score = L.Concat(n.score_background, n.score_objects)


# Losses, none of which a net for DEPLOY has


def sigmoid(n: Any, split: str, *, score: str = "score", background: bool = True) -> None:
    """Add a yes or no for each class, summed over classes and pixels, in the place of the softmax."""
    if split != voc.DEPLOY:
        settings = {"classes": voc.CLASSES, "background": background}
        n.targets = L.Python(n.label, module="layers", layer="ClassTargetsLayer", param_str=str(settings))
        n.loss = L.SigmoidCrossEntropyLoss(n[score], n.targets, loss_param={"ignore_label": VOID, "normalize": False})


def class_balanced(n: Any, split: str) -> None:
    """Add the softmax loss, summed, each pixel's multiplied by the weight of its class.

    The weights are the diagonal of class_weights, a parameter that does not learn: solve.py fills it from the labels'
    frequencies, and a snapshot keeps it.
    """
    if split != voc.DEPLOY:
        n.class_weights = L.Parameter(shape={"dim": [voc.CLASSES, voc.CLASSES]}, param=FIXED)
        n.loss = L.InfogainLoss(
            n.score, n.label, n.class_weights, loss_param={"ignore_label": VOID, "normalize": False}
        )


def sampled(n: Any, split: str, *, keep: float) -> None:
    """Add the mean loss over a random part of the cells: each is kept with the probability ``keep``."""
    if split == "train":
        settings = {"keep": keep, "cell": 32, "seed": 1337}
        n.sampled = L.Python(n.label, module="layers", layer="LossSamplingLayer", param_str=str(settings))
        voc.loss(n, split, normalize=True, label="sampled")
    else:
        voc.loss(n, split, normalize=True)


# Changes to a net that is made


def output_only(net: Any) -> Any:
    """Let nothing learn but the score layers."""
    for layer in net.layer:
        if not layer.name.startswith("score"):
            for param in layer.param:
                param.lr_mult = 0
    return net


def biases_doubled(net: Any) -> Any:
    """Let each convolution learn as VGG16's do: AlexNet's layers in the reference say nothing of rates."""
    for layer in net.layer:
        if layer.type == "Convolution" and not layer.param:
            for fields in LEARNED:
                layer.param.add(**fields)
    return net


def pool5_at_stride_1(net: Any) -> Any:
    """Give pool5 the stride 1, and fc6 a window of 14 x 14 cells, which covers as many pixels as 7 x 7 did.

    The classifier's fc6 does not fit, so that this one has another name and random weights.
    """
    layers = {layer.name: layer for layer in net.layer}
    layers["pool5"].pooling_param.stride = 1
    fc6, up = layers["fc6"], layers["upscore"]
    fc6.name, fc6.convolution_param.kernel_size[:] = "fc6_14x14", [14]
    fc6.convolution_param.weight_filler.type = "msra"
    up.name, up.convolution_param.kernel_size[:], up.convolution_param.stride[:] = "upscore16", [32], [16]
    # By a cell more of 16 pixels; with a pad of 100 the scores would begin 5 pixels within the image.
    layers["conv1_1"].convolution_param.pad[:] = [116]
    layers["score"].crop_param.offset[:] = [11]
    return net


def changed(change: Callable[[Any], Any], net: Callable[..., Any], split: str, thin: int = 1, **settings: Any) -> Any:
    """What ``net`` makes, with a change."""
    return change(net(split, thin=thin, **settings))


# By a margin of two cells every pixel lies between two cells, and images of every size have scores.
dilated = partial(changed, partial(rarefy, strided=("pool4", "pool5"), margin=16), fcn)


# The table


def _variant(
    about: str,
    net: Callable[..., Any] = fcn,
    *,
    of: str = "voc-fcn32s",
    starts_from: tuple[str, ...] = ("vgg16",),
    splits: Mapping[str, str] = SPLITS,
    solver: Mapping[str, Any] | None = None,
) -> Variant:
    solver = heavy(splits, SEG11VALID) if solver is None else solver
    return Variant(
        net=net, splits=splits, starts_from=starts_from, **lengths(solver), solver=solver, of=of, about=about
    )


# Of table 1, its nets: 175 epochs of VOC's own 1,112 images, 20 at a step.
_TABLE1 = "CVPR recipe on VOC's 1,112 train images, scored on all of its val; published mean IU"


def _table1(about: str, net: Callable[..., Any], of: str, base: str, base_lr: float) -> Variant:
    net = partial(net, data_dir=DATA, normalize=True, sbdd=False)
    solver = accumulated(OWN_VAL_SPLITS, VAL, base_lr, max_iter=9730, snapshot=973)
    return _variant(about, net, of=of, starts_from=(base,), splits=OWN_VAL_SPLITS, solver=solver)


def _sampled(about: str, keep: float, images: int) -> Variant:
    solver = accumulated(SPLITS, SEG11VALID, 1e-4, max_iter=1700, snapshot=1700, iter_size=images)
    return _variant(about, partial(fcn, loss=partial(sampled, keep=keep)), solver=solver)


def _truncated(about: str, pool: str, base_lr: float) -> Variant:
    net = partial(fcn, trunk=partial(vgg16.trunk, until=pool), head=partial(from_pool, pool=pool))
    return _variant(about, net, solver=heavy(SPLITS, SEG11VALID, base_lr))


# The rows of the papers' tables that they give.
PUBLISHED = {
    "table1-alexnet": "pami1/alexnet",
    "table1-vgg16": "pami1/vgg16",
    "table1-googlenet": "pami1/googlenet",
    "accum": "pami2/accum",
    "online": "pami2/online",
    "32s-fixed": "pami3/32s-fixed",
    "pool5": "pami3/pool5",
    "pool4": "pami3/pool4",
    "pool3": "pami3/pool3",
    "fg-only": "pami8/fg-only",
    "bg-only": "pami8/bg-only",
    "shape": "pami8/shape",
    "voc-train": "pami-text/voc-train",
    "null-background": "pami-text/null-background",
    "sigmoid": "pami-text/sigmoid",
    "max-fusion": "pami-text/max-fusion",
    "no-dropout": "pami-text/no-dropout",
    "random-score": "pami-text/random-init",
    "learned-interpolation": "pami-text/learned-interpolation",
    "augmented": "pami-text/augmentation",
    "class-balanced": "pami-text/class-balancing",
    "dilated": "pami-text/dilated",
    "lr-drop": "pami-text/lr-drop",
    "pool5-stride1": "pami-text/pool5-stride-1",
    "scratch": "pami-text/from-scratch",
    "sampled-100": "fig5/full",
    "sampled-50": "fig5/half",
    "sampled-25": "fig5/quarter",
}

VARIANTS: dict[str, Variant] = {
    f"{FOLDER}/{name}": replace(variant, published=PUBLISHED.get(name, ""))
    for name, variant in {
        "table1-alexnet": _table1(
            f"{_TABLE1} 39.8; rate 1e-3, biases' rate doubled as the papers say",
            partial(changed, biases_doubled, voc.fcn_alexnet),
            "voc-fcn-alexnet",
            "alexnet",
            1e-3,
        ),
        "table1-vgg16": _table1(
            f"{_TABLE1} 56.0; rate 1e-4", partial(voc.fcn_vgg16, head=heads.fcn32s), "voc-fcn32s", "vgg16", 1e-4
        ),
        "table1-googlenet": _table1(
            f"{_TABLE1} 42.5 (of the authors' own GoogLeNet; here BVLC's); rate 5e-5",
            voc.fcn_googlenet,
            "voc-fcn-googlenet",
            "googlenet",
            5e-5,
        ),
        # Caffe divides the gradients of 20 images by 20: a rate of 20 times 1e-10 takes the same step for each pixel.
        "accum": _variant(
            "20 images a step, momentum 0.9, 100,000 images, the loss a sum; published 51.9. The rate is not: "
            "2e-9, which is 1e-10 for each of the 20",
            solver=heavy(SPLITS, SEG11VALID, 2e-9, momentum=0.9, iter_size=20, max_iter=5000, snapshot=200),
        ),
        "online": _variant(
            "momentum 0.9; published 60.7. The rate is not: 1e-10, as with momentum 0.99",
            solver=heavy(SPLITS, SEG11VALID, momentum=0.9),
        ),
        "32s-fixed": _variant("nothing learns but the score layer; published 46.6", partial(changed, output_only, fcn)),
        "pool5": _truncated("the trunk ends at pool5, stride 32; published 50.0", "pool5", 1e-10),
        # Features of pool4 are larger than those of fc7, and of pool3 larger still (heads.AT_ONCE).
        "pool4": _truncated(
            "the trunk ends at pool4, stride 16; published 22.4. The rate is not: FCN-16s's 1e-12, as it scores pool4",
            "pool4",
            1e-12,
        ),
        "pool3": _truncated(
            "the trunk ends at pool3, stride 8; published 9.2. The rate is not: FCN-8s's 1e-14, as it scores pool3",
            "pool3",
            1e-14,
        ),
        "voc-train": _variant("VOC's own 1,112 train images, not SBD's; published 57.7", partial(fcn, sbdd=False)),
        "null-background": _variant(
            "the background's score is 0, the 20 others' loss a sigmoid; published: 1 point below FCN-32s",
            partial(fcn, head=null_background, loss=partial(sigmoid, score="score_objects", background=False)),
        ),
        "sigmoid": _variant(
            "a sigmoid loss for each of the 21 classes; published: as FCN-32s. The rate is not: FCN-32s's",
            partial(fcn, loss=sigmoid),
        ),
        "max-fusion": _variant(
            "FCN-16s with the maximum of the two scores for their sum; published: hard to learn",
            partial(fcn, head=partial(heads.fcn16s, fuse=larger)),
            of="voc-fcn16s",
            starts_from=("voc-fcn32s",),
            solver=heavy(SPLITS, SEG11VALID, 1e-12),
        ),
        "no-dropout": _variant("no dropout; published: little to no difference", partial(fcn, trunk=undropped)),
        "random-score": _variant(
            "random weights in the score layer (Gaussian; its deviation of 0.01 is chosen here); published: no better",
            partial(fcn, head=partial(heads.fcn32s, weight_filler={"type": "gaussian", "std": 0.01})),
        ),
        "learned-interpolation": _variant(
            "FCN-8s whose 2x interpolation learns, as in the papers; from FCN-16s, whose does not, as in the reference",
            partial(fcn, head=partial(heads.fcn8s, interpolation=[{"lr_mult": 1}])),
            of="voc-fcn8s",
            starts_from=("voc-fcn16s",),
            solver=heavy(SPLITS, SEG11VALID, 1e-14),
        ),
        "augmented": _variant(
            "images mirrored and moved by up to 32 pixels at random; published: no noticeable gain",
            partial(fcn, mirror=True, jitter=32),
        ),
        "class-balanced": _variant(
            "each class counts as much as any other: weights of inverse frequency, chosen here; published: unnecessary",
            partial(fcn, loss=class_balanced),
        ),
        "sampled-100": _sampled(
            "figure 5: 20 images a step, mean loss, rate 1e-4, 1,700 iterations as drawn; published loss then 0.41",
            1.0,
            20,
        ),
        "sampled-50": _sampled("figure 5: half of the cells, 40 images a step; published loss then 0.42", 0.5, 40),
        "sampled-25": _sampled(
            "figure 5: a quarter of the cells, 80 images a step; published loss then 0.41", 0.25, 80
        ),
        "fg-only": _variant(
            "background masked in training and scoring; published 76.1 without background. Masked with the mean colour",
            partial(fcn, mask="background"),
        ),
        "bg-only": _variant(
            "foreground masked in training and scoring; published 37.8 without background. Masked with the mean colour",
            partial(fcn, mask="foreground"),
        ),
        "shape": _variant(
            "both masked, the foreground white and all else black; published 29.1 without background",
            partial(fcn, mask="both"),
        ),
        "dilated": _variant(
            "stride 8 by filter rarefaction of pool4, pool5 and what follows; published: not worth its cost", dilated
        ),
        "lr-drop": _variant(
            "FCN-32s goes on at a hundredth of the rate, without FCN-16s's skip; published: negligible gain",
            starts_from=("voc-fcn32s",),
            solver=heavy(SPLITS, SEG11VALID, 1e-12),
        ),
        "pool5-stride1": _variant(
            "pool5 at stride 1 and fc6 of 14 x 14 cells, with random weights; published: hard to learn",
            partial(changed, pool5_at_stride_1, fcn),
        ),
        "scratch": _variant(
            "from random weights, the input scaled by 1/64 for them; published: substantially lower accuracy",
            partial(fcn, trunk=unlearned),
            starts_from=(),
        ),
    }.items()
}
