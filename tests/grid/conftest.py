"""One small data set and one small classifier, so that the tests share compiled programs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from jaxlstm import LSTMClassifier


@pytest.fixture(scope="session")
def data() -> tuple[np.ndarray, np.ndarray]:
    """26 sequences [5, 2], all different; 11, 8 and 7 rows of three classes."""
    rng = np.random.default_rng(7)
    y = rng.permutation(np.repeat(["low", "mid", "top"], [11, 8, 7]))
    X = rng.normal(size=(26, 5, 2)) + (np.unique(y, return_inverse=True)[1] - 1)[:, None, None]
    return X.astype(np.float32), y


@pytest.fixture
def classifier() -> LSTMClassifier:
    """26 rows are three batches of 8 and a short one."""
    return LSTMClassifier(units=4, batch_size=8, epochs=2, learning_rate=0.02)


@pytest.fixture(autouse=True)
def _ctrl_c() -> Iterator[None]:
    """Ctrl-C interrupts; a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Recorder:
    """A scorer that keeps what it was given: the fitted lane of a cell, and its validation rows."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, bytes], Any] = {}

    @staticmethod
    def key(params: dict[str, Any], X: Any) -> tuple[str, bytes]:
        return repr(sorted(params.items())), np.ascontiguousarray(X).tobytes()

    def __call__(self, estimator: Any, X: Any, y: np.ndarray) -> float:
        self.seen[self.key(self.settings(estimator), X)] = estimator, X, y
        return float((estimator.predict(X) == y).mean())

    @staticmethod
    def settings(estimator: Any) -> dict[str, Any]:
        params = estimator.get_params()
        return {name: value for name, value in params.items() if not hasattr(value, "fit")}

    def lane(self, estimator: Any, X: Any) -> Any:
        """The lane of an unfitted estimator's settings that was scored on these rows."""
        return self.seen[self.key(self.settings(estimator), X)][0]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def _assert_same_weights(one: Any, other: Any) -> None:
    one, other = jax.tree.leaves_with_path(one), jax.tree.leaves_with_path(other)
    assert [path for path, _ in one] == [path for path, _ in other]
    for (path, a), (_, b) in zip(one, other, strict=True):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes(), (path, np.abs(a - b).max())


@pytest.fixture(scope="session")
def assert_same_weights() -> Any:
    """Bit for bit."""
    return _assert_same_weights
