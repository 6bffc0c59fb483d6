"""Long tables: against a loop over their rows, and what a bad one is answered with."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlstm.data.tables import load_table

HAS_PARQUET = importlib.util.find_spec("pyarrow") is not None
FORMS = ["csv", "tsv", *(["parquet"] if HAS_PARQUET else [])]


def save(table: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="," if path.suffix == ".csv" else "\t")
    return path


def reference(table: pd.DataFrame, features: list[str], length: int | None) -> list[Any]:
    """Id, label, group and rows of each sequence."""
    found: dict[Any, list[Any]] = {}
    for row in table.to_dict("records"):
        found.setdefault(row["id"], []).append(row)
    return [
        (
            rows[0]["label"],
            rows[0]["who"],
            [[row[name] for name in features] for row in sorted(rows, key=lambda row: row["time"])][
                :length
            ],
        )
        for rows in found.values()
    ]


@settings(max_examples=60)
@given(data=st.data())
def test_tables_equal_the_reference(data: st.DataObject, tmp_path_factory: Any) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    rows, ids = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 8))
    id = random.integers(ids, size=rows)
    table = pd.DataFrame(
        {
            "b": random.normal(size=rows),
            "time": random.integers(-5, 5, rows) / data.draw(st.sampled_from([1, 4])),
            "label": np.array(["up", "down", "NA"])[random.integers(3, size=ids)[id]],
            "a": random.integers(9, size=rows),
            "id": [f"s{number:02d}" for number in id],
            "who": random.integers(3, size=ids)[id] * 10,
        }
    )
    form = data.draw(st.sampled_from(FORMS))
    path = save(table, tmp_path_factory.getbasetemp() / f"table.{form}")
    features = data.draw(st.sampled_from([None, ["a"], ["a", "b"]]))
    length = data.draw(st.sampled_from([None, 1, 3, 50]))
    loaded = load_table(path, group="who", features=features, length=length)
    wanted = reference(table, features or ["b", "a"], length)
    longest = max(len(steps) for _, _, steps in wanted)
    assert loaded.x.shape == (len(wanted), length or longest, len(wanted[0][2][0]))
    assert loaded.feature_names == tuple(features or ["b", "a"])
    assert [*loaded.labels] == [label for label, _, _ in wanted]
    assert loaded.groups is not None
    assert [*loaded.groups] == [who for _, who, _ in wanted]
    lengths = loaded.lengths
    if lengths is None:
        lengths = np.full(len(wanted), loaded.x.shape[1])
    for x, valid, (_, _, steps) in zip(loaded.x, lengths, wanted, strict=True):
        assert valid == len(steps)
        np.testing.assert_allclose(x[:valid], steps, rtol=1e-14)
        assert not x[valid:].any()


STEPS = (
    "id,time,v,mood,up,left,load,w,who\n"
    "7,2,5,sad,1,0,0.5,2,x\n7,1,3,glad,0,1,1,1,x\n8,1,4,odd,1,1,2.25,3,y\n"
)


def test_a_label_at_every_step(tmp_path: Path) -> None:
    path = write(tmp_path, STEPS)
    data = load_table(path, label="mood", per_step=True, features=["v"], weight="w", group="who")
    np.testing.assert_array_equal(data.x[:, :, 0], [[3, 5], [4, 0]])
    assert (data.task, data.per_step, data.classes) == (
        "classification", True, ("glad", "odd", "sad"),
    )  # fmt: skip
    assert data.labels[0].tolist() == ["glad", "sad"]
    assert data.labels[1, 0] == "odd"
    assert data.y[1, 1] == 0
    assert data.weight is not None
    assert data.lengths is not None
    assert data.groups is not None
    assert data.weight.tolist() == [[1, 2], [3, 0]]
    assert (data.lengths.tolist(), data.groups.tolist()) == ([2, 1], ["x", "y"])
    numbers = load_table(path, label="load", per_step=True, features=["v"], length=1)
    assert (numbers.task, numbers.target_names, numbers.lengths) == ("regression", ("load",), None)
    assert numbers.y.tolist() == [[1], [2.25]]
    flags = load_table(path, label="left,up", per_step=True, features=["v"])
    assert (flags.task, flags.classes) == ("multilabel", ("left", "up"))
    assert flags.y.tolist() == [[[1, 0], [0, 1]], [[1, 1], [0, 0]]]
    both = load_table(path, label=["load", "up"], per_step=True, features=["v"])
    assert (both.task, both.target_names) == ("regression", ("load", "up"))
    assert both.y.tolist() == [[[1, 0], [0.5, 1]], [[2.25, 1], [0, 0]]]


def test_targets_and_weights_of_sequences(tmp_path: Path) -> None:
    text = "id,time,v,load,age,w\n7,2,5,0.5,30,2\n8,1,4,2,41,1.5\n7,1,3,0.5,30,2\n"
    path = write(tmp_path, text)
    data = load_table(path, label="load", features=["v"], weight="w")
    assert (data.task, data.target_names, data.y.tolist()) == ("regression", ("load",), [0.5, 2])
    assert data.weight is not None
    assert data.weight.tolist() == [2, 1.5]
    several = load_table(path, label="load,age", features=["v"])
    assert (several.target_names, several.y.tolist()) == (("load", "age"), [[0.5, 30], [2, 41]])
    steps = load_table(path, label="load", features=["v"], weight="w", per_step=True)
    assert steps.weight is not None
    assert steps.weight.tolist() == [2, 1.5]  # the same at all steps
    ages = load_table(path, label="age", features=["v"])
    assert (ages.task, ages.classes) == ("classification", ("30", "41"))
    assert load_table(path, label="age", features=["v"], task="regression").y.tolist() == [30, 41]
    named = load_table(path, label="load", features=["v"], task="classification")
    assert named.classes == ("0.5", "2")


@settings(max_examples=40)
@given(data=st.data())
def test_targets_of_steps_equal_a_loop(data: st.DataObject, tmp_path_factory: Any) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    rows, ids = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 6))
    table = pd.DataFrame(
        {
            "id": random.integers(ids, size=rows),
            "time": random.permutation(rows),
            "v": random.normal(size=rows),
            "label": random.normal(size=rows),
            "w": random.random(rows) + 0.1,
        }
    )
    length = data.draw(st.sampled_from([None, 2]))
    path = save(table, tmp_path_factory.getbasetemp() / "steps.csv")
    loaded = load_table(path, weight="w", features=["v"], per_step=True, length=length)
    for number, id in enumerate(dict.fromkeys(table["id"])):
        own = table[table["id"] == id].sort_values("time")[:length]
        steps = len(own)
        np.testing.assert_allclose(loaded.y[number, :steps], own["label"], rtol=1e-14)
        assert not loaded.y[number, steps:].any()
        assert loaded.weight is not None
        if loaded.weight.ndim == 2:
            np.testing.assert_allclose(loaded.weight[number, :steps], own["w"], rtol=1e-14)
            assert not loaded.weight[number, steps:].any()
        else:  # no id has two rows
            assert loaded.weight[number] == pytest.approx(own["w"].iloc[0])


def write(folder: Path, text: str | bytes, suffix: str = "csv") -> Path:
    path = folder / f"mine.{suffix}"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_times_that_are_dates(tmp_path: Path) -> None:
    text = (
        "id,time,label,v\n1,2024-05-31T12:00:01,x,2\n1,2024-05-31T11:59:59,x,1\n01,2024-06-01,y,3\n"
    )
    data = load_table(write(tmp_path, text))
    np.testing.assert_array_equal(data.x[:, :, 0], [[1, 2], [3, 0]])
    assert data.lengths is not None
    np.testing.assert_array_equal(data.lengths, [2, 1])
    assert (data.name, data.groups, data.rate) == ("mine", None, None)


def test_columns_of_other_names(tmp_path: Path) -> None:
    text = "Trial\tms\tkind\tx\ty\n7\t10\t3\t1\t2\n7\t9\t3\t3\t4\n8\t1\t20\t5\t6\n"
    data = load_table(
        write(tmp_path, text, "tsv"), id="Trial", time="ms", label="kind", features=["y"], length=1
    )
    np.testing.assert_array_equal(data.x, [[[4]], [[6]]])
    assert data.classes == ("3", "20")
    assert data.lengths is None


BAD: list[tuple[str | bytes, dict[str, Any], str]] = [
    (
        STEPS,
        {"label": "mood", "features": ["v"]},
        "several values in the column 'mood': 'sad', 'gl",
    ),
    (STEPS, {"label": "who", "features": ["v"], "weight": "w"}, "several values in the column 'w'"),
    (
        STEPS,
        {"label": "who,load", "features": ["v"], "per_step": True},
        "line 2, column 'who': 'x' is",
    ),
    (
        STEPS,
        {"label": "who", "features": ["v"], "weight": "mood", "per_step": True},
        "'sad' is not a",
    ),
    (
        STEPS,
        {"label": "mood", "features": ["v"], "task": "regression", "per_step": True},
        "line 2, co",
    ),
    (
        "id,time,label,v\n5,1,2,1\n5,2,2,1\n6,1,x,1\n",
        {"task": "regression"},
        "line 4, column 'label': 'x' is not a number",
    ),
    ("", {}, "is not a readable csv file: No columns"),
    ("id,time,label,v\n", {}, "has no rows"),
    ("id,time,v\n1,1,1\n", {}, "has no column 'label'; its columns: id, time, v"),
    ("id,time,label,v\n1,1,a,1\n", {"group": "who"}, "has no column 'who'"),
    ("id,time,label,v\n1,1,a,1\n", {"features": ["w"]}, "has no column 'w'"),
    ("id,time,label\n1,1,a\n", {}, "has no columns of features beside id, time, label"),
    (
        "id,time,label,v\n1,1,a,1\n\n1,2,a,\n",
        {},
        "line 4, column 'v': the value is missing; fill it in, or leave the row out",
    ),
    ("id,time,label,v\n1,1,a,1\n1,2,a,x\n", {}, "line 3, column 'v': 'x' is not a number"),
    ("id,time,label,v\n1,1,a,1\n,2,a,1\n", {}, "line 3: the id is missing"),
    ("id,time,label,v\n1,,a,1\n", {}, "line 2: the time is missing"),
    ("id,time,label,v\n1,1,,1\n", {}, "line 2: the label is missing"),
    ("id,time,label,v\n1,noon,a,1\n", {}, "line 2, column 'time': 'noon' is neither a number"),
    (
        "id,time,label,v\n5,1,a,1\n6,1,b,1\n5,2,b,1\n",
        {},
        "id '5' has several values in the column 'label': 'a', 'b'",
    ),
    (
        "id,time,label,v,who\n5,1,a,1,p\n5,2,a,1,q\n",
        {"group": "who"},
        "id '5' has several values in the column 'who': 'p', 'q'",
    ),
    ("id,time,label,v\n1,1,a,1,9\n", {}, "more values than the header"),
    (b"id,time,label,v\n1,1,\xe9,1\n", {}, "is not a readable csv file: 'utf-8'"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_bad_tables(number: int, tmp_path: Path) -> None:
    text, options, message = BAD[number]
    with pytest.raises(ValueError, match=rf"mine\.csv[:,]? .*{re.escape(message)}") as caught:
        load_table(write(tmp_path, text), **options)
    assert "\n" not in str(caught.value)


def test_bad_options(tmp_path: Path) -> None:
    path = write(tmp_path, "id,time,label,v\n1,1,a,1\n")
    with pytest.raises(ValueError, match="length must be at least 1 step, got 0"):
        load_table(path, length=0)
    with pytest.raises(ValueError, match="column 'time' is named for two purposes"):
        load_table(path, features=["v", "time"])
    with pytest.raises(FileNotFoundError, match=r"none\.csv is not there"):
        load_table(tmp_path / "none.csv")
    with pytest.raises(ValueError, match=r"must end in \.csv, \.tsv or \.parquet, got '\.txt'"):
        load_table(write(tmp_path, "", "txt"))


def test_parquet_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(path: Path) -> pd.DataFrame:
        raise ImportError("Unable to find a usable engine")

    path = write(tmp_path, b"PAR1 and no more", "parquet")
    if HAS_PARQUET:
        with pytest.raises(ValueError, match=r"mine\.parquet is not a readable parquet file: "):
            load_table(path)
    monkeypatch.setattr(pd, "read_parquet", unavailable)
    with pytest.raises(ImportError, match="needs pyarrow: pip install pyarrow"):
        load_table(path)


def test_an_index_is_no_feature_of_steps_either(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "id": np.repeat(["s0", "s1", "s2"], 4),
            "time": [*range(4)] * 3,
            "v": np.random.default_rng(0).normal(size=12),
            "label": np.repeat(["x", "y", "x"], 4),
        }
    )
    path = tmp_path / "mine.csv"
    for name, save in (
        ("Unnamed: 0", table),
        ("row", table.rename_axis("row")),
        ("n", table.rename_axis("n")),
    ):
        save.to_csv(path)
        with pytest.warns(UserWarning, match=f"'{name}'"):
            data = load_table(path)
        assert data.feature_names == ("v",)
        assert data.ids is not None
        assert data.ids.tolist() == ["s0", "s1", "s2"]
    assert load_table(path, features="n,v").feature_names == ("n", "v")
    table.assign(person_id=np.repeat([1, 2, 1], 4)).to_csv(path, index=False)
    with pytest.raises(ValueError, match="'person_id' looks like the name of a row"):
        load_table(path)
    assert load_table(path, group="person_id").groups is not None


@pytest.mark.skipif(not HAS_PARQUET, reason="needs pyarrow")
def test_the_index_of_a_parquet_file(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": [1, 1, 2], "time": [1, 2, 1], "v": [0.5, 2, 3], "label": [*"aab"]})
    path = tmp_path / "mine.parquet"
    for indexed in (table, table.sample(frac=1, random_state=0), table.set_index(["id", "time"])):
        indexed.to_parquet(path)
        assert sorted(load_table(path).x[..., 0].ravel().tolist()) == [0, 0.5, 2, 3]
