"""The papers' analyses that need no training.

    python analyze.py nets                            Table 1's lower half: receptive field, stride, parameters, ...
    python analyze.py time voc-fcn32s --gpu 0         Table 1's forward time
    python analyze.py upper-bounds                    the best mean IU at each output stride (PAMI 6.3)
    python analyze.py momentum                        which momenta go with which batch sizes (PAMI 6.2)

upper-bounds writes results/upper-bounds/SPLIT.json; the others only print. As a library:

    import analyze
    analyze.upper_bounds(labels, classes=21, factors=[32, 16, 8])
    analyze.equivalent_momentum(0.9, batch=20, to=1)
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import caffe
import vis
from nets.experiments import EXPERIMENTS
from nets.folders import data_folder, results_folder, use_device
from nets.forward_time import device_name, forward_times
from nets.structure import deploy_net, structure
from reading.image_files import read_ids, read_index_image
from scoring.results import code_version, write_result
from scoring.upper_bounds import INTERPOLATIONS, UPPER_BOUNDS, upper_bounds
from terminal.progress_bar import image_bar
from training.momentum import equivalent_momentum, gradient_weights

# Table 1 of both papers: receptive field, stride, parameters in millions, layers.
TABLE_1 = {
    "voc-fcn-alexnet": (355, 32, 57, 8),
    "voc-fcn32s": (404, 32, 134, 16),
    "voc-fcn-googlenet": (907, 32, 6, 22),
}
# The papers' 907 pixels are what the classifier's last average pooling sees, which the net leaves out.
POOLED = {"voc-fcn-googlenet": 7}
TABLE_1_SIZE = 500
TABLE_1_TRIALS = 20

# Nets


def nets_table(names: Sequence[str], size: int = TABLE_1_SIZE) -> str:
    """Return the structure of each net as text, and where the papers print it what they print."""
    width = max(12, *map(len, names))
    columns = f"{'field':>6} {'stride':>6} {'layers':>6} {'parameters':>12} {'learnable':>12} {'G mult-adds':>11}"
    lines, notes = [f"{'net':<{width}} {columns}"], []
    for name in names:
        s = structure(deploy_net(name), size)
        lines.append(
            f"{name:<{width}} {s.receptive_field:>6} {s.stride:>6} {s.layers:>6} "
            f"{s.parameters:>12,} {s.learnable:>12,} {s.multiply_adds / 1e9:>11.2f}"
        )
        if name in TABLE_1:
            field, stride, millions, layers = TABLE_1[name]
            lines.append(f"{'  Table 1':<{width}} {field:>6} {stride:>6} {layers:>6} {f'{millions}M':>12}")
        if name in POOLED:
            pooled = s.receptive_field + (POOLED[name] - 1) * s.stride
            notes.append(
                f"{name}: its scores see {s.receptive_field} pixels. {pooled} is what the classifier's final "
                f"{POOLED[name]}x{POOLED[name]} average pooling would, which the papers say they discard."
            )
    notes.append(
        f"Of the coarsest scores, before up-sampling. Multiply-adds are the convolutions', for one image of {size} x "
        f"{size} and its padding; the deconvolutions' parameters and work are left out."
    )
    return "\n".join([*lines, "", *notes])


# Upper bounds


def voc_labels(voc: Path, ids: Sequence[str]) -> Iterable[np.ndarray]:
    """Give the label maps of VOC images, one after another, with a progress bar where tqdm is installed."""
    with image_bar(len(ids)) as advance:
        for image_id in ids:
            yield read_index_image(voc / "SegmentationClass" / f"{image_id}.png")
            advance(image_id)


# Momentum and batch size


def momentum_table(momentum: float, batch: int) -> str:
    """Return the momenta that go with other batch sizes, and what the rule leaves out, as text."""
    alone = equivalent_momentum(momentum, batch, 1)
    sizes = sorted({1, 2, 5, 10, 20, 50, 100, batch})
    lines = [
        f"Momentum {momentum:g} at {batch} images an iteration is like p at k where p^(1/k) = {alone:.5f} (PAMI 6.2):",
        "",
        f"{'images k':>9} {'momentum p':>11}",
        *(f"{k:>9} {equivalent_momentum(momentum, batch, k):>11.5f}" for k in sizes),
        "",
        f"How much the example before j others weighs in a step, {momentum:g} at {batch} against {alone:.5f} at 1:",
        "",
        f"{'j':>6} {'p^floor(j/k)':>13} {'p^(j/k)':>9}",
    ]
    last = 5 * batch
    stepped, smooth = gradient_weights(momentum, batch, last + 1), gradient_weights(alone, 1, last + 1)
    for j in sorted({0, batch // 2, batch - 1, *range(batch, last + 1, batch)}):
        lines.append(f"{j:>6} {stepped[j]:>13.5f} {smooth[j]:>9.5f}")
    lines += [
        "",
        f"All examples together weigh k/(1 - p): {batch / (1 - momentum):.1f} and {1 / (1 - alone):.1f}. These weights "
        f"are one step's; with 1 image an iteration there is a step after each, and not one after {batch}.",
    ]
    return "\n".join(lines)


# The program


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status: 0, 1 with the reason on stderr, or 130 if interrupted."""
    parser = argparse.ArgumentParser(
        prog="analyze.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(metavar="ANALYSIS", required=True)

    nets = commands.add_parser("nets", help="receptive field, stride, layers, parameters and multiply-adds")
    nets.add_argument("name", nargs="*", help="experiments or deploy prototxts (default: all experiments)")
    nets.add_argument("--size", type=int, default=TABLE_1_SIZE, help="the image's side in pixels (default: 500)")
    nets.set_defaults(run=_nets)

    timing = commands.add_parser("time", help="mean forward time of one image")
    timing.add_argument("name", nargs="*", help="experiments or deploy prototxts (default: Table 1's three)")
    timing.add_argument("--size", type=int, default=TABLE_1_SIZE, help="the image's side in pixels (default: 500)")
    timing.add_argument("--trials", type=int, default=TABLE_1_TRIALS, metavar="N", help="passes (default: 20)")
    timing.add_argument("--gpu", type=int, metavar="N", help="compute on this GPU (default: on the CPU)")
    timing.set_defaults(run=_time)

    bounds = commands.add_parser("upper-bounds", help="the best mean IU at each output stride, of VOC's ground truth")
    bounds.add_argument("--split", default="seg11valid", help="the list of images (default: seg11valid)")
    bounds.add_argument("--data", type=Path, metavar="DIR", help="the folder of data (default: $FCN_DATA, or data/)")
    bounds.add_argument("--out", metavar="DIR", help="where the result goes (default: results/upper-bounds)")
    bounds.set_defaults(run=_upper_bounds)

    momentum = commands.add_parser("momentum", help="the rule that goes from one batch size to another")
    momentum.add_argument("--batch", type=int, default=20, metavar="IMAGES", help="images an iteration (default: 20)")
    momentum.add_argument("--momentum", type=float, default=0.9, metavar="P", help="at that batch (default: 0.9)")
    momentum.set_defaults(run=lambda options: print(momentum_table(options.momentum, options.batch)))

    options = parser.parse_args(argv)
    try:
        options.run(options)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"analyze.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("analyze.py: interrupted; nothing was written.", file=sys.stderr)
        return 130
    return 0


def _nets(options: argparse.Namespace) -> None:
    print(nets_table(options.name or list(EXPERIMENTS), options.size))


def _time(options: argparse.Namespace) -> None:
    if options.size < 1 or options.trials < 1:
        raise ValueError(f"--size is {options.size} and --trials {options.trials}: expected 1 or more.")
    use_device(options.gpu)
    print(f"{device_name(options.gpu)}; caffe {getattr(caffe, '__version__', 'of unknown version')}", flush=True)
    for name in options.name or TABLE_1:
        ms = 1000 * np.array(forward_times(name, options.size, options.trials))
        print(
            f"{name}: {ms.mean():.1f} ms for one image of {options.size} x {options.size}, "
            f"the mean of {len(ms)} passes ({ms.min():.1f} to {ms.max():.1f})",
            flush=True,
        )


def _upper_bounds(options: argparse.Namespace) -> None:
    voc = data_folder(options.data) / "pascal" / "VOC2011"
    split = voc / "ImageSets" / "Segmentation" / f"{options.split}.txt"
    if not split.is_file():
        raise FileNotFoundError(
            f"There is no list {split}: `python -m datasets fetch voc2011 sbd` gets it, or --data names another folder."
        )
    ids = read_ids(split)
    out = Path(options.out) if options.out else results_folder() / "upper-bounds"
    names = [*vis.CLASSES["voc"], "void"]
    found = {kind: upper_bounds(voc_labels(voc, ids), len(names) - 1, interpolation=kind) for kind in INTERPOLATIONS}
    path = out / f"{options.split}.json"
    result: dict[str, Any] = {
        "schema": 2,
        "analysis": "upper-bounds",
        "split": options.split,
        "split_sha256": hashlib.sha256("".join(f"{i}\n" for i in ids).encode()).hexdigest(),
        "images": len(ids),
        "code_version": code_version(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "classes": names,
        **{kind: {str(f): scores.to_json() for f, scores in by.items()} for kind, by in found.items()},
    }
    write_result(path, result)
    print(f"Ground truth of {options.split} ({len(ids)} images) down-sampled, up-sampled, and scored against itself:\n")
    print(f"{'factor':>6} {'published':>10}" + "".join(f"{kind:>10}" for kind in INTERPOLATIONS))
    for factor, published in UPPER_BOUNDS.items():
        measured = "".join(f"{100 * found[kind][factor].mean_iu:>10.1f}" for kind in INTERPOLATIONS)
        print(f"{factor:>6} {published:>10.1f}{measured}")
    print(f"\nmean IU in per cent; published: on the 736 images of seg11valid\n\n{path}")


if __name__ == "__main__":
    sys.exit(main())
