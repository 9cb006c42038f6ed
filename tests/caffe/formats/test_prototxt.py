"""Prototxts are read as protobuf reads them, and refused with the file, the place, the field and what was expected."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import pytest
from google.protobuf import text_format
from google.protobuf.internal import api_implementation
from hypothesis import given, settings
from hypothesis import strategies as st

from caffe.errors import PrototxtError, nearest
from caffe.formats import prototxt
from caffe.formats.prototxt import _find_fault, parse_text, read_net, read_solver, to_text
from caffe.proto import caffe_pb2

GOLDEN = Path(__file__).parents[2] / "golden"


def net(text: str) -> caffe_pb2.NetParameter:
    return parse_text(text, caffe_pb2.NetParameter(), "net.prototxt")


def refusal(text: str) -> PrototxtError:
    with pytest.raises(PrototxtError) as caught:
        net(text)
    return caught.value


# What is wrong, where, and what the sentence must say.
FAULTS = [
    ('layer { botom: "x" }', (1, 9), ["LayerParameter", '"botom"', 'did you mean "bottom"?']),
    ('layer {\n  name: "c1"\n  loss_weight: abc\n}', (3, 16), ['layer "c1"', '"loss_weight"', "a number", '"abc"']),
    ("layer { pooling_param { pool: MAXX } }", (1, 31), ["MAX, AVE or STOCHASTIC", '"MAXX"', "did you mean MAX?"]),
    ("layer { pooling_param { pool: 9 } }", (1, 31), ["MAX, AVE or STOCHASTIC", '"9"']),
    ('layers { type: "Convolution" }', (1, 16), ["DECONVOLUTION", "did you mean CONVOLUTION?"]),
    ("layer { type: CONVOLUTION }", (1, 15), ['"type" of LayerParameter', "a string in quotes"]),
    ('layer { name: "x"\n  bottom "y" }', (2, 10), ['layer "x"', '"bottom"', "colon"]),
    ('layer { name: "x" name: "y" }', (1, 19), ['"name"', "twice"]),
    ("layer { pooling_param { } pooling_param { } }", (1, 27), ['"pooling_param"', "twice"]),
    ('\nlayer {\n  name: "x" ', (2, 7), ['"layer"', "not closed"]),
    ('layer { name: "x" }\n}', (2, 1), ["closes nothing"]),
    ('layer < name: "x" }', (1, 19), ['"}"', '">"', '"layer"']),
    ("layer { convolution_param { num_output: -1 } }", (1, 41), ["a whole number", "0 and 4294967295"]),
    ("layer { convolution_param { num_output: 1.5 } }", (1, 41), ["a whole number", '"1.5"']),
    ("input_dim: 99999999999", (1, 12), ["-2147483648 and 2147483647"]),
    ("layer { convolution_param { bias_term: 7 } }", (1, 40), ["true or false", '"7"']),
    ("layer: 3", (1, 8), ['"layer" is a block', '"3"']),
    ("layer { name { } }", (1, 14), ['"name"', "colon"]),
    ('layer { name: "abc }', (1, 15), ["quote that is not closed"]),
    ('layer { name: "\\377" }', (1, 22), ["utf-8"]),
    ("input_dim: [1, 2", (1, 17), ['"input_dim"', "end of the text"]),
    ("layer { convolution_param { pad: [1 2] } }", (1, 37), ['"2"', '"pad"', "comma"]),
    ('layer [ { name: "x" }, { nme: "y" } ]', (1, 26), ['"nme"', 'did you mean "name"?']),
    ("layer { kernel_size: 3 }", (1, 9), ["convolution_param and pooling_param"]),
    ('layer { name: "a"\nlayer { name: "b" } }', (2, 1), ['layer "a"', '"layer"', "closing bracket"]),
    ("base_lr: 0.1", (1, 1), ["SolverParameter", "solver's prototxt?"]),
    ("layer { include { xyz: 1 } }", (1, 19), ["phase, min_level, max_level, stage and not_stage"]),
    ("@", (1, 1), ['"@"', "NetParameter"]),
    ("input_dim: 08", (1, 12), ["a whole number", '"08"']),
    ("input_dim: 010 input_dim: 0x10 input_dim: [] x", (1, 46), ['"x"']),
    ("input_dim: [1, ]", (1, 16), ["a whole number", '"]"']),
    ("layer { loss_weight: 0x10 }", (1, 22), ["a number", '"0x10"']),
    ("layer { pooling_param { pool: 07 } }", (1, 31), ["MAX, AVE or STOCHASTIC"]),
    ("layer { reshape_param { shape { dim: 9223372036854775808 } } }", (1, 38), ["9223372036854775807"]),
    ("layer { reshape_param { shape { dim: -0x8000000000000001 } } }", (1, 38), ["-9223372036854775808"]),
    ('name: "a\0b', (1, 7), ["quote that is not closed"]),
    ('name: "a"\0', (1, 10), ["NetParameter"]),
    ("layer { phase: 2 }", (1, 16), ["TRAIN or TEST"]),
    ("layer { [type.googleapis.com/caffe.NetParameter] { } }", (1, 9), ["LayerParameter"]),
]


@pytest.mark.parametrize(("text", "place", "words"), FAULTS)
def test_faults_are_named(text: str, place: tuple[int, int], words: list[str]) -> None:
    error = refusal(text)
    assert (error.path, error.line, error.column) == ("net.prototxt", *place)
    assert str(error).startswith(f"net.prototxt:{place[0]}:{place[1]}: ")
    assert str(error)[-1] in ".?"
    for word in words:
        assert word in str(error)


def test_a_solvers_unknown_field_is_named_too() -> None:
    with pytest.raises(PrototxtError, match=r'SolverParameter has no field "momentun"; did you mean "momentum"\?'):
        parse_text("momentun: 0.9", caffe_pb2.SolverParameter())
    with pytest.raises(PrototxtError, match="is this a net's prototxt"):
        parse_text('layer { name: "a" }', caffe_pb2.SolverParameter())


def test_required_fields_that_are_unset_are_named() -> None:
    error = refusal('layer { name: "ok" } layer { name: "c" clip_param { min: 1 } }')
    assert "layer[1].clip_param.max" in str(error)
    assert 'layer "c"' in str(error)
    assert (error.line, error.column) == (1, 51)


def test_a_solver_that_cannot_be_upgraded_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "solver.prototxt"
    path.write_text('solver_type: SGD type: "SGD"')
    with pytest.raises(PrototxtError, match=r"solver\.prototxt: .*both solver_type .* and type"):
        read_solver(path)


def test_layer_and_layers_in_one_net_are_refused_where_the_second_begins(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text('name: "n"\nlayer { name: "layers" include { } }\n\n  layers { name: "b" }\nlayer { }')
    with pytest.raises(PrototxtError, match="both layer and layers") as caught:
        read_net(path)
    assert (caught.value.line, caught.value.column) == (4, 3)
    path.write_text('layers { layer { name: "a" type: "x" } }')  # V0's layer in layers is no mixing
    with pytest.raises(PrototxtError, match='unknown type "x"'):
        read_net(path)


@pytest.mark.parametrize("block", ["layer {", "foo {", "[", "layer: [", '"', "<", "layer { x < "])
def test_a_bomb_of_open_blocks_is_refused_in_a_short_sentence(block: str) -> None:
    assert len(str(refusal(block * 50_000))) < 400


# Each of these ends in a fault that the parser comes to last.
ABSURD = {
    "blocks in blocks": "layer { include { " * 10_000,
    "closings": "}" * 100_000,
    "a whole number": "input_dim: " + "9" * 100_000,
    "an octal number": "layer { reshape_param { shape { dim: 0" + "7" * 100_000,
    "a hexadecimal number": "layer { reshape_param { shape { dim: -0x" + "f" * 100_000,
    "an enum's number": "layer { phase: " + "1" * 100_000,
    "a number that is infinite": "layer { loss_weight: 1e" + "9" * 10_000 + " x",
    "backslashes": 'name: "' + "\\" * 100_001,
    "escaped quotes": 'name: "' + '\\"' * 50_000,
    "escapes": 'name: "' + "\\x" * 50_000 + '"',
    "strings": "name: " + '"a"' * 30_000 + " @",
    "a name": "layer { " + "x" * 100_000 + ": 1 }",
    "comments": "# \n" * 50_000 + "@",
    "spaces": " " * 500_000 + "@",
    "layers": 'layer { name: "a" bottom: "b" }\n' * 5_000 + "layer { nam",
}


@pytest.mark.parametrize("kind", ABSURD)
def test_absurd_texts_are_refused_soon_with_their_place(kind: str) -> None:
    text = ABSURD[kind]
    error = refusal(text)
    assert 1 <= error.line <= text.count("\n") + 1
    assert 1 <= error.column <= len(text.split("\n")[error.line - 1]) + 1
    assert len(str(error)) < 400


def test_an_absurd_file_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.prototxt"
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # a terabyte of zeros that takes no space
    with pytest.raises(PrototxtError, match="binary file"):
        read_net(path)
    monkeypatch.setattr(prototxt, "_MAX_SIZE", 1 << 20)
    path.write_text("#" * (1 << 21))
    with pytest.raises(PrototxtError, match="more than 1 MB"):
        read_net(path)
    path.write_bytes(b'name: "' + b'\\"' * 100_000 + b"\xff")
    with pytest.raises(PrototxtError, match=r":1:7: .*not closed"):
        read_net(path)


def test_recursion_in_the_parser_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(*_: object) -> None:
        raise RecursionError

    monkeypatch.setattr(text_format, "Parse", parse)
    for text, column in (("x", 1), ("{" * 60, 51)):
        assert "nested too deep" in str(refusal(text))
        assert (refusal(text).line, refusal(text).column) == (1, column)


def test_the_forms_of_text_that_protobuf_accepts() -> None:
    message = net(
        """# a comment with a { in it
        name: 'it"s' "\\x41\\n" ; layer < type: "a" bottom: ["b", "c"] , loss_weight: 1f loss_weight: [-inf, .5e1] >
        layer: { phase: 1 convolution_param { pad: 0x10 pad: 010 bias_term: f } } input_dim: -3
        """
    )
    assert message.name == 'it"sA\n'
    assert list(message.layer[0].bottom) == ["b", "c"]
    assert list(message.layer[0].loss_weight) == [1, float("-inf"), 5]
    assert list(message.layer[1].convolution_param.pad) == [16, 8]
    assert message.layer[1].phase == caffe_pb2.TEST
    assert not message.layer[1].convolution_param.bias_term
    assert message.input_dim == [-3]


def test_every_golden_prototxt_loads() -> None:
    paths = sorted(GOLDEN.rglob("*.prototxt"))
    assert len(paths) == 150
    for path in paths:
        if "solver" in path.name:
            assert read_solver(path).snapshot_prefix
        else:
            assert read_net(path).layer


def test_text_is_what_caffe_prints() -> None:
    if api_implementation.Type() == "python":
        pytest.skip("protobuf's pure-Python runtime prints 1.0 where the others, as Caffe, print 1")
    for path in (GOLDEN / "upgrade").glob("*.upgraded.prototxt"):
        message = caffe_pb2.SolverParameter() if "solver" in path.name else caffe_pb2.NetParameter()
        assert to_text(parse_text(path.read_text(), message)) == path.read_text()


# Files that are no prototxt


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    path = str(tmp_path / "none.prototxt")
    for read in (read_net, read_solver):
        with pytest.raises(RuntimeError) as caught:
            read(path)
        assert str(caught.value) == f"Could not open file {path}"
    with pytest.raises(RuntimeError, match=r"Could not open file .*directory"):
        read_net(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n# only a comment\n", "is empty"),
        (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "web page"),
        (b"<HTML>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git-lfs pointer"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"PK\x03\x04", "zip"),
        ((GOLDEN / "solvers" / "adam_iter_4.caffemodel").read_bytes(), "binary file, perhaps weights"),
        ((GOLDEN / "solvers" / "fcn_skip_heavy_hdf5_iter_4.caffemodel.h5").read_bytes(), "HDF5"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes(content)
    for read in (read_net, read_solver):
        with pytest.raises(PrototxtError, match=words) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert (caught.value.path, caught.value.line, caught.value.column) == (str(path), None, None)


def test_a_refusal_says_its_place_or_that_it_has_none_also_after_pickling(tmp_path: Path) -> None:
    found, missing = refusal('\nlayer { botom: "x" }'), str(tmp_path / "missing.prototxt")
    with pytest.raises(PrototxtError) as caught:
        read_net(missing)
    own = PrototxtError("a program's own")
    for error, place in (
        (found, ("net.prototxt", 2, 9)),
        (caught.value, (missing, None, None)),
        (own, ("<text>", None, None)),
    ):
        for again in (error, pickle.loads(pickle.dumps(error))):
            assert (again.path, again.line, again.column) == place
            assert str(again) == str(error)


def test_what_is_not_utf8_may_stand_in_comments_only(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes('# 卷积\nlayer { name: "a" } # 层'.encode("gbk"))
    assert read_net(path).layer[0].name == "a"
    path.write_bytes('# 卷积\nlayer { name: "层" }'.encode("gbk"))
    with pytest.raises(PrototxtError, match=r":2:15: .*UTF-8"):
        read_net(path)
    path.write_bytes(b'\xef\xbb\xbflayer { name: "\xe5\xb1\x82" }')
    assert read_net(path).layer[0].name == "层"


# Nearest names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("relu", "ReLU"),
        ("Conv", "Convolution"),
        ("SOFTMAX_LOSS", "SoftmaxWithLoss"),
        ("Poling", "Pooling"),
        ("Convolutional", "Convolution"),
        ("xyzzy", None),
        ("", None),
    ],
)
def test_nearest(name: str, expected: str | None) -> None:
    assert nearest(name, ["ReLU", "Convolution", "Concat", "SoftmaxWithLoss", "Softmax", "Pooling"]) == expected


# Whatever the text


names = st.text(max_size=8)
floats = st.floats(width=32, allow_nan=False)
uints = st.integers(0, 2**32 - 1)
layers = st.builds(
    caffe_pb2.LayerParameter,
    name=names,
    type=names,
    bottom=st.lists(names, max_size=3),
    loss_weight=st.lists(floats, max_size=3),
    phase=st.sampled_from([0, 1]),
    propagate_down=st.lists(st.booleans(), max_size=2),
    convolution_param=st.builds(
        caffe_pb2.ConvolutionParameter, num_output=uints, pad=st.lists(uints, max_size=2), bias_term=st.booleans()
    ),
    reshape_param=st.builds(
        caffe_pb2.ReshapeParameter,
        shape=st.builds(caffe_pb2.BlobShape, dim=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3)),
    ),
    python_param=st.builds(caffe_pb2.PythonParameter, param_str=names),
    blobs=st.lists(
        st.builds(caffe_pb2.BlobProto, double_data=st.lists(st.floats(allow_nan=False), max_size=3)), max_size=1
    ),
)


@pytest.mark.slow
@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.builds(caffe_pb2.NetParameter, name=names, layer=st.lists(layers, max_size=3)))
def test_what_is_printed_is_parsed(message: caffe_pb2.NetParameter) -> None:
    # Floats are printed with all the digits that they need, so the messages are equal to the last bit.
    assert net(to_text(message)) == message


# The pieces of prototxts: a text made of them is often nearly right.
pieces = st.sampled_from(
    [
        *(
            "layer",
            "layers",
            "name",
            "type",
            "bottom",
            "input_dim",
            "convolution_param",
            "pad",
            "pooling_param",
            "pool",
        ),
        *(
            "loss_weight",
            "phase",
            "include",
            "bias_term",
            "clip_param",
            "min",
            "max",
            "x",
            "MAX",
            "TEST",
            "true",
            "nan",
        ),
        *(
            "{",
            "}",
            "<",
            ">",
            "[",
            "]",
            ":",
            ":",
            ",",
            ";",
            '"a"',
            "'b'",
            '"',
            "1",
            "-2",
            "0x1F",
            "1.5",
            "1e999",
            "08",
            "-0X7f",
            "+3",
            "-",
            "4294967296",
            "1_0",
            "2.f",
            "-infinity",
            "'\\x4'",
            '"\\q"',
            '"\\377"',
            "\r",
            "\n",
        ),
        *(
            "# c\n",
            "@",
            "\\",
            "\x00",
            "é",
            "\ufeff",
            "\u2028",
            "input_shape { dim: 1 }",
            "clip_param { min: 1 }",
            'layer { name: "c" }',
            "layer { loss_weight: [",
        ),
    ]
)


@pytest.mark.slow
@settings(max_examples=800, deadline=None, derandomize=True)
@given(st.one_of(st.lists(pieces, max_size=25).map(" ".join), st.text(max_size=40)))
def test_any_text_parses_as_protobuf_has_it_or_is_refused_with_its_place(text: str) -> None:
    expected = caffe_pb2.NetParameter()
    try:
        text_format.Parse(text, expected)
        accepted = expected.IsInitialized()
    except text_format.ParseError:
        accepted = False
    if accepted:
        assert net(text).SerializeToString() == expected.SerializeToString()
        assert _find_fault(text, expected.DESCRIPTOR) is None, "a fault was found where there is none"
        return
    error = refusal(text)
    assert 1 <= error.line <= text.count("\n") + 1
    assert 1 <= error.column <= len(text) + 1
    assert len(str(error)) < 1200


def test_golden_prototxts_with_a_letter_changed_are_read_or_refused() -> None:
    draw = random.Random(0)
    texts = [path.read_text() for path in sorted((GOLDEN / "layers").glob("*.prototxt"))]
    refusals = []
    for _ in range(500):
        text = draw.choice(texts)
        at = draw.randrange(len(text))
        broken = text[:at] + draw.choice(["", "{", "}", '"', ":", "x", "\n", "9", text[at] * 2]) + text[at + 1 :]
        try:
            net(broken)
        except PrototxtError as error:
            refusals.append(str(error))
    assert 200 < len(refusals) < 500
    # "Does not parse" are the library's words, for a fault that only it has seen.
    assert sum("does not parse" in refusal for refusal in refusals) < 10
