"""How a run is scored while it trains: its results, which of them is the best, and the report of the last."""

from __future__ import annotations

import re
from pathlib import Path

import caffe
from reading.image_files import read_image
from reporting import page
from reporting.runs import save_panel
from scoring import passes, results
from scoring.metrics import Scores
from training.screen import Screen
from training.snapshots import Snapshots

# How many images of the scored set the report shows.
PANELS = 8


class Scoring:
    """Scores a solver's first test net, head by head, writes the results into the run's folder, and reports them."""

    def __init__(
        self,
        solver: caffe.SGDSolver,
        experiment: str,
        snapshots: Snapshots,
        split: str,
        screen: Screen,
        rehearsed: bool,
    ) -> None:
        """Score with `solver`'s first test net, whose data layer has to read `split`; snapshots: those of the run."""
        self.experiment = experiment
        # By head, that is, by its blob of scores.
        self.last: dict[str, Scores] = {}
        self.names: dict[str, tuple[str, ...]] = {}
        self._solver, self._snapshots, self._screen, self._rehearsed = solver, snapshots, screen, rehearsed
        self._out = snapshots.folder
        self._folder = self._out / "results"
        net = solver.test_nets[0] if len(solver.test_nets) else None
        found = passes.data_layer(net) if net is not None else None
        if net is None or found is None or found[1].split != split:
            reads = f"reads the split '{found[1].split}'" if found else "has no data layer of layers.py"
            raise SystemExit(f"{experiment} is to be scored on '{split}', but its test net {reads}.")
        self._reader = found[1]
        self._split = split
        self._heads = passes.heads(net)
        self._mask = getattr(self._reader, "mask", None)
        self._files: list[Path] = []
        self.ids = list(self._reader.ids)

    def run(self, weights: Path, save_predictions: bool = False) -> dict[str, float]:
        """Score the solver's present weights, which are snapshotted in `weights`; return TensorBoard's scalars."""
        net = self._solver.test_nets[0]
        net.share_with(self._solver.net)
        save = self._out / "predictions" if save_predictions else None
        with self._screen.images(len(self.ids)) as advance:
            self.last = passes.score_heads(net, self.ids, self._heads, save, advance)
        scalars = {}
        self._files = []
        for head, scores in self.last.items():
            passes.print_scores(self._solver.iter, scores)
            self.names[head] = passes.class_names(self.experiment, self._reader, len(scores.confusion))
            scored = results.Scored(
                self.experiment,
                self._split,
                self.ids,
                len(self.ids),
                weights,
                head,
                self._mask,
                rehearsal=self._rehearsed,
                named_weights=self._snapshots.within(weights),
            )
            self._files.append(self._folder / scored.file_name())
            results.write_result(self._files[-1], results.result(scores, self.names[head], scored))
            tag = "/".join(part for part in ("val", results.head_name(head)) if part)
            scalars.update({f"{tag}/{metric}": value for metric, value in scores.metrics.items()})
        return scalars

    def drop_results_beyond(self, iteration: int) -> None:
        """Remove results of iterations that a resumed run will do again."""
        for head, _ in self._heads:
            for done, path in self._results(head).items():
                if done > iteration:
                    path.unlink()

    def best(self) -> int | None:
        """Return the iteration whose results, of the first head, have the best mean IU; None if there are none."""
        first, _ = self._heads[0]
        means = {done: results.read_result(path)["mean_iu"] for done, path in self._results(first).items()}
        ranked = [(mean, done) for done, mean in means.items() if mean is not None]
        return max(ranked)[1] if ranked else None

    def _results(self, head: str) -> dict[int, Path]:
        """Return the files of a head's results in the run's folder, by iteration; others' names go on after it."""
        name = "_".join(part for part in (self._split, results.head_name(head)) if part)
        found = {
            path: re.fullmatch(rf"{re.escape(name)}_iter_(\d+)", path.stem) for path in self._folder.glob("*.json")
        }
        return {int(match[1]): path for path, match in found.items() if match}

    def report(self) -> None:
        """Write report.html, with some of the scored images spread over the list."""
        for head, label in self._heads:
            of_head = results.head_name(head)
            for image_id in self.ids[:: -(-len(self.ids) // PANELS)]:
                image = read_image(self._reader.image_file(image_id))
                truth = self._reader.truth(image_id, label)
                save_panel(self._out / "panels" / of_head, image_id, image, truth, self._out / "predictions" / of_head)
        try:
            page.write(self._files, self._out / "report.html")
            print(f"\nThe report: {self._out / 'report.html'}")
        except ImportError as error:
            print(f"{error.name} is not installed: no report.html.")
