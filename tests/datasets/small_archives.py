"""Small archives in the layouts of the datasets' own, and a small caffemodel."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable

from datasets.splits import SIFTFLOW_FOLDER as SCENE


def tar(files: dict[str, str], mode: str = "w") -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode=mode) as packed:  # type: ignore[call-overload]
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            packed.addfile(info, io.BytesIO(text.encode()))
    return held.getvalue()


def zipped(files: dict[str, str]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as packed:
        for name, text in files.items():
            packed.writestr(name, text)
    return held.getvalue()


def voc(root: str) -> dict[str, str]:
    names = ("a", "b", "c")
    files = {f"{root}/JPEGImages/{name}.jpg": f"image {name}" for name in names}
    files |= {f"{root}/SegmentationClass/{name}.png": f"label {name}" for name in names}
    for kind in ("Segmentation", "Main"):
        files |= {f"{root}/ImageSets/{kind}/train.txt": "a\n", f"{root}/ImageSets/{kind}/val.txt": "b\nc\n"}
    return {**files, f"{root}/Annotations/a.xml": "<a/>", f"{root}/JPEGImages/Thumbs.db": ""}


# A small archive in the layout of each dataset's own, by the name that mirrors have it by.
ARCHIVES: dict[str, Callable[[], bytes]] = {
    "VOCtrainval_03-May-2010.tar": lambda: tar(voc("VOCdevkit/VOC2010")),
    "VOCtrainval_25-May-2011.tar": lambda: tar(voc("TrainVal/VOCdevkit/VOC2011")),
    "VOCtrainval_11-May-2012.tar": lambda: tar(voc("VOCdevkit/VOC2012")),
    "benchmark.tgz": lambda: tar(
        {
            **{f"benchmark_RELEASE/dataset/img/{name}.jpg": name for name in "abx"},
            **{f"benchmark_RELEASE/dataset/cls/{name}.mat": name for name in "abx"},
            **{f"benchmark_RELEASE/dataset/inst/{name}.mat": name for name in "abx"},
            "benchmark_RELEASE/dataset/train.txt": "a\nb\n",
            "benchmark_RELEASE/dataset/val.txt": "x\n",
            "benchmark_RELEASE/benchmark_code/cp_src/run.m": "x",
        },
        "w:gz",
    ),
    "nyud.tar.gz": lambda: tar(
        {
            **{
                f"nyud/data/{kind}/img_{i}.png": kind for kind in ("images", "depth", "hha") for i in (5001, 5002, 5003)
            },
            **{f"nyud/segmentation/img_{i}.mat": "" for i in (5001, 5002, 5003)},
        },
        "w:gz",
    ),
    "SiftFlowDataset.zip": lambda: zipped(
        {
            **{f"Images/{SCENE}/{name}.jpg": "" for name in ("coast_1", "coast_2")},
            **{
                f"{kind}Labels/{SCENE}/{name}.mat": ""
                for kind in ("Semantic", "Geo")
                for name in ("coast_1", "coast_2")
            },
            "TestSet1.txt": f"{SCENE}\\coast_2.jpg\r\n",
            "readme/readme.html": "",
        }
    ),
    "trainval.tar.gz": lambda: tar(
        {**{f"trainval/{name}.mat": name for name in "abc"}, "labels.txt": "1: accordion\n"}, "w:gz"
    ),
    "59_labels.txt": lambda: b"1: aeroplane\n",
    "33_labels.txt": lambda: b"1: aeroplane\n",
    "nyud-train.txt": lambda: b"5001\n",
    "nyud-val.txt": lambda: b"5002\n",
    "nyud-test.txt": lambda: b"5003\n",
}
DATASETS = ("voc2010", "voc2011", "voc2012", "sbd", "nyud", "siftflow", "pascal-context")

# A NetParameter with a name and one layer, named "a".
CAFFEMODEL = b"\x0a\x01n\xa2\x06\x03\x0a\x01a"
