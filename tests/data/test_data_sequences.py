"""The type of all data sets, and the digits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import sklearn.datasets
from hypothesis import given
from hypothesis import strategies as st

from jaxlstm.data import SequenceData, load_digits


def make(rows: int = 20, classes: int = 3) -> SequenceData:
    rng = np.random.default_rng(rows)
    y = np.arange(rows, dtype=np.int32) % classes
    x = rng.normal(size=(rows, 4, 2)).astype(np.float32)
    return SequenceData(x, y, tuple("abcdefgh"[:classes]), "made", "here")


def test_digits() -> None:
    data = load_digits()
    raw = sklearn.datasets.load_digits()
    assert data.x.shape == (1797, 8, 8)
    assert data.x.dtype == np.float32
    assert len(data) == 1797
    assert (data.x.min(), data.x.max()) == (0.0, 1.0)
    np.testing.assert_array_equal(data.x * 16, raw.images)  # rows from top to bottom, exactly
    np.testing.assert_array_equal(data.y, raw.target)
    assert data.y.dtype == np.int32
    assert data.classes == tuple("0123456789")
    assert np.bincount(data.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert data.sha256 == load_digits().sha256


@given(
    rows=st.integers(12, 60),
    classes=st.integers(2, 5),
    share=st.floats(0.2, 0.5),
    seed=st.integers(0, 2**32 - 1),
)
def test_split_is_stratified_complete_and_repeatable(
    rows: int, classes: int, share: float, seed: int
) -> None:
    data = make(rows, classes)
    numbered = dataclasses.replace(data, x=np.arange(rows, dtype=np.float32)[:, None])
    train, test = numbered.split(share, seed=seed)
    taken = np.concatenate([train.x, test.x]).ravel()
    np.testing.assert_array_equal(np.sort(taken), np.arange(rows))
    for part in (train, test):
        np.testing.assert_array_equal(part.y, data.y[part.x.ravel().astype(int)])
        assert part.classes == data.classes
        assert set(part.y) == set(range(classes))
    assert abs(len(test) - share * rows) <= 1
    counts = np.bincount(data.y)
    # Each class is cut in the same proportion, up to the row that cannot be halved.
    assert (np.abs(np.bincount(test.y) - counts * len(test) / rows) <= 1.0001).all()
    again, _ = numbered.split(share, seed=seed)
    np.testing.assert_array_equal(again.x, train.x)


def test_seeds_split_differently() -> None:
    data = make(60)
    assert data.split(0.25, seed=0)[1].sha256 != data.split(0.25, seed=1)[1].sha256


def test_a_class_too_small_to_split_is_named() -> None:
    data = make(20)
    with pytest.raises(ValueError, match=r"class 'c' has 1 row: .* at least two of each class"):
        dataclasses.replace(data, y=np.array([0] * 10 + [1] * 9 + [2], np.int32)).split(0.2, seed=0)
    with pytest.raises(ValueError, match="class 'b' has 0 row"):
        dataclasses.replace(data, y=np.array([0, 2] * 10, np.int32)).split(0.2, seed=0)
    with pytest.raises(ValueError, match="number of classes"):
        data.split(0.05, seed=0)


def test_take_keeps_rows_and_labels_together() -> None:
    data = make()
    rows = np.array([7, 3, 3])
    taken = data.take(rows)
    np.testing.assert_array_equal(taken.x, data.x[rows])
    np.testing.assert_array_equal(taken.y, data.y[rows])
    assert taken.name == "made"


def test_hash_changes_with_anything() -> None:
    data = make()
    bit, label = data.x.copy(), data.y.copy()
    bit[11, 2, 1] = np.nextafter(bit[11, 2, 1], np.float32(9))
    label[4] += 1
    changed = [
        dataclasses.replace(data, x=bit),
        dataclasses.replace(data, y=label),
        dataclasses.replace(data, x=data.x.astype(np.float64)),
        dataclasses.replace(data, y=data.y.astype(np.int64)),
        dataclasses.replace(data, x=data.x.reshape(20, 2, 4)),
        dataclasses.replace(data, x=data.x[:, ::-1]),
        dataclasses.replace(data, classes=("a", "b", "z")),
        data.take(np.arange(19)),
        data.take(np.arange(20)[::-1]),
        dataclasses.replace(data, groups=np.arange(20)),
        dataclasses.replace(data, groups=np.array(["ab", "c"] * 10)),
        dataclasses.replace(data, groups=np.array(["a", "bc"] * 10)),
        dataclasses.replace(data, lengths=np.arange(20) % 4 + 1),
        dataclasses.replace(data, weight=np.arange(20) / 3),
        dataclasses.replace(data, weight=np.arange(20) / 4),
    ]
    hashes = [data.sha256, *(other.sha256 for other in changed)]
    assert len(set(hashes)) == len(hashes)
    assert all(len(text) == 64 for text in hashes)
    # The same rows in another memory layout, under another name.
    assert dataclasses.replace(data, x=np.asfortranarray(data.x), name="x").sha256 == data.sha256


@given(people=st.integers(4, 9), share=st.floats(0.1, 0.6), seed=st.integers(0, 2**32 - 1))
def test_split_by_group_shares_nobody(people: int, share: float, seed: int) -> None:
    data = dataclasses.replace(
        make(60), groups=np.random.default_rng(seed).integers(0, people, 60).astype(str)
    )
    numbered = dataclasses.replace(data, x=np.arange(60, dtype=np.float32)[:, None])
    train, test = numbered.split(share, by="group", seed=seed)
    assert not set(train.groups) & set(test.groups)
    assert len(train)
    assert len(test)
    taken = np.concatenate([train.x, test.x]).ravel().astype(int)
    np.testing.assert_array_equal(np.sort(taken), np.arange(60))
    np.testing.assert_array_equal(test.groups, data.groups[test.x.ravel().astype(int)])


def test_split_by_group_needs_groups() -> None:
    data = make()
    with pytest.raises(ValueError, match="made does not say who its rows are from"):
        data.split(0.3, by="group")
    with pytest.raises(ValueError, match="one group only"):
        dataclasses.replace(data, groups=np.zeros(20)).split(0.3, by="group")
    with pytest.raises(ValueError, match="'sample' or 'group', got 'person'"):
        data.split(0.3, by="person")
    with pytest.raises(ValueError, match=r"test_size must be in \(0, 1\), got 1"):
        data.split(1)


def test_summary_counts_rows_and_people() -> None:
    data = dataclasses.replace(
        make(10, 2), y=np.array([0] * 7 + [1] * 3), groups=np.array(list("aabbccdaab"))
    )
    table = data.summary()
    assert table["rows"].to_dict() == {"a": 7, "b": 3, "all": 10}
    assert table["percent"].to_dict() == pytest.approx({"a": 70, "b": 30, "all": 100})
    assert table["groups"].to_dict() == {"a": 4, "b": 2, "all": 4}
    assert list(make().summary()) == ["rows", "percent"]
