"""What a published row is: its numbers, and what gives them here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One number of a table's rows, and where the measured one comes from.

    ``source`` says that in a word:

    - ``score``: a result file of score.py or of training; ``metric`` is the file's key, ``head`` the scored blob
    - ``gain``: the row's mean IU less that of the row it is set ``against``, in points
    - ``share``: the row's mean IU as a share of that of the row it is set ``against``
    - ``log``: the loss a pixel in the run's log.csv, at the iteration ``metric``
    - ``log_images``: the same, once ``metric`` images are processed
    - ``structure``: what analyze.py nets computes of the row's net; ``metric`` is a field of nets.structure.Structure
    - ``momentum``, ``upper-bounds``: the analyses of these names
    - ``server``: what the VOC server gives back for the test split ``metric``, put in with ``python paper.py record``
    - ``clock``: a time that somebody took, put in with ``python paper.py record``
    """

    key: str
    heading: str
    source: str = "score"
    metric: str = ""
    """The result file's key, where it is not the column's own; or what ``source`` says."""
    head: str = ""
    """The scored blob; "" is the semantic one, score or score_sem."""
    digits: int = 1
    unit: str = "%"


@dataclass(frozen=True)
class Split:
    """A list of images that a published number is over; ``images`` is how many a whole scoring has."""

    name: str
    images: int


@dataclass(frozen=True)
class Row:
    """One published row. ``published`` is by the table's columns: what the paper does not give is not in it."""

    name: str
    """Its name within the table, as in ``python paper.py reproduce pami3/8s``."""
    label: str
    """Its name in the paper."""
    published: Mapping[str, float]
    experiment: str = ""
    """The experiment that gives it; "" for an analysis, and for a number that is quoted."""
    split: Split | None = None
    mask: str | None = None
    """Which pixels are masked where it is scored (score.py --mask)."""
    analyses: tuple[str, ...] = ()
    """The analyses that give it or a part of it: what follows ``python analyze.py``."""
    against: str = ""
    """The row, as TABLE/ROW, that gain and share are taken against."""
    released: bool = False
    """Whether the authors' weights are what is scored, not those of a training here."""
    images_an_iteration: int = 0
    """For a row of losses by images processed."""
    note: str = ""

    @property
    def structure_of(self) -> str:
        """The net whose structure the row gives: NAME of its analysis ``nets NAME``."""
        return next(analysis.partition(" ")[2] for analysis in self.analyses if analysis.startswith("nets "))

    @property
    def quoted(self) -> bool:
        """Whether the row is only quoted: other people's method, or a remark that no run here answers."""
        return not self.experiment and not self.analyses


@dataclass(frozen=True)
class Table:
    """A table of a paper, or numbers of its text that go together."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""

    def row(self, name: str) -> Row:
        """The row of that name; KeyError where there is none."""
        return {row.name: row for row in self.rows}[name]


# What the papers' numbers are over. 736 is VOC 2011's val without the images that SBD's train has.
SEG11VALID = Split("seg11valid", 736)
VOC11_VAL = Split("val", 1111)
NYUD_TEST = Split("test", 654)
SIFTFLOW_TEST = Split("test", 200)
CONTEXT_VAL = Split("val", 5105)

PIXEL_ACCURACY = Column("pixel_accuracy", "pixel acc.")
MEAN_ACCURACY = Column("mean_accuracy", "mean acc.")
MEAN_IU = Column("mean_iu", "mean IU")
FW_IU = Column("fw_iu", "f.w. IU")
FOUR = (PIXEL_ACCURACY, MEAN_ACCURACY, MEAN_IU, FW_IU)
# Of its own beside FOUR, where a paper does not say whether the background counts.
WITHOUT_BACKGROUND = Column("mean_iu_without_background", "mean IU, no bg")
GEOMETRIC = Column("geometric_accuracy", "geom. acc.", metric="pixel_accuracy", head="score_geo")
GAIN = Column("gain", "gain", source="gain", unit="points of mean IU")
SHARE = Column("share", "share", source="share", digits=0)


def metrics(
    pixel_accuracy: float | None = None,
    mean_accuracy: float | None = None,
    mean_iu: float | None = None,
    fw_iu: float | None = None,
    geometric_accuracy: float | None = None,
) -> dict[str, float]:
    """The metrics of a row, in the papers' order, without those that are not published."""
    given = {
        "pixel_accuracy": pixel_accuracy,
        "mean_accuracy": mean_accuracy,
        "mean_iu": mean_iu,
        "fw_iu": fw_iu,
        "geometric_accuracy": geometric_accuracy,
    }
    return {key: value for key, value in given.items() if value is not None}
