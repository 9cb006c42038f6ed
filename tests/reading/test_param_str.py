"""reading/param_str.py and the settings of the data layers: what a param_str may hold, and what is said if not."""

from __future__ import annotations

import pytest

import layers
from reading.param_str import parse

MEAN = (104.00699, 116.66877, 122.67892)


def settings(**given: object) -> str:
    return str({"voc_dir": "here", "split": "train", "mean": MEAN, **given})


def test_settings_have_the_references_defaults():
    assert parse(settings(), layers.VOCSegDataLayer.settings()) == {
        "voc_dir": "here",
        "split": "train",
        "mean": MEAN,
        "randomize": True,
        "seed": None,
        "scale": 1.0,
        "mirror": False,
        "jitter": 0,
        "mask": None,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a Python literal"),
        ("dict(split='train')", "not a Python literal"),
        ("{'split': __import__('os').getcwd()}", "not a Python literal"),
        ("[" * 100_000, "not a Python literal"),
        ("('voc_dir', 'split')", "is a tuple, expected a dict"),
        ("{'voc_dir': 'x', 'split': 'train'}", "lacks 'mean'"),
        (settings(splitt="train"), r"unknown key 'splitt'; did you mean 'split'\?.*legal keys are voc_dir"),
        (settings(sbdd_dir="x"), "unknown key 'sbdd_dir'"),
        (settings(split=""), "'split' is ''"),
        (settings(mean=(1, 2)), r"'mean' is \(1, 2\), expected three numbers"),
        (settings(mean=(1, 2, "3")), "three numbers"),
        (settings(randomize="no"), "'randomize' is 'no', expected True or False"),
        (settings(seed=1.5), "'seed' is 1.5"),
        (settings(seed=True), "'seed' is True"),
        (settings(scale=0), "'scale' is 0"),
        (settings(mirror=2), "'mirror' is 2, expected True or False"),
        (settings(jitter=-1), "'jitter' is -1, expected a whole number of pixels"),
        (settings(jitter=1.5), "'jitter' is 1.5"),
        (settings(mask="shape"), "'mask' is 'shape', expected None, 'foreground', 'background' or 'both'"),
    ],
)
def test_settings_that_are_wrong_say_what_is(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text, layers.VOCSegDataLayer.settings())


@pytest.mark.parametrize(
    ("layer", "given", "message"),
    [
        (layers.NYUDSegDataLayer, {"nyud_dir": "x", "split": "test"}, "lacks 'tops'"),
        (layers.NYUDSegDataLayer, {"nyud_dir": "x", "split": "test", "tops": ["colour"]}, "some of 'color', 'depth'"),
        (layers.NYUDSegDataLayer, {"nyud_dir": "x", "split": "test", "tops": []}, r"'tops' is \[\]"),
        (layers.NYUDSegDataLayer, {"nyud_dir": "x", "split": "test", "tops": "color"}, "'tops' is 'color'"),
        (layers.NYUDSegDataLayer, {"nyud_dir": "x", "split": "test", "tops": ["hha", "hha"]}, "each once"),
        (layers.SIFTFlowSegDataLayer, {"split": "test"}, "lacks 'siftflow_dir'"),
        (layers.PASCALContextSegDataLayer, {"voc_dir": "x", "split": "val"}, "lacks 'context_dir'"),
        (layers.FolderSegDataLayer, {"folder": "x", "split": "val", "mean": MEAN}, "lacks 'classes'"),
        (layers.FolderSegDataLayer, {"folder": "x", "split": "val", "mean": MEAN, "classes": 256}, "1 to 255"),
    ],
)
def test_each_datasets_own_settings_are_checked(layer, given, message):
    with pytest.raises(ValueError, match=message):
        parse(str(given), layer.settings())


def test_the_references_means_are_the_defaults_of_the_layers_that_have_them():
    given = {"nyud_dir": "x", "split": "test", "tops": ["color"]}
    assert parse(str(given), layers.NYUDSegDataLayer.settings())["mean"] == (116.190, 97.203, 92.318)
    given["mean"] = (1, 2, 3)
    assert parse(str(given), layers.NYUDSegDataLayer.settings())["mean"] == (1, 2, 3)
