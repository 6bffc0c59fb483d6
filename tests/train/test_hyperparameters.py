"""Which values are refused, and whether the message helps."""

from __future__ import annotations

import inspect
import re
from fractions import Fraction
from typing import Any

import jax
import keras
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from jaxlstm.train import schedules
from jaxlstm.train.hyperparameters import (
    CHOICES,
    DEFAULTS,
    FLAGS,
    MAX_BOUNDARIES,
    METRICS,
    MONITORS,
    NUMBERS,
    OPTIMIZERS,
    SCHEDULES,
    TABLES,
    Hyperparameters,
    check,
    check_sizes,
    nearest,
    needs_validation,
    trace,
    uses_total_epochs,
)

# Name, value, error, and what the message says is allowed.
BAD = [
    ("learning_rate", 0, ValueError, "a number above 0 or None"),
    ("learning_rate", -0.1, ValueError, "a number above 0"),
    ("learning_rate", np.nan, ValueError, "a number above 0"),
    ("learning_rate", np.inf, ValueError, "a number above 0"),
    ("learning_rate", "0.1", TypeError, "a number above 0"),
    ("learning_rate", True, TypeError, "a number above 0"),
    ("learning_rate", 1j, TypeError, "a number above 0"),
    ("learning_rate", [0.1], TypeError, "a number above 0"),
    ("learning_rate", np.array([0.1]), TypeError, "a number above 0"),
    ("momentum", 1.1, ValueError, "a number in [0, 1]"),
    ("momentum", -1e-9, ValueError, "a number in [0, 1]"),
    ("momentum", np.True_, TypeError, "a number in [0, 1]"),
    ("beta_1", 1.0, ValueError, "a number in [0, 1)"),
    ("beta_2", 1.5, ValueError, "a number in [0, 1)"),
    ("beta_2", 0.9999999999, ValueError, "a number in [0, 1)"),  # 1 in float32,
    ("beta_2", True, TypeError, "a number in [0, 1) or None"),
    ("rho", -0.5, ValueError, "a number in [0, 1) or None"),
    ("epsilon", 0.0, ValueError, "a number in (0, 100]"),
    ("epsilon", 1e-50, ValueError, "a number in (0, 100]"),  # 0 in float32,
    ("epsilon", None, TypeError, "a number in (0, 100]"),
    ("weight_decay", -0.1, ValueError, "a number of at least 0 or None"),
    ("initial_accumulator_value", -0.1, ValueError, "a number in [0, 1e+06]"),
    ("learning_rate_power", 0.1, ValueError, "a number in [-10, 0]"),
    ("learning_rate_power", -np.inf, ValueError, "a number in [-10, 0]"),
    ("l1_regularization_strength", -1, ValueError, "a number in [0, 1e+06]"),
    ("l2_regularization_strength", -1, ValueError, "a number in [0, 1e+06]"),
    ("l2_shrinkage_regularization_strength", 1e7, ValueError, "a number in [0, 1e+06]"),
    ("beta", 1e29, ValueError, "a number in [0, 1e+06]"),
    ("clipnorm", 0, ValueError, "a number above 0 or None"),
    ("clipnorm", np.inf, ValueError, "a number above 0 or None"),
    ("clipvalue", -1.0, ValueError, "a number above 0 or None"),
    ("global_clipnorm", "1", TypeError, "a number above 0 or None"),
    ("warmup_epochs", -1, ValueError, "a number of at least 0"),
    ("warmup_learning_rate", -1, ValueError, "a number of at least 0"),
    ("end_value", -1, ValueError, "a number of at least 0 or None"),
    ("exponent", 1e30, ValueError, "a number in [0, 100]"),
    ("pct_final", 1.5, ValueError, "a number in [0, 1]"),
    ("baseline", np.nan, ValueError, "a number or None"),
    ("mode", "maximum", ValueError, "one of auto, min, max"),
    ("decay_epochs", 0, ValueError, "a number of at least 0.001"),
    ("decay_rate", 0.0, ValueError, "a number in (0, 1000]"),
    ("alpha", 1.01, ValueError, "a number in [0, 1]"),
    ("end_learning_rate", -1e-9, ValueError, "a number in [0, 1e+06]"),
    ("power", -1, ValueError, "a number in [0, 100]"),
    ("power", 1e30, ValueError, "a number in [0, 100]"),
    ("t_mul", 0.5, ValueError, "a number in [1, 1000]"),
    ("m_mul", -0.5, ValueError, "a number in [0, 1000]"),
    ("pct_start", 1.5, ValueError, "a number in [0, 1]"),
    ("div_factor", 0.5, ValueError, "a number in [1, 1e+10]"),
    ("final_div_factor", 0, ValueError, "a number in [1, 1e+10]"),
    ("plateau_factor", 1.0, ValueError, "a number in (0, 1)"),
    ("plateau_factor", 0.0, ValueError, "a number in (0, 1)"),
    ("plateau_patience", -1, ValueError, "an integer of at least 0"),
    ("plateau_min_delta", -1e-4, ValueError, "a number of at least 0"),
    ("cooldown", 1.5, TypeError, "an integer of at least 0"),
    ("min_lr", -1, ValueError, "a number of at least 0"),
    ("patience", -1, ValueError, "an integer of at least 0"),
    ("patience", 2.0, TypeError, "an integer of at least 0"),
    ("patience", None, TypeError, "an integer of at least 0"),
    ("min_delta", -0.1, ValueError, "a number of at least 0"),
    ("start_from_epoch", True, TypeError, "an integer of at least 0"),
    ("label_smoothing", 1.1, ValueError, "a number in [0, 1]"),
    ("gamma", -0.5, ValueError, "a number in [0, 100]"),
    ("focal_alpha", 1.5, ValueError, "a number in [0, 1]"),
    ("delta", 0.0, ValueError, "a number above 0"),
    ("level", 1.0, ValueError, "a number in (0, 1)"),
    ("level", 0, ValueError, "a number in (0, 1)"),
    ("l2", -1e-3, ValueError, "a number in [0, 1e+06]"),
    ("l2", 10**400, ValueError, "a number in [0, 1e+06]"),
    ("epochs", 0, ValueError, "an integer of at least 1"),
    ("epochs", 2.0, TypeError, "an integer of at least 1"),
    ("epochs", np.float64(2), TypeError, "an integer of at least 1"),
    ("epochs", False, TypeError, "an integer of at least 1"),
    ("batch_size", 0, ValueError, "an integer of at least 1"),
    ("batch_size", "32", TypeError, "an integer of at least 1"),
    ("dropout", 1.0, ValueError, "a number in [0, 1)"),
    ("dense_dropout", -0.2, ValueError, "a number in [0, 1)"),
    ("recurrent_dropout", 1.5, ValueError, "a number in [0, 1)"),
    ("nesterov", 1, TypeError, "True or False"),
    ("nesterov", "yes", TypeError, "True or False"),
    *((name, "no", TypeError, "True or False") for name in FLAGS[1:]),
    ("optimizer", "adamx", ValueError, "one of adam, adamw, nadam, rmsprop, sgd"),
    ("optimizer", 0, ValueError, "one of adam, adamw"),
    ("optimizer", ["adam"], ValueError, "one of adam, adamw"),
    ("schedule", None, ValueError, "one of constant, step, exponential, inverse_time"),
    ("plateau_monitor", "val_los", ValueError, "one of loss, accuracy, val_loss, val_accuracy"),
    ("monitor", None, ValueError, "one of loss, accuracy, val_loss, val_accuracy"),
    ("best_monitor", "val_acc", ValueError, "one of loss, accuracy, val_loss, val_accuracy"),
    ("boundaries", 3, TypeError, "a tuple of numbers"),
    ("values", "0.1", TypeError, "a tuple of numbers"),
]

GOOD = {
    "learning_rate": [None, 1e-3, 1, np.float32(0.1), np.int64(2), Fraction(1, 3)],
    "momentum": [0, 0.999, np.float64(0.5), 1],  # 1 as in Keras
    "epsilon": [1e-30],
    "warmup_epochs": [0, 0.5, 3],
    "decay_rate": [2.0],
    "alpha": [0, 1, 1.0],
    "l2": [0, 10.0],
    "epochs": [1, np.int32(7), np.uint8(3)],
    "batch_size": [1, np.int64(512)],
    "dropout": [0, 0.99],
    "nesterov": [True, False, np.True_],
    "weight_decay": [None, 0, 0.1],
    "clipnorm": [None, 1, 0.5],
    "learning_rate_power": [0, -0.5, -2],
    "patience": [0, np.int8(3), 10**12],
    "best_monitor": [None, *METRICS],
    "boundaries": [(), (1, 2.5), [0.5], np.array([1, 2]), tuple(range(MAX_BOUNDARIES))],
    "values": [(), (0.1,), np.array([0.1, 0.2])],
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


TOGETHER: list[tuple[dict[str, Any], str]] = [
    ({"optimizer": "lion", "beta_1": 0}, r"beta_1 must be a number in \(0, 1\] for lion, .* got 0"),
    ({"optimizer": "nadam", "beta_1": 1}, r"beta_1 must be a number in \[0, 1\), got 1"),
    ({"weight_decay": 3, "learning_rate": 0.5}, "got weight_decay=3 and learning_rate=0.5"),
    ({"optimizer": "sgd", "min_lr": 0.1}, "got min_lr=0.1 and learning_rate=0.01"),
    ({"schedule": "linear_onecycle", "pct_final": 0.2}, "got pct_final=0.2 and pct_start=0.3"),
    ({"warmup_epochs": 5, "epochs": 3}, "got warmup_epochs=5 and epochs=3"),
]


@pytest.mark.parametrize(("params", "message"), TOGETHER)
def test_numbers_that_make_no_sense_together(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(params)


def test_numbers_that_fit_together() -> None:
    check({"optimizer": "lion", "beta_1": 1, "patience": 1000, "epochs": 5, "warmup_epochs": 5})
    check({"learning_rate": 1e-3, "min_lr": 1e-3, "weight_decay": 100})


def test_every_hyperparameter_has_a_bad_value_above() -> None:
    assert {row[0] for row in BAD} == {*NUMBERS, *CHOICES, *MONITORS, *FLAGS, *TABLES}


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


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"boundaries": (1, 3, 3)}, r"boundaries must increase .*, got \(1, 3, 3\)\."),
        ({"boundaries": (2, 1)}, r"boundaries must increase"),
        ({"boundaries": (1, -1)}, r"boundaries\[1\] must be a number of at least 0, got -1\."),
        ({"values": (0.1, np.nan)}, r"values\[1\] must be a number of at least 0, got nan\."),
        ({"boundaries": (*range(17),)}, r"boundaries must have at most 16 entries, got 17"),
        (
            {"boundaries": (1, 2), "values": (0.1, 0.2)},
            r"values must have one entry more than boundaries, got boundaries=\(1, 2\) and values=",
        ),
        ({"boundaries": (1,), "values": ()}, "one entry more"),
        ({"schedule": "piecewise", "boundaries": (), "values": ()}, "one entry more"),
        (
            {"clipnorm": 1.0, "clipvalue": None, "global_clipnorm": 2.0},
            r"only one of clipnorm, clipvalue, global_clipnorm may be set, got clipnorm=1\.0 and "
            r"global_clipnorm=2\.0\.",
        ),
        ({"clipvalue": 1, "clipnorm": 2}, "only one of"),
    ],
)
def test_what_does_not_go_together(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(params)


def test_an_entry_of_another_type() -> None:
    with pytest.raises(TypeError, match=r"values\[1\] must be a number of at least 0, got 'x'"):
        check({"values": (0.1, "x")})


def test_nearest() -> None:
    assert nearest("unit", ["epochs", "units", "dense"]) == " Did you mean 'units'?"
    assert nearest("xyz", ["epochs", "units", "dense"]) == ""
    assert nearest("xyz", []) == ""


class TestDefaults:
    def test_they_are_allowed_and_complete(self) -> None:
        check(DEFAULTS)
        shaping = {"amsgrad", "centered", "exclude_from_weight_decay"}
        assert DEFAULTS.keys() - shaping == {*Hyperparameters._fields} - {
            "task",
            "fields",
            "standardization",
        }

    @pytest.mark.parametrize(
        "optimizer",
        ["Adam", "AdamW", "Nadam", "RMSprop", "SGD", "Adadelta", "Adagrad", "Ftrl", "Lion"],
    )
    def test_an_optimizer_s_are_keras_s(self, optimizer: str) -> None:
        got = trace({"optimizer": optimizer.lower()}, {}, {})
        theirs = inspect.signature(getattr(keras.optimizers, optimizer)).parameters
        shared = set(theirs) & set(Hyperparameters._fields)
        assert {"learning_rate", "weight_decay", "clipnorm", "global_clipnorm"} <= shared
        for name in shared:
            wanted = theirs[name].default
            if wanted is None:
                wanted = np.inf if "clip" in name else 0
            assert getattr(got, name) == np.float32(wanted), name

    @pytest.mark.parametrize(
        ("theirs", "ours"),
        [
            (keras.callbacks.EarlyStopping, {}),
            (
                keras.callbacks.ReduceLROnPlateau,
                {
                    name: f"plateau_{name}"
                    for name in ("monitor", "factor", "patience", "min_delta")
                },
            ),
            (keras.optimizers.schedules.PolynomialDecay, {}),
            (keras.optimizers.schedules.CosineDecay, {}),
            (keras.optimizers.schedules.CosineDecayRestarts, {}),
        ],
    )
    def test_those_of_schedules_and_callbacks_are_keras_s(
        self, theirs: Any, ours: dict[str, str]
    ) -> None:
        compared = 0
        for name, parameter in inspect.signature(theirs).parameters.items():
            name = ours.get(name, name)
            if name in DEFAULTS and parameter.default is not parameter.empty:
                assert DEFAULTS[name] == parameter.default, name
                compared += 1
        assert compared

    def test_what_is_named_is_not_looked_up(self) -> None:
        named = {"learning_rate": 0.5, "beta_2": 0.25, "rho": 0.125, "weight_decay": 0.0}
        for optimizer in OPTIMIZERS:
            got = trace({"optimizer": optimizer, **named}, {}, {})
            assert {name: getattr(got, name) for name in named} == named


def test_which_schedules_use_the_total() -> None:
    used = {name for name in SCHEDULES if uses_total_epochs({"schedule": name})}
    assert used == {"cosine", "onecycle", "linear_onecycle"}
    assert not uses_total_epochs({})


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_those_that_do_not_give_the_same_rates_whatever_the_total(
    schedule: str, hyperparameters: Any
) -> None:
    time = np.linspace(0, 5, 23, dtype=np.float32)
    few, many = (
        jax.vmap(schedules.learning_rate, (None, 0, None))(
            hyperparameters(schedule=schedule, epochs=epochs, values=(0.1,)), time, 0.1
        )
        for epochs in (5, 9)
    )
    assert np.array_equal(few, many) != uses_total_epochs({"schedule": schedule})


@pytest.mark.parametrize(
    ("params", "needed"),
    [
        ({}, False),
        ({"monitor": "val_loss", "best_monitor": "val_loss"}, False),
        ({"early_stopping": True}, True),
        ({"early_stopping": True, "monitor": "val_accuracy"}, True),
        ({"early_stopping": True, "monitor": "loss"}, False),
        ({"early_stopping": True, "monitor": "loss", "best_monitor": "val_loss"}, False),
        ({"restore_best_weights": True}, True),
        ({"restore_best_weights": True, "monitor": "accuracy"}, False),
        ({"restore_best_weights": True, "monitor": "loss", "best_monitor": "val_loss"}, True),
        ({"restore_best_weights": True, "best_monitor": "loss"}, False),
        ({"schedule": "plateau"}, True),
        ({"schedule": "plateau", "plateau_monitor": "loss"}, False),
        ({"schedule": "step", "plateau_monitor": "val_loss"}, False),
    ],
)
def test_who_needs_validation(params: dict[str, Any], needed: bool) -> None:
    assert needs_validation(params) is needed


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
        assert_array_equal(got.task["class_weight"], [0.5, 2.0])
        assert got.fields == {"dropout": 0.25}

    def test_none(self, hyperparameters: Any) -> None:
        got = hyperparameters()
        assert got.best_monitor == -1
        assert got.clipnorm == got.clipvalue == got.global_clipnorm == np.inf
        assert hyperparameters(best_monitor="accuracy").best_monitor == METRICS.index("accuracy")

    def test_tables(self, hyperparameters: Any) -> None:
        got = hyperparameters(boundaries=(1, 2.5), values=[0.3, 0.2, 0.1])
        assert_array_equal(got.boundaries, [1, 2.5] + [np.inf] * 14)
        assert_array_equal(got.values, np.float32([0.3, 0.2] + [0.1] * 15))
        full = hyperparameters(boundaries=range(16), values=range(17))
        assert_array_equal(full.boundaries, range(16))
        assert_array_equal(full.values, range(17))
        assert hyperparameters().values.shape == (17,)

    def test_a_patience_without_end(self, hyperparameters: Any) -> None:
        assert hyperparameters(patience=10**12).patience == np.iinfo(np.int32).max

    @pytest.mark.parametrize("precision", [np.float32, np.float64])
    def test_types_do_not_depend_on_the_values(self, precision: Any, hyperparameters: Any) -> None:
        """So that trials which differ in them share a compiled program."""
        with jax.enable_x64(precision == np.float64):
            a = hyperparameters(learning_rate=1, momentum=0, fields={"dropout": 0})
            b = hyperparameters(
                learning_rate=np.float16(0.5),
                momentum=0.5,
                clipnorm=1,
                boundaries=np.array([1, 2]),
                values=(1, 2, 3),
                best_monitor="loss",
                patience=np.int64(3),
                cycle=np.True_,
                fields={"dropout": np.float64(0.5)},
            )
        types = [jax.tree.map(lambda leaf: (leaf.dtype, leaf.shape), tree) for tree in (a, b)]
        assert types[0] == types[1]
        assert a.learning_rate.dtype == precision
        assert a.optimizer.dtype == a.schedule.dtype == a.best_monitor.dtype == np.int32
        assert a.batch_size.dtype == a.patience.dtype == a.cooldown.dtype == np.int32
        assert a.nesterov.dtype == a.early_stopping.dtype == bool
