"""surgery.py: transplants between nets, bilinear filling, and score layers that grow."""

from __future__ import annotations

import numpy as np
import pytest

import caffe
import surgery


def net(tmp_path, *layers: str) -> caffe.Net:
    path = tmp_path / "net.prototxt"
    data = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 6, 6] } } }'
    path.write_text("\n".join([data, *layers]))
    return caffe.Net(str(path), caffe.TEST)


def conv(name: str, bottom: str, outputs: int, kernel: int = 1, kind: str = "Convolution", **fields: object) -> str:
    more = " ".join(f"{key}: {value}" for key, value in fields.items())
    return (
        f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{name}" '
        f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} {more} "
        'weight_filler { type: "gaussian" std: 1 } bias_filler { type: "uniform" } } }'
    )


def inner_product(name: str, bottom: str, outputs: int) -> str:
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" inner_product_param '
        f'{{ num_output: {outputs} weight_filler {{ type: "gaussian" std: 1 }} bias_filler {{ type: "uniform" }} }} }}'
    )


def deconv(outputs: int, kernel: int, group: int = 1) -> str:
    fields = {"stride": 2, "bias_term": "false", "group": group}
    return conv("up", "data", outputs, kernel, kind="Deconvolution", **fields)


def params(caffe_net: caffe.Net, layer: str) -> list[np.ndarray]:
    return [np.array(blob.data) for blob in caffe_net.params[layer]]


# transplant


def test_transplant_makes_a_classifier_convolutional_and_reports_it(tmp_path, capsys):
    classifier = net(tmp_path, conv("conv", "data", 4), inner_product("fc6", "conv", 5), inner_product("fc8", "fc6", 9))
    fcn = net(tmp_path, conv("conv", "data", 4), conv("fc6", "conv", 5, kernel=6), conv("score", "fc6", 2))
    score = params(fcn, "score")
    report = surgery.transplant(fcn, classifier)

    assert report.copied == ["conv[0]", "conv[1]", "fc6[1]"]
    assert report.coerced == {"fc6[0]": ((5, 144), (5, 4, 6, 6))}
    assert report.dropped == ["fc8[0]", "fc8[1]"]
    assert report.untouched == ["score[0]", "score[1]"]
    printed = capsys.readouterr().out
    assert "fc6[0]: 5 x 144 -> 5 x 4 x 6 x 6" in printed
    assert "fc8[0]" in printed and "score[1]" in printed

    assert all(np.array_equal(a, b) for a, b in zip(params(fcn, "score"), score, strict=True))
    image = np.random.default_rng(0).normal(size=(1, 3, 6, 6)).astype(np.float32)
    expected = classifier.forward(data=image, end="fc6")["fc6"]
    np.testing.assert_allclose(fcn.forward(data=image, end="fc6")["fc6"][:, :, 0, 0], expected, rtol=1e-5, atol=1e-4)


def test_transplant_with_a_suffix_fills_one_of_two_streams(tmp_path):
    old = net(tmp_path, conv("conv", "data", 4))
    new = net(tmp_path, conv("convcolor", "data", 4), conv("convhha", "data", 4))
    hha = params(new, "convhha")
    report = surgery.transplant(new, old, suffix="color")
    assert np.array_equal(params(new, "convcolor")[0], params(old, "conv")[0])
    assert np.array_equal(params(new, "convhha")[0], hha[0])
    assert report.untouched == ["convhha[0]", "convhha[1]"]


def test_transplant_drops_a_bias_that_the_new_layer_lacks(tmp_path):
    old = net(tmp_path, conv("conv", "data", 4))
    new = net(tmp_path, conv("conv", "data", 4, bias_term="false"))
    report = surgery.transplant(new, old)
    assert (report.copied, report.dropped) == (["conv[0]"], ["conv[1]"])


def test_transplant_refuses_other_counts_names_both_shapes_and_changes_nothing(tmp_path):
    old = net(tmp_path, conv("conv", "data", 4), conv("score", "conv", 21))
    new = net(tmp_path, conv("conv", "data", 4), conv("score", "conv", 6))
    before = params(new, "conv")
    with pytest.raises(ValueError, match=r"score\[0\] is 6 x 4 x 1 x 1, but .* 21 x 4 x 1 x 1"):
        surgery.transplant(new, old)
    assert np.array_equal(params(new, "conv")[0], before[0])


def test_transplant_of_nothing_is_refused(tmp_path):
    old, new = net(tmp_path, conv("a", "data", 4)), net(tmp_path, conv("b", "data", 4))
    with pytest.raises(ValueError, match="no layer with parameters in common"):
        surgery.transplant(new, old)
    with pytest.raises(ValueError, match="suffix 'color'"):
        surgery.transplant(old, old, suffix="color")


# upsample_filt, interp


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 16, 63, 64])
def test_the_kernel_is_a_tent_that_sums_to_one_over_each_phase(size):
    kernel = surgery.upsample_filt(size)
    factor = (size + 1) // 2
    assert kernel.shape == (size, size)
    assert np.array_equal(kernel, kernel.T) and np.array_equal(kernel, kernel[::-1, ::-1])
    for y in range(factor):
        for x in range(factor):
            assert kernel[y::factor, x::factor].sum() == pytest.approx(1)


@pytest.mark.parametrize("size", [4.0, np.int64(4), np.float32(4)])
def test_a_whole_number_of_any_type_is_a_kernel_size(size):
    kernel = surgery.upsample_filt(size)
    assert np.array_equal(kernel, surgery.upsample_filt(4))
    assert kernel[0].tolist() == [0.0625, 0.1875, 0.1875, 0.0625]


@pytest.mark.parametrize("size", [3.5, 0, -2, float("nan"), float("inf"), True, "4", None])
def test_any_other_kernel_size_is_refused(size):
    with pytest.raises(ValueError, match="whole number of pixels"):
        surgery.upsample_filt(size)


@pytest.mark.parametrize(("group", "kernel"), [(1, 4), (3, 4), (1, 3)])
def test_interp_makes_a_deconvolution_upsample_each_channel_alone(tmp_path, group, kernel):
    up = net(tmp_path, deconv(3, kernel, group))
    surgery.interp(up, ["up"])
    slope = np.arange(6, dtype=np.float32) * np.array([1, 10, 100], np.float32)[:, None, None] + np.zeros((6, 1))
    out = up.forward(data=slope[None])["up"][0]
    inside = out[:, 4:-4, 4:-4]
    steps = np.diff(inside, axis=2)
    np.testing.assert_allclose(steps, np.broadcast_to([[[0.5]], [[5]], [[50]]], steps.shape), rtol=1e-5)
    assert np.abs(np.diff(inside, axis=1)).max() < 1e-4


def test_interp_clears_what_a_filler_left_off_the_diagonal(tmp_path):
    up = net(tmp_path, deconv(3, 4))
    surgery.interp(up, (layer for layer in ["up"]))
    weight = params(up, "up")[0]
    assert np.array_equal(np.abs(weight).sum((2, 3)) > 0, np.eye(3, dtype=bool))


def test_interp_refuses_what_it_cannot_fill(tmp_path):
    with pytest.raises(ValueError, match=r"no layer 'nope' .* are up"):
        surgery.interp(net(tmp_path, deconv(3, 4)), ["nope"])
    with pytest.raises(ValueError, match="takes 3 channels to 2"):
        surgery.interp(net(tmp_path, deconv(2, 4)), ["up"])
    oblong = deconv(3, 4).replace("kernel_size: 4", "kernel_h: 4 kernel_w: 2").replace("stride: 2", "")
    with pytest.raises(ValueError, match=r"3 x 3 x 4 x 2.*square"):
        surgery.interp(net(tmp_path, oblong), ["up"])


# expand_score


def test_expand_score_puts_the_old_classes_first(tmp_path):
    old, new = net(tmp_path, conv("score", "data", 2)), net(tmp_path, conv("score_more", "data", 5))
    before = params(new, "score_more")
    surgery.expand_score(new, "score_more", old, "score")
    for now, was, given in zip(params(new, "score_more"), before, params(old, "score"), strict=True):
        assert np.array_equal(now[:2], given)
        assert np.array_equal(now[2:], was[2:])


def test_expand_score_takes_a_bias_of_four_dimensions(tmp_path):
    old, new = net(tmp_path, conv("score", "data", 2)), net(tmp_path, conv("score", "data", 5))
    given = params(old, "score")[1]
    old.params["score"][1].reshape(1, 1, 1, 2)
    old.params["score"][1].data[...] = given
    surgery.expand_score(new, "score", old, "score")
    assert np.array_equal(params(new, "score")[1][:2], given)


def test_expand_score_refuses_what_does_not_fit(tmp_path):
    two, five = net(tmp_path, conv("score", "data", 2)), net(tmp_path, conv("score", "data", 5))
    with pytest.raises(ValueError, match=r"5 x 3 x 1 x 1.*2 x 3 x 1 x 1"):
        surgery.expand_score(two, "score", five, "score")
    with pytest.raises(ValueError, match="no score layer 'nope'"):
        surgery.expand_score(five, "nope", two, "score")
    with pytest.raises(ValueError, match=r"2 x 3 x 1 x 1.*5 x 3 x 3 x 3"):
        surgery.expand_score(net(tmp_path, conv("score", "data", 5, kernel=3)), "score", two, "score")
    with pytest.raises(ValueError, match="has a bias"):
        surgery.expand_score(net(tmp_path, conv("score", "data", 5, bias_term="false")), "score", two, "score")


# copy_stream


def test_copy_stream_fills_one_stream_from_a_weights_file(tmp_path, capsys):
    old = net(tmp_path, conv("conv", "data", 4, kernel=3), conv("score", "conv", 2), deconv(3, 4))
    weights = str(tmp_path / "old.caffemodel")
    old.save(weights)
    new = net(
        tmp_path,
        *(conv(f"conv{stream}", "data", 4, kernel=3) for stream in ("color", "hha")),
        *(conv(f"score{stream}", f"conv{stream}", 2) for stream in ("color", "hha")),
        deconv(3, 4),
    )
    before = {layer: params(new, layer) for layer in new.params}
    report = surgery.copy_stream(new, weights, suffix="hha")
    for layer in ("conv", "score"):
        for now, given in zip(params(new, f"{layer}hha"), params(old, layer), strict=True):
            assert np.array_equal(now, given)
    for layer in ("convcolor", "scorecolor", "up"):
        assert all(np.array_equal(a, b) for a, b in zip(params(new, layer), before[layer], strict=True))
    assert report.copied == ["convhha[0]", "convhha[1]", "scorehha[0]", "scorehha[1]"]
    assert "convhha[0]" in capsys.readouterr().out


def test_copy_stream_refuses_what_it_cannot_fill_and_changes_nothing(tmp_path):
    weights = str(tmp_path / "old.caffemodel")
    net(tmp_path, conv("conv", "data", 4)).save(weights)
    new = net(tmp_path, conv("convhha", "data", 4), conv("scorehha", "convhha", 2))
    before = params(new, "convhha")
    with pytest.raises(ValueError, match=r"old.caffemodel has no layer score: these are another net's"):
        surgery.copy_stream(new, weights, suffix="hha")
    assert np.array_equal(params(new, "convhha")[0], before[0])
    with pytest.raises(ValueError, match=r"No convolution's name ends in 'color'; .* are convhha, scorehha"):
        surgery.copy_stream(new, weights, suffix="color")
    wider = net(tmp_path, conv("convhha", "data", 5))
    with pytest.raises(RuntimeError, match=r"'conv'; shape mismatch"):
        surgery.copy_stream(wider, weights, suffix="hha")


# add_channels


@pytest.mark.parametrize("more", [1, 2])
def test_add_channels_starts_further_channels_with_the_others_mean(tmp_path, more):
    old = net(tmp_path, conv("conv", "data", 4, kernel=3))
    weights = str(tmp_path / "old.caffemodel")
    old.save(weights)
    depth = f'layer {{ name: "depth" type: "Input" top: "depth" input_param {{ shape {{ dim: [1, {more}, 6, 6] }} }} }}'
    both = 'layer { name: "both" type: "Concat" bottom: "data" bottom: "depth" top: "both" }'
    new = net(tmp_path, depth, both, conv("conv_bgrd", "both", 4, kernel=3))
    surgery.add_channels(new, "conv_bgrd", weights, "conv", more)

    image = np.random.default_rng(0).normal(size=(1, 3, 6, 6)).astype(np.float32)
    dark = np.zeros((1, more, 6, 6), np.float32)
    same = new.forward(data=image, depth=dark)["conv_bgrd"]
    np.testing.assert_allclose(same, old.forward(data=image)["conv"], rtol=1e-5, atol=1e-5)
    # What one further channel shows is seen as it would be in grey, at a third of its strength in each colour.
    dark[:, 0] = image[:, 0]
    seen = new.forward(data=0 * image, depth=dark)["conv_bgrd"]
    grey = old.forward(data=np.repeat(image[:, :1], 3, axis=1) / 3)["conv"]
    np.testing.assert_allclose(seen, grey, rtol=1e-5, atol=1e-5)


def test_add_channels_refuses_what_does_not_fit(tmp_path):
    weights = str(tmp_path / "old.caffemodel")
    old = net(tmp_path, conv("conv", "data", 4, kernel=3))
    old.save(weights)
    with pytest.raises(ValueError, match=r"no layer 'conv_bgrd' with weights; .* are conv"):
        surgery.add_channels(old, "conv_bgrd", weights, "conv")
    with pytest.raises(ValueError, match=r"old.caffemodel has no layer conv1_1"):
        surgery.add_channels(old, "conv", weights, "conv1_1")
    with pytest.raises(RuntimeError, match="shape mismatch"):  # three channels, which would leave two for the file's
        surgery.add_channels(old, "conv", weights, "conv")
