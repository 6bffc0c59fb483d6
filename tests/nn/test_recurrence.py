"""`lstm` against the equations, plain autodiff and finite differences."""

from __future__ import annotations

from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from jax import lax
from jax.test_util import check_grads
from numpy.testing import assert_allclose, assert_array_equal

from jaxlstm.nn.recurrence import LSTMParams, lstm, lstm_step

compiled = jax.jit(lstm, static_argnames=("reverse", "backend"))


def run_lstm(*args: Any, **options: Any) -> Any:
    """Compiled, as that takes less time than its operations one by one; NumPy arrays out."""
    return jax.device_get(compiled(*args, **options))


def make(
    batch: int, steps: int, features: int, units: int, *, seed: int = 0, dtype: Any = np.float64
) -> tuple[LSTMParams, Any, Any]:
    """Random weights, sequences and carry."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Any:
        return rng.normal(size=shape).astype(dtype)

    params = LSTMParams(normal(features, 4 * units), normal(units, 4 * units), normal(4 * units))
    carry = normal(batch, units), normal(batch, units)
    return params, normal(batch, steps, features), carry


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def equations(
    params: Any, x: Any, carry: Any, lengths: Any = None, reverse: bool = False
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Row by row and step by step, as one reads them."""
    kernel, recurrent_kernel, bias = (np.asarray(weights, np.float64) for weights in params)
    x = np.asarray(x, np.float64)
    c_last, h_last = (np.array(state, np.float64) for state in carry)
    hs = np.zeros((*x.shape[:2], c_last.shape[1]))
    for row in range(len(x)):
        c, h = c_last[row], h_last[row]
        steps = list(range(x.shape[1] if lengths is None else lengths[row]))
        for t in reversed(steps) if reverse else steps:
            i, f, g, o = np.split(x[row, t] @ kernel + h @ recurrent_kernel + bias, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            hs[row, t] = h
        c_last[row], h_last[row] = c, h
    return hs, (c_last, h_last)


def plain_scan(params: Any, x: Any, carry: Any, lengths: Any, reverse: bool) -> Any:
    """A scan whose gradient is JAX's own."""

    def step(carry: Any, inputs: Any) -> Any:
        (c, h), (x_t, t) = carry, inputs
        i, f, g, o = jnp.split(
            x_t @ params.kernel + h @ params.recurrent_kernel + params.bias, 4, axis=1
        )
        c_next = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h_next = jax.nn.sigmoid(o) * jnp.tanh(c_next)
        valid = (t < lengths)[:, None]
        c_next, y = jnp.where(valid, c_next, c), jnp.where(valid, h_next, 0)
        return (c_next, jnp.where(valid, h_next, h)), y

    steps = jnp.arange(x.shape[1])
    carry, hs = lax.scan(step, carry, (x.swapaxes(0, 1), steps), reverse=reverse)
    return hs.swapaxes(0, 1), carry


def assert_trees_close(got: Any, wanted: Any, **tolerance: float) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert_allclose(a, b, **tolerance)


CASES = [
    pytest.param((1, 1, 1, 1), None, False, id="all-1"),
    pytest.param((1, 7, 3, 5), [4], False, id="B1"),
    pytest.param((4, 6, 3, 5), None, False, id="full-from-0"),
    pytest.param((4, 6, 3, 5), None, True, id="full"),
    pytest.param((4, 6, 3, 5), [0, 1, 6, 3], True, id="ragged"),
    pytest.param((5, 3, 1, 7), [3, 0, 2, 1, 3], True, id="F1"),
    pytest.param((3, 5, 2, 1), [5, 4, 0], False, id="H1"),
    pytest.param((2, 4, 3, 3), [0, 0], True, id="empty"),
]


@pytest.mark.usefixtures("x64")
class TestForward:
    @pytest.mark.parametrize("reverse", [False, True])
    @pytest.mark.parametrize(("sizes", "lengths", "has_carry"), CASES)
    def test_equals_the_equations(
        self, sizes: Any, lengths: Any, has_carry: bool, reverse: bool
    ) -> None:
        params, x, carry = make(*sizes)
        if not has_carry:
            carry = tuple(np.zeros_like(state) for state in carry)
        hs, last = run_lstm(
            params,
            x,
            initial_carry=carry if has_carry else None,
            lengths=None if lengths is None else np.array(lengths),
            reverse=reverse,
        )
        wanted = equations(params, x, carry, lengths, reverse)
        assert_trees_close((hs, last), wanted, atol=1e-10)
        for row, length in enumerate([] if lengths is None else lengths):
            assert not np.any(hs[row, length:])

    @pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
    def test_one_step_over_any_leading_axes(self, leading: tuple[int, ...]) -> None:
        rows = int(np.prod(leading))
        params, x, carry = make(rows, 1, 4, 5)
        _, (c, h) = equations(params, x, carry)
        got, y = lstm_step(
            params,
            tuple(state.reshape(*leading, 5) for state in carry),
            x.reshape(*leading, 4),
        )
        assert_trees_close(got, (c.reshape(*leading, 5), h.reshape(*leading, 5)), atol=1e-12)
        assert_array_equal(y, got[1])

    def test_last_state_is_the_first_output_in_reverse(self) -> None:
        params, x, _ = make(3, 5, 2, 4)
        hs, (_, h) = run_lstm(params, x, lengths=np.array([5, 2, 1]), reverse=True)
        assert_array_equal(hs[:, 0], h)

    def test_reverse_walks_the_valid_part_backwards(self) -> None:
        params, x, carry = make(4, 6, 3, 5)
        lengths = np.array([6, 1, 0, 4])
        hs, last = run_lstm(params, x, initial_carry=carry, lengths=lengths, reverse=True)
        turned = np.array(x)
        for row, length in enumerate(lengths):
            turned[row, :length] = turned[row, :length][::-1]
        hs_turned, last_turned = run_lstm(params, turned, initial_carry=carry, lengths=lengths)
        assert_trees_close(last, last_turned, atol=1e-12)
        for row, length in enumerate(lengths):
            assert_allclose(hs[row, :length], hs_turned[row, :length][::-1], atol=1e-12)


def test_empty_row_returns_its_carry_bit_for_bit() -> None:
    params, x, carry = make(4, 5, 3, 7, dtype=np.float32)
    for reverse in (False, True):
        _, last = run_lstm(
            params, x, initial_carry=carry, lengths=np.array([2, 0, 5, 0]), reverse=reverse
        )
        for state, initial in zip(last, carry, strict=True):
            assert_array_equal(state[1::2], initial[1::2])
            assert not np.any(state[::2] == initial[::2])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("fill", ["random", 1e30, np.inf, np.nan])
def test_inputs_past_the_length_change_nothing(fill: Any, reverse: bool) -> None:
    params, x, carry = make(4, 6, 3, 5, dtype=np.float32)
    lengths = np.array([0, 1, 6, 3])
    weights = make(4, 6, 5, 5, seed=1, dtype=np.float32)[1]

    @jax.jit
    def run(params: Any, x: Any, carry: Any) -> Any:
        def loss(params: Any, x: Any, carry: Any) -> Any:
            hs, last = lstm(params, x, initial_carry=carry, lengths=lengths, reverse=reverse)
            return jnp.sum(weights * hs) + jnp.sum(last[0] * last[1]), (hs, last)

        return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(params, x, carry)

    is_padding = np.arange(6) >= lengths[:, None]
    other = make(4, 6, 3, 5, seed=2, dtype=np.float32)[1] if fill == "random" else fill
    changed = np.where(is_padding[..., None], other, x).astype(np.float32)
    wanted, got = jax.device_get((run(params, x, carry), run(params, changed, carry)))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert_array_equal(a, b)
    assert not np.any(got[1][1][is_padding])  # the gradient of x


def vjp(function: Any, cotangents: Any) -> Any:
    def run(*args: Any) -> Any:
        out, pull = jax.vjp(function, *args)
        return out, pull(cotangents)

    return lambda *args: jax.device_get(jax.jit(run)(*args))


@st.composite
def problems(draw: Any) -> dict[str, Any]:
    batch, steps = draw(st.integers(1, 4)), draw(st.integers(0, 5))
    ragged = st.lists(st.integers(0, steps), min_size=batch, max_size=batch)
    return {
        "sizes": (batch, steps, draw(st.integers(1, 3)), draw(st.integers(1, 4))),
        "lengths": draw(st.none() | ragged),
        "reverse": draw(st.booleans()),
        "has_carry": draw(st.booleans()),
        "seed": draw(st.integers(0, 1000)),
    }


RAGGED_PROBLEM = {"sizes": (4, 5, 3, 2), "lengths": [0, 1, 5, 3], "has_carry": True, "seed": 7}


class TestGradient:
    @hypothesis.settings(max_examples=6)
    @hypothesis.given(problems())
    @hypothesis.example(RAGGED_PROBLEM | {"reverse": False})
    @hypothesis.example(RAGGED_PROBLEM | {"reverse": True})
    def test_equals_plain_autodiff(self, problem: dict[str, Any]) -> None:
        """For every input, with cotangents on the outputs and on both last states."""
        with jax.enable_x64(True):
            batch, steps, _, units = problem["sizes"]
            params, x, carry = make(*problem["sizes"], seed=problem["seed"])
            _, d_hs, d_last = make(batch, steps, units, units, seed=problem["seed"] + 1)
            lengths = None if problem["lengths"] is None else np.array(problem["lengths"])
            limits = np.full(batch, steps) if lengths is None else lengths
            zeros = jax.tree.map(jnp.zeros_like, carry)
            reverse = problem["reverse"]

            def ours(params: Any, x: Any, carry: Any) -> Any:
                initial = carry if problem["has_carry"] else None
                return lstm(params, x, initial_carry=initial, lengths=lengths, reverse=reverse)

            def plain(params: Any, x: Any, carry: Any) -> Any:
                initial = carry if problem["has_carry"] else zeros
                return plain_scan(params, x, initial, limits, reverse)

            @jax.jit
            def both(*args: Any) -> Any:
                runs = (jax.vjp(function, *args) for function in (ours, plain))
                return [(out, pull((d_hs, d_last))) for out, pull in runs]

            (out, grads), (wanted_out, wanted_grads) = both(params, x, carry)
        assert_trees_close(out, wanted_out, atol=1e-10)
        assert_trees_close(grads, wanted_grads, rtol=1e-8, atol=1e-8)

    @pytest.mark.usefixtures("x64")
    def test_equals_finite_differences(self) -> None:
        """Also of the gradient itself (order 2): our backward pass is differentiated by JAX."""
        params, x, carry = make(3, 4, 2, 3)

        def run(params: Any, x: Any, carry: Any) -> Any:
            return lstm(params, x, initial_carry=carry, lengths=np.array([4, 2, 0]))

        check_grads(jax.jit(run), (params, x, carry), order=2, modes=["rev"], rtol=1e-5, atol=1e-5)

    @pytest.mark.usefixtures("x64")
    def test_equals_a_central_difference_along_a_random_direction(self) -> None:
        inputs = make(4, 6, 3, 5)
        direction = make(4, 6, 3, 5, seed=1)
        _, weights, (weights_c, weights_h) = make(4, 6, 5, 5, seed=2)

        @jax.jit
        def loss(inputs: Any) -> Any:
            params, x, carry = inputs
            lengths = np.array([6, 0, 3, 1])
            hs, (c, h) = lstm(params, x, initial_carry=carry, lengths=lengths, reverse=True)
            return jnp.sum(weights * hs) + jnp.sum(weights_c * c) + jnp.sum(weights_h * h)

        def along(step: float) -> float:
            return float(loss(jax.tree.map(lambda a, d: a + step * d, inputs, direction)))

        grads = jax.jit(jax.grad(loss))(inputs)
        products = jax.tree.map(lambda g, d: np.sum(g * d), jax.device_get(grads), direction)
        slope = float(sum(jax.tree.leaves(products)))
        # The error is near step^4 (five points) plus 1e-16 / step, both below 1e-11 here.
        step = 1e-3
        wanted = (8 * (along(step) - along(-step)) - along(2 * step) + along(-2 * step)) / step / 12
        assert abs(slope) > 0.1
        assert_allclose(slope, wanted, rtol=1e-8)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.usefixtures("x64")
    def test_of_saturated_gates_is_finite_and_right(self, dtype: Any) -> None:
        params, x, carry = make(4, 5, 3, 6, dtype=dtype)
        _, d_hs, d_last = make(4, 5, 6, 6, seed=1, dtype=dtype)
        ours = vjp(lambda params, x, carry: lstm(params, x, initial_carry=carry), (d_hs, d_last))
        plain = vjp(
            lambda params, x, carry: plain_scan(params, x, carry, np.full(4, 5), False),
            (d_hs, d_last),
        )
        for scale in (30, 1e3, 1e6):
            got = ours(params, x * dtype(scale), carry)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(got))
            if dtype == np.float64:
                # tanh(z / 2) / 2 + 1 / 2 is right to 1e-16, not to 16 digits of a gate near 0.
                wanted = plain(params, x * scale, carry)
                assert_trees_close(got, wanted, rtol=1e-8, atol=1e-14 * scale)


class TestTransforms:
    """Under JAX's transformations every lane is what it is alone."""

    lengths = np.array([[5, 0, 3], [1, 5, 2]])

    def test_jit_and_remat(self) -> None:
        params, x, carry = make(3, 5, 2, 4, dtype=np.float32)

        def loss(params: Any, x: Any, carry: Any, run: Any = lstm) -> Any:
            hs, (c, _) = run(params, x, initial_carry=carry, lengths=self.lengths[0])
            return jnp.sum(hs**2) + jnp.sum(c**3)

        def rematerialised(params: Any, x: Any, carry: Any) -> Any:
            def run(params: Any, x: Any, **options: Any) -> Any:
                return jax.checkpoint(lambda params, x: lstm(params, x, **options))(params, x)

            return loss(params, x, carry, run)

        wanted, grads = (
            jax.jit(jax.value_and_grad(function, argnums=(0, 1, 2)))(params, x, carry)
            for function in (loss, rematerialised)
        )
        assert_trees_close(grads, wanted, rtol=1e-5, atol=1e-6)
        assert_allclose(loss(params, x, carry), wanted[0], rtol=1e-5)  # operation by operation

    @pytest.mark.parametrize(
        ("axes", "reverse"),
        [
            pytest.param((0, None, None), False, id="params"),
            pytest.param((None, 0, 0), True, id="x, lengths"),
        ],
    )
    def test_vmap(self, axes: Any, reverse: bool) -> None:
        lanes = [make(3, 5, 2, 4, seed=seed, dtype=np.float32) for seed in (0, 1)]
        weights = make(3, 5, 4, 4, seed=2, dtype=np.float32)[1]
        params, x, _ = jax.tree.map(lambda *leaves: np.stack(leaves), *lanes)
        args: Any = [params, x, self.lengths]

        def loss(params: Any, x: Any, lengths: Any) -> Any:
            hs, (c, h) = lstm(params, x, lengths=lengths, reverse=reverse)
            return jnp.sum(hs * weights) + jnp.sum(c * h), hs

        run = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
        args = [
            arg if axis == 0 else jax.tree.map(lambda leaf: leaf[0], arg)
            for arg, axis in zip(args, axes, strict=True)
        ]
        together = jax.device_get(jax.jit(jax.vmap(run, axes))(*args))
        alone = jax.jit(run)
        for lane in (0, 1):
            own = [
                jax.tree.map(lambda leaf: leaf[lane], arg) if axis == 0 else arg  # noqa: B023
                for arg, axis in zip(args, axes, strict=True)
            ]
            got = jax.tree.map(lambda leaf: leaf[lane], together)  # noqa: B023
            assert_trees_close(got, alone(*own), rtol=1e-5, atol=1e-5)

    def test_gradient_of_vmap_sums_over_lanes(self) -> None:
        params, x, _ = make(3, 5, 2, 4, dtype=np.float32)

        def loss(params: Any, x: Any, lengths: Any) -> Any:
            return jnp.sum(lstm(params, x, lengths=lengths)[0] ** 2)

        def total(params: Any) -> Any:
            return jnp.sum(jax.vmap(loss, (None, None, 0))(params, x, jnp.asarray(self.lengths)))

        got = jax.jit(jax.grad(total))(params)
        run = jax.jit(jax.grad(loss))
        alone = [jax.device_get(run(params, x, lengths)) for lengths in self.lengths]
        assert_trees_close(got, jax.tree.map(np.add, *alone), rtol=1e-5, atol=1e-5)

    def test_a_second_call_does_not_retrace(self) -> None:
        traces = []

        @jax.jit
        def run(params: Any, x: Any, carry: Any, lengths: Any) -> Any:
            traces.append(1)

            def loss(params: Any) -> Any:
                return lstm(params, x, initial_carry=carry, lengths=lengths)[0].sum()

            return jax.grad(loss)(params)

        results = [
            run(*make(3, 5, 2, 4, seed=seed, dtype=np.float32), self.lengths[seed])
            for seed in (0, 1)
        ]
        assert len(traces) == 1
        assert not np.allclose(results[0].kernel, results[1].kernel)


class TestTypes:
    def test_bfloat16(self) -> None:
        params, x, _ = make(3, 6, 4, 5, dtype=np.float32)
        _, d_hs, d_last = make(3, 6, 5, 5, seed=1, dtype=np.float32)
        half = jax.tree.map(
            lambda leaf: leaf.astype(jnp.bfloat16), (params, x, d_hs, d_last)
        )  # rounded inputs, so that only the arithmetic differs
        full = jax.tree.map(lambda leaf: leaf.astype(np.float32), half)
        (out, grads), (wanted_out, wanted_grads) = (
            vjp(lstm, (d_hs, d_last))(params, x) for params, x, d_hs, d_last in (half, full)
        )
        assert {leaf.dtype for leaf in jax.tree.leaves((out, grads))} == {jnp.dtype(jnp.bfloat16)}
        # 8 bits of mantissa: 0.4 % an operation, over 6 steps.
        as_float = jax.tree.map(lambda leaf: leaf.astype(np.float32), (out, grads))
        assert_trees_close(as_float[0], wanted_out, atol=0.03)
        for a, b in zip(jax.tree.leaves(as_float[1]), jax.tree.leaves(wanted_grads), strict=True):
            assert np.linalg.norm(a - b) < 0.04 * np.linalg.norm(b)

    def test_the_widest_type_wins(self) -> None:
        params, x, carry = make(3, 4, 2, 5, dtype=np.float32)
        whole = (x * 3).astype(np.int32)
        hs, last = run_lstm(params, whole, initial_carry=carry)
        assert {hs.dtype, last[0].dtype, last[1].dtype} == {jnp.dtype(jnp.float32)}
        assert_allclose(hs, equations(params, whole, carry)[0], atol=1e-5)
        with jax.enable_x64(True):
            hs, _ = run_lstm(params, np.asarray(x, np.float64), initial_carry=carry)
            assert hs.dtype == jnp.float64

    def test_backends_agree(self) -> None:
        params, x, carry = make(3, 4, 2, 5, dtype=np.float32)
        wanted = equations(params, x, carry)
        for backend in ("auto", "xla"):
            got = run_lstm(params, x, initial_carry=carry, backend=backend)
            assert_trees_close(got, wanted, atol=1e-5)


F32 = np.float32
ERRORS = {
    "x of rank 2": ({"x": np.ones((4, 3), F32)}, r"x must have shape \[B, T, F\], got \(4, 3\)"),
    "another F": ({"x": np.ones((2, 5, 4), F32)}, r"params\.kernel .*\(4, 20\).*\(3, 20\)"),
    "kernel": ({"kernel": np.ones((3, 16), F32)}, r"params\.kernel .*\(3, 20\).*\(3, 16\)"),
    "recurrent kernel": (
        {"recurrent_kernel": np.ones((5, 15), F32)},
        r"params\.recurrent_kernel .*\(5, 20\).*\(5, 15\)",
    ),
    "bias": ({"bias": np.ones((2, 20), F32)}, r"params\.bias .*\(20,\).*\(2, 20\)"),
    "c": (
        {"initial_carry": (np.ones((1, 5), F32), np.ones((2, 5), F32))},
        r"initial_carry's c .*\(2, 5\).*\(1, 5\)",
    ),
    "h": (
        {"initial_carry": (np.ones((2, 5), F32), np.ones((2, 4), F32))},
        r"initial_carry's h .*\(2, 5\).*\(2, 4\)",
    ),
    "float lengths": ({"lengths": np.array([1.0, 2.0])}, "lengths must be integers.*float"),
    "a mask as lengths": ({"lengths": np.array([True, False])}, "lengths must be .*bool"),
    "lengths of another batch": ({"lengths": np.array([1, 2, 3])}, r"lengths .*\(2,\).*\(3,\)"),
    "backend": ({"backend": "cudnn"}, "backend must be one of auto, xla, got 'cudnn'"),
}


@pytest.mark.parametrize(("change", "message"), ERRORS.values(), ids=ERRORS)
def test_errors_name_the_argument(change: dict[str, Any], message: str) -> None:
    change = dict(change)
    params, x, _ = make(2, 5, 3, 5, dtype=np.float32)
    weights = {name: change.pop(name) for name in LSTMParams._fields if name in change}
    with pytest.raises(ValueError, match=message):
        lstm(params._replace(**weights), change.pop("x", x), **change)
