"""The catalogue of what can be fetched, and what the files have to look like."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets import catalogue, formats
from datasets.catalogue import CATALOGUE
from nets.bases import BASES
from nets.experiments import all_names, lookup
from tests.datasets.small_archives import ARCHIVES, CAFFEMODEL, DATASETS, zipped

CAFFE = "http://dl.caffe.berkeleyvision.org"


@pytest.mark.parametrize(
    ("name", "address", "path"),
    [
        (
            "voc2011",
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2011/VOCtrainval_25-May-2011.tar",
            "pascal/VOC2011",
        ),
        ("nyud", f"{CAFFE}/nyud.tar.gz", "nyud"),
        (
            "vgg16",
            "http://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/VGG_ILSVRC_16_layers.caffemodel",
            "ilsvrc-nets/VGG_ILSVRC_16_layers.caffemodel",
        ),
        ("voc-fcn8s", f"{CAFFE}/fcn8s-heavy-pascal.caffemodel", "fcn-models/fcn8s-heavy-pascal.caffemodel"),
        (
            "nyud-fcn/color-hha-32s",
            f"{CAFFE}/nyud-fcn32s-color-hha-heavy.caffemodel",
            "fcn-models/nyud-fcn32s-color-hha-heavy.caffemodel",
        ),
        (
            "pascalcontext-fcn/16s",
            f"{CAFFE}/pascalcontext-fcn16s-heavy.caffemodel",
            "fcn-models/pascalcontext-fcn16s-heavy.caffemodel",
        ),
    ],
)
def test_files_have_their_published_addresses(name: str, address: str, path: str) -> None:
    assert (CATALOGUE[name].download.addresses[0], CATALOGUE[name].path) == (address, path)


def test_the_catalogue_is_the_contract() -> None:
    assert set(DATASETS) < set(CATALOGUE)
    assert CATALOGUE["voc-fcn8s"].download.digest == "sha1:c449ea74dd7d83751d1357d6a8c323fcf4038962"
    places = [source.path for source in CATALOGUE.values()]
    assert len(set(places)) == len(places)
    for source in CATALOGUE.values():
        for download in (source.download, *(each.download for each in source.companions)):
            assert download.kind in formats.KINDS
            algorithm, _, value = download.digest.partition(":")
            assert len(value) == {"": 0, "md5": 32, "sha1": 40}[algorithm]
            assert all(address.startswith(("http://", "https://")) for address in download.addresses)
    assert catalogue.needed_by("voc-fcn32s") == ["voc2011", "sbd", "vgg16"]
    assert catalogue.needed_by("voc-fcn-googlenet") == ["voc2011", "sbd", "googlenet"]
    assert catalogue.needed_by("nyud-fcn/hha-32s") == ["nyud", "vgg16"]
    assert catalogue.needed_by("cvpr-recipe/siftflow-fcn-16s") == ["siftflow", "vgg16"]
    assert catalogue.needed_by("pascalcontext-fcn-33/8s") == ["voc2010", "pascal-context", "vgg16"]


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        ("caffemodel", b"", "is empty"),
        ("caffemodel", b"  <HTML>", "web page"),
        ("caffemodel", b"\x0a\x05name", "cut off"),
        ("caffemodel", b"\x0a\x04name", "holds no layer"),
        ("caffemodel", b"PK\x03\x04", "no field of a net"),
        ("caffemodel", b"\xa2", "cut off"),
        ("caffemodel", b"\xff" * 12, "more than 64 bits"),
        ("tar", b"no tar" * 100, "neither a tar file"),
        ("tar", b"short", "neither a tar file"),
        ("zip", b"no zip", "no zip file"),
        ("zip", zipped({"a": "b"})[:-10], "cut off"),
        ("text", b"\xff\xfe", "no text"),
        ("text", b"a\0b", "no text"),
        ("text", b"a" * (2**20 + 1), "larger than a list"),
        ("text", b"\xef\xbb\xbf<!DOCTYPE html>", "web page"),
    ],
)
def test_a_file_that_is_something_else_is_told(kind: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(formats.FormatError, match=said):
        formats.check(tmp_path / "x", kind)


def test_files_of_their_kind_pass(tmp_path: Path) -> None:
    v1 = b"\x0a\x01n\x12\x03\x22\x01a\x20\x01\x22\x02\x01\x02"  # a V1 layer, input_dim in both its forms
    files = {"caffemodel": [CAFFEMODEL, v1], "zip": [ARCHIVES["SiftFlowDataset.zip"]()], "text": [b"a\n"]}
    files["tar"] = [ARCHIVES["benchmark.tgz"](), ARCHIVES["VOCtrainval_25-May-2011.tar"]()]
    for kind, contents in files.items():
        for content in contents:
            (tmp_path / "x").write_bytes(content)
            formats.check(tmp_path / "x", kind)


@pytest.mark.parametrize("name", all_names())
def test_the_weights_that_an_experiment_starts_from_are_listed_as_what_it_needs(name: str) -> None:
    bases = {BASES[origin].fetch for origin in lookup(name).starts_from if origin in BASES}
    assert bases <= set(catalogue.needed_by(name))
