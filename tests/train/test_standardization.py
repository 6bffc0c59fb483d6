"""Standardisation: scikit-learn's numbers, from the rows named alone."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.preprocessing import StandardScaler

from jaxlstm.train import standardization


def make_data(rows: int = 40) -> Any:
    """Features far apart in place and size, two of them constant."""
    x = np.random.default_rng(2).normal(size=(rows, 5, 6))
    x = x * [1, 1e-4, 1e4, 1, 0, 0] + [0, 5, -3e4, 100, 0.1, 0]
    return x.astype(np.float32)


@pytest.mark.parametrize("piece", [1, 70, 1 << 22])
def test_equals_scikit_learns(piece: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(standardization, "PIECE", piece)
    x = make_data()
    rows = np.random.default_rng(0).integers(0, 30, 25)  # some twice
    scaler = StandardScaler().fit(x[rows].reshape(-1, 6).astype(float))
    got = standardization.fit(x, rows)
    assert got.mean.dtype == got.scale.dtype == np.float32
    assert_allclose(got.mean, scaler.mean_, rtol=1e-6)
    assert_allclose(got.scale, scaler.scale_, rtol=1e-6)
    assert_array_equal(got.scale[4:], 1)
    wanted = scaler.transform(x.reshape(-1, 6)).reshape(x.shape)
    # A mean of 100 in float32 is 4e-6 off at most, one of 5 by 2e-7 of a feature 1e-4 wide.
    assert_allclose(standardization.apply(got, jnp.asarray(x)), wanted, atol=5e-3)


@pytest.mark.parametrize("shape", [(30, 4), (30, 3, 4), (30, 2, 3, 4)])
@pytest.mark.usefixtures("x64", "strict_ranks")
def test_rows_of_any_rank(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).normal(size=shape) * [1, 2, 3, 4] + 7
    rows = np.arange(5, 25)
    got = np.asarray(standardization.apply(standardization.fit(x, rows), jnp.asarray(x)))
    flat = got[rows].reshape(-1, 4)
    assert_allclose(flat.mean(0), 0, atol=1e-12)
    assert_allclose(flat.std(0), 1, rtol=1e-12)
    assert got.dtype == np.float64


def test_other_rows_do_not_matter() -> None:
    x, rows = make_data(), np.arange(3, 20)
    other = x.copy()
    other[20:] = np.inf
    other[:3] *= 1e6
    for one, two in zip(
        standardization.fit(x, rows), standardization.fit(other, rows), strict=True
    ):
        assert_array_equal(one, two)


def test_one_row_and_tiny_numbers_stay_finite() -> None:
    x = np.full((3, 1, 2), 1e-41, np.float32)
    x[1] *= 3
    for rows in (np.arange(3), np.array([2])):
        got = standardization.fit(x, rows)
        assert_array_equal(got.scale, 1)
        assert np.isfinite(jax.jit(standardization.apply)(got, x)).all()


def test_nothing_to_standardise_by_changes_nothing() -> None:
    x = jnp.asarray(make_data())
    assert standardization.apply(None, x) is x


LENGTHS = np.random.default_rng(3).integers(1, 6, 40).astype(np.int32)


def own_steps(part: Any, rows: Any) -> Any:
    """The own steps of rows, one after another."""
    return np.concatenate([part[row, : LENGTHS[row]] for row in rows])


@pytest.mark.parametrize("piece", [1, 70, 1 << 22])
@pytest.mark.parametrize("weighs", ["nothing", "rows", "steps"])
def test_own_steps_and_weights_are_scikit_learns(
    weighs: str, piece: int, monkeypatch: Any, x64: None
) -> None:
    monkeypatch.setattr(standardization, "PIECE", piece)
    x = make_data().astype(float)
    rng = np.random.default_rng(4)
    rows = rng.integers(0, 35, 25)  # some twice
    weight: Any = None
    if weighs != "nothing":
        weight = rng.uniform(0, 3, 40) if weighs == "rows" else rng.uniform(0, 3, (40, 5))
        weight[rng.uniform(size=weight.shape) < 0.2] = 0
    each = None if weight is None else np.broadcast_to(weight.reshape(40, -1), (40, 5))
    counts = None if each is None else own_steps(each, rows)
    # Of a constant feature's weighted variance, scikit-learn takes the root of a rounding error.
    scaler = StandardScaler().fit(own_steps(x, rows)[:, :4], sample_weight=counts)
    other = x.copy()
    other[np.arange(5) >= LENGTHS[:, None]] = 1e9
    for given in (x, other):
        got = standardization.fit(given, rows, LENGTHS, weight)
        assert_allclose(got.mean[:4], scaler.mean_, rtol=1e-11)
        assert_allclose(got.scale[:4], scaler.scale_, rtol=1e-9)
        assert_array_equal(got.scale[4:], 1)
    if weight is not None:
        scaler = StandardScaler().fit(
            x[rows].reshape(-1, 6)[:, :4], sample_weight=each[rows].reshape(-1)
        )
        got = standardization.fit(x, rows, None, weight)
        assert_allclose(got.mean[:4], scaler.mean_, rtol=1e-11)
        assert_allclose(got.scale[:4], scaler.scale_, rtol=1e-9)


def test_a_weight_is_how_often_a_row_is_given(x64: None) -> None:
    x = make_data().astype(float)
    times = np.random.default_rng(5).integers(0, 4, 40)
    got = standardization.fit(x, np.arange(40), LENGTHS, times)
    wanted = standardization.fit(x, np.repeat(np.arange(40), times), LENGTHS)
    for one, two in zip(got, wanted, strict=True):
        assert_allclose(one, two, rtol=1e-10)


@pytest.mark.parametrize("shape", [(30, 4, 3), (30, 4, 2, 3)])
def test_lengths_of_rows_of_any_rank(shape: tuple[int, ...], x64: None) -> None:
    x = np.random.default_rng(6).normal(size=shape) * [1, 2, 3] + 7
    lengths = np.random.default_rng(7).integers(1, 5, 30)
    own = np.concatenate([row[:n].reshape(-1, 3) for row, n in zip(x, lengths, strict=True)])
    got = standardization.fit(x, np.arange(30), lengths)
    assert_allclose(got.mean, own.mean(0), rtol=1e-12)
    assert_allclose(got.scale, own.std(0), rtol=1e-12)
