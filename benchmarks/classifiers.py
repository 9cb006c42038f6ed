"""`caffe time` on AlexNet, GoogLeNet and VGG16, beside the same nets in plain PyTorch: about 5 minutes.

    python benchmarks/classifiers.py
    python benchmarks/classifiers.py --nets googlenet --threads 1 --rounds 5

Each measurement is a process of its own, and the two engines take turns. What is compared is the mean time of a forward
and a backward pass, as `caffe time` prints it after one pass that does not count. That both compute the same is checked
first: the loss, and the gradient of every parameter by norm. Exit status 1 if they do not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import classifier_nets
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import caffe

LIMIT = 1.05  # how many times plain PyTorch's time the engine may take
# The largest difference of gradients by norm: rounding flips a ReLU here and a maximum there.
AGREEMENT = 5e-3


def main() -> int:
    """Check, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", choices=classifier_nets.NETS, default=list(classifier_nets.NETS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plain", help=argparse.SUPPRESS)  # one measurement of plain PyTorch, in this process
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.plain:
        print(json.dumps(time_plain(args.plain, args.iterations)))
        return 0
    slow = False
    print("net        batch   engine ms   plain ms   ratio   (fastest to slowest)")
    for name in args.nets:
        check_agreement(name)
        taken: dict[str, list[float]] = {"engine": [], "plain": []}
        for number in range(args.rounds):
            for which in ("engine", "plain") if number % 2 == 0 else ("plain", "engine"):
                measure = measure_engine if which == "engine" else measure_plain
                taken[which].append(measure(name, args.iterations, args.threads))
        engine, plain = (statistics.median(taken[who]) for who in ("engine", "plain"))
        slow |= engine > LIMIT * plain
        spread = "; ".join(f"{who} {min(ms):.0f} to {max(ms):.0f}" for who, ms in taken.items())
        batch = classifier_nets.NETS[name].batch
        print(f"{name:10s} {batch:5d} {engine:11.0f} {plain:10.0f} {engine / plain:7.2f}   ({spread})")
    print(f"load average at the end {os.getloadavg()[0]:.1f}; torch {torch.__version__}, {args.threads} threads")
    return int(slow)


def measure_engine(name: str, iterations: int, threads: int) -> float:
    """Return the milliseconds that `caffe time` prints for a forward and a backward pass."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.prototxt")
        path.write_text(classifier_nets.prototxt(name))
        command = [sys.executable, "-m", "caffe_command", "time", "-model", str(path), "-iterations", str(iterations)]
        log = _run(command, threads).stderr
    found = re.search(r"Average Forward-Backward: (\S+) ms", log)
    if found is None:
        raise RuntimeError(f"caffe time printed no average: {log[-500:]}")
    return float(found[1])


def measure_plain(name: str, iterations: int, threads: int) -> float:
    """Return the milliseconds of a forward and a backward pass in plain PyTorch, in a fresh process."""
    command = [sys.executable, __file__, "--plain", name, "--iterations", str(iterations), "--threads", str(threads)]
    return json.loads(_run(command, threads).stdout)


def time_plain(name: str, iterations: int) -> float:
    """Return the mean milliseconds of a forward and a backward pass, after one that does not count."""
    net = classifier_nets.NETS[name]
    model = net.in_torch(False)
    images, labels = _batch(name)
    seconds = []
    for _ in range(iterations + 1):
        since = time.perf_counter()
        model.zero_grad()
        _loss(model, images, labels).backward()
        seconds.append(time.perf_counter() - since)
    return statistics.mean(seconds[1:]) * 1000


def check_agreement(name: str) -> None:
    """Raise RuntimeError unless both engines get the same loss and gradients from the same weights."""
    model = classifier_nets.NETS[name].in_torch(True)
    images, labels = _batch(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.prototxt")
        path.write_text(classifier_nets.prototxt(name, keep=True))
        net = caffe.Net(str(path), caffe.TRAIN)
    # Both run their layers in the same order, which pairs the parameters whatever they are called.
    used: list[nn.Conv2d | nn.Linear] = []
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(lambda module, *_: used.append(module))
    loss = _loss(model, images, labels)
    parameters = [p for module in used for p in (module.weight, module.bias) if p is not None]
    blobs = [blob for layer in net.params.values() for blob in layer]
    for blob, parameter in zip(blobs, parameters, strict=True):
        parameter.data.copy_(torch.from_numpy(blob.data).view_as(parameter))
    loss = _loss(model, images, labels)
    loss.backward()
    net.blobs["data"].data[...], net.blobs["label"].data[...] = images, labels
    net.forward()
    net.backward()
    found = sum(weight * float(net.blobs[blob].data) for blob, weight in net.blob_loss_weights.items() if weight)
    if abs(found - loss.item()) > 1e-4 * loss.item():
        raise RuntimeError(f"{name}: the loss is {found} on the engine, {loss.item()} in plain PyTorch.")
    for blob, parameter in zip(blobs, parameters, strict=True):
        assert parameter.grad is not None
        expected = parameter.grad.numpy().reshape(blob.diff.shape)
        difference = np.linalg.norm(blob.diff - expected) / np.linalg.norm(expected)
        if difference > AGREEMENT:
            raise RuntimeError(f"{name}: a gradient of shape {expected.shape} differs by {difference:.1e}.")


def _loss(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> Tensor:
    truth = torch.from_numpy(labels).long()
    return sum(weight * F.cross_entropy(scores, truth) for scores, weight in model(torch.from_numpy(images)))


def _batch(name: str) -> tuple[np.ndarray, np.ndarray]:
    net, random = classifier_nets.NETS[name], np.random.default_rng(1)
    # Small enough that no probability falls below 1e-38, where Caffe cuts the loss off.
    images = random.uniform(-1, 1, (net.batch, 3, net.size, net.size)).astype(np.float32)
    return images, random.integers(classifier_nets.CLASSES, size=net.batch).astype(np.float32)


def _run(command: list[str], threads: int) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-500:]}")
    return done


if __name__ == "__main__":
    sys.exit(main())
