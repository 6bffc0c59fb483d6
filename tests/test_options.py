"""Values and names as they are written in a shell."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxlstm import options
from jaxlstm.train.augment import Jitter, RandomFlip

WORDS = st.text("abcdefghijklmnopqrstuvwxyz_-.", min_size=1).filter(
    lambda word: word not in ("none",) and not is_literal(word)
)
NUMBERS = (
    st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none()
)
TUPLES = st.lists(NUMBERS, max_size=3).map(tuple)


def is_literal(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return False
    return True


@given(
    st.lists(
        NUMBERS
        | TUPLES
        | st.tuples(TUPLES, st.text())
        | st.text()
        | st.dictionaries(st.integers() | st.text(), st.integers(), max_size=3),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([",", ", ", " ,"]),
)
def test_values_written_as_in_python_come_back(values: list[Any], comma: str) -> None:
    found = options.parse_values(comma.join(map(repr, values)))
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


@given(st.lists(WORDS, min_size=1, max_size=5))
def test_other_words_are_strings(words: list[str]) -> None:
    assert options.parse_values(",".join(words)) == words


@given(st.text("a1(),[]{}'\"\\ .", max_size=12))
def test_any_text_is_values_or_one_sentence(text: str) -> None:
    values, answer = [], ""
    try:
        values = options.parse_values(text)
    except ValueError as error:
        answer = str(error)
    assert bool(values) != (repr(text) in answer)
    assert "\n" not in answer
    assert not any(isinstance(value, list) for value in values)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("32,64", [32, 64]),
        ("(50,25),(100,50)", [(50, 25), (100, 50)]),
        ("[50,25],[7]", [(50, 25), (7,)]),
        ("()", [()]),
        ("adam,rmsprop", ["adam", "rmsprop"]),
        ("'a,b',\"c)d\"", ["a,b", "c)d"]),
        ("1e-3, .5 ,-2,None,True,balanced", [0.001, 0.5, -2, None, True, "balanced"]),
        ("{'a': 1, 'b': 2.5},balanced", [{"a": 1, "b": 2.5}, "balanced"]),
        ("it's,o'clock", ["it's", "o'clock"]),
    ],
)
def test_values(text: str, values: list[Any]) -> None:
    assert options.parse_values(text) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' has an empty value"),
        ("1,,2", "'1,,2' has an empty value"),
        ("1,", "has an empty value"),
        ("(1,2", "the brackets in '(1,2' do not match"),
        ("1)", "the brackets in '1)' do not match"),
        (")(", "the brackets in ')(' do not match"),
        ("(1]", "the brackets in '(1]' do not match"),
        ("'a", 'the quotes in "\'a" do not match'),
    ],
)
def test_bad_values(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"match|empty") as caught:
        options.parse_values(text)
    assert message in str(caught.value)


@given(
    st.dictionaries(
        st.text("abc_", min_size=1),
        st.lists(NUMBERS | TUPLES | WORDS, min_size=1, max_size=3),
        max_size=4,
    )
)
def test_grid_entries_come_back(grid: dict[str, list[Any]]) -> None:
    entries = [
        f"{name}={','.join(v if isinstance(v, str) else repr(v) for v in values)}"
        for name, values in grid.items()
    ]
    assert options.parse_grid(entries) == grid


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["units"], "--grid takes name=value entries, got 'units'"),
        (["units="], "got 'units='"),
        (["=3"], "got '=3'"),
        (["units=3", "units=4"], "--grid names 'units' twice"),
    ],
)
def test_bad_grid_entries(entries: list[str], message: str) -> None:
    with pytest.raises(ValueError, match="--grid") as caught:
        options.parse_grid(entries)
    assert message in str(caught.value)


def test_an_equals_sign_may_stand_in_a_value() -> None:
    assert options.parse_grid(["merge='a=b'"]) == {"merge": ["a=b"]}


def test_augmentations_and_distributions() -> None:
    (jitter,) = options.parse_values("Jitter(0.1)")
    assert jitter == Jitter(0.1)
    assert options.parse_values("(),Jitter(sigma=.2),(Jitter(0.1),RandomFlip())") == [
        (),
        Jitter(0.2),
        (Jitter(0.1), RandomFlip()),
    ]
    drawn = options.parse_grid(["a=loguniform(1e-4,1e-1)", "b=randint(8,64)", "c=uniform(0,.5)"])
    assert [values[0].support() for values in drawn.values()] == [(1e-4, 0.1), (8, 63), (0, 0.5)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Jiter(0.1)", "'Jiter(0.1)': there is no 'Jiter' to call; did you mean 'Jitter'"),
        ("__import__('os')", "there is no '__import__' to call"),
        ("(print(1),2)", "there is no 'print' to call"),
        ("Jitter(open('x'))", "there is no 'open' to call"),
        ("Jitter(sigm=1)", "unexpected keyword argument 'sigm'"),
        ("Jitter(-1)", "'Jitter(-1)': "),
        ("Jitter(x)", "Jitter takes numbers"),
    ],
)
def test_calls_of_other_things(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        options.parse_values(text)
    assert "\n" not in str(caught.value)


def test_one_value() -> None:
    assert options.parse_single(["a=1", "b=(2,3)"]) == {"a": 1, "b": (2, 3)}
    with pytest.raises(ValueError, match="--set takes one value for 'a'"):
        options.parse_single(["a=1,2"])
