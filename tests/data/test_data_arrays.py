"""The user's own files: what is read, and what a bad one is answered with."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxlstm.data import archives
from jaxlstm.data.arrays import from_arrays, load_arrays

X = np.random.default_rng(0).normal(size=(6, 4, 2)).astype(np.float32)
Y = np.array([3, 1, 3, 20, 1, 20])


def npz(folder: Path, **content: Any) -> Path:
    path = folder / "mine.npz"
    np.savez(path, **content)
    return path


def csv(folder: Path, text: str | bytes) -> Path:
    path = folder / "mine.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(save: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    save(path, x=X, y=Y, other=np.zeros(3))
    data = load_arrays(path)
    np.testing.assert_array_equal(data.x, X)
    assert data.x.dtype == np.float32
    assert data.classes == ("1", "3", "20")  # in the order of the numbers
    np.testing.assert_array_equal(np.asarray(data.classes)[data.y].astype(int), Y)
    assert (data.name, data.source) == ("mine", str(path))
    names = load_arrays(npz(tmp_path, x=X[:, :, 0], y=Y.astype(str)))
    assert names.x.shape == (6, 4)
    assert names.classes == ("1", "20", "3")
    assert load_arrays(str(path)).sha256 == names.sha256


def test_csv(tmp_path: Path) -> None:
    text = "a,kind,b\n1,x y,2.5\n\n-3e2,NA,4\n  \n5,None,0x1\n".replace("0x1", "7")
    data = load_arrays(csv(tmp_path, text), label="kind")
    np.testing.assert_array_equal(data.x, [[1, 2.5], [-300, 4], [5, 7]])
    assert [data.classes[label] for label in data.y] == ["x y", "NA", "None"]
    numbers = load_arrays(csv(tmp_path, "label,a\n10,1\n9,2\n-1,3\n"))
    assert numbers.classes == ("-1", "9", "10")
    padded = load_arrays(csv(tmp_path, "label,a\n01,1\n1,2\n001,3\n"))
    assert padded.classes == ("001", "01", "1")
    quoted = load_arrays(csv(tmp_path, 'label,a\n"x, y",1\nz,2\n'))
    assert quoted.classes == ("x, y", "z")


@given(
    x=arrays(
        np.float64,
        st.tuples(st.integers(1, 5), st.integers(1, 4)),
        elements=st.floats(allow_nan=False, allow_infinity=False),
    ),
    names=st.lists(st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1)),
)
def test_csv_comes_back(x: np.ndarray, names: list[str], tmp_path_factory: Any) -> None:
    """Numbers to the last bits that a csv reader promises, labels exactly."""
    labels = [names[row % len(names)] if names else "only" for row in range(len(x))]
    header = ",".join([*(f"t{step}" for step in range(x.shape[1])), "label"])
    lines = [
        ",".join([*map(repr, row.tolist()), label]) for row, label in zip(x, labels, strict=True)
    ]
    path = csv(tmp_path_factory.mktemp("csv"), "\n".join([header, *lines]) + "\n")
    data = load_arrays(path)
    np.testing.assert_allclose(data.x, x, rtol=1e-15)
    assert [data.classes[label] for label in data.y] == labels


def test_npz_with_groups_lengths_and_names(tmp_path: Path) -> None:
    groups, lengths = np.array(["b", "a", "b", "c", "a", "c"]), np.array([4, 3, 1, 2, 4, 3])
    path = npz(
        tmp_path,
        x=X,
        y=np.array([1, 0, 1, 3, 0, 3]),
        groups=groups,
        lengths=lengths,
        classes=np.array(["zero", "one", "two", "three"]),
        feature_names=np.array(["a (m)", "b (s)"]),
    )
    data = load_arrays(path)
    assert [*data.labels] == ["one", "zero", "one", "three", "zero", "three"]
    assert data.classes == ("zero", "one", "two", "three")
    assert data.groups is not None
    assert data.lengths is not None
    np.testing.assert_array_equal(data.groups, groups)
    np.testing.assert_array_equal(data.lengths, lengths)
    assert data.feature_names == ("a (m)", "b (s)")
    train, test = data.split(0.4, by="group")
    assert not {*train.groups.tolist()} & {*test.groups.tolist()}  # type: ignore[union-attr]


def test_from_arrays() -> None:
    names = pd.Series(["b", "a", "b", "c", "a", "c"])
    data = from_arrays(X.tolist(), names, groups=[*"xxyyzz"], name="mine", source="a sensor")
    np.testing.assert_array_equal(data.x, X)
    assert data.classes == ("a", "b", "c")
    assert [*data.labels] == [*names]
    assert [*data.groups] == [*"xxyyzz"]  # type: ignore[misc]
    assert (data.lengths, data.name, data.source) == (None, "mine", "a sensor")
    # The same rows by file and by hand are the same data.
    assert from_arrays(X, Y).sha256 == from_arrays(X, Y.tolist()).sha256


BAD_ARRAYS: list[tuple[dict[str, Any], str]] = [
    ({"groups": [1, 2]}, r"groups must have shape \[6\], one .* got \(2,\)"),
    ({"groups": [1, 2, np.nan, 3, 4, 5]}, "groups is NaN at row 2"),
    ({"groups": ["a", None, *"abcd"]}, "groups must hold numbers or strings, got None at row 1"),
    ({"lengths": np.full(6, 2.0)}, "lengths must be integers, got values of type float64"),
    ({"lengths": [4, 4, 5, 4, 4, 4]}, r"the length of row 2 is 5; it must be in 1\.\.4,"),
    ({"lengths": [4, 4, 4, 4, 4, -1]}, "the length of row 5 is -1"),
    ({"classes": [*"abc"]}, r"y must be indices of the 3 classes, integers in .*, got 3 at row 0"),
    ({"classes": [*"ab"], "y": [*"abbaab"]}, r"integers in 0\.\.1, got a at row 0"),
    ({"feature_names": ["one"]}, r"1 feature names do not fit x of shape \(6, 4, 2\)"),
    ({"x": X.astype(str)}, "x must hold numbers, got values of type <U"),
    ({"y": ["a", 1, *"abcd"]}, "^here: y must hold"),
]


@pytest.mark.parametrize("number", range(len(BAD_ARRAYS)))
def test_bad_arrays(number: int) -> None:
    content, message = BAD_ARRAYS[number]
    if message.startswith("^"):
        content["y"] = np.array(content["y"], object)
    with pytest.raises(ValueError, match=message) as caught:
        from_arrays(**{"x": X, "y": Y, "source": "here", **content})
    assert str(caught.value).startswith("here")


BAD_NPZ: list[tuple[dict[str, Any], str]] = [
    ({"x": X, "z": Y}, "has no array 'y'; it has x, z"),
    ({}, "has no array 'x'; it has none"),
    ({"x": X, "y": Y[:5]}, "x has 6 rows, y has 5 targets"),
    ({"x": X[:0], "y": Y[:0]}, "has no rows"),
    ({"x": X[:, :0], "y": Y}, "its rows are empty"),
    ({"x": X, "y": np.stack([Y, Y], 1).astype(str)}, r"y of shape \(6, 2\) holds text in several"),
    ({"x": X, "y": Y[:, None, None, None]}, r"y must have shape .* got \(6, 1, 1, 1\)"),
    (
        {"x": X, "y": Y, "task": np.array(["regression"] * 2)},
        r"task must be a single value, got \(2",
    ),
    ({"x": X, "y": Y, "task": "sorting"}, "task must be one of 'auto', .* got 'sorting'"),
    ({"x": np.float32(3), "y": Y}, r"x must have shape \[N, T, F\] or \[N, T\], got \(\)"),
    ({"x": X[:, 0, 0], "y": Y}, r"x must have shape .* got \(6,\)"),
    ({"x": X, "y": np.array(["a", 1] * 3, object)}, "holds an array of Python objects"),
    ({"x": np.array([[1, None]] * 6), "y": Y}, "holds an array of Python objects"),
    ({"x": X, "y": np.where(Y == 20, np.nan, Y)}, "the label of row 3 of y is NaN"),
]


@pytest.mark.parametrize("number", range(len(BAD_NPZ)))
def test_bad_npz(number: int, tmp_path: Path) -> None:
    content, message = BAD_NPZ[number]
    with pytest.raises(ValueError, match=rf"mine\.npz:? {message}"):
        load_arrays(npz(tmp_path, **content))


def test_damaged_npz(tmp_path: Path) -> None:
    """Cut anywhere, or any byte flipped: the arrays as they were, or one sentence."""
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, x=X, y=Y)
    whole = path.read_bytes()
    for cut in (0, 1, 10, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"mine\.npz is not a readable npz file"):
            load_arrays(path)
    for place in range(0, len(whole), 3):
        broken = bytearray(whole)
        broken[place] ^= 0xFF
        path.write_bytes(broken)
        answer: Any = None
        try:
            data = load_arrays(path)
        except ValueError as error:
            answer = str(error)
        if answer is None:
            np.testing.assert_array_equal(data.x, X)
        else:
            assert str(path) in answer
    np.save(tmp_path / "one.npy", X)
    for content in (b"", b"not a zip" * 100, (tmp_path / "one.npy").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"mine\.npz is not a readable npz file"):
            load_arrays(path)


BAD_CSV: list[tuple[str | bytes, str]] = [
    ("", "is not a readable csv file: No columns"),
    ("a,b,label\n", "has no rows"),
    ("a,b\n1,2\n", "has no column 'label'; its columns: a, b"),
    (",".join("abcdefghij") + "\n", r"its columns: a, b, c, d, e, f, g, h, \.\.\."),
    ("label\nx\ny\n", "its rows are empty"),
    ("a,b,label\n1,2,x\n3,oops,y\n", "line 3, column 'b': 'oops' is not a number"),
    ("a,b,label\n1,2,x\n\n \n3,,y\n", "line 5, column 'b': '' is not a number"),
    ("a,b,label\n1,2,x\n3,nan,y\n", "line 3, column 'b': 'nan' is not a number"),
    ("a,b,label\n1,True,x\n2,4,y\n", "line 2, column 'b': 'True' is not a number"),
    ("a,b,label\n1,2,x\n3,4\n", "line 3: the label is missing"),
    ("a,b,label\n1,2,\n", "line 2: the label is missing"),
    ("a,b,label\n1,2,x,9\n3,4,y,9\n", "its lines have more values than the header"),
    ("a,b,label\n1,2,x\n3,4,y,9\n", "not a readable csv file: .*Expected 3 fields in line 3"),
    (b"a,label\n1,\xe9\n", "is not a readable csv file: 'utf-8'"),
]


@pytest.mark.parametrize("number", range(len(BAD_CSV)))
def test_bad_csv(number: int, tmp_path: Path) -> None:
    text, message = BAD_CSV[number]
    with pytest.raises(ValueError, match=rf"mine\.csv[:,]? .*{message}") as caught:
        load_arrays(csv(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.npz is not there: give the path"):
        load_arrays(tmp_path / "none.npz")
    with pytest.raises(FileNotFoundError, match="is not there"):
        load_arrays(tmp_path)
    (tmp_path / "mine.txt").touch()
    (tmp_path / "mine").touch()
    with pytest.raises(ValueError, match=r"must end in \.npz or \.csv, got '\.txt'"):
        load_arrays(tmp_path / "mine.txt")
    with pytest.raises(ValueError, match="got 'no ending'"):
        load_arrays(tmp_path / "mine")


def test_an_npz_that_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, x=np.zeros((3, 2)), y=np.arange(3))
    packed = tmp_path / "packed.npz"
    with (
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_BZIP2) as archive,
    ):
        for name in source.namelist():
            archive.writestr(name, source.read(name))
    with pytest.raises(ValueError, match=r"packed\.npz: x\.npy is packed by method 12"):
        load_arrays(packed)
    monkeypatch.setattr(archives, "MEMBER_BYTES", 1 << 18)
    np.savez_compressed(path, x=np.zeros((30_000, 20)), y=np.arange(30_000) % 2)
    with pytest.raises(ValueError, match=r"own\.npz unpacks to .* over 200 times"):
        load_arrays(path)
