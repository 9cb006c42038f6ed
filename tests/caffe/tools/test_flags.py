"""The command line is read as Google's gflags reads it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffe.errors import CaffeError
from caffe.tools.flags import EVERYWHERE, Flags, explain, parse


@pytest.mark.parametrize("form", [["-solver", "s"], ["--solver", "s"], ["-solver=s"], ["--solver=s"]])
def test_a_flag_has_one_dash_or_two_and_its_value_beside_it_or_next(form):
    words, flags = parse(["train", *form])
    assert (words, flags.solver, flags.given) == (["train"], "s", {"solver"})


def test_flags_stand_before_or_after_the_words():
    assert parse(["-gpu", "0,1", "train", "-solver=s", "more"]) == parse(["train", "more", "-solver=s", "-gpu=0,1"])


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("-shuffle", True),
        ("--shuffle", True),
        ("-shuffle=true", True),
        ("-shuffle=1", True),
        ("-shuffle=YES", True),
        ("-noshuffle", False),
        ("-shuffle=false", False),
        ("-shuffle=0", False),
        ("--shuffle=n", False),
    ],
)
def test_a_boolean_takes_no_word_for_its_value(written, value):
    words, flags = parse([written, "list.txt"])
    assert (words, flags.shuffle) == (["list.txt"], value)


def test_numbers():
    assert parse(["-iterations", "7"])[1].iterations == 7
    assert parse(["-level", "-1"])[1].level == -1
    assert parse(["-level=0x10"])[1].level == 16


def test_an_equals_sign_in_a_value_stays():
    assert parse(["-shape=data=1,3"])[1].shape == "data=1,3"


def test_an_empty_value_is_one():
    _, flags = parse(["-weights="])
    assert flags.weights == "" and flags.given == {"weights"}


def test_two_dashes_end_the_flags_and_one_is_a_word():
    assert parse(["a", "-", "--", "-solver", "--"])[0] == ["a", "-", "-solver", "--"]


def test_a_dash_in_a_name_is_an_underscore():
    assert parse(["--sigint-effect=none"])[1].sigint_effect == "none"


def test_import_is_a_flag_although_it_is_pythons_word():
    _, flags = parse(["-import", "a,b"])
    assert flags.plugins == "a,b" and flags.given == {"import"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-solvr", "x"], r"unknown command line flag 'solvr'; did you mean -solver\?"),
        (["--zzz"], r"unknown command line flag 'zzz'\."),
        (["-nosolver"], "unknown command line flag 'nosolver'"),
        (["-solver"], "flag '-solver' is missing its argument: the solver's prototxt"),
        (["-iterations", "many"], "illegal value 'many' specified for the flag 'iterations'; it is a number"),
        (["-iterations="], "illegal value '' specified for the flag 'iterations'"),
        (["-shuffle=maybe"], "illegal value 'maybe' specified for the flag 'shuffle'; it is true or false"),
    ],
)
def test_what_is_no_flag_or_no_value_is_told(arguments, says):
    with pytest.raises(CaffeError, match=says):
        parse(arguments)


@given(st.lists(st.text(alphabet="-=a1solver \n\0é", max_size=8), max_size=5))
def test_no_command_line_breaks_it(arguments):
    try:
        words, flags = parse(arguments)
    except CaffeError:
        return
    assert isinstance(flags, Flags) and set(words) <= set(arguments)


def test_a_usage_line_has_name_meaning_and_default():
    assert explain("iterations").split()[0] == "-iterations" and explain("iterations").endswith("[50]")
    assert not explain("shuffle").endswith("]") and not explain("solver").endswith("]")
    assert {explain(name).split()[0] for name in EVERYWHERE} == {f"-{name}" for name in EVERYWHERE}
