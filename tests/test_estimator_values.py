"""Every parameter's bad values: one sentence that names it, what it got and what it takes."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from jaxlstm import LSTMClassifier, LSTMRegressor
from jaxlstm.train.augment import RandomFlip, Rotation


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    return rng.normal(size=(22, 4, 2)).astype(np.float32), np.arange(22) % 3


@pytest.fixture
def lstm() -> LSTMClassifier:
    return LSTMClassifier(units=3, batch_size=8, epochs=2)


VALUES: list[tuple[str, Any, type[Exception], str]] = [
    ("units", "big", TypeError, "units must be an integer or a tuple of integers, .* got 'big'"),
    ("units", 2.5, TypeError, r"units must be .* got 2\.5"),
    ("units", True, TypeError, "units must be .* got True"),
    ("classes", ["a"], ValueError, r"classes must be a list of at least two labels, got \['a'\]"),
    ("units", (), ValueError, r"units must name at least one layer .* got \(\)"),
    ("units", (4, 0), ValueError, r"units must name .* of at least 1 unit, got \(4, 0\)"),
    ("dense", (4, "a"), TypeError, r"dense must be .* got \(4, 'a'\)"),
    ("dropout", "a", TypeError, r"dropout must be a number in \[0, 1\), got 'a' \(str\)"),
    ("dropout", 1.0, ValueError, r"dropout must be a number in \[0, 1\), got 1\.0"),
    ("dense_dropout", -0.1, ValueError, r"dense_dropout must be .* got -0\.1"),
    ("bidirectional", 1, TypeError, "bidirectional must be True or False, got 1"),
    ("merge", "ad", ValueError, "merge must be one of concat, sum, mean, mul, got 'ad'"),
    ("activation", "rellu", ValueError, r"activation .* got 'rellu'\. Did you mean 'relu'\?"),
    ("optimizer", "adm", ValueError, r"adamax, lamb, got 'adm'\. Did you mean 'adam'\?"),
    ("optimizer", None, ValueError, "optimizer must be one of .* got None"),
    ("schedule", "cosin", ValueError, r"got 'cosin'\. Did you mean 'cosine'\?"),
    ("learning_rate", 0, ValueError, "learning_rate must be a number above 0 or None, got 0"),
    ("learning_rate", np.nan, ValueError, "learning_rate must be .* got nan"),
    ("learning_rate", "1e-3", TypeError, r"learning_rate must be .* got '1e-3' \(str\)"),
    ("momentum", 1.1, ValueError, r"momentum must be .* got 1\.1"),
    ("nesterov", 1, TypeError, "nesterov must be True or False, got 1"),
    ("recurrent_dropout", 1, ValueError, r"recurrent_dropout must be .*\[0, 1\), got 1"),
    ("beta_1", 1.0, ValueError, r"beta_1 must be a number in \[0, 1\), got 1\.0"),
    ("beta_2", -0.1, ValueError, r"beta_2 must be a number in \[0, 1\) or None, got -0\.1"),
    ("rho", "x", TypeError, r"rho must be .* or None, got 'x' \(str\)"),
    ("epsilon", 0, ValueError, r"epsilon must be a number in \(0, 100\], got 0"),
    ("weight_decay", -1, ValueError, "weight_decay must be .* at least 0 or None, got -1"),
    ("initial_accumulator_value", -1, ValueError, "initial_accumulator_value must .* got -1"),
    ("learning_rate_power", 0.5, ValueError, r"must be a number in \[-10, 0\], got 0\.5"),
    ("l1_regularization_strength", -1, ValueError, "l1_regularization_strength must .* got -1"),
    ("l2_regularization_strength", None, TypeError, "l2_regularization_strength must .* got None"),
    ("l2_shrinkage_regularization_strength", -1, ValueError, "l2_shrinkage.* must .* got -1"),
    ("beta", 1e29, ValueError, r"beta must be a number in \[0, 1e\+06\], got 1e\+29"),
    ("clipnorm", 0, ValueError, "clipnorm must be a number above 0 or None, got 0"),
    ("clipvalue", "1", TypeError, r"clipvalue must be .* or None, got '1' \(str\)"),
    ("global_clipnorm", -1, ValueError, "global_clipnorm must be .* or None, got -1"),
    ("warmup_epochs", -1, ValueError, "warmup_epochs must be a number of at least 0, got -1"),
    ("amsgrad", "yes", TypeError, "amsgrad must be True or False, got 'yes'"),
    ("centered", 1, TypeError, "centered must be True or False, got 1"),
    ("exclude_from_weight_decay", 3, TypeError, "must be a tuple of names of parameters, got 3"),
    ("exclude_from_weight_decay", "(", ValueError, r"must hold regular expressions, got '\('"),
    ("exclude_from_weight_decay", ("bais",), ValueError, "has 'bais', which is in .* no parameter"),
    ("warmup_learning_rate", -1, ValueError, "warmup_learning_rate must be .* at least 0, got -1"),
    ("staircase", 1, TypeError, "staircase must be True or False, got 1"),
    ("end_value", "0", TypeError, r"end_value must be .* or None, got '0' \(str\)"),
    ("end_value", 0.5, ValueError, "end_value must be at most learning_rate, .* got end_value=0.5"),
    ("exponent", -1, ValueError, r"exponent must be a number in \[0, 100\], got -1"),
    ("pct_final", 2, ValueError, r"pct_final must be a number in \[0, 1\], got 2"),
    ("mode", "maxi", ValueError, r"mode must be one of auto, min, max, got 'maxi'\. Did you mean"),
    ("baseline", np.inf, ValueError, "baseline must be a number or None, got inf"),
    ("decay_epochs", 0, ValueError, "decay_epochs must be a number of at least 0.001, got 0"),
    ("decay_rate", 0, ValueError, r"decay_rate must be a number in \(0, 1000\], got 0"),
    ("alpha", 1.5, ValueError, r"alpha must be a number in \[0, 1\], got 1\.5"),
    ("end_learning_rate", -1, ValueError, "end_learning_rate must be .* got -1"),
    ("power", 1e30, ValueError, r"power must be a number in \[0, 100\], got 1e\+30"),
    ("cycle", "no", TypeError, "cycle must be True or False, got 'no'"),
    ("t_mul", 0.5, ValueError, r"t_mul must be a number in \[1, 1000\], got 0\.5"),
    ("m_mul", -1, ValueError, r"m_mul must be a number in \[0, 1000\], got -1"),
    ("boundaries", "12", TypeError, "boundaries must be a tuple of numbers, got '12'"),
    ("boundaries", (2, 1), ValueError, r"boundaries must increase .* got \(2, 1\)"),
    ("boundaries", (1,), ValueError, r"values must have one entry more .* boundaries=\(1,\)"),
    ("boundaries", (-1,), ValueError, r"boundaries\[0\] must be .* got -1"),
    ("values", (0.1, "x"), TypeError, r"values\[1\] must be .* got 'x'"),
    ("values", 0.1, TypeError, r"values must be a tuple of numbers, got 0\.1"),
    ("pct_start", 2, ValueError, r"pct_start must be a number in \[0, 1\], got 2"),
    ("div_factor", 0.5, ValueError, r"div_factor must be a number in \[1, 1e\+10\], got 0\.5"),
    ("final_div_factor", 0, ValueError, r"final_div_factor must be .* in \[1, .*, got 0"),
    ("plateau_monitor", "loss_", ValueError, r"got 'loss_'\. Did you mean 'loss'\?"),
    ("plateau_factor", 1, ValueError, r"plateau_factor must be a number in \(0, 1\), got 1"),
    ("plateau_patience", 1.5, TypeError, r"plateau_patience must be an integer .* got 1\.5"),
    ("plateau_min_delta", -1, ValueError, "plateau_min_delta must be .* got -1"),
    ("cooldown", -1, ValueError, "cooldown must be an integer of at least 0, got -1"),
    ("min_lr", 0.5, ValueError, "min_lr must be at most learning_rate, .* got min_lr=0.5"),
    ("early_stopping", "yes", TypeError, "early_stopping must be True or False, got 'yes'"),
    ("monitor", "val_los", ValueError, r"got 'val_los'\. Did you mean 'val_loss'\?"),
    ("monitor", None, ValueError, "monitor must be one of loss, .* got None"),
    ("patience", -1, ValueError, "patience must be an integer of at least 0, got -1"),
    ("min_delta", -1, ValueError, "min_delta must be a number of at least 0, got -1"),
    ("start_from_epoch", 0.5, TypeError, r"start_from_epoch must be an integer .* got 0\.5"),
    ("restore_best_weights", 1, TypeError, "restore_best_weights must be True or False, got 1"),
    ("best_monitor", "f1", ValueError, "best_monitor must be one of loss, .* got 'f1'"),
    ("loss", "mse", ValueError, "loss must be one of cross_entropy, focal, got 'mse'"),
    ("loss", "focall", ValueError, r"got 'focall'\. Did you mean 'focal'\?"),
    ("loss", None, ValueError, "loss must be one of .* got None"),
    ("gamma", -1, ValueError, r"gamma must be a number in \[0, 100\], got -1"),
    ("focal_alpha", 2, ValueError, r"focal_alpha must be a number in \[0, 1\], got 2"),
    ("return_sequences", 1, TypeError, "return_sequences must be True or False, got 1"),
    ("warm_start", None, TypeError, "warm_start must be True or False, got None"),
    ("label_smoothing", 1.1, ValueError, r"label_smoothing must be .*\[0, 1\], got 1\.1"),
    ("validation_fraction", 1.0, ValueError, r"validation_fraction .*\[0, 1\), got 1\.0"),
    ("validation_fraction", None, TypeError, "validation_fraction must be .* got None"),
    ("l2", None, TypeError, r"l2 must be a number in \[0, 1e\+06\], got None"),
    ("epochs", 2.5, TypeError, r"epochs must be an integer of at least 1, got 2\.5 \(float\)"),
    ("epochs", -3, ValueError, "epochs must be an integer of at least 1, got -3"),
    ("epochs", 0, ValueError, "epochs must be .* got 0"),
    ("epochs", True, TypeError, r"epochs must be .* got True \(bool\)"),
    ("batch_size", 0, ValueError, "batch_size must be an integer of at least 1, got 0"),
    ("batch_size", "8", TypeError, r"batch_size must be .* got '8' \(str\)"),
    ("augment", "flip", TypeError, "augment must be an augmentation .* got 'flip'"),
    ("augment", (RandomFlip,), TypeError, r"augment\[0\] must be .* Did you mean RandomFlip\(\)\?"),
    ("augment", ([],), TypeError, r"augment\[0\] must be called as \(key, row\), got \[\]"),
    ("augment", Rotation(), ValueError, r"channels in threes, .* got a row of shape \(4, 2\)"),
    (
        "augment",
        lambda key, x: x[1:],
        ValueError,
        r"\(4, 2\); it returns float32 of shape \(3, 2\)",
    ),
    ("standardize", 1, TypeError, "standardize must be True or False, got 1"),
    ("random_state", -1, ValueError, r"random_state must be in \[0, 2\*\*32\), got -1"),
    ("random_state", 2**32, ValueError, "random_state must be in .* got 4294967296"),
    ("random_state", "x", ValueError, "'x' cannot be used to seed"),
]


@pytest.mark.parametrize(("name", "value", "error", "message"), VALUES)
def test_a_bad_value_is_one_sentence(
    name: str, value: Any, error: type[Exception], message: str, lstm: LSTMClassifier, data: Any
) -> None:
    with pytest.raises(error, match=message) as caught:
        lstm.set_params(**{name: value}).fit(*data)
    assert "\n" not in str(caught.value)


NUMBERS = [
    ("loss", "cross_entropy", ValueError, "loss must be one of mse, mae, .* got 'cross_entropy'"),
    ("delta", 0, ValueError, "delta must be a number above 0, got 0"),
    ("level", 1, ValueError, r"level must be a number in \(0, 1\), got 1"),
    ("monitor", "accuracy", ValueError, "monitor must be one of loss, mse, mae, val_loss, .*"),
    ("standardize_targets", "y", TypeError, "standardize_targets must be True or False, got 'y'"),
]


@pytest.mark.parametrize(("name", "value", "error", "message"), NUMBERS)
def test_a_bad_value_of_a_regressor_is_one_sentence(
    name: str, value: Any, error: type[Exception], message: str
) -> None:
    X = np.random.default_rng(0).normal(size=(12, 4, 2)).astype(np.float32)
    model = LSTMRegressor(units=2, epochs=1, **{name: value})
    with pytest.raises(error, match=message) as caught:
        model.fit(X, X[:, 0, 0])
    assert "\n" not in str(caught.value)


def test_every_number_has_a_bad_value() -> None:
    named = {name for name, *_ in VALUES}
    # Not checked by their name alone: class weights have a test of their own.
    assert set(inspect.signature(LSTMClassifier).parameters) - named <= {"class_weight", "verbose"}
    named |= {name for name, *_ in NUMBERS}
    assert set(inspect.signature(LSTMRegressor).parameters) - named <= {"verbose"}


def test_two_kinds_of_clipping_are_one_sentence(lstm: LSTMClassifier, data: Any) -> None:
    message = "only one of clipnorm, clipvalue, global_clipnorm may be set, got clipnorm=1 and clip"
    with pytest.raises(ValueError, match=message):
        lstm.set_params(clipnorm=1, clipvalue=0.5).fit(*data)
