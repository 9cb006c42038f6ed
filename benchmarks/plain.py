"""FCN-8s as a person would write it in PyTorch, to measure the engine against: no tricks, and none left out."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from workload import STAGES, UPSAMPLING, VOID, Workload, fill, image, label, sample


class FCN8s(nn.Module):
    """N x 3 x H x W images to N x classes x H x W scores (PAMI paper, section 4.2)."""

    def __init__(self, w: Workload) -> None:
        super().__init__()
        self.scale, self.dropout = w.scale, w.dropout
        self.stages: list[list[nn.Conv2d]] = []
        channels = 3
        for stage, widths in enumerate(STAGES, 1):
            convolutions = []
            for i, wide in enumerate(widths, 1):
                first = stage == i == 1
                convolution = nn.Conv2d(channels, wide // w.narrow, 3, padding=100 if first else 1)
                self.add_module(f"conv{stage}_{i}", convolution)
                convolutions.append(convolution)
                channels = wide // w.narrow
            self.stages.append(convolutions)
        self.fc6 = nn.Conv2d(channels, w.fc, 7)
        self.fc7 = nn.Conv2d(w.fc, w.fc, 1)
        self.score_fr = nn.Conv2d(w.fc, w.classes, 1)
        self.score_pool4 = nn.Conv2d(512 // w.narrow, w.classes, 1)
        self.score_pool3 = nn.Conv2d(256 // w.narrow, w.classes, 1)
        self.upscore2 = _upsampling(w, "upscore2")
        self.upscore_pool4 = _upsampling(w, "upscore_pool4")
        self.upscore8 = _upsampling(w, "upscore8")

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores."""
        height, width = x.shape[2:]
        y = x * self.scale if self.scale != 1 else x
        pools = []
        for convolutions in self.stages:
            for convolution in convolutions:
                y = F.relu(convolution(y), inplace=True)
            y = F.max_pool2d(y, 2, 2, ceil_mode=True)
            pools.append(y)
        y = self._drop(F.relu(self.fc6(y), inplace=True))
        y = self._drop(F.relu(self.fc7(y), inplace=True))
        y = self.upscore2(self.score_fr(y))
        y = self.upscore_pool4(y + _crop(self.score_pool4(pools[3]), 5, y.shape[2], y.shape[3]))
        y = self.upscore8(y + _crop(self.score_pool3(pools[2]), 9, y.shape[2], y.shape[3]))
        return _crop(y, 31, height, width)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


def _upsampling(w: Workload, name: str) -> nn.ConvTranspose2d:
    """Return a deconvolution that learns nothing, as the reference nets have."""
    kernel = UPSAMPLING[name]
    up = nn.ConvTranspose2d(w.classes, w.classes, kernel, stride=kernel // 2, bias=False)
    up.requires_grad_(False)
    return up


def _crop(x: Tensor, offset: int, height: int, width: int) -> Tensor:
    return x[:, :, offset : offset + height, offset : offset + width]


class Run:
    """The net with its input: what a benchmark runs."""

    def __init__(self, w: Workload, train: bool) -> None:
        self.w = w
        self.net = FCN8s(w).train(train)
        for layer, module in self.net.named_children():
            for index, parameter in enumerate(module.parameters()):
                fill(layer, index, parameter.detach().numpy())
        self.image, self.label = image(w), label(w)
        if train:
            # Caffe's multipliers: biases learn at twice the rate and do not decay.
            learned = [(n, p) for n, p in self.net.named_parameters() if p.requires_grad]
            self.names = [n for n, _ in learned]
            self.multipliers = [2.0 if n.endswith("bias") else 1.0 for n in self.names]
            self.groups = [
                {"params": [p], "weight_decay": 0.0 if n.endswith("bias") else w.weight_decay} for n, p in learned
            ]
            self.optimizer = torch.optim.SGD(self.groups, lr=w.base_lr, momentum=w.momentum)
            self.iteration = 0

    @staticmethod
    def versions() -> dict[str, str]:
        """Return the versions that the timings depend on."""
        return {"torch": torch.__version__, "CPU capability": torch.backends.cpu.get_cpu_capability()}

    def forward(self) -> np.ndarray:
        """Return the scores of the image."""
        with torch.no_grad():
            return self.net(torch.from_numpy(self.image.copy())).numpy()

    def step(self) -> float:
        """Train for one iteration and return its loss."""
        rate = self.w.rate(self.iteration)
        for group, multiplier in zip(self.optimizer.param_groups, self.multipliers, strict=True):
            group["lr"] = rate * multiplier
        self.optimizer.zero_grad()
        scores = self.net(torch.from_numpy(self.image.copy()))
        truth = torch.from_numpy(self.label[:, 0]).long()
        reduction = "mean" if self.w.mean_loss else "sum"
        loss = F.cross_entropy(scores, truth, ignore_index=VOID, reduction=reduction)
        loss.backward()
        self.optimizer.step()
        self.iteration += 1
        return loss.item()

    def updates(self) -> dict[str, np.ndarray]:
        """Return a sample of what the first iteration subtracted from each learned parameter, by Caffe's names."""
        found = {}
        for name, group in zip(self.names, self.optimizer.param_groups, strict=True):
            layer, kind = name.split(".")
            momentum = self.optimizer.state[group["params"][0]]["momentum_buffer"]
            found[f"{layer} {int(kind == 'bias')}"] = sample(momentum.numpy()) * np.float32(group["lr"])
        return found
