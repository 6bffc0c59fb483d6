"""`.ts` files: random ones come back, real ones are read right, damaged ones are a sentence."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlstm.data import SequenceData, load_ts

CLASSES = "@problemName P\n@classLabel true b a c\n@data\n"
NUMBERS = "@problemName P\n@targetlabel true\n@data\n"
STAMPED = "@timeStamps true\n@classLabel true b a\n@data\n"


def read(folder: Path, text: str | bytes, name: str = "mine.ts", **options: Any) -> SequenceData:
    path = folder / name
    content = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return load_ts(path, **options)


FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def problems(draw: Any) -> tuple[str, list[np.ndarray], list[Any], list[str]]:
    """A file's text, its series ``[T_i, F]``, targets and classes."""
    dimensions = draw(st.integers(1, 3))
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    series = [
        np.array(
            draw(
                st.lists(
                    st.lists(FLOATS, min_size=length, max_size=length),
                    min_size=dimensions,
                    max_size=dimensions,
                )
            )
        ).T
        for length in lengths
    ]
    word = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=4)
    classes = draw(st.lists(word.filter(str.strip), min_size=1, max_size=4, unique=True))
    regression = draw(st.booleans())
    targets = [draw(FLOATS if regression else st.sampled_from(classes)) for _ in series]
    end = draw(st.sampled_from(["\n", "\r\n"]))
    space = draw(st.sampled_from(["", " "]))
    header = ["# a comment: 1,2:3", f"@problemName {draw(word)}", "@timeStamps false", ""]
    header += [f"@univariate {str(dimensions == 1).lower()}", f"@dimensions {dimensions}"]
    if len(set(lengths)) == 1:
        header += ["@equalLength true", f"@seriesLength {lengths[0]}"]
    header += ["@classLabel false"] if regression else []
    header += ["@targetLabel true" if regression else f"@classLabel true {' '.join(classes)}"]
    lines = [
        ":".join(
            [
                *(f",{space}".join(map(repr, dimension)) for dimension in own.T.tolist()),
                space + (repr(target) if regression else target),
            ]
        )
        for own, target in zip(series, targets, strict=True)
    ]
    text = end.join([*header, "@data", *lines]) + draw(st.sampled_from(["", end]))
    return text, series, targets, [] if regression else classes


@settings(max_examples=100)
@given(problem=problems(), packed=st.booleans())
def test_random_files_come_back(problem: Any, packed: bool, tmp_path_factory: Any) -> None:
    text, series, targets, classes = problem
    folder = tmp_path_factory.getbasetemp()
    data = read(folder, text, "mine.ts.gz" if packed else "mine.ts")
    assert data.classes == tuple(classes)
    assert data.task == ("classification" if classes else "regression")
    assert data.targets.tolist() == targets
    assert (data.lengths is None) == (len({len(own) for own in series}) == 1)
    for own, wanted in zip(data.as_list(), series, strict=True):
        np.testing.assert_array_equal(own, wanted)
    longest = max(len(own) for own in series)
    assert data.x.shape == (len(series), longest, series[0].shape[1])


def test_names_and_classes(tmp_path: Path) -> None:
    train = read(tmp_path, CLASSES + "1,2:a\n3,4:c\n")
    test = read(tmp_path, CLASSES + "5,6:c\n7,8:b\n7,8:a\n")
    assert train.classes == test.classes == ("b", "a", "c")  # the order of the header
    assert (train.y.tolist(), test.y.tolist()) == ([1, 2], [2, 0, 1])
    assert (train.name, train.source, train.rate) == ("P", str(tmp_path / "mine.ts"), None)
    unnamed = read(tmp_path, "@classLabel true\n@univariate true\n@data\n1:z\n2:x\n", "own.x.ts")
    assert (unnamed.name, unnamed.classes) == ("own", ("x", "z"))
    odd = read(tmp_path, b"\xef\xbb\xbf# caf\xe9\n@unknown thing\n" + CLASSES.encode() + b"1:a\n")
    assert odd.x.tolist() == [[[1]]]


# -- missing values -------------------------------------------------------------------------------

GAPS = "?,2,NaN,?,8,nan:1,?,?,4,5,?:a\n"


def test_missing_values(tmp_path: Path) -> None:
    filled = read(tmp_path, CLASSES + GAPS, missing="interpolate")
    np.testing.assert_allclose(filled.x[0].T, [[2, 2, 4, 6, 8], [1, 2, 3, 4, 5]], rtol=1e-15)
    number = read(tmp_path, CLASSES + GAPS, missing=-1.5)
    np.testing.assert_array_equal(number.x[0].T, [[-1.5, 2, -1.5, -1.5, 8], [1, -1.5, -1.5, 4, 5]])
    assert read(tmp_path, CLASSES + GAPS, missing=0).x[0, 0, 0] == 0
    with pytest.raises(
        ValueError, match=r"line 4, dimension 1, step 1: the value is missing; miss"
    ):
        read(tmp_path, CLASSES + GAPS)
    with pytest.raises(ValueError, match=r"line 5, dimension 2, step 3: the value is missing"):
        read(tmp_path, CLASSES + "1:1:a\n1,2,3:4,5,?:a\n")
    for missing in ("drop", np.nan, np.inf):
        with pytest.raises(ValueError, match="missing must be 'error', 'interpolate' or a number"):
            read(tmp_path, CLASSES + GAPS, missing=missing)


@pytest.mark.parametrize("missing", ["error", "interpolate", 3.0])
def test_missing_at_the_end_is_padding(missing: Any, tmp_path: Path) -> None:
    text = (
        "@equalLength true\n@seriesLength 4\n"
        + CLASSES
        + "1,2,?,?:5,6,?,NaN:a\n1,2,3,4:5,6,7,8:b\n"
    )
    data = read(tmp_path, text, missing=missing)
    assert data.lengths is not None
    assert data.lengths.tolist() == [2, 4]
    np.testing.assert_array_equal(data.x[0].T, [[1, 2, 0, 0], [5, 6, 0, 0]])


# -- time stamps ----------------------------------------------------------------------------------


def test_time_stamps(tmp_path: Path) -> None:
    text = (
        STAMPED
        + "(0,1.5),(0.1,2),(0.2,?),(0.3,4):( 0 , 5),(.1,6), (.2,7),(.3,8) : a\n(7,1):(7,2):b"
    )
    data = read(tmp_path, text, missing="interpolate")
    np.testing.assert_array_equal(data.x[0].T, [[1.5, 2, 3, 4], [5, 6, 7, 8]])
    assert data.lengths is not None
    assert data.lengths.tolist() == [4, 1]
    assert data.rate is None
    dates = "(2024-03-30 23:59:58,1),(2024-03-31 00:00:00,2),(2024-03-31 00:00:02,3):a"
    data = read(tmp_path, STAMPED + dates)
    assert (data.x[0, :, 0].tolist(), data.rate) == ([1, 2, 3], 0.5)
    days = read(tmp_path, STAMPED + "(2024-02-28,1),(2024-02-29,2),(2024-03-01,3):a")
    assert days.rate == pytest.approx(1 / 86400)


BAD_STAMPS = [
    ("(0,1),(1,2),(3,3):a", "line 4: steps 2 and 3 are 2 apart, those of line 4 1; only equally"),
    ("(0,1),(1,2):a\n(0,1),(2,2):b", "line 5: steps 1 and 2 are 2 apart, those of line 4 1"),
    ("(0,1),(0,2):a", "line 4: the time stamp of step 2 does not rise"),
    ("(0,1),(1,2):(0,1),(2,2):a", "line 4: the time stamps of dimension 2 are not those of dim"),
    ("(0,1),(1,2):(0,1):a", "line 4: dimension 2 has 1 steps, dimension 1 has 2"),
    ("(noon,1):a", "line 4, dimension 1, step 1: the time 'noon' is neither a number nor a date"),
    ("(0,1),7:a", r"line 4, dimension 1, step 2: expected a pair \(time,value\), got '7'"),
    ("(0,1)(1,2):a", r"line 4, dimension 1: expected a comma after step 1, got '\(1,2\)'"),
    ("(0,1),(1,x):a", "line 4, dimension 1, step 2: 'x' is not a finite number"),
    (":a", r"line 4: dimension 1 has no pairs \(time,value\)"),
    (
        "(0,1):(1,2)",
        "line 4: the label '(1,2)' is not among".replace("(", r"\(").replace(")", r"\)"),
    ),
]


@pytest.mark.parametrize("number", range(len(BAD_STAMPS)))
def test_bad_time_stamps(number: int, tmp_path: Path) -> None:
    lines, message = BAD_STAMPS[number]
    with pytest.raises(ValueError, match=rf"mine\.ts, {message}") as caught:
        read(tmp_path, STAMPED + lines)
    assert "\n" not in str(caught.value)


# -- damage ---------------------------------------------------------------------------------------

BAD: list[tuple[str, str]] = [
    ("", " has no line @data: it is damaged or no .ts file"),
    ("@classLabel true a\n", " has no line @data"),
    ("1,2:a\n", ", line 1: a series before the line @data"),
    (CLASSES, " has no series after @data"),
    ("@data\n1:a\n", " must have @classLabel true .* it has neither"),
    ("@classLabel false\n@data\n1:a\n", " must have .* it has neither"),
    ("@classLabel true a\n@targetLabel true\n@data\n1:a\n", " must have .* it has both"),
    ("@timeStamps maybe\n", ", line 1: @timeStamps must be true or false, got 'maybe'"),
    ("#\n\n@missing\n", ", line 3: @missing must be true or false, got nothing"),
    ("@dimensions two\n", ", line 1: @dimensions must be a whole number above 0, got 'two'"),
    ("@seriesLength 0\n", ", line 1: @seriesLength must be a whole number above 0, got '0'"),
    ("@classLabel true a b a\n", ", line 1: @classLabel names 'a' twice"),
    (CLASSES + "1,2\n", ", line 4: a series must end with a colon and its target"),
    (CLASSES + "1,2:a\n\n#\n1,2:d\n", ", line 7: the label 'd' is not among .*: b, a, c"),
    (CLASSES + "1,2:\n", ", line 4: the label '' is|, line 4: the label is missing"),
    ("@classLabel true\n@data\n1:?\n", ", line 3: the label is missing"),
    (CLASSES + "1,x:a\n", ", line 4, dimension 1, step 2: 'x' is not a finite number"),
    (CLASSES + "1,2:1,inf:a\n", ", line 4, dimension 2, step 2: 'inf' is not a finite number"),
    (CLASSES + "1,1_0:a\n", ", line 4, dimension 1, step 2: '1_0' is not a finite number"),
    (CLASSES + "1,,2:a\n", ", line 4, dimension 1, step 2: the value is empty"),
    (CLASSES + "1,2::a\n", ", line 4, dimension 2, step 1: the value is empty"),
    (CLASSES + "(0,1):a\n", r", line 4, dimension 1, step 1: '\(0' is not a finite number"),
    (CLASSES + "1,2:3:a\n", ", line 4: dimension 2 has 1 steps, dimension 1 has 2"),
    (CLASSES + "1:2:a\n1:a\n", ", line 5: the series has 1 dimensions instead of 2"),
    ("@dimensions 3\n" + CLASSES + "1:2:a\n", ", line 5: the series has 2 dimensions instead of 3"),
    ("@univariate true\n" + CLASSES + "1:2:a\n", ", line 5: the series has 2 dimensions inst.* 1"),
    (
        "@equalLength true\n@seriesLength 3\n" + CLASSES + "1,2,3:a\n1,2:b\n",
        ", line 7: the series has 2 steps instead of 3",
    ),
    (CLASSES + "?,NaN:?,?:a\n", ", line 4: all values of the series are missing"),
    (NUMBERS + "1,2:high\n", ", line 4: the target must be a finite number, got 'high'"),
    (NUMBERS + "1,2:?\n", r", line 4: the target must be a finite number, got '\?'"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_damaged_files(number: int, tmp_path: Path) -> None:
    text, message = BAD[number]
    with pytest.raises(ValueError, match=rf"mine\.ts({message})") as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_dimension_without_values(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 4, dimension 2: all its values are missing"):
        read(tmp_path, CLASSES + "1,2:?,?:a\n", missing="interpolate")


@settings(max_examples=60)
@given(data=st.data())
def test_a_cut_file_is_whole_series_or_a_sentence(data: Any, tmp_path_factory: Any) -> None:
    text = "@equalLength true\n@seriesLength 3\n@dimensions 2\n" + CLASSES
    text += "1.5,-2,3e1:4,5,6:a\n7,8,9:1,2,3:c\n"
    folder = tmp_path_factory.getbasetemp()
    cut = text[: data.draw(st.integers(0, len(text)))]
    answer: Any = None
    try:
        found = read(folder, cut)
    except ValueError as error:
        answer = str(error)
    if answer is None:
        wanted = [[[1.5, 4], [-2, 5], [30, 6]], [[7, 1], [8, 2], [9, 3]]]
        assert found.x.tolist() == wanted[: len(found)]
    else:
        assert answer.startswith(str(folder / "mine.ts"))
        assert "\n" not in answer


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.ts is not there"):
        load_ts(tmp_path / "none.ts")
    with pytest.raises(ValueError, match=r"mine\.tsf must end in \.ts or \.ts\.gz"):
        read(tmp_path, CLASSES, "mine.tsf")
    with pytest.raises(ValueError, match=r"mine\.ts is not a whole gzip file"):
        read(tmp_path, gzip.compress(CLASSES.encode())[:-9])


# -- the archives' own ----------------------------------------------------------------------------


def test_japanese_vowels(shared_data: Path) -> None:
    parts = [
        load_ts(shared_data / f"series/JapaneseVowels_{part}.ts.gz") for part in ("TRAIN", "TEST")
    ]
    assert [len(part) for part in parts] == [270, 370]
    assert [part.x.shape[2] for part in parts] == [12, 12]
    assert parts[0].classes == parts[1].classes == tuple("123456789")
    assert np.bincount(parts[0].y).tolist() == [30] * 9
    assert np.bincount(parts[1].y).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    lengths = np.concatenate([part.lengths for part in parts])  # type: ignore[misc]
    assert (lengths.min(), lengths.max()) == (7, 29)
    assert parts[0].x[0, 0, 0] == 1.860936
    assert not parts[0].x[0, parts[0].lengths[0] :].any()  # type: ignore[index]


def test_cardano_sentiment_and_basic_motions(shared_data: Path) -> None:
    train = load_ts(shared_data / "series/CardanoSentiment_TRAIN.ts")
    test = load_ts(shared_data / "series/CardanoSentiment_TEST.ts")
    assert (train.x.shape, test.x.shape) == ((74, 24, 2), (33, 24, 2))
    assert (train.task, train.lengths, train.classes) == ("regression", None, ())
    assert train.y[:2].tolist() == [0.0589, -0.1002]
    assert test.x[0, :2].tolist() == [[0.52654, 50000.0], [0.527, 56.1789234]]
    motions = load_ts(shared_data / "series/BasicMotions_TRAIN.ts.gz")
    assert motions.x.shape == (40, 100, 6)
    assert motions.classes == ("Standing", "Running", "Walking", "Badminton")
    assert np.bincount(motions.y).tolist() == [10] * 4
