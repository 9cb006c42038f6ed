"""The variants: what differs from the net and the solver that each varies, and how they are called."""

from __future__ import annotations

import ast
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

import train
from caffe.proto import caffe_pb2
from nets import starts, variants, vgg16, voc
from nets.bases import BASES
from nets.experiments import EXPERIMENTS, ROOT, VARIANTS, all_names, lookup, outdated, write

SIZE = (40, 48)
THIN = 16
CLASSES_OF = {"sem": 33, "geo": 3}

ABLATIONS = [name.removeprefix("voc-fcn-ablations/") for name in VARIANTS if name.startswith("voc-fcn-ablations/")]
FOLDERS = ["voc-fcn-ablations", "cvpr-recipe", "pascalcontext-fcn-33"]


def named(net: Any) -> dict[str, Any]:
    return {layer.name: layer for layer in net.layer}


def ablation(name: str, split: str = "train") -> Any:
    return lookup(f"voc-fcn-ablations/{name}").net(split)


# What differs


def differences(net: Any, base: Any) -> dict[str, Any]:
    """The layers that are gone from `base` (-), new (+), and of the others the fields that differ (dotted names)."""
    ours, theirs = named(net), named(base)
    found: dict[str, Any] = {f"-{name}": "" for name in theirs if name not in ours}
    found.update({f"+{name}": layer.type for name, layer in ours.items() if name not in theirs})
    for name, layer in ours.items():
        if name in theirs and layer != theirs[name]:
            a, b = dict(_fields(layer)), dict(_fields(theirs[name]))
            found[name] = sorted(field for field in {*a, *b} if a.get(field) != b.get(field))
    return found


def _fields(message: Any) -> Iterator[tuple[str, str]]:
    """The fields that are set, by their dotted names, as text; a repeated field is one."""
    for field, value in message.ListFields():
        if hasattr(value, "ListFields"):
            yield from ((f"{field.name}.{name}", text) for name, text in _fields(value))
        else:
            yield field.name, str(list(value) if field.name in ("bottom", "top") else value)


DATA = {"data": ["python_param.param_str"]}
# In each train net: what differs from FCN-32s, or from the net that is named.
IN_THE_NET: dict[str, tuple[str, dict[str, Any]]] = {
    "table1-alexnet": (
        "voc-fcn-alexnet",
        {
            "data": ["python_param.layer", "python_param.param_str"],
            **{name: ["param"] for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")},
        },
    ),
    "table1-vgg16": (
        "voc-fcn32s",
        {"data": ["python_param.layer", "python_param.param_str"], "loss": ["loss_param.normalize"]},
    ),
    "table1-googlenet": (
        "voc-fcn-googlenet",
        {"data": ["python_param.layer", "python_param.param_str"], "loss": ["loss_param.normalize"]},
    ),
    "accum": ("voc-fcn32s", DATA),
    "online": ("voc-fcn32s", DATA),
    "32s-fixed": (
        "voc-fcn32s",
        {
            **DATA,
            **{f"conv{g}_{i}": ["param"] for g, depth in enumerate(vgg16.DEPTHS, 1) for i in range(1, depth + 1)},
            "fc6": ["param"],
            "fc7": ["param"],
        },
    ),
    "voc-train": ("voc-fcn32s", {"data": ["python_param.layer", "python_param.param_str"]}),
    "null-background": (
        "voc-fcn32s",
        {
            **DATA,
            **dict.fromkeys(("-score_fr", "-upscore"), ""),
            "+score_fr_objects": "Convolution",
            "+upscore_objects": "Deconvolution",
            "+score_objects": "Crop",
            "+score_first": "Slice",
            "+unused": "Silence",
            "+score_background": "Power",
            "score": ["bottom", "crop_param.axis", "crop_param.offset", "type"],
            "+targets": "Python",
            "loss": ["bottom", "type"],
        },
    ),
    "sigmoid": ("voc-fcn32s", {**DATA, "+targets": "Python", "loss": ["bottom", "type"]}),
    "max-fusion": ("voc-fcn16s", {**DATA, "fuse_pool4": ["eltwise_param.operation"]}),
    "no-dropout": ("voc-fcn32s", {**DATA, "-drop6": "", "-drop7": ""}),
    "random-score": (
        "voc-fcn32s",
        {
            **DATA,
            "score_fr": ["convolution_param.weight_filler.std", "convolution_param.weight_filler.type"],
        },
    ),
    "learned-interpolation": ("voc-fcn8s", {**DATA, "upscore2": ["param"], "upscore_pool4": ["param"]}),
    "augmented": ("voc-fcn32s", DATA),
    "class-balanced": ("voc-fcn32s", {**DATA, "+class_weights": "Parameter", "loss": ["bottom", "type"]}),
    "sampled-100": ("voc-fcn32s", {**DATA, "+sampled": "Python", "loss": ["bottom", "loss_param.normalize"]}),
    "sampled-50": ("voc-fcn32s", {**DATA, "+sampled": "Python", "loss": ["bottom", "loss_param.normalize"]}),
    "sampled-25": ("voc-fcn32s", {**DATA, "+sampled": "Python", "loss": ["bottom", "loss_param.normalize"]}),
    "fg-only": ("voc-fcn32s", DATA),
    "bg-only": ("voc-fcn32s", DATA),
    "shape": ("voc-fcn32s", DATA),
    "dilated": (
        "voc-fcn32s",
        {
            **DATA,
            "conv1_1": ["convolution_param.pad"],
            "pool4": ["pooling_param.stride"],
            **{f"conv5_{i}": ["convolution_param.dilation", "convolution_param.pad"] for i in (1, 2, 3)},
            "+pool5_size": "Pooling",
            **{f"+pool5_{cell}": "Crop" for cell in ("00", "01", "10", "11")},
            "pool5": [
                "bottom",
                "eltwise_param.operation",
                "pooling_param.kernel_size",
                "pooling_param.pool",
                "pooling_param.stride",
                "type",
            ],
            "fc6": ["convolution_param.dilation"],
            "-upscore": "",
            "+upscore8": "Deconvolution",
            "score": ["crop_param.offset"],
        },
    ),
    "lr-drop": ("voc-fcn32s", DATA),
    "pool5-stride1": (
        "voc-fcn32s",
        {
            **DATA,
            "conv1_1": ["convolution_param.pad"],
            "pool5": ["pooling_param.stride"],
            "-fc6": "",
            "+fc6_14x14": "Convolution",
            "-upscore": "",
            "+upscore16": "Deconvolution",
            "score": ["crop_param.offset"],
        },
    ),
    "scratch": (
        "voc-fcn32s",
        {
            **DATA,
            "+scaled": "Power",
            "conv1_1": ["bottom", "convolution_param.weight_filler.type"],
            **{
                f"conv{g}_{i}": ["convolution_param.weight_filler.type"]
                for g, depth in enumerate(vgg16.DEPTHS, 1)
                for i in range(1, depth + 1)
                if (g, i) != (1, 1)
            },
            "fc6": ["convolution_param.weight_filler.type"],
            "fc7": ["convolution_param.weight_filler.type"],
        },
    ),
}


@pytest.mark.parametrize("name", [name for name in ABLATIONS if not name.startswith("pool") or name in IN_THE_NET])
def test_a_net_differs_from_the_one_that_it_varies_by_what_its_name_says(name: str) -> None:
    of, expected = IN_THE_NET[name]
    assert lookup(f"voc-fcn-ablations/{name}").of == of
    assert differences(ablation(name), EXPERIMENTS[of].net("train")) == expected


def settings(name: str, split: str) -> dict[str, Any]:
    text = named(ablation(name, split))["data"].python_param.param_str
    return dict(ast.literal_eval(text))


@pytest.mark.parametrize(
    ("name", "train_has", "val_has"),
    [
        ("accum", {}, {}),
        ("augmented", {"mirror": True, "jitter": 32}, {"mirror": True, "jitter": 32}),  # which only TRAIN heeds
        ("fg-only", {"mask": "background"}, {"mask": "background"}),
        ("bg-only", {"mask": "foreground"}, {"mask": "foreground"}),
        ("shape", {"mask": "both"}, {"mask": "both"}),
    ],
)
def test_data_layers_have_the_variant_s_settings(name: str, train_has: dict[str, Any], val_has: dict[str, Any]) -> None:
    common = {"mean": voc.MEAN, "seed": 1337}
    sbd, pascal = {"sbdd_dir": "../../data/sbdd/dataset"}, {"voc_dir": "../../data/pascal/VOC2011"}
    assert settings(name, "train") == {**sbd, "split": "train", **common, **train_has}
    assert settings(name, "seg11valid") == {**pascal, "split": "seg11valid", **common, **val_has}


def test_voc_s_own_images_are_those_of_table_1_and_of_voc_train() -> None:
    for name in ("table1-vgg16", "table1-alexnet", "table1-googlenet", "voc-train"):
        assert named(ablation(name))["data"].python_param.layer == "VOCSegDataLayer"
        assert settings(name, "train")["split"] == "train"
    assert lookup("voc-fcn-ablations/table1-vgg16").split == "val"
    assert lookup("voc-fcn-ablations/voc-train").split == "seg11valid"


def test_some_fields_are_what_the_papers_say() -> None:
    assert [p.lr_mult for p in named(ablation("table1-alexnet"))["conv3"].param] == [1, 2]
    fixed = named(ablation("32s-fixed"))
    learning = {name for name, layer in fixed.items() for param in layer.param if param.lr_mult}
    assert learning == {"score_fr"}
    assert "'keep': 0.25, 'cell': 32" in named(ablation("sampled-25"))["sampled"].python_param.param_str
    assert "sampled" not in named(ablation("sampled-25", "seg11valid"))
    assert named(ablation("pool5-stride1"))["fc6_14x14"].convolution_param.kernel_size == [14]
    assert named(ablation("dilated"))["fc6"].convolution_param.dilation == [4]
    interpolated = named(ablation("learned-interpolation"))
    assert [param.lr_mult for param in interpolated["upscore2"].param] == [1]
    assert [param.lr_mult for param in interpolated["upscore8"].param] == [0]


@pytest.mark.parametrize(("pool", "stride", "offset"), [("pool5", 32, 115), ("pool4", 16, 107), ("pool3", 8, 103)])
def test_truncated_nets_score_their_pool(pool: str, stride: int, offset: int) -> None:
    net = named(ablation(pool))
    up = net[f"upscore{stride}"].convolution_param
    assert list(net)[list(net).index(pool) + 1 :] == [f"score_{pool}", f"upscore{stride}", "score", "loss"]
    assert (up.kernel_size, up.stride) == ([2 * stride], [stride])
    assert net["score"].crop_param.offset == [offset]
    trunk = list(named(EXPERIMENTS["voc-fcn32s"].net("train")))
    assert list(net)[: list(net).index(pool) + 1] == trunk[: trunk.index(pool) + 1]


def test_the_other_folders_nets_differ_by_the_loss_and_the_classes() -> None:
    for name, variant in VARIANTS.items():
        if name.startswith("cvpr-recipe") and not name.endswith("fixed"):
            plain = name.removeprefix("cvpr-recipe/").replace("-fcn-33-", "-fcn-33/")
            for prefix in ("nyud-fcn", "siftflow-fcn", "pascalcontext-fcn"):
                plain = plain if "/" in plain else plain.replace(f"{prefix}-", f"{prefix}/")
            train_file = next(iter(variant.splits))
            found = differences(variant.net(variant.splits[train_file]), lookup(plain).net(variant.splits[train_file]))
            losses = ["loss", "loss_geo"] if "siftflow" in name else ["loss"]
            data = DATA if name.startswith("cvpr-recipe/voc") else {}
            assert found == {**data, **{loss: ["loss_param.normalize"] for loss in losses}}, name
    net = named(lookup("pascalcontext-fcn-33/8s").net("train"))
    found = differences(
        lookup("pascalcontext-fcn-33/8s").net("train"), EXPERIMENTS["pascalcontext-fcn/8s"].net("train")
    )
    ups, scores = ("upscore2", "upscore_pool4", "upscore8"), ("score_fr", "score_pool4", "score_pool3")
    assert found == {**DATA, **{name: ["convolution_param.num_output"] for name in (*ups, *scores)}}
    assert net["score_fr"].convolution_param.num_output == 34
    assert "'classes': '33_labels.txt'" in net["data"].python_param.param_str


# The solvers


def solver_of(name: str) -> Any:
    variant = lookup(name)
    assert variant.solver is not None
    return caffe_pb2.SolverParameter(**variant.solver)


CVPR = {"momentum": 0.9, "iter_size": 20}
TABLE1 = {**CVPR, "max_iter": 9730, "snapshot": 973, "test_iter": [1111]}
SAMPLED = {"momentum": 0.9, "base_lr": 1e-4, "max_iter": 1700, "snapshot": 1700}
# What differs from FCN-32s's solver; nothing in the ablations that are not named.
IN_THE_SOLVER: dict[str, dict[str, Any]] = {
    "table1-alexnet": {**TABLE1, "base_lr": 1e-3},
    "table1-vgg16": {**TABLE1, "base_lr": 1e-4},
    "table1-googlenet": {**TABLE1, "base_lr": 5e-5},
    "accum": {**CVPR, "base_lr": 2e-9, "max_iter": 5000, "snapshot": 200},
    "online": {"momentum": 0.9},
    "pool4": {"base_lr": 1e-12},
    "pool3": {"base_lr": 1e-14},
    "max-fusion": {"base_lr": 1e-12},
    "learned-interpolation": {"base_lr": 1e-14},
    "sampled-100": {**SAMPLED, "iter_size": 20},
    "sampled-50": {**SAMPLED, "iter_size": 40},
    "sampled-25": {**SAMPLED, "iter_size": 80},
    "lr-drop": {"base_lr": 1e-12},
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_a_solver_differs_from_fcn32s_s_by_what_the_variant_is_about(name: str) -> None:
    expected = text_format.Parse((ROOT / "voc-fcn32s/solver.prototxt").read_text(), caffe_pb2.SolverParameter())
    expected.MergeFrom(
        caffe_pb2.SolverParameter(**{k: v for k, v in IN_THE_SOLVER.get(name, {}).items() if k != "test_iter"})
    )
    expected.test_iter[:] = IN_THE_SOLVER.get(name, {}).get("test_iter", [736])
    assert solver_of(f"voc-fcn-ablations/{name}") == expected


@pytest.mark.parametrize(
    ("begins", "trained_on", "net"),
    [("voc", 8498, "train"), ("nyud", 795, "trainval"), ("siftflow", 2486, "trainval"), ("pascal", 4998, "train")],
)
def test_the_cvpr_recipe_is_175_epochs_of_20_images(begins: str, trained_on: int, net: str) -> None:
    names = [name for name in VARIANTS if name.startswith(f"cvpr-recipe/{begins}")]
    assert names
    for name in names:
        param = solver_of(name)
        assert (param.momentum, param.iter_size) == (pytest.approx(0.9), 20)
        assert 175 <= 20 * param.max_iter / trained_on < 178
        assert param.max_iter % param.snapshot == 0
        assert (param.train_net, param.test_net[0]) == (
            f"{net}.prototxt",
            "val.prototxt" if net == "train" else "test.prototxt",
        )
        stage = {"32s": 1e-4, "16s": 1e-6, "8s": 1e-8}[
            name.removesuffix("-fixed").rpartition("-")[2].removeprefix("fcn")
        ]
        late = 100 if "color-hha" in name else 1
        assert param.base_lr == pytest.approx(stage / late)


def test_33_classes_have_the_heavy_recipe_for_as_long_as_59() -> None:
    for stage, base_lr in (("32s", 1e-10), ("16s", 1e-12), ("8s", 1e-14)):
        param = solver_of(f"pascalcontext-fcn-33/{stage}")
        assert (param.base_lr, param.momentum, param.max_iter) == (pytest.approx(base_lr), pytest.approx(0.99), 400_000)


def test_stages_start_from_the_stage_before_in_their_own_folder() -> None:
    sources = {name: variant.starts_from for name, variant in VARIANTS.items()}
    assert sources["cvpr-recipe/voc-fcn16s"] == ("cvpr-recipe/voc-fcn32s",)
    assert sources["cvpr-recipe/voc-fcn32s-fixed"] == ("vgg16",)
    assert sources["cvpr-recipe/nyud-fcn-color-hha-32s"] == (
        "cvpr-recipe/nyud-fcn-color-32s",
        "cvpr-recipe/nyud-fcn-hha-32s",
    )
    assert sources["cvpr-recipe/pascalcontext-fcn-33-8s"] == ("cvpr-recipe/pascalcontext-fcn-33-16s",)
    assert sources["pascalcontext-fcn-33/16s"] == ("pascalcontext-fcn-33/32s",)
    assert sources["voc-fcn-ablations/max-fusion"] == ("voc-fcn32s",)
    for origins in sources.values():
        assert set(origins) <= {*all_names(), *BASES}


# The command line


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a folder's solve.py calls train.run with; nothing is written."""
    arguments: dict[str, Any] = {}
    monkeypatch.setattr(
        train, "run", lambda script, manual, **rest: arguments.update(rest, script=script, manual=manual)
    )
    monkeypatch.setattr(variants, "outdated", lambda name: [ROOT / name / "train.prototxt"])
    monkeypatch.setattr(variants, "write", lambda name: arguments.update(written=name))
    return arguments


def command(monkeypatch: pytest.MonkeyPatch, folder: str, *argv: str) -> None:
    monkeypatch.setattr("sys.argv", ["solve.py", *argv])
    runpy.run_path(str(ROOT / folder / "solve.py"), run_name="__main__")


@pytest.mark.parametrize("name", VARIANTS)
def test_solve_py_trains_the_variant_that_is_asked_for(
    name: str, called: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    where, own = name.split("/")
    command(monkeypatch, where, own, "--gpu", "1")
    variant = lookup(name)
    assert called["written"] == name
    assert Path(called["folder"]) == ROOT / name
    assert Path(called["script"]).parent == ROOT / where
    assert called["argv"] == ["--gpu", "1"]
    scored = variant.net(list(variant.splits.values())[1], thin=THIN)
    reads = next(layer for layer in scored.layer if layer.type == "Python" and not layer.bottom).python_param.param_str
    assert variant.split == ast.literal_eval(reads)["split"]
    assert solver_of(name).max_iter % variant.score_every == 0
    assert (variant.iterations, variant.score_every) == (solver_of(name).max_iter, solver_of(name).snapshot)
    assert called["manual"].startswith(f"{name}: ")
    files = starts.files(variant, ROOT / name)
    obtain = starts.obtain(variant, ROOT / name)
    for file, origin in zip(files, variant.starts_from, strict=True):
        if origin in BASES:
            assert file.parent == ROOT / "data/ilsvrc-nets"
        else:
            iterations = 100_000 if origin in EXPERIMENTS else solver_of(origin).max_iter
            assert file == ROOT / origin / f"snapshot/train_iter_{iterations}.caffemodel"
            assert origin.rpartition("/")[0] in obtain
    assert bool(obtain) == bool(files)
    assert callable(called["start"])


@pytest.mark.parametrize("argv", [[], ["--list"], ["--help"]])
@pytest.mark.parametrize("where", FOLDERS)
def test_without_a_variant_solve_py_lists_them(
    where: str,
    argv: list[str],
    called: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command(monkeypatch, where, *argv)
    assert not stopped.value.code
    lines = capsys.readouterr().out.splitlines()
    for name, variant in VARIANTS.items():
        folder, own = name.split("/")
        if folder == where:
            assert [line for line in lines if line.startswith(f"{own} ") and line.endswith(variant.about)]
    assert not called


def test_a_variant_s_files_that_are_right_are_left_alone_and_a_full_disk_is_told(
    called: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "outdated", lambda name: [])
    command(monkeypatch, "voc-fcn-ablations", "sigmoid")
    assert "written" not in called

    def full(name: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(variants, "outdated", lambda name: [ROOT / name])
    monkeypatch.setattr(variants, "write", full)
    with pytest.raises(SystemExit, match=r"prototxts of voc-fcn-ablations/sigmoid cannot be written: .*No space"):
        command(monkeypatch, "voc-fcn-ablations", "sigmoid")


def test_a_variant_that_is_none_is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="voc-fcn-ablations has no variant 'sigmoyd'; there are sigmoid"):
        command(monkeypatch, "voc-fcn-ablations", "sigmoyd")


def test_a_variant_is_written_whole_and_read_back(tmp_path: Path) -> None:
    name = "voc-fcn-ablations/dilated"
    paths = write(name, tmp_path)
    assert [path.name for path in paths] == ["train.prototxt", "val.prototxt", "deploy.prototxt", "solver.prototxt"]
    assert outdated(name, tmp_path) == []
    text = paths[-1].read_text()
    assert "base_lr: 1e-10\n" in text
    assert "momentum: 0.99\n" in text
    paths[-1].write_text(text.replace("1e-10", "1e-9"))
    assert outdated(name, tmp_path) == [paths[-1]]
