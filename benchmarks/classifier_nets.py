"""AlexNet, GoogLeNet and VGG16 as classifiers: each as a Caffe net, and by hand in plain PyTorch.

Dropout, local response normalisation and GoogLeNet's two side classifiers are left in; what reads data is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import caffe
from caffe import layers as L
from caffe import params as P

CLASSES = 1000
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# Of each inception module: 1x1; 3x3 reduced, 3x3; 5x5 reduced, 5x5; behind the pooling.
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}  # fmt: skip


# In Caffe


def _conv(bottom: caffe.net_spec.Top, wide: int, kernel: int, **window: int) -> caffe.net_spec.Top:
    made = L.Convolution(bottom, num_output=wide, kernel_size=kernel, weight_filler={"type": "msra"}, **window)
    return L.ReLU(made, in_place=True)


def _fc(bottom: caffe.net_spec.Top, wide: int) -> caffe.net_spec.Top:
    return L.InnerProduct(bottom, num_output=wide, weight_filler={"type": "xavier"})


def _pool(bottom: caffe.net_spec.Top, kernel: int, stride: int, **window: int) -> caffe.net_spec.Top:
    return L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=kernel, stride=stride, **window)


def _drop(bottom: caffe.net_spec.Top, ratio: float) -> caffe.net_spec.Top:
    return L.Dropout(bottom, dropout_ratio=ratio, in_place=True)


def _lrn(bottom: caffe.net_spec.Top) -> caffe.net_spec.Top:
    return L.LRN(bottom, local_size=5, alpha=1e-4, beta=0.75)


def caffe_alexnet(n: caffe.NetSpec, keep: bool) -> list[tuple[caffe.net_spec.Top, float]]:
    """Add AlexNet (BVLC's, with groups) on n.data; return the scores to be trained and their weights."""
    x = _pool(_lrn(_conv(n.data, 96, 11, stride=4)), 3, 2)
    x = _pool(_lrn(_conv(x, 256, 5, pad=2, group=2)), 3, 2)
    x = _conv(_conv(x, 384, 3, pad=1), 384, 3, pad=1, group=2)
    x = _pool(_conv(x, 256, 3, pad=1, group=2), 3, 2)
    for _ in range(2):
        x = _drop(L.ReLU(_fc(x, 4096), in_place=True), 0.0 if keep else 0.5)
    return [(_fc(x, CLASSES), 1.0)]


def caffe_vgg16(n: caffe.NetSpec, keep: bool) -> list[tuple[caffe.net_spec.Top, float]]:
    """Add VGG16 on n.data; return as caffe_alexnet does."""
    x = n.data
    for widths in VGG16:
        for wide in widths:
            x = _conv(x, wide, 3, pad=1)
        x = _pool(x, 2, 2)
    for _ in range(2):
        x = _drop(L.ReLU(_fc(x, 4096), in_place=True), 0.0 if keep else 0.5)
    return [(_fc(x, CLASSES), 1.0)]


def caffe_googlenet(n: caffe.NetSpec, keep: bool) -> list[tuple[caffe.net_spec.Top, float]]:
    """Add GoogLeNet on n.data; return as caffe_alexnet does."""
    x = _lrn(_pool(_conv(n.data, 64, 7, pad=3, stride=2), 3, 2))
    x = _pool(_lrn(_conv(_conv(x, 64, 1), 192, 3, pad=1)), 3, 2)
    scores = []
    for name, (one, reduced3, three, reduced5, five, behind) in INCEPTION.items():
        x = L.Concat(
            _conv(x, one, 1),
            _conv(_conv(x, reduced3, 1), three, 3, pad=1),
            _conv(_conv(x, reduced5, 1), five, 5, pad=2),
            _conv(_pool(x, 3, 1, pad=1), behind, 1),
        )
        if name in ("3b", "4e"):
            x = _pool(x, 3, 2)
        if name in ("4a", "4d"):
            side = _conv(L.Pooling(x, pool=P.Pooling.AVE, kernel_size=5, stride=3), 128, 1)
            side = _drop(L.ReLU(_fc(side, 1024), in_place=True), 0.0 if keep else 0.7)
            scores.append((_fc(side, CLASSES), 0.3))
    x = _drop(L.Pooling(x, pool=P.Pooling.AVE, kernel_size=7, stride=1), 0.0 if keep else 0.4)
    return [*scores, (_fc(x, CLASSES), 1.0)]


# In PyTorch


class AlexNet(nn.Module):
    """BVLC's AlexNet; returns (scores, weight) pairs, as the other two do."""

    def __init__(self, keep: bool) -> None:
        super().__init__()
        self.convs = nn.ModuleList([
            nn.Conv2d(3, 96, 11, stride=4),
            nn.Conv2d(96, 256, 5, padding=2, groups=2),
            nn.Conv2d(256, 384, 3, padding=1),
            nn.Conv2d(384, 384, 3, padding=1, groups=2),
            nn.Conv2d(384, 256, 3, padding=1, groups=2),
        ])  # fmt: skip
        self.fcs = nn.ModuleList([nn.Linear(9216, 4096), nn.Linear(4096, 4096), nn.Linear(4096, CLASSES)])
        self.dropout = 0.0 if keep else 0.5

    def forward(self, x: Tensor) -> list[tuple[Tensor, float]]:
        """Return the scores of N x 3 x 227 x 227."""
        for i, conv in enumerate(self.convs):
            x = F.relu(conv(x), inplace=True)
            if i < 2:
                x = F.local_response_norm(x, 5, 1e-4, 0.75, 1.0)
            if i in (0, 1, 4):
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = x.flatten(1)
        for fc in self.fcs[:-1]:
            x = F.dropout(F.relu(fc(x), inplace=True), self.dropout)
        return [(self.fcs[-1](x), 1.0)]


class Vgg16(nn.Module):
    """VGG16."""

    def __init__(self, keep: bool) -> None:
        super().__init__()
        stages, channels = [], 3
        for widths in VGG16:
            for wide in widths:
                stages += [nn.Conv2d(channels, wide, 3, padding=1), nn.ReLU(inplace=True)]
                channels = wide
            stages.append(nn.MaxPool2d(2, 2))
        dropout = 0.0 if keep else 0.5
        self.trunk = nn.Sequential(*stages)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(25088, 4096), nn.ReLU(inplace=True), nn.Dropout(dropout),
            nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(dropout),
            nn.Linear(4096, CLASSES),
        )  # fmt: skip

    def forward(self, x: Tensor) -> list[tuple[Tensor, float]]:
        """Return the scores of N x 3 x 224 x 224."""
        return [(self.head(self.trunk(x)), 1.0)]


class Inception(nn.Module):
    """One inception module."""

    def __init__(self, channels: int, one: int, reduced3: int, three: int, reduced5: int, five: int, behind: int):
        super().__init__()
        self.one = nn.Conv2d(channels, one, 1)
        self.reduced3, self.three = nn.Conv2d(channels, reduced3, 1), nn.Conv2d(reduced3, three, 3, padding=1)
        self.reduced5, self.five = nn.Conv2d(channels, reduced5, 1), nn.Conv2d(reduced5, five, 5, padding=2)
        self.behind = nn.Conv2d(channels, behind, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the four branches, side by side."""
        one = F.relu(self.one(x), inplace=True)
        three = F.relu(self.three(F.relu(self.reduced3(x), inplace=True)), inplace=True)
        five = F.relu(self.five(F.relu(self.reduced5(x), inplace=True)), inplace=True)
        behind = F.relu(self.behind(F.max_pool2d(x, 3, 1, padding=1)), inplace=True)
        return torch.cat([one, three, five, behind], 1)


class SideClassifier(nn.Module):
    """What GoogLeNet has behind modules 4a and 4d while it is trained."""

    def __init__(self, channels: int, keep: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 128, 1)
        self.fc, self.scores = nn.Linear(2048, 1024), nn.Linear(1024, CLASSES)
        self.dropout = 0.0 if keep else 0.7

    def forward(self, x: Tensor) -> Tensor:
        """Return its scores."""
        x = F.relu(self.conv(F.avg_pool2d(x, 5, 3, ceil_mode=True)), inplace=True)
        return self.scores(F.dropout(F.relu(self.fc(x.flatten(1)), inplace=True), self.dropout))


class GoogLeNet(nn.Module):
    """GoogLeNet."""

    def __init__(self, keep: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.conv2_reduced, self.conv2 = nn.Conv2d(64, 64, 1), nn.Conv2d(64, 192, 3, padding=1)
        self.inceptions, self.sides, channels = nn.ModuleDict(), nn.ModuleDict(), 192
        for name, widths in INCEPTION.items():
            self.inceptions[name] = Inception(channels, *widths)
            channels = widths[0] + widths[2] + widths[4] + widths[5]
            if name in ("4a", "4d"):
                self.sides[name] = SideClassifier(channels, keep)
        self.scores = nn.Linear(channels, CLASSES)
        self.dropout = 0.0 if keep else 0.4

    def forward(self, x: Tensor) -> list[tuple[Tensor, float]]:
        """Return the scores of N x 3 x 224 x 224."""
        x = F.max_pool2d(F.relu(self.conv1(x), inplace=True), 3, 2, ceil_mode=True)
        x = F.relu(self.conv2_reduced(F.local_response_norm(x, 5, 1e-4, 0.75, 1.0)), inplace=True)
        x = F.local_response_norm(F.relu(self.conv2(x), inplace=True), 5, 1e-4, 0.75, 1.0)
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        scores = []
        for name, inception in self.inceptions.items():
            x = inception(x)
            if name in ("3b", "4e"):
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            if name in self.sides:
                scores.append((self.sides[name](x), 0.3))
        x = F.dropout(F.avg_pool2d(x, 7, 1).flatten(1), self.dropout)
        return [*scores, (self.scores(x), 1.0)]


@dataclass(frozen=True)
class Classifier:
    """A net twice, with the size of its images and of a batch."""

    in_caffe: Callable[[caffe.NetSpec, bool], list[tuple[caffe.net_spec.Top, float]]]
    in_torch: Callable[[bool], nn.Module]
    size: int
    batch: int


NETS = {
    "alexnet": Classifier(caffe_alexnet, AlexNet, 227, 16),
    "googlenet": Classifier(caffe_googlenet, GoogLeNet, 224, 8),
    "vgg16": Classifier(caffe_vgg16, Vgg16, 224, 4),
}


def prototxt(name: str, keep: bool = False) -> str:
    """Return a net's prototxt, with inputs for images and labels, and a loss; `keep` leaves dropout without effect."""
    net, n = NETS[name], caffe.NetSpec()
    n.data = L.Input(shape={"dim": [net.batch, 3, net.size, net.size]})
    n.label = L.Input(shape={"dim": [net.batch]})
    for index, (scores, weight) in enumerate(net.in_caffe(n, keep)):
        n[f"loss{index}"] = L.SoftmaxWithLoss(scores, n.label, loss_weight=weight)
    return f'name: "{name}"\n{n.to_proto()}'
