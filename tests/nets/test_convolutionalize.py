"""nets/convolutionalize.py: the net that is made of a classifier computes what the classifier computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2
from nets import convolutionalize as tool
from nets.__main__ import main
from nets.bases import BASES, Base

THIN = 32
VGG16, ALEXNET = BASES["vgg16"], BASES["alexnet"]
V1 = caffe_pb2.V1LayerParameter


def thin_of(base: Base) -> int:
    return THIN // 2 if base is ALEXNET else THIN  # AlexNet's groups want whole halves.


def randomise(net: caffe.Net) -> caffe.Net:
    rng = np.random.default_rng(0)
    for blobs in net.params.values():
        shape = blobs[0].data.shape
        blobs[0].data[...] = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        blobs[1].data[...] = rng.normal(0, 0.1, blobs[1].data.shape)
    return net


def classifier_with_fc8(base: Base) -> Any:
    """The classifier as it was trained: with fc8, which scores ten classes here."""
    param = tool.classifier_net(base, thin_of(base))
    text = 'name: "fc8" type: "InnerProduct" bottom: "fc7" top: "fc8" inner_product_param { num_output: 10 }'
    param.layer.add().CopyFrom(text_format.Parse(text, caffe_pb2.LayerParameter()))
    return param


@pytest.fixture(params=["vgg16", "alexnet"])
def base(request: pytest.FixtureRequest) -> Base:
    return BASES[request.param]


@pytest.fixture
def source(base: Base, tmp_path: Path) -> Path:
    path = tmp_path / "classifier.caffemodel"
    randomise(tool.load(classifier_with_fc8(base))).save(str(path))
    return path


def in_v1(net: caffe.Net, path: Path) -> None:
    """Write a net's weights as Caffe did in 2014: V1 layers, and every blob of four dimensions."""
    param = caffe_pb2.NetParameter(name="VGG_ILSVRC_16_layers")
    for name, blobs in net.params.items():
        stored = param.layers.add(name=name, type=V1.INNER_PRODUCT if name.startswith("fc") else V1.CONVOLUTION)
        for blob in blobs:
            values = blob.data
            four = (1,) * (4 - values.ndim) + values.shape
            stored.blobs.add(num=four[0], channels=four[1], height=four[2], width=four[3], data=values.ravel())
    path.write_bytes(param.SerializeToString())


# What the net computes


def test_a_net_padded_as_the_classifier_computes_the_classifier_s_features(
    base: Base, source: Path, tmp_path: Path
) -> None:
    classifier = tool.classifier(base, source, thin_of(base))
    param = tool.convolutional_net(base, thin_of(base))
    assert list(param.layer[1].convolution_param.pad) == [100]
    param.layer[1].convolution_param.pad[:] = [base.pad]
    net = tool.load(param)
    net.copy_from(str(tool.convolutionalize(base, source, tmp_path / "fcn.caffemodel", thin_of(base))))
    image = np.random.default_rng(1).normal(0, 50, (1, 3, base.image, base.image)).astype(np.float32)
    features = classifier.forward(data=image)["fc7"]
    heat = net.forward(data=image)["fc7"]
    assert features.std() > 1 and heat.shape == (*features.shape, 1, 1)
    np.testing.assert_allclose(heat[:, :, 0, 0], features, rtol=1e-4, atol=1e-4 * features.max())


def test_a_larger_image_gives_a_map_of_what_the_classifier_says_of_its_crops(
    base: Base, source: Path, tmp_path: Path
) -> None:
    """So it is exactly where no layer is padded: a crop's border and the same pixels inside an image differ."""

    def unpadded(param: Any, side: int) -> caffe.Net:
        for layer in param.layer:
            if layer.type == "Convolution":
                layer.convolution_param.pad[:] = [0]
        param.layer[0].input_param.shape[0].dim[2:] = [side, side]
        return tool.load(param)

    field = 404 if base is VGG16 else 355  # the receptive field of table 1
    classifier = unpadded(tool.classifier_net(base, thin_of(base)), field)
    classifier.copy_from(str(source))
    net = unpadded(tool.convolutional_net(base, thin_of(base)), field)
    net.copy_from(str(tool.convolutionalize(base, source, tmp_path / "fcn.caffemodel", thin_of(base))))
    image = np.random.default_rng(1).normal(0, 50, (1, 3, field + 32, field + 64)).astype(np.float32)
    net.blobs["data"].reshape(*image.shape)
    heat = net.forward(data=image)["fc7"]
    assert heat.shape[2:] == (2, 3)
    for y, x in ((0, 0), (1, 1), (0, 2)):
        crop = np.ascontiguousarray(image[:, :, 32 * y : 32 * y + field, 32 * x : 32 * x + field])
        features = classifier.forward(data=crop)["fc7"]
        np.testing.assert_allclose(heat[:, :, y, x], features, rtol=1e-4, atol=1e-4 * features.max())


# The file


def test_every_value_is_kept_and_fc8_left_out(base: Base, source: Path, tmp_path: Path) -> None:
    out = tool.convolutionalize(base, source, tmp_path / "new" / "fcn.caffemodel", thin_of(base))
    stored = caffe_pb2.NetParameter.FromString(out.read_bytes())
    shapes = {layer.name: [tuple(blob.shape.dim) for blob in layer.blobs] for layer in stored.layer if layer.blobs}
    classifier = tool.classifier(base, source, thin_of(base))
    assert set(shapes) == set(classifier.params)
    window = 7 if base is VGG16 else 6
    widths = [n // thin_of(base) for n in (4096, 512 if base is VGG16 else 256)]
    assert shapes["fc6"] == [(widths[0], widths[1], window, window), (widths[0],)]
    assert shapes["fc7"] == [(widths[0], widths[0], 1, 1), (widths[0],)]
    for layer in stored.layer:
        for blob, kept in zip(layer.blobs, classifier.params[layer.name] if layer.blobs else (), strict=True):
            assert np.array_equal(np.array(blob.data, np.float32), kept.data.ravel())
    assert [path.name for path in out.parent.iterdir()] == ["fcn.caffemodel"]


def test_the_oldest_files_do_as_well(tmp_path: Path) -> None:
    net = randomise(tool.load(classifier_with_fc8(VGG16)))
    old, new = tmp_path / "v1.caffemodel", tmp_path / "today.caffemodel"
    in_v1(net, old)
    net.save(str(new))
    made = [tool.convolutionalize(VGG16, path, tmp_path / f"{path.stem}-fcn", THIN) for path in (old, new)]
    assert made[0].read_bytes() == made[1].read_bytes()


def test_what_cannot_be_written_leaves_what_was_there(
    source: Path, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "made" / "fcn.caffemodel"
    out.parent.mkdir()
    out.write_text("before")

    def full(net: caffe.Net, path: str) -> None:
        Path(path).write_text("half")
        raise OSError("No space left on device")

    monkeypatch.setattr(caffe.Net, "save", full)
    with pytest.raises(OSError, match="No space"):
        tool.convolutionalize(base, source, out, thin_of(base))
    assert [path.name for path in out.parent.iterdir()] == ["fcn.caffemodel"]
    assert out.read_text() == "before"


# What is no such classifier


def test_another_net_s_weights_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    out = tmp_path / "fcn.caffemodel"
    other = tmp_path / "other.caffemodel"
    randomise(tool.load(tool.classifier_net(ALEXNET, 16))).save(str(other))
    with pytest.raises(ValueError, match=r"other.caffemodel does not hold .*VGG_ILSVRC.*(conv1_1|fc6)"):
        tool.convolutionalize(VGG16, other, out, THIN)
    made = tool.convolutionalize(VGG16, vgg16(tmp_path), tmp_path / "made.caffemodel", THIN)
    with pytest.raises(ValueError, match=r"made.caffemodel does not hold .*fc6.*shape mismatch"):
        tool.convolutionalize(VGG16, made, out, THIN)
    assert not out.exists()


def vgg16(folder: Path) -> Path:
    path = folder / "vgg16.caffemodel"
    randomise(tool.load(tool.classifier_net(VGG16, THIN))).save(str(path))
    return path


def test_weights_that_lack_layers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "part.caffemodel"
    stored = caffe_pb2.NetParameter.FromString(vgg16(tmp_path).read_bytes())
    del stored.layer[-4:]  # fc6, fc7 and their ReLUs
    path.write_bytes(stored.SerializeToString())
    with pytest.raises(ValueError, match=r"part.caffemodel does not hold .*: it has no layer fc6, fc7"):
        tool.convolutionalize(VGG16, path, tmp_path / "fcn.caffemodel", THIN)


# The command


def test_the_command_reads_and_writes_in_the_folder_of_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(tool, "convolutionalize", lambda *given: made.append(given) or "the file")
    assert main(["convolutionalize", "vgg16"]) == 0
    assert main(["convolutionalize", "alexnet", "a.caffemodel", "b.caffemodel"]) == 0
    assert made == [(VGG16, None, None), (ALEXNET, Path("a.caffemodel"), Path("b.caffemodel"))]
    assert capsys.readouterr().out == "the file\nthe file\n"
    monkeypatch.delenv("FCN_DATA", raising=False)
    assert tool.in_data("f") == Path(tool.__file__).resolve().parents[1] / "data/ilsvrc-nets/f"
    monkeypatch.setenv("FCN_DATA", str(tmp_path))
    assert tool.in_data("f") == tmp_path / "ilsvrc-nets" / "f"


def test_a_base_of_convolutions_is_left_as_it_is() -> None:
    with pytest.raises(SystemExit, match=r"convolutions already.*bvlc_googlenet\.caffemodel.*fetch googlenet`"):
        main(["convolutionalize", "googlenet"])
    net = tool.convolutional_net(BASES["googlenet"], 16)
    assert net == tool.classifier_net(BASES["googlenet"], 16)


def test_the_command_says_how_to_get_what_is_missing_and_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FCN_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match=r"no .*/VGG_ILSVRC_16_layers.caffemodel .* `python -m datasets fetch vgg16`"):
        main(["convolutionalize", "vgg16"])
    with pytest.raises(SystemExit, match=r"no .*/bvlc_reference_caffenet.caffemodel .*datasets fetch caffenet`"):
        main(["convolutionalize", "alexnet"])
    page = tmp_path / "page.caffemodel"
    page.write_text("<html>404</html>")
    with pytest.raises(SystemExit, match=str(page)):
        main(["convolutionalize", "alexnet", str(page)])
    with pytest.raises(SystemExit, match="would be written over the classifier"):
        main(["convolutionalize", "alexnet", str(page), str(page)])
    with pytest.raises(SystemExit):
        main(["convolutionalize", "resnet"])
    assert "invalid choice: 'resnet'" in capsys.readouterr().err
