"""Which values are refused, and whether the message helps."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from jaxlstm.train.hyperparameters import (
    CHOICES,
    NUMBERS,
    OPTIMIZERS,
    SCHEDULES,
    check,
    check_sizes,
    nearest,
)

# Name, value, error, and what the message says is allowed.
BAD = [
    ("learning_rate", 0, ValueError, "a number above 0"),
    ("learning_rate", -0.1, ValueError, "a number above 0"),
    ("learning_rate", np.nan, ValueError, "a number above 0"),
    ("learning_rate", np.inf, ValueError, "a number above 0"),
    ("learning_rate", "0.1", TypeError, "a number above 0"),
    ("learning_rate", None, TypeError, "a number above 0"),
    ("learning_rate", True, TypeError, "a number above 0"),
    ("learning_rate", 1j, TypeError, "a number above 0"),
    ("learning_rate", [0.1], TypeError, "a number above 0"),
    ("learning_rate", np.array([0.1]), TypeError, "a number above 0"),
    ("momentum", 1, ValueError, "a number in [0, 1)"),
    ("momentum", -1e-9, ValueError, "a number in [0, 1)"),
    ("momentum", np.True_, TypeError, "a number in [0, 1)"),
    ("beta_1", 1.0, ValueError, "a number in [0, 1)"),
    ("beta_2", 1.5, ValueError, "a number in [0, 1)"),
    ("rho", -0.5, ValueError, "a number in [0, 1)"),
    ("epsilon", 0.0, ValueError, "a number above 0"),
    ("warmup_epochs", -1, ValueError, "a number of at least 0"),
    ("decay_epochs", 0, ValueError, "a number above 0"),
    ("decay_rate", 0.0, ValueError, "a number above 0"),
    ("alpha", 1.01, ValueError, "a number in [0, 1]"),
    ("l2", -1e-3, ValueError, "a number of at least 0"),
    ("epochs", 0, ValueError, "an integer of at least 1"),
    ("epochs", 2.0, TypeError, "an integer of at least 1"),
    ("epochs", np.float64(2), TypeError, "an integer of at least 1"),
    ("epochs", False, TypeError, "an integer of at least 1"),
    ("batch_size", 0, ValueError, "an integer of at least 1"),
    ("batch_size", "32", TypeError, "an integer of at least 1"),
    ("dropout", 1.0, ValueError, "a number in [0, 1)"),
    ("dense_dropout", -0.2, ValueError, "a number in [0, 1)"),
    ("nesterov", 1, TypeError, "True or False"),
    ("nesterov", "yes", TypeError, "True or False"),
    ("optimizer", "adamx", ValueError, "one of adam, rmsprop, sgd"),
    ("optimizer", 0, ValueError, "one of adam, rmsprop, sgd"),
    ("optimizer", ["adam"], ValueError, "one of adam, rmsprop, sgd"),
    ("schedule", None, ValueError, "one of constant, cosine, step, exponential"),
]

GOOD = {
    "learning_rate": [1e-3, 1, np.float32(0.1), np.int64(2), Fraction(1, 3)],
    "momentum": [0, 0.999, np.float64(0.5)],
    "epsilon": [1e-30],
    "warmup_epochs": [0, 0.5, 3],
    "decay_rate": [2.0],
    "alpha": [0, 1, 1.0],
    "l2": [0, 10.0],
    "epochs": [1, np.int32(7), np.uint8(3)],
    "batch_size": [1, np.int64(512)],
    "dropout": [0, 0.99],
    "nesterov": [True, False, np.True_],
    "optimizer": [*OPTIMIZERS, np.str_("adam")],
    "schedule": list(SCHEDULES),
}


@pytest.mark.parametrize(
    ("name", "value", "error", "allowed"), BAD, ids=[f"{row[0]}={row[1]!r}" for row in BAD]
)
def test_bad_values(name: str, value: Any, error: type[Exception], allowed: str) -> None:
    with pytest.raises(error, match=re.escape(f"{name} must be {allowed}")) as caught:
        check({"l2": 0.1, name: value})
    assert repr(value) in str(caught.value)


def test_every_hyperparameter_has_a_bad_value_above() -> None:
    assert {row[0] for row in BAD} == {*NUMBERS, *CHOICES, "nesterov"}


@pytest.mark.parametrize("name", GOOD)
def test_good_values(name: str) -> None:
    for value in GOOD[name]:
        check({name: value})


def test_others_are_not_looked_at() -> None:
    check({"units": "many", "verbose": -1})


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("optimizer", "Adam", "adam"),
        ("optimizer", "rms_prop", "rmsprop"),
        ("optimizer", "SGD", None),
        ("schedule", "consine", "cosine"),
        ("schedule", "exponental", "exponential"),
        ("schedule", "", None),
    ],
)
def test_the_nearest_right_name(name: str, value: str, meant: str | None) -> None:
    with pytest.raises(ValueError, match=f"{name} must be one of") as caught:
        check({name: value})
    assert str(caught.value).endswith(f"Did you mean {meant!r}?" if meant else f"got {value!r}.")


def test_nearest() -> None:
    assert nearest("unit", ["epochs", "units", "dense"]) == " Did you mean 'units'?"
    assert nearest("xyz", ["epochs", "units", "dense"]) == ""
    assert nearest("xyz", []) == ""


class TestSizes:
    @pytest.mark.parametrize(
        ("value", "sizes"),
        [
            (5, (5,)),
            (np.int64(5), (5,)),
            ((5, 3), (5, 3)),
            ([5, 3, 1], (5, 3, 1)),
            (np.array([5, 3]), (5, 3)),
            ((np.int32(4), 2), (4, 2)),
        ],
    )
    def test_good(self, value: Any, sizes: tuple[int, ...]) -> None:
        got = check_sizes("units", value, least=1)
        assert got == sizes
        assert all(type(size) is int for size in got)

    def test_no_layer_where_none_is_needed(self) -> None:
        assert check_sizes("dense", (), least=0) == ()

    @pytest.mark.parametrize(
        ("value", "error", "message"),
        [
            ((), ValueError, "units must name at least one layer"),
            (0, ValueError, "of at least 1 unit"),
            ((5, -3), ValueError, "of at least 1 unit"),
            (5.0, TypeError, "units must be an integer or a tuple of integers"),
            ((5, 3.0), TypeError, "units must be an integer or a tuple"),
            ((5, "3"), TypeError, "units must be an integer or a tuple"),
            ("53", TypeError, "units must be an integer or a tuple"),
            (None, TypeError, "units must be an integer or a tuple"),
            (True, TypeError, "units must be an integer or a tuple"),
            ((5, True), TypeError, "units must be an integer or a tuple"),
            (np.array([[5, 3]]), TypeError, "units must be an integer or a tuple"),
            (np.array([5.0]), TypeError, "units must be an integer or a tuple"),
            ({5}, TypeError, "units must be an integer or a tuple"),
        ],
    )
    def test_bad(self, value: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message) as caught:
            check_sizes("units", value, least=1)
        assert repr(value) in str(caught.value)

    def test_sizes_below_1_where_no_layer_is_needed(self) -> None:
        with pytest.raises(ValueError, match=r"dense must name any number .* at least 1 unit"):
            check_sizes("dense", (4, 0), least=0)


class TestTrace:
    def test_values_stand_under_their_names(self, hyperparameters: Any) -> None:
        got = hyperparameters(
            optimizer="sgd",
            schedule="step",
            nesterov=True,
            epochs=7,
            learning_rate=Fraction(1, 4),
            class_weight=[0.5, 2.0],
            fields={"dropout": 0.25},
        )
        assert OPTIMIZERS[got.optimizer] == "sgd"
        assert SCHEDULES[got.schedule] == "step"
        assert got.nesterov
        assert got.epochs == 7
        assert got.learning_rate == 0.25
        assert got.beta_2 == np.float32(0.999)
        assert_array_equal(got.class_weight, [0.5, 2.0])
        assert got.fields == {"dropout": 0.25}

    @pytest.mark.parametrize("precision", [np.float32, np.float64])
    def test_types_do_not_depend_on_the_values(self, precision: Any, hyperparameters: Any) -> None:
        """So that trials which differ in them share a compiled program."""
        with jax.enable_x64(precision == np.float64):
            a = hyperparameters(learning_rate=1, momentum=0, fields={"dropout": 0})
            b = hyperparameters(
                learning_rate=np.float16(0.5), momentum=0.5, fields={"dropout": np.float64(0.5)}
            )
        types = [jax.tree.map(lambda leaf: (leaf.dtype, leaf.shape), tree) for tree in (a, b)]
        assert types[0] == types[1]
        assert a.learning_rate.dtype == precision
        assert a.optimizer.dtype == a.schedule.dtype == np.int32
        assert a.nesterov.dtype == bool
