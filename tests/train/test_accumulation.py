"""A batch in micro-batches is the batch: same updates, same sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trials import WEIGHTS, Data, assert_close, make_data, make_rows, start, train_epoch

from jaxlstm.nn import MLP, LSTMClassifierNetwork
from jaxlstm.train.hyperparameters import OPTIMIZERS
from jaxlstm.train.trial import Structure

pytestmark = pytest.mark.usefixtures("x64")

# Two batches of 128 and a short one of 44: 128 is no multiple of 48 or 7, nor is 44.
ROWS = make_rows(np.arange(300)[::-1], np.arange(300, 311), size=311)
NETWORK = LSTMClassifierNetwork(3, units=(3, 2), dense=(4,), recurrent_dropout=0.1)
FIELDS = {"dropout": 0.3, "dense_dropout": 0.2, "recurrent_dropout": 0.25}
MICRO_BATCHES = [32, 48, 7]


def structure_of(micro_batch: int) -> Structure:
    assert set(NETWORK.traced_fields) == set(FIELDS)
    return Structure(NETWORK, micro_batch, NETWORK.traced_fields)


def data_of() -> Data:
    return make_data(3, 2, rows=311, dtype=np.float64)


def two_epochs(structure: Structure, h: Any, data: Data, rows: Any) -> Any:
    state, told = start(structure, h, data), []
    for _ in range(2):
        state, metrics = train_epoch(structure, state, h, data, rows)
        told.append(metrics)
    return state, told


@pytest.mark.parametrize("micro_batch", MICRO_BATCHES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_batch_of_128_in_pieces_is_a_batch_of_128(
    optimizer: str, micro_batch: int, hyperparameters: Any
) -> None:
    """With everything on that looks at rows, batches or gradients."""
    h = hyperparameters(
        optimizer=optimizer,
        learning_rate=0.01,
        batch_size=128,
        l2=0.01,
        label_smoothing=0.1,
        class_weight=WEIGHTS,
        clipnorm=0.1,
        schedule="exponential",
        fields=FIELDS,
    )
    data = data_of()
    wanted = two_epochs(structure_of(128), h, data, ROWS)
    got = two_epochs(structure_of(micro_batch), h, data, ROWS)
    assert wanted[0].step == 6
    first = start(structure_of(128), h, data).weights.params["logits"]["kernel"]
    assert np.abs(wanted[0].weights.params["logits"]["kernel"] - first).max() > 1e-5
    assert_close(got, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("clipping", ["clipvalue", "global_clipnorm"])
def test_gradients_are_clipped_as_those_of_the_batch(clipping: str, hyperparameters: Any) -> None:
    data = data_of()
    numbers: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 0.5, "batch_size": 128}
    h = hyperparameters(fields=FIELDS, **numbers, **{clipping: 0.002})
    wanted = two_epochs(structure_of(128), h, data, ROWS)
    assert_close(two_epochs(structure_of(7), h, data, ROWS), wanted, rtol=1e-10, atol=1e-12)
    free = two_epochs(structure_of(128), hyperparameters(fields=FIELDS, **numbers), data, ROWS)
    kernels = [state.weights.params["logits"]["kernel"] for state, _ in (wanted, free)]
    assert not np.allclose(*kernels, atol=1e-3)


@pytest.fixture(scope="module")
def make() -> Any:
    """`hyperparameters`, for tests of many examples."""
    from jaxlstm.train.hyperparameters import DEFAULTS, trace
    from jaxlstm.train.task import Classification

    def numbers(fields: Any, **changes: Any) -> Any:
        params = {**DEFAULTS, **Classification.DEFAULTS, "loss": "cross_entropy", **changes}
        task = Classification().numbers(params, float) | {"class_weight": np.asarray(WEIGHTS)}
        return trace(params, task, fields)

    return numbers


@given(
    rows=st.integers(1, 24),
    batch_size=st.integers(1, 30),
    micro_batch=st.sampled_from([1, 2, 5, 7, 16]),
    optimizer=st.sampled_from(OPTIMIZERS),
)
@settings(max_examples=60)
def test_any_rows_batch_and_micro_batch(
    make: Any, rows: int, batch_size: int, micro_batch: int, optimizer: str
) -> None:
    """Against micro-batches of 30, in which every batch is a whole one."""
    data = make_data(3, rows=29, dtype=np.float64)
    table = make_rows(np.arange(29)[::-1][:rows], np.arange(5), size=29)
    numbers: dict[str, Any] = {"optimizer": optimizer, "learning_rate": 0.02, "l2": 0.01}
    h = make({"dropout": 0.3}, batch_size=batch_size, label_smoothing=0.1, **numbers)
    module = MLP(3, (4,), "tanh")
    wanted = two_epochs(Structure(module, 30, ("dropout",)), h, data, table)
    got = two_epochs(Structure(module, micro_batch, ("dropout",)), h, data, table)
    assert got[0].step == wanted[0].step == 2 * -(-rows // batch_size)
    assert_close(got, wanted, rtol=1e-10, atol=1e-12)
