"""The Flax layers against hand-run recurrences, and dropout's statistics."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxlstm.nn.layers import LSTM, Bidirectional, Dropout, LSTMCell, StackedLSTM
from jaxlstm.nn.recurrence import LSTMParams, lstm

LENGTHS = np.array([5, 0, 2, 4])


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def run(function: Any, *args: Any, **options: Any) -> Any:
    """Compiled, as that takes less time than its operations one by one; NumPy arrays out."""
    return jax.device_get(jax.jit(function)(*args, **options))


compiled = jax.jit(lstm, static_argnames="reverse")


def run_lstm(*args: Any, **options: Any) -> Any:
    return jax.device_get(compiled(*args, **options))


def weights_of(variables: Any, *path: str) -> LSTMParams:
    for name in ("params", *path):
        variables = variables[name]
    return LSTMParams(**variables)


def draw(module: nn.Module, x: Any) -> Any:
    """Variables of a module, random everywhere: biases too, so that no term is 0."""
    leaves, structure = jax.tree.flatten(jax.eval_shape(module.init, jax.random.key(0), x))
    leaves = [normal(*leaf.shape, seed=7 + n) / 2 for n, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, leaves)


class TestCell:
    @pytest.mark.parametrize("reverse", [False, True])
    def test_inside_flax_rnn_equals_the_layer(self, reverse: bool) -> None:
        x, carry = normal(4, 5, 3), (normal(4, 6, seed=1), normal(4, 6, seed=2))
        rnn = nn.RNN(LSTMCell(6), return_carry=True, reverse=reverse, keep_order=True)
        variables = draw(rnn, x)
        last, hs = run(rnn.apply, variables, x, initial_carry=carry)
        got_hs, got_last = run(
            LSTM(6, reverse=reverse).apply,
            {"params": variables["params"]["cell"]},
            x,
            initial_carry=carry,
        )
        assert_allclose(got_hs, hs, atol=1e-6)
        assert_allclose(got_last[0], last[0], atol=1e-6)
        assert_allclose(got_last[1], last[1], atol=1e-6)

    def test_draws_the_same_weights_as_the_layer(self) -> None:
        cell = LSTMCell(6)
        carry = cell.initialize_carry(jax.random.key(1), (4, 3))
        from_cell = run(cell.init, jax.random.key(0), carry, normal(4, 3))
        from_layer = run(LSTM(6).init, jax.random.key(0), normal(4, 5, 3))
        for a, b in zip(jax.tree.leaves(from_cell), jax.tree.leaves(from_layer), strict=True):
            assert_array_equal(a, b)

    def test_carry_starts_at_zero_in_the_weights_type(self) -> None:
        cell = LSTMCell(6, param_dtype=jnp.bfloat16)
        for state in cell.initialize_carry(jax.random.key(0), (2, 4, 3)):
            assert state.shape == (2, 4, 6)
            assert state.dtype == jnp.bfloat16
            assert not state.any()
        assert cell.num_feature_axes == 1


class TestInitialWeights:
    """Keras's: Glorot uniform, orthogonal, forget bias 1."""

    @pytest.mark.parametrize(("features", "units"), [(7, 8), (40, 3)])
    def test_of_a_layer(self, features: int, units: int) -> None:
        params = weights_of(run(LSTM(units).init, jax.random.key(3), normal(2, 4, features)))
        limit = np.sqrt(6 / (features + 4 * units))
        assert params.kernel.shape == (features, 4 * units)
        assert np.abs(params.kernel).max() <= limit
        assert np.abs(params.kernel).max() > 0.8 * limit
        assert params.kernel.min() < 0 < params.kernel.max()
        product = params.recurrent_kernel @ params.recurrent_kernel.T
        assert_allclose(product, np.eye(units), atol=1e-5)
        assert_array_equal(params.bias, np.repeat([0, 1, 0, 0], units))

    def test_differ_between_keys_layers_and_directions(self) -> None:
        x = normal(2, 4, 5)
        net = StackedLSTM((5, 5), bidirectional=True, merge="sum")
        init = jax.jit(net.init)
        kernels = [
            weights_of(variables, f"lstm_{layer}", way).kernel
            for variables in (init(jax.random.key(key), x) for key in (0, 1))
            for layer in (0, 1)
            for way in ("forward", "backward")
        ]
        for n, kernel in enumerate(kernels):
            assert not any(np.allclose(kernel, other) for other in kernels[:n])


MERGES = {
    "concat": lambda a, b: np.concatenate([a, b], -1),
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: (a + b) / 2,
    "mul": lambda a, b: a * b,
}


class TestBidirectional:
    @pytest.mark.parametrize(
        ("merge", "lengths"), [("concat", None), *((merge, LENGTHS) for merge in MERGES)]
    )
    def test_merges_two_hand_run_lstms(self, merge: str, lengths: Any) -> None:
        x = normal(4, 5, 3)
        layer = Bidirectional(6, merge)
        variables = draw(layer, x)
        hs, h = run(layer.apply, variables, x, lengths=lengths)
        ahead, (_, h_ahead) = run_lstm(weights_of(variables, "forward"), x, lengths=lengths)
        back, (_, h_back) = run_lstm(
            weights_of(variables, "backward"), x, lengths=lengths, reverse=True
        )
        assert_array_equal(h_back, back[:, 0])  # reached at the first step
        assert_allclose(hs, MERGES[merge](ahead, back), atol=1e-6)
        assert_allclose(h, MERGES[merge](h_ahead, h_back), atol=1e-6)

    def test_unknown_merge(self) -> None:
        with pytest.raises(ValueError, match="one of concat, sum, mean, mul, got 'ave'"):
            draw(Bidirectional(4, "ave"), normal(2, 3, 2))


class TestStack:
    @pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
    def test_is_its_layers_one_after_another(self, lengths: Any) -> None:
        x = normal(4, 5, 3)
        net = StackedLSTM((6, 4, 5))
        variables = draw(net, x)
        hs, h = run(net.apply, variables, x, lengths=lengths)
        wanted: Any = x
        for layer in range(3):
            params = weights_of(variables, f"lstm_{layer}")
            wanted, (_, last) = run_lstm(params, wanted, lengths=lengths)
        assert_allclose(hs, wanted, atol=1e-6)
        assert_allclose(h, last, atol=1e-6)

    def test_bidirectional(self) -> None:
        x = normal(4, 5, 3)
        net = StackedLSTM((6, 4), bidirectional=True, merge="mul")
        variables = draw(net, x)
        hs, h = run(net.apply, variables, x, lengths=LENGTHS)
        middle, _ = run(
            Bidirectional(6, "mul").apply,
            {"params": variables["params"]["lstm_0"]},
            x,
            lengths=LENGTHS,
        )
        wanted, last = run(
            Bidirectional(4, "mul").apply,
            {"params": variables["params"]["lstm_1"]},
            middle,
            lengths=LENGTHS,
        )
        assert_allclose(hs, wanted, atol=1e-6)
        assert_allclose(h, last, atol=1e-6)

    def test_drops_between_layers_only(self) -> None:
        x = normal(4, 5, 3)
        net = StackedLSTM((6, 4, 5), dropout=0.5)
        variables = draw(net, x)

        def train(variables: Any, key: Any) -> Any:
            return net.apply(
                variables,
                x,
                train=True,
                rngs={"dropout": key},
                capture_intermediates=lambda module, _: isinstance(module, Dropout),
            )

        (hs, _), seen = run(train, variables, jax.random.key(1))
        dropped = {name: calls["__call__"][0] for name, calls in seen["intermediates"].items()}
        assert {name: out.shape for name, out in dropped.items()} == {
            "Dropout_0": (4, 5, 6),
            "Dropout_1": (4, 5, 4),
        }
        assert all((out == 0).any() for out in dropped.values())
        assert not (hs == 0).any()
        wanted, _ = run_lstm(weights_of(variables, "lstm_2"), dropped["Dropout_1"])
        assert_allclose(hs, wanted, atol=1e-6)

    def test_needs_a_layer(self) -> None:
        with pytest.raises(
            ValueError, match="units must be a sequence that names at least one layer"
        ):
            draw(StackedLSTM(()), normal(2, 3, 2))


@jax.jit
def traced_drop(rate: Any, x: Any, key: Any) -> jax.Array:
    return Dropout(rate).apply({}, x, train=True, rngs={"dropout": jax.random.key(key)})


def drop(rate: Any, x: Any, key: Any = 0) -> np.ndarray:
    return np.asarray(traced_drop(rate, x, key))


class TestDropout:
    rates = (0.0, 0.1, 0.37, 0.5, 0.9)

    def test_traced_rates_under_vmap(self) -> None:
        x = normal(40, 50, 7)
        assert not (x == 0).any()
        lanes = run(
            jax.vmap(lambda rate: traced_drop(rate, x, 0)), np.array(self.rates, np.float32)
        )
        for rate, out in zip(self.rates, lanes, strict=True):
            kept = np.asarray(out != 0)
            assert_array_equal(kept, drop(rate, x) != 0)
            # Five standard deviations of a binomial.
            spread = 5 * np.sqrt(x.size * rate * (1 - rate))
            assert abs(kept.sum() - x.size * (1 - rate)) <= spread
            assert_allclose(out[kept], x[kept] / (1 - rate), rtol=1e-6)

    def test_rate_0_and_evaluation_change_nothing(self) -> None:
        x = normal(6, 5, 7)
        assert_array_equal(drop(0.0, x), x)  # traced
        key = jax.random.key(0)
        assert_array_equal(Dropout(0).apply({}, x, train=True, rngs={"dropout": key}), x)
        assert_array_equal(Dropout(0.5).apply({}, x), x)  # and needs no random stream
        assert_array_equal(Dropout(0.5).apply({}, x, train=False), x)

    @pytest.mark.parametrize("shape", [(3, 5, 7), (4, 7), (3, 1), (1, 1, 9)])
    @pytest.mark.parametrize("extra", [1, 4])
    def test_mask_does_not_depend_on_how_many_features_follow(
        self, shape: tuple[int, ...], extra: int
    ) -> None:
        wide = normal(*shape[:-1], shape[-1] + extra)
        narrow = wide[..., : shape[-1]]
        for rate in (0.3, 0.6):
            assert_array_equal(drop(rate, wide)[..., : shape[-1]], drop(rate, narrow))

    def test_masks_are_independent(self) -> None:
        """Of the key, the row, the step and the feature: near half agree at rate 1/2."""
        x = np.ones((100, 30, 20), np.float32)
        kept = np.asarray(drop(0.5, x) != 0)
        other = np.asarray(drop(0.5, x, key=1) != 0)
        for a, b in [
            (kept, other),
            (kept[1:], kept[:-1]),
            (kept[:, 1:], kept[:, :-1]),
            (kept[..., 1:], kept[..., :-1]),
        ]:
            assert abs((a == b).mean() - 0.5) < 5 * 0.5 / np.sqrt(a.size)

    def test_two_layers_draw_apart(self) -> None:
        x = np.ones((20, 30), np.float32)

        class Twice(nn.Module):
            @nn.compact
            def __call__(self, x: Any) -> Any:
                return Dropout(0.5)(x, train=True), Dropout(0.5)(x, train=True)

        first, second = Twice().apply({}, x, rngs={"dropout": jax.random.key(0)})
        assert not np.array_equal(first, second)

    def test_gradient_is_the_mask(self) -> None:
        x = normal(6, 5)
        grad = run(jax.grad(lambda x: jnp.sum(traced_drop(0.4, x, 0))), x)
        assert_allclose(grad, np.where(drop(0.4, x) != 0, 1 / 0.6, 0), rtol=1e-6)

    def test_keeps_the_type(self) -> None:
        assert drop(0.5, normal(4, 6).astype(jnp.bfloat16)).dtype == jnp.bfloat16
