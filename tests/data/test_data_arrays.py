"""The user's own files: what is read, and what a bad one is answered with."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxlstm.data import packed
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
    ("label\nx\ny\n", "has no columns of numbers beside label"),
    ("a,b,label\n1,2,x\n3,oops,y\n", "line 3, column 'b': 'oops' is not a number"),
    (
        "a,b,label\n1,2,x\n\n \n3,,y\n",
        "line 5, column 'b': the value is missing; fill it in, or leave the row out",
    ),
    (
        "a,b,label\n1,2,x\n3,nan,y\n",
        "line 3, column 'b': the value is missing, it says 'nan'; fill",
    ),
    ("a,b,label\n1,True,x\n2,4,y\n", "line 2, column 'b': 'True' is not a number"),
    ("a,b,label\n1,2,x\n3,4\n", "line 3: the label is missing"),
    ("a,b,label\n1,2,\n", "line 2: the label is missing"),
    (
        "a,b,label\n1,2,x,9\n3,4,y,9\n",
        "line 2: it has more values than the header, 4 instead of 3: name the column of",
    ),
    (
        "a,b,label\n1,2,x\n3,4,y,9\n",
        "line 3: it has more values than the header, 4 instead of 3: quote",
    ),
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
    with pytest.raises(
        ValueError, match=r"must end in \.npz, \.csv, \.tsv or \.parquet, got '\.txt'"
    ):
        load_arrays(tmp_path / "mine.txt")
    with pytest.raises(ValueError, match="got 'no ending'"):
        load_arrays(tmp_path / "mine")


def test_an_npz_that_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, x=np.zeros((3, 2)), y=np.arange(3))
    other = tmp_path / "packed.npz"
    with (
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(other, "w", zipfile.ZIP_BZIP2) as archive,
    ):
        for name in source.namelist():
            archive.writestr(name, source.read(name))
    with pytest.raises(ValueError, match=r"packed\.npz: x\.npy is packed by method 12"):
        load_arrays(other)
    monkeypatch.setattr(packed, "MEMBER_BYTES", 1 << 18)
    np.savez_compressed(path, x=np.zeros((30_000, 20)), y=np.arange(30_000) % 2)
    with pytest.raises(ValueError, match=r"own\.npz unpacks to .* over 200 times"):
        load_arrays(path)


def frame(rows: int = 12) -> pd.DataFrame:
    """Numbers, whole and others, and labels; no column counts the rows."""
    rng = np.random.default_rng(3)
    table = pd.DataFrame(rng.normal(size=(rows, 3)).round(4), columns=list("abc"))
    table["count"] = rng.permutation(np.arange(5, 5 + rows))  # distinct, and a feature
    table["year"] = np.arange(1990, 1990 + rows)
    table["label"] = np.where(np.arange(rows) % 3, "up", "down")
    return table


STEPS = ("a", "b", "c", "count", "year")
INDEXED: list[tuple[str, Any]] = [
    ("Unnamed: 0", lambda t, p: t.to_csv(p)),
    ("Unnamed: 0", lambda t, p: t.sample(frac=1, random_state=0).to_csv(p)),
    ("Unnamed: 0", lambda t, p: t.iloc[::2].to_csv(p)),
    ("Unnamed: 0", lambda t, p: t.set_index(pd.Index([*"ghiabcdefjkl"])).to_csv(p)),
    ("Unnamed: 0", lambda t, p: t.set_index(pd.Index(np.linspace(0, 1, 12))).to_csv(p)),
    ("Unnamed: 0", lambda t, p: t.set_index(pd.Index(np.arange(12) // 2)).to_csv(p)),
    ("Unnamed: 0.1', 'Unnamed: 0", lambda t, p: twice(t, p)),
    (
        "Unnamed: 0', 'Unnamed: 1",
        lambda t, p: t.set_index(pd.MultiIndex.from_product([[*"xyz"], range(4)])).to_csv(p),
    ),
    ("level_0', 'level_1", lambda t, p: t.set_index(
        pd.MultiIndex.from_product([[*"xyz"], range(4)])).reset_index().to_csv(p, index=False)),
    ("index", lambda t, p: t.reset_index().to_csv(p, index=False)),
    ("id", lambda t, p: t.assign(id=np.arange(1, 13)).to_csv(p, index=False)),
    ("ID", lambda t, p: t.assign(ID=np.arange(112, 100, -1)).to_csv(p, index=False)),
    ("sample_id", lambda t, p: t.assign(sample_id=[*"kjihgfedcbal"]).to_csv(p, index=False)),
    ("rowId", lambda t, p: t.assign(rowId=np.arange(12.0)).to_csv(p, index=False)),
    ("nr", lambda t, p: t.assign(nr=np.arange(1, 13)).to_csv(p, index=False)),
    ("any name", lambda t, p: t.assign(**{"any name": np.arange(12)}).to_csv(p, index=False)),
    ("Unnamed: 6", lambda t, p: p.write_text(
        t.to_csv(index=False).replace("\n", ",\n"))),
]  # fmt: skip


def twice(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path)
    pd.read_csv(path).to_csv(path)


@pytest.mark.parametrize("number", range(len(INDEXED)))
def test_an_index_that_was_saved_is_no_feature(number: int, tmp_path: Path) -> None:
    name, save = INDEXED[number]
    path = tmp_path / "mine.csv"
    save(frame(), path)
    with pytest.warns(UserWarning, match=re.escape(f"'{name}'")) as caught:
        data = load_arrays(path)
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    assert data.step_names == STEPS
    chosen = load_arrays(path, features="b,year")  # without a warning
    assert chosen.step_names == ("b", "year")
    np.testing.assert_array_equal(chosen.x, data.x[:, [1, 4]])


def test_features_that_look_like_an_index_stay(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    table = frame()
    table["heat index"] = table["count"] * 3  # no row's name
    table["index"] = table["a"] * 100  # of something
    table["humid"] = table["count"]
    table["level_0"] = table["b"]  # of a river
    table[".5"] = table["c"]
    names = ("level_0", ".5", *STEPS, "heat index", "index", "humid")
    table[[*names, "label"]].to_csv(path, index=False)
    assert load_arrays(path).step_names == names
    table.assign(id=np.arange(12)).to_csv(path, index=False)
    data = load_arrays(path, features=["id", "a"])
    np.testing.assert_array_equal(data.x[:, 0], np.arange(12))
    with pytest.warns(UserWarning, match="'id' names each row"):
        load_arrays(path, group="a")
    assert load_arrays(path, group="id").groups is not None


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": np.arange(12) // 3}, "'id' looks like the name of a row, but '0' is there twice"),
        ({"id": [*"aabbccddeeff"]}, "'id' looks like the name of a row, but 'a' is there twice"),
        ({"patient_id": np.arange(12) % 5}, "'patient_id' looks like the name of a row"),
        (
            {"Subject": np.arange(12) // 3},
            "'Subject' looks like the name of a row, but '0' is there",
        ),
        ({"": np.arange(12) % 5}, "column 7 of 7 has no name"),
        ({"who": [*"kjihgfedcbal"]}, "'k' is not a number; a column of text is no feature"),
    ],
)
def test_what_may_be_an_index_is_refused(columns: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    frame().assign(**columns).to_csv(path, index=False)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_arrays(path)


def zipped(files: dict[str, str]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


def test_a_zip_of_two_tables(tmp_path: Path) -> None:
    path = tmp_path / "two.csv.zip"
    path.write_bytes(zipped({"a.csv": "a,label\n1,x\n", "b.csv": "a,label\n1,x\n"}))
    with pytest.raises(ValueError, match=r"two\.csv\.zip must hold one table and nothing else"):
        load_arrays(path)


FORMS: dict[str, Any] = {
    "csv": lambda t: t.to_csv(index=False),
    "tsv": lambda t: t.to_csv(index=False, sep="\t"),
    "tsv with commas.tsv": lambda t: t.to_csv(index=False),
    "semicolons.csv": lambda t: t.to_csv(index=False, sep=";"),
    "tabs.csv": lambda t: t.to_csv(index=False, sep="\t"),
    "bars.csv": lambda t: t.to_csv(index=False, sep="|"),
    "decimal commas.csv": lambda t: t.to_csv(index=False, sep=";", decimal=","),
    "decimal commas.tsv": lambda t: t.to_csv(index=False, sep="\t", decimal=","),
    "quoted decimal commas.csv": lambda t: t.to_csv(index=False, decimal=","),
    "sep.csv": lambda t: "sep=;\n" + t.to_csv(index=False, sep=";"),
    "remarks.csv": lambda t: "# made by us, with care\n#\n" + t.to_csv(index=False),
    "quoted.csv": lambda t: t.to_csv(index=False, quoting=1),
    "Windows.csv": lambda t: "\ufeff" + t.to_csv(index=False, lineterminator="\r\n"),
    "old Mac.csv": lambda t: t.to_csv(index=False, lineterminator="\r"),
    "UPPER.CSV": lambda t: t.to_csv(index=False),
    "spaces.csv": lambda t: t.to_csv(index=False).replace(",", " , ").replace("\n", " \n"),
    "utf-16.csv": lambda t: t.to_csv(index=False, sep="\t").encode("utf-16"),
    "packed.csv.gz": lambda t: gzip.compress(t.to_csv(index=False).encode()),
    "packed.csv.bz2": lambda t: bz2.compress(t.to_csv(index=False).encode()),
    "packed.csv.zip": lambda t: zipped({"__MACOSX/._t.csv": "", "t.csv": t.to_csv(index=False)}),
    "packed.tsv.xz": lambda t: lzma.compress(t.to_csv(index=False, sep="\t").encode()),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_in_any_form(form: str, tmp_path: Path) -> None:
    path = tmp_path / (form if "." in form else f"mine.{form}")
    content = FORMS[form](frame())
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    data = load_arrays(path)
    assert data.step_names == STEPS
    np.testing.assert_array_equal(data.x, frame()[list(STEPS)])
    assert data.labels.tolist() == frame()["label"].tolist()
    assert data.name == path.name.split(".")[0]


def test_labels_keep_their_kind(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    flag = frame()["label"] == "up"
    for label in (flag, flag.astype(int), frame()["year"] % 3, frame()["label"]):
        frame().assign(label=label).to_csv(path, index=False)
        targets = load_arrays(path).targets
        np.testing.assert_array_equal(targets, label)
        assert targets.dtype.kind == np.array(label.tolist()).dtype.kind
    frame().assign(one=flag, two=~flag).drop(columns="label").to_csv(path, index=False)
    several = load_arrays(path, label="one,two")
    assert (several.task, several.classes) == ("multilabel", ("one", "two"))
    np.testing.assert_array_equal(several.y, np.stack([flag, ~flag], 1))
    names = from_arrays(X, np.array([b"a", b"b"] * 3))
    assert names.classes == ("a", "b")


def test_decimal_commas_of_a_target(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    table = frame().assign(label=np.arange(12) / 8 - 1)
    table.to_csv(path, sep=";", decimal=",", index=False)
    data = load_arrays(path)
    assert (data.task, data.target_names) == ("regression", ("label",))
    np.testing.assert_array_equal(data.y, table["label"])


NAMED: list[tuple[str, str]] = [
    ("0.5,1.5,x\n0.25,1,y\n", "its first line, 0.5, 1.5, x, holds values and no names; put a line"),
    ("1;2;3\n4;5;6\n", "its first line, 1, 2, 3, holds values and no names"),
    (
        "a,b,Label\n1,2,x\n",
        r"has no column 'label'; its columns: a, b, Label. Did you mean 'Label'",
    ),
    ('a,label\n"1,234",x\n"2,345",y\n', "column 'a': '1,234' may be a number of thousands or have"),
    ('a,label\n"1,234.5",x\n', "'1,234.5' is not a number; write it without separators of thou"),
    ("a;label\n1.234,5;x\n", "'1.234,5' is not a number; write it without separators of thou"),
    ("a;label\n1 234;x\n", "'1 234' is not a number; write it without separators of thousands"),
    ("a,b,label\n1,5,2,5,x\n", "line 2: it has more values than the header, 5 instead of 3: quote"),
    ("a,label\nr1,2,x\nr2,3,y\n", "instead of 2: name the column of row names that comes first"),
    (
        "a,label\n1,x,\n3,y,\n",
        "line 2: it has more values than the header, 3 instead of 2: leave out",
    ),
    ("a b label\n1 2 x\n", "Its first line holds no comma, semicolon, tab or bar that parts"),
    ("a,label,label\n1,x,y\n", "2 columns are called 'label'"),
    ('a,label\n1,"x\n\n', "is not a readable csv file"),
    ("PK\x03\x04 and more", "is no text but an Excel workbook"),
    ("PAR1 and more", "is no text but a parquet file"),
    ("a\x00b", "it holds zero bytes; save it as UTF-8"),
    ('a,label\n"1",x\n"2\n",y\nz,x\n', "line 5, column 'a': 'z' is not a number"),
    ("a,label\n1,0\n2,NA?\n,1\n", "line 4, column 'a': the value is missing; fill it in"),
]


@pytest.mark.parametrize("number", range(len(NAMED)))
def test_the_cause_is_named(number: int, tmp_path: Path) -> None:
    text, message = NAMED[number]
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load_arrays(csv(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_rows_keep_their_numbers() -> None:
    data = from_arrays(X, Y, ids=[*"abcdef"])
    part = data.take([4, 1, 5])[np.array([True, False, True])]
    assert part.rows is not None
    assert part.ids is not None
    assert (part.rows.tolist(), part.ids.tolist()) == ([4, 5], ["e", "f"])
