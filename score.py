"""Score a net's label maps: the papers' four metrics over a whole set of images (scoring/metrics.py says which).

As a library, on a solver's nets while they train:

    import score
    scores = score.seg_tests(solver, "predictions/{}", ids)     # or False: save no predictions

As a program, from the repository's root or an experiment's folder:

    python score.py --split seg11valid --net voc-fcn8s --weights voc-fcn8s/voc-fcn8s.caffemodel
    python score.py --split seg11valid --net voc-fcn8s --released           the authors' weights
    python score.py --split seg11valid --net voc-fcn32s --mask background   what the surroundings are worth
    python score.py --split seg11test --net voc-fcn8s --submit              an archive for the VOC server

which prints a table and writes a JSON result, one a head, to results/EXPERIMENT/SPLIT_iter_N.json (scoring/results.py).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nets.folders import (
    MASKS,
    add_options,
    data_settings,
    evaluation_net,
    evaluation_prototxt,
    experiment_name,
    find_experiment,
    find_weights,
    read_net,
    rehearsal_of,
    results_folder,
    unfilled_layers,
    use_device,
)
from scoring import released, submission
from scoring.metrics import Scores, fast_hist
from scoring.passes import (
    class_names,
    compute_hist,
    data_layer,
    do_seg_tests,
    heads,
    score_heads,
    seg_tests,
)
from scoring.results import Scored, head_name, result, write_result
from scoring.stitch import Stitch
from terminal.progress_bar import image_bar

# What scripts of the reference take from here, beside the program.
__all__ = ["Scores", "compute_hist", "do_seg_tests", "fast_hist", "main", "seg_tests"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status: 0, 1 with the reason on stderr, or 130 if interrupted."""
    parser = argparse.ArgumentParser(
        prog="score.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", help="the list of images (default: the one that the experiment is scored on)")
    add_options(parser)
    parser.add_argument("--released", action="store_true", help="score the weights that the papers' authors released")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the folder of data (default: $FCN_DATA, or data/)")
    parser.add_argument("--out", metavar="DIR", help="where the result goes (default: results/EXPERIMENT)")
    parser.add_argument("--limit", type=int, metavar="N", help="score the first N images only")
    parser.add_argument("--save", action="store_true", help="save the predictions, as OUT/SPLIT/ID.png")
    parser.add_argument(
        "--mask", choices=[*MASKS, "none"], help="hide the foreground or the background of the images, or both"
    )
    parser.add_argument(
        "--stitch",
        type=int,
        metavar="N",
        help="make the scores N times finer, by N x N shifts of each image (scoring/stitch.py)",
    )
    parser.add_argument("--submit", action="store_true", help="write an archive for the VOC server; needs no labels")
    parser.add_argument(
        "--competition", choices=submission.COMPETITIONS, default="comp6", help="comp5: trained on VOC's data only"
    )
    options = parser.parse_args(argv)
    try:
        _run(options)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"score.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        goes_on = "the same command goes on" if options.submit else "nothing was written"
        print(f"score.py: interrupted; {goes_on}.", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    """Find the experiment, its weights and its split, run the net over the images, and write what comes of it."""
    _check(options)
    experiment = find_experiment(options.net)
    name = experiment_name(experiment)
    weights = released.weights(name, options.data) if options.released else find_weights(experiment, options.weights)
    rehearsal = rehearsal_of(experiment)
    out = rehearsal / "results" if rehearsal else results_folder() / name
    if options.out:
        out = Path(options.out).resolve()
    use_device(options.gpu)
    if options.submit:
        print(submission.submit(experiment, weights, options.split, options.competition, out, options.data))
        return

    prototxt = evaluation_prototxt(experiment)
    settings = data_settings(prototxt)
    split = options.split or settings.get("split", "")
    mask = settings.get("mask") if options.mask is None else options.mask
    if mask == "none":
        mask = None
    net = evaluation_net(prototxt, split, weights, mask, options.data)
    zero = unfilled_layers(net)
    if zero:
        print(f"Beware: the weights of {', '.join(zero)} are all zero in {weights}.", file=sys.stderr)
    found = data_layer(net)
    if found is None:
        raise ValueError(f"{prototxt} has no data layer of layers.py, so that its images are not known.")
    reader = found[1]
    ids = reader.ids[: options.limit]
    scored = heads(net)
    stitched = {}
    if options.stitch:
        stitched = {head: Stitch(read_net(prototxt), options.stitch, head).scores for head, _ in scored}
    save = out / split if options.save else None
    out.mkdir(parents=True, exist_ok=True)  # That it cannot be written is known before an hour of scoring.
    with image_bar(len(ids)) as advance:
        by_head = score_heads(net, ids, scored, save, advance, stitched)
    for head, scores in by_head.items():
        facts = Scored(
            name,
            split,
            ids,
            len(reader.ids),
            weights,
            head,
            mask,
            options.stitch,
            rehearsal is not None,
            options.released,
        )
        names = class_names(name, reader, len(scores.confusion))
        _tell(scores, names, facts, out / facts.file_name(asked_mask=options.mask))


def _check(options: argparse.Namespace) -> None:
    """Raise ValueError for options that do not go together, or cannot be."""
    if options.released and options.weights:
        raise ValueError("--released names the weights already: leave out --weights.")
    if options.submit and not options.split:
        raise ValueError("--submit needs the list of images: --split seg11test or seg12test.")
    if options.submit and (options.limit or options.save or options.mask or options.stitch):
        raise ValueError("--submit predicts the whole split as it is: leave out --limit, --save, --mask and --stitch.")
    for option in ("limit", "stitch"):
        value = getattr(options, option)
        if value is not None and value < 1:
            raise ValueError(f"--{option} is {value}, expected 1 or more.")


def _tell(scores: Scores, names: Sequence[str], facts: Scored, path: Path) -> None:
    """Write the result file of a head, and print its table."""
    stored = result(scores, names, facts)
    write_result(path, stored)
    of_head = f", {head_name(facts.head)}" if head_name(facts.head) else ""
    images = f"{len(facts.ids)} of {facts.split_images} images"
    print(f"{facts.experiment} on {facts.split}{of_head}: {images}, weights {facts.weights}\n\n{scores.table(names)}\n")
    if facts.released:
        print(f"{released.verdict(stored)}\n")
    print(path)


if __name__ == "__main__":
    sys.exit(main())
