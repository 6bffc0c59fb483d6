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
