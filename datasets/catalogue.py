"""What can be fetched: every dataset and every file of weights, where it is, how it is known, where it goes.

`CATALOGUE` maps a name of ``python -m datasets fetch NAME`` to its `Source`. The released models have the names of
their experiments. Digests are those that public projects verify; where none is known, the file's format is checked,
and its SHA-256 is recorded so that a later change shows.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from fnmatch import fnmatchcase

from datasets import DatasetError

MIB, GIB = 2**20, 2**30


@dataclass(frozen=True)
class Download:
    """One file to download."""

    addresses: tuple[str, ...]
    """Its home addresses, tried in turn after the mirrors."""
    kind: str
    """What the file has to look like: a name in formats.KINDS."""
    digest: str = ""
    """As "md5:..." or "sha1:..."; empty where none is known."""
    most: int = 4 * GIB
    """More bytes than it can have: a server that sends or announces more is not believed."""
    file: str = ""
    """The name that it is kept under and that a mirror has it by; by default the last part of the first address."""

    @property
    def name(self) -> str:
        """The file's name, on mirrors and in the folder of downloads."""
        return self.file or self.addresses[0].rpartition("/")[2]


@dataclass(frozen=True)
class Unpacking:
    """What is wanted of an archive, and how much it may be.

    The wanted files lie below one folder of the archive, which is known by what it holds: nothing depends on how
    that folder is called and how deep it is.
    """

    marks: tuple[str, ...]
    """What the folder holds: of each pattern at least one file (* stands for anything but a slash)."""
    take: tuple[str, ...]
    """Patterns of the files to unpack, relative to that folder."""
    most_bytes: int = 16 * GIB
    most_members: int = 200_000
    most_ratio: int = 50
    """How many times its own size an archive may unpack to."""


@dataclass(frozen=True)
class Companion:
    """A small file that belongs into an unpacked dataset, downloaded where the archive does not hold it."""

    place: str
    """Its path in the dataset's folder."""
    download: Download
    needed: bool = True
    """False: the experiments that need it are few, and fetching goes on without it."""


@dataclass(frozen=True)
class Source:
    """One thing to fetch."""

    name: str
    path: str
    """Where it goes, relative to the folder of data."""
    about: str
    download: Download
    experiments: tuple[str, ...] = ()
    """Which experiments are trained or scored with it, as patterns of their names."""
    unpacking: Unpacking | None = None
    """How to unpack it; None for a file of weights."""
    companions: tuple[Companion, ...] = ()
    note: str = ""
    """What a person has to do next, if anything."""
    released: bool = False
    """Whether these are an experiment's own weights, released by the authors."""


_VOC = ("voc-fcn*", "cvpr-recipe/voc-*")
_CONTEXT = ("pascalcontext-fcn*", "cvpr-recipe/pascalcontext-*")
_NYUD = ("nyud-fcn/*", "cvpr-recipe/nyud-*")
_SIFTFLOW = ("siftflow-fcn/*", "cvpr-recipe/siftflow-*")
_VGG16 = (
    *("voc-fcn32s", "voc-fcn16s", "voc-fcn8s", "voc-fcn8s-atonce", "voc-fcn-ablations/*"),
    *("cvpr-recipe/voc-fcn[0-9]*", *_CONTEXT, *_NYUD, *_SIFTFLOW),
)

_VOC_UNPACKING = Unpacking(
    marks=("JPEGImages/*.jpg", "ImageSets/*/*.txt"),
    take=("JPEGImages/*.jpg", "SegmentationClass/*.png", "SegmentationObject/*.png", "ImageSets/*/*.txt"),
)
_ROBOTS = "http://host.robots.ox.ac.uk/pascal/VOC"
_CAFFE = "http://dl.caffe.berkeleyvision.org"
_REFERENCE = "https://raw.githubusercontent.com/shelhamer/fcn.berkeleyvision.org/master"
# The dataset's page moved with its author.
_CONTEXT_PAGES = ("https://cs.stanford.edu/~roozbeh/pascal-context", "https://roozbehm.info/pascal-context")


def _voc(year: str, file: str, md5: str, experiments: tuple[str, ...]) -> Source:
    return Source(
        name=f"voc{year}",
        path=f"pascal/VOC{year}",
        about=f"PASCAL VOC {year}, training and validation",
        download=Download((f"{_ROBOTS}/voc{year}/{file}",), "tar", f"md5:{md5}"),
        experiments=experiments,
        unpacking=_VOC_UNPACKING,
    )


def _on_pages(file: str, kind: str, md5: str, most: int) -> Download:
    return Download(tuple(f"{page}/{file}" for page in _CONTEXT_PAGES), kind, md5 and f"md5:{md5}", most)


def _released(experiment: str, stem: str, sha1: str = "") -> Source:
    return Source(
        name=experiment,
        path=f"fcn-models/{stem}.caffemodel",
        about="the authors' weights",
        download=Download((f"{_CAFFE}/{stem}.caffemodel",), "caffemodel", sha1 and f"sha1:{sha1}", GIB),
        experiments=(experiment,),
        released=True,
    )


_SOURCES = (
    _voc("2010", "VOCtrainval_03-May-2010.tar", "da459979d0c395079b5c75ee67908abb", _CONTEXT),
    _voc("2011", "VOCtrainval_25-May-2011.tar", "6c3384ef61512963050cb5d687e5bf1e", _VOC),
    _voc("2012", "VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd", ()),
    Source(
        name="sbd",
        path="sbdd/dataset",
        about="the Semantic Boundaries Dataset: labels for 11,355 images of VOC",
        download=Download(
            ("http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",),
            "tar",
            "md5:82b4d87ceb2ed10f6038a1cba92111cb",
        ),
        experiments=_VOC,
        unpacking=Unpacking(marks=("img/*.jpg", "cls/*.mat", "train.txt"), take=("img/*.jpg", "cls/*.mat", "*.txt")),
    ),
    Source(
        name="nyud",
        path="nyud",
        about="NYUDv2 in 40 classes, with depth and HHA images",
        download=Download((f"{_CAFFE}/nyud.tar.gz",), "tar", most=8 * GIB),
        experiments=_NYUD,
        unpacking=Unpacking(
            marks=("data/images/*.png", "segmentation/*.mat"),
            take=(
                *("data/images/*.png", "data/depth/*.png", "data/hha/*.png", "segmentation/*.mat"),
                *("*.txt", "*/*.txt", "*.mat", "benchmarkData/metadata/*.mat"),
            ),
        ),
        # The authors published the lists beside their code; whether the archive holds them too is not known.
        companions=tuple(
            Companion(
                f"{split}.txt", Download((f"{_REFERENCE}/data/nyud/{split}.txt",), "text", "", MIB, f"nyud-{split}.txt")
            )
            for split in ("train", "val", "test")
        ),
    ),
    Source(
        name="siftflow",
        path="sift-flow",
        about="SIFT Flow: 2,688 outdoor scenes, semantic and geometric labels",
        download=Download(("http://www.cs.unc.edu/~jtighe/Papers/ECCV10/siftflow/SiftFlowDataset.zip",), "zip"),
        experiments=_SIFTFLOW,
        unpacking=Unpacking(
            marks=("Images/*/*.jpg", "SemanticLabels/*/*.mat", "GeoLabels/*/*.mat"),
            take=("Images/*/*.jpg", "SemanticLabels/*/*.mat", "GeoLabels/*/*.mat", "*.txt", "*/*.txt"),
        ),
    ),
    Source(
        name="pascal-context",
        path="pascal-context",
        about="PASCAL-Context: 459 labels for the images of VOC 2010",
        # The archive's address and the three digests are those of public scripts; the dataset's page links the files.
        download=_on_pages("trainval.tar.gz", "tar", "df034edb2c12aa7d33b42b20bb1796e3", GIB),
        experiments=_CONTEXT,
        unpacking=Unpacking(marks=("trainval/*.mat",), take=("trainval/*.mat", "*labels.txt")),
        companions=(
            Companion("labels.txt", _on_pages("labels.txt", "text", "", MIB)),
            Companion("59_labels.txt", _on_pages("59_labels.txt", "text", "993901f2d930cc038c406845f08fa082", MIB)),
            Companion(
                "33_labels.txt", _on_pages("33_labels.txt", "text", "8840f5439b471aecf991ac6448b826e6", MIB), False
            ),
        ),
    ),
    Source(
        name="vgg16",
        path="ilsvrc-nets/VGG_ILSVRC_16_layers.caffemodel",
        about="VGG16, trained on ILSVRC",
        download=Download(
            ("http://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/VGG_ILSVRC_16_layers.caffemodel",),
            "caffemodel",
            "sha1:9363e1f6d65f7dba68c4f27a1e62105cdf6c4e24",
            GIB,
        ),
        experiments=_VGG16,
        note="Next: python -m nets convolutionalize vgg16, which makes ilsvrc-nets/vgg16-fcn.caffemodel of it.",
    ),
    Source(
        name="caffenet",
        path="ilsvrc-nets/bvlc_reference_caffenet.caffemodel",
        about="CaffeNet (AlexNet), trained on ILSVRC",
        download=Download(
            (f"{_CAFFE}/bvlc_reference_caffenet.caffemodel",),
            "caffemodel",
            "sha1:4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46",
            GIB,
        ),
        experiments=("voc-fcn-alexnet", "voc-fcn-ablations/*alexnet*", "cvpr-recipe/*alexnet*"),
        note="Next: python -m nets convolutionalize alexnet, which makes ilsvrc-nets/alexnet-fcn.caffemodel of it.",
    ),
    Source(
        name="googlenet",
        path="ilsvrc-nets/bvlc_googlenet.caffemodel",
        about="GoogLeNet, trained on ILSVRC",
        download=Download(
            (f"{_CAFFE}/bvlc_googlenet.caffemodel",),
            "caffemodel",
            "sha1:405fc5acd08a3bb12de8ee5e23a96bec22f08204",
            GIB,
        ),
        experiments=("voc-fcn-googlenet", "voc-fcn-ablations/*googlenet*", "cvpr-recipe/*googlenet*"),
    ),
    _released("voc-fcn32s", "fcn32s-heavy-pascal", "05eb922d7829c39448f57e5ab9d8cd75d6c0be6d"),
    _released("voc-fcn16s", "fcn16s-heavy-pascal"),
    _released("voc-fcn8s", "fcn8s-heavy-pascal", "c449ea74dd7d83751d1357d6a8c323fcf4038962"),
    _released("voc-fcn8s-atonce", "fcn8s-atonce-pascal"),
    _released("voc-fcn-alexnet", "fcn-alexnet-pascal"),
    *(_released(f"nyud-fcn/{kind}-32s", f"nyud-fcn32s-{kind}-heavy") for kind in ("color", "hha", "color-hha")),
    *(_released(f"siftflow-fcn/{stride}", f"siftflow-fcn{stride}-heavy") for stride in ("32s", "16s", "8s")),
    *(_released(f"pascalcontext-fcn/{stride}", f"pascalcontext-fcn{stride}-heavy") for stride in ("32s", "16s", "8s")),
)

CATALOGUE: dict[str, Source] = {source.name: source for source in _SOURCES}


def find(name: str) -> Source:
    """Return the source of that name; raises DatasetError with the near names for one that is not there."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    near = difflib.get_close_matches(name, CATALOGUE, 3, 0.5)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"The names are {', '.join(CATALOGUE)}."
    raise DatasetError(f"there is nothing called {name!r} to fetch. {hint}")


def needed_by(experiment: str) -> list[str]:
    """Return the names of what training and scoring an experiment takes, the authors' own weights left out."""
    return [
        source.name
        for source in CATALOGUE.values()
        if not source.released and any(fnmatchcase(experiment, pattern) for pattern in source.experiments)
    ]
