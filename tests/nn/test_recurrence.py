"""`lstm` and `lstm_step`: what they promise beside the equations, at any size; their errors.

`test_references` compares them with other LSTMs, `test_transforms` runs them under JAX's.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from references import equations, make_lengths, make_problem, plain_scan

from jaxlstm.nn import scan
from jaxlstm.nn.recurrence import LSTMParams, lstm, lstm_step

compiled = jax.jit(lstm, static_argnames=("reverse", "backend"))


def run_lstm(*args: Any, **options: Any) -> Any:
    """Compiled, as that takes less time than its operations one by one; NumPy arrays out."""
    return jax.device_get(compiled(*args, **options))


def make(**settings: Any) -> tuple[LSTMParams, Any, Any, Any]:
    """Random weights, sequences, carry and mask of one layer."""
    problem = make_problem(**settings)
    mask = None if problem.mask is None else problem.mask[0][0]
    carry = None if problem.carry is None else problem.carry[0][0]
    return problem.params[0][0], problem.x, carry, mask


def assert_trees_close(got: Any, wanted: Any, **tolerance: float) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert_allclose(a, b, **tolerance)


@pytest.mark.usefixtures("x64")
class TestStep:
    @pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
    @pytest.mark.parametrize("has_all", [False, True])
    def test_over_any_leading_axes(self, has_all: bool, leading: tuple[int, ...]) -> None:
        rows = int(np.prod(leading))
        params, x, carry, _ = make(batch=rows, steps=1, bias=has_all, peephole=has_all)
        _, (c, h) = equations(params, x, initial_carry=carry)
        got, y = lstm_step(
            params,
            tuple(state.reshape(*leading, 3) for state in carry),
            x.reshape(*leading, 6),
        )
        assert_trees_close(got, (c.reshape(*leading, 3), h.reshape(*leading, 3)), atol=1e-12)
        assert_array_equal(y, got[1])


@pytest.mark.usefixtures("x64")
class TestDirections:
    def test_last_state_is_the_first_output_in_reverse(self) -> None:
        params, x, _, _ = make()
        hs, (_, h) = run_lstm(params, x, lengths=np.array([7, 5, 2, 1, 4]), reverse=True)
        assert_array_equal(hs[:, 0], h)

    def test_reverse_walks_the_valid_part_backwards(self) -> None:
        params, x, carry, _ = make()
        lengths = make_lengths("ragged with 0", 5)
        hs, last = run_lstm(params, x, initial_carry=carry, lengths=lengths, reverse=True)
        turned = np.array(x)
        for row, length in enumerate(lengths):
            turned[row, :length] = turned[row, :length][::-1]
        hs_turned, last_turned = run_lstm(params, turned, initial_carry=carry, lengths=lengths)
        assert_trees_close(last, last_turned, atol=1e-12)
        for row, length in enumerate(lengths):
            assert_allclose(hs[row, :length], hs_turned[row, :length][::-1], atol=1e-12)


@pytest.mark.parametrize("backend", ["xla", "autodiff"])
@pytest.mark.parametrize("reverse", [False, True])
def test_empty_row_returns_its_carry_bit_for_bit(reverse: bool, backend: str) -> None:
    params, x, carry, _ = make(batch=4, dtype=np.float32)
    lengths = np.array([2, 0, 7, 0])
    _, last = run_lstm(
        params, x, initial_carry=carry, lengths=lengths, reverse=reverse, backend=backend
    )
    for state, initial in zip(last, carry, strict=True):
        assert_array_equal(state[1::2], initial[1::2])
        assert not np.any(state[::2] == initial[::2])


@st.composite
def problems(draw: Any) -> dict[str, Any]:
    batch, steps = draw(st.integers(1, 4)), draw(st.integers(0, 5))
    ragged = st.lists(st.integers(0, steps), min_size=batch, max_size=batch)
    settings = {name: draw(st.booleans()) for name in ("carry", "bias", "peephole", "mask")}
    sizes = {"batch": batch, "steps": steps, "seed": draw(st.integers(0, 1000))}
    sizes |= {"features": draw(st.integers(1, 3)), "units": draw(st.integers(1, 4))}
    return {
        "settings": settings | sizes,
        "lengths": draw(st.none() | ragged),
        "reverse": draw(st.booleans()),
    }


def of_sizes(*sizes: int, lengths: Any = None, **settings: bool) -> dict[str, Any]:
    sizes_by_name = dict(zip(("batch", "steps", "features", "units"), sizes, strict=True))
    return {"settings": sizes_by_name | settings, "lengths": lengths, "reverse": False}


@hypothesis.settings(max_examples=8)
@hypothesis.given(problems())
@hypothesis.example(of_sizes(1, 1, 1, 1, peephole=True, mask=True))
@hypothesis.example(of_sizes(3, 5, 2, 1, lengths=[5, 4, 0]))
@hypothesis.example(of_sizes(2, 0, 3, 2, lengths=[0, 0]))
def test_equals_the_equations_and_plain_autodiff_at_any_size(problem: dict[str, Any]) -> None:
    """The outputs, and the gradient for every input of a random product of them."""
    params, x, carry, mask = make(**problem["settings"])
    lengths = None if problem["lengths"] is None else np.array(problem["lengths"])
    reverse = problem["reverse"]
    wanted = equations(
        *(params, x),
        **{"initial_carry": carry, "lengths": lengths, "reverse": reverse},
        recurrent_mask=mask,
    )
    rng = np.random.default_rng(1)
    cotangents = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), wanted)

    def pull_back(layer: Any, inputs: Any) -> Any:
        def run(inputs: Any) -> Any:
            params, x, carry, mask = inputs
            options = {"lengths": lengths, "reverse": reverse, "recurrent_mask": mask}
            return layer(params, x, initial_carry=carry, **options)

        outputs, pull = jax.vjp(run, inputs)
        return outputs, pull(cotangents)[0]

    with jax.enable_x64(True):
        both = jax.jit(lambda inputs: [pull_back(layer, inputs) for layer in (lstm, plain_scan)])
        (outputs, grads), (_, wanted_grads) = jax.device_get(both((params, x, carry, mask)))
    assert_trees_close(outputs, wanted, atol=1e-12)
    assert_trees_close(grads, wanted_grads, rtol=1e-9, atol=1e-9)


class TestTypes:
    def test_the_widest_type_wins(self) -> None:
        """Of the parameters and x; the carry takes theirs."""
        params, x, carry, _ = make(dtype=np.float32)
        for narrow in (x.astype(jnp.bfloat16), (x * 3).astype(np.int32)):
            hs, last = run_lstm(params, narrow, initial_carry=carry)
            assert {hs.dtype, last[0].dtype, last[1].dtype} == {jnp.dtype(jnp.float32)}
            assert_allclose(hs, equations(params, narrow, initial_carry=carry)[0], atol=1e-5)
        with jax.enable_x64(True):
            hs, _ = run_lstm(params, np.asarray(x, np.float64), initial_carry=carry)
            assert hs.dtype == jnp.float64
            assert_allclose(hs, equations(params, x, initial_carry=carry)[0], atol=1e-12)

    @pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64])
    def test_lengths_of_any_integer_type(self, dtype: Any) -> None:
        params, x, carry, _ = make(dtype=np.float32)
        lengths = make_lengths("ragged with 0", 5)
        got, wanted = (
            run_lstm(params, x, initial_carry=carry, lengths=each)
            for each in (lengths.astype(dtype), lengths)
        )
        assert_trees_close(got, wanted, atol=1e-6)


@pytest.mark.parametrize("reverse", [False, True])
def test_lengths_out_of_range_count_as_0_or_all_steps_inside_jit(reverse: bool) -> None:
    """Their values are not known there."""
    params, x, carry, _ = make(dtype=np.float32)
    got, wanted = (
        run_lstm(params, x, initial_carry=carry, lengths=np.array(lengths), reverse=reverse)
        for lengths in ([-2, 3, 100, 8, -1], [0, 3, 7, 7, 0])
    )
    assert_trees_close(got, wanted, atol=1e-6)


F32 = np.float32
ERRORS = {
    "x of rank 2": ({"x": np.ones((4, 3), F32)}, r"x must have shape \[B, T, F\], got \(4, 3\)"),
    "another F": ({"x": np.ones((2, 5, 4), F32)}, r"params\.kernel .*\(4, 20\).*\(3, 20\)"),
    "kernel": ({"kernel": np.ones((3, 16), F32)}, r"params\.kernel .*\(3, 20\).*\(3, 16\)"),
    "kernel of rank 1": ({"kernel": np.ones(20, F32)}, r"params\.kernel .*\(20,\)"),
    "recurrent kernel": (
        {"recurrent_kernel": np.ones((5, 15), F32)},
        r"params\.recurrent_kernel .*\(5, 20\).*\(5, 15\)",
    ),
    "bias": ({"bias": np.ones((2, 20), F32)}, r"params\.bias .*\(20,\).*\(2, 20\)"),
    "peephole": ({"peephole": np.ones((4, 5), F32)}, r"params\.peephole .*\(3, 5\).*\(4, 5\)"),
    "flat peephole": ({"peephole": np.ones(15, F32)}, r"params\.peephole .*\(3, 5\).*\(15,\)"),
    "c": (
        {"initial_carry": (np.ones((1, 5), F32), np.ones((2, 5), F32))},
        r"initial_carry's c .*\(2, 5\).*\(1, 5\)",
    ),
    "h": (
        {"initial_carry": (np.ones((2, 5), F32), np.ones((2, 4), F32))},
        r"initial_carry's h .*\(2, 5\).*\(2, 4\)",
    ),
    "mask": (
        {"recurrent_mask": np.ones((2, 4), F32)},
        r"recurrent_mask .*\(2, 5\).*\(2, 4\)",
    ),
    "mask of one row": ({"recurrent_mask": np.ones(5, F32)}, r"recurrent_mask .*\(2, 5\).*\(5,\)"),
    "float lengths": ({"lengths": np.array([1.0, 2.0])}, "lengths must be integers.*float"),
    "a mask as lengths": ({"lengths": np.array([True, False])}, "lengths must be .*bool"),
    "lengths of another batch": ({"lengths": np.array([1, 2, 3])}, r"lengths .*\(2,\).*\(3,\)"),
    "lengths over T": ({"lengths": np.array([5, 6])}, r"lengths .*6"),
    "negative lengths": ({"lengths": np.array([-1, 5])}, r"lengths .*-1"),
    "complex x": (
        {"x": np.ones((2, 5, 3), np.complex64)},
        "x must be .*real numbers, got complex64",
    ),
    "x is None": ({"x": None}, "x must be an array of numbers, got NoneType"),
    "ragged x": ({"x": [[[1.0], [1.0, 2.0]]]}, "x must be an array of numbers, got list"),
    "no kernel": ({"kernel": None}, "params.kernel must be an array of numbers, got NoneType"),
    "no units": (
        {"recurrent_kernel": np.ones((0, 0), F32)},
        r"params.recurrent_kernel must have shape \(H, 4 H\), got \(0, 0\)",
    ),
    "carry is a number": ({"initial_carry": 3}, "initial_carry must be a pair .*got int"),
    "half a carry": (
        {"initial_carry": (np.ones((2, 5), F32), None)},
        "initial_carry's h must be an array of numbers, got NoneType",
    ),
    "words for lengths": ({"lengths": "ab"}, "lengths must be an array of numbers, got str"),
    "reverse": ({"reverse": "yes"}, "reverse must be True or False, got 'yes'"),
    "three states": ({"initial_carry": (np.ones((2, 5), F32),) * 3}, "initial_carry .*pair.* 3"),
    "peephole on xla": (
        {"peephole": np.ones((3, 5), F32), "backend": "xla"},
        "backend 'xla' has no peepholes",
    ),
    "backend": ({"backend": "cudnn"}, "backend must be one of .*xla.*, got 'cudnn'"),
}


@pytest.mark.parametrize("params", [None, (), "abcde", {"weights": 1}])
def test_what_is_not_params(params: Any) -> None:
    with pytest.raises(
        ValueError, match=r"params(\.kernel)? must be .*, got (NoneType|tuple|str|dict)"
    ):
        lstm(params, np.ones((2, 5, 3), F32))


def test_lists_and_dicts_will_do() -> None:
    params, x, carry, _ = make(dtype=np.float32)
    wanted = lstm(params, x, initial_carry=carry, lengths=np.array([1, 2, 3, 4, 5]))
    weights = {name: w.tolist() for name, w in params._asdict().items() if w is not None}
    state = [c.tolist() for c in carry]
    got = lstm(weights, x.tolist(), initial_carry=state, lengths=[1, 2, 3, 4, 5])
    assert_trees_close(got, wanted, atol=1e-6)


@pytest.mark.parametrize("backend", ["xla", "autodiff"])
def test_uncompiled_calls_compile_once(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    params, x, _, _ = make(dtype=np.float32)

    def call() -> None:
        jax.grad(lambda params: lstm(params, x, backend=backend)[0].sum())(params)

    call()
    with caplog.at_level(logging.WARNING), jax.log_compiles():
        call()
    assert not [line for line in caplog.messages if "ompil" in line]
    with caplog.at_level(logging.WARNING), jax.log_compiles():
        jax.jit(lambda x: x + 1.5)(x)  # the messages are there if something compiles
    assert [line for line in caplog.messages if "ompil" in line]


@pytest.mark.usefixtures("strict_ranks")
@pytest.mark.parametrize("backend", ["xla", "autodiff"])
def test_strict_about_ranks_and_types(backend: str) -> None:
    params, x, carry, _ = make(dtype=np.float32)
    lengths = np.array([1, 2, 3, 4, 5], np.int8)

    def loss(params: Any) -> Any:
        return lstm(params, x, initial_carry=carry, lengths=lengths, backend=backend)[0].sum()

    with jax.numpy_dtype_promotion("strict"):
        jax.grad(loss)(params)
        lstm_step(params, carry, x[:, 0])


@pytest.mark.parametrize(
    ("carry", "x", "message"),
    [
        ((np.ones((2, 5), F32), np.ones((1, 5), F32)), np.ones((2, 3), F32), r"carry .*\(1, 5\)"),
        ((np.ones((2, 5), F32),) * 2, np.ones((2, 4), F32), r"params\.kernel .*\(4, 20\)"),
    ],
)
def test_the_step_checks_shapes(carry: Any, x: Any, message: str) -> None:
    params, *_ = make(batch=2, steps=5, features=3, units=5, dtype=np.float32)
    with pytest.raises(ValueError, match=message):
        lstm_step(params, carry, x)


@pytest.mark.parametrize(("change", "message"), ERRORS.values(), ids=ERRORS)
def test_errors_name_the_argument(change: dict[str, Any], message: str) -> None:
    change = dict(change)
    params, x, _, _ = make(batch=2, steps=5, features=3, units=5, dtype=np.float32)
    weights = {name: change.pop(name) for name in LSTMParams._fields if name in change}
    with pytest.raises((ValueError, TypeError), match=message) as error:
        lstm(params._replace(**weights), change.pop("x", x), **change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("backend", ["xla", "autodiff"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("keep", [0, 1 << 20])
def test_nan_of_a_carry_without_steps_reaches_no_gradient(
    backend: str, reverse: bool, keep: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "KEPT_BYTES_PER_UNIT", keep)
    rng = np.random.default_rng(0)
    shapes = [(3, 16), (4, 16), (16,), (4, 7, 3), (4, 4), (4, 4), (4, 4)]
    kernel, recurrent, bias, x, c, h, mask = (
        rng.normal(size=shape).astype(np.float32) for shape in shapes
    )
    lengths = np.array([3, 0, 7, 1])

    @functools.partial(jax.grad, has_aux=True)
    def run(weights: Any, c: Any, h: Any) -> Any:
        *params, x, mask = weights
        hs, last = lstm(
            LSTMParams(*params),
            x,
            initial_carry=(c, h),
            lengths=lengths,
            reverse=reverse,
            recurrent_mask=mask,
            backend=backend,
        )
        moved = [jnp.where(lengths[:, None] > 0, leaf, 0) for leaf in last]
        return jnp.sum(jnp.sin(hs)) + jnp.sum(moved[0] ** 2 + 3 * moved[1]), last

    weights = (kernel, recurrent, bias, x, mask)
    wanted, _ = run(weights, c, h)
    bad = [np.where(lengths[:, None] == 0, np.nan, leaf).astype(np.float32) for leaf in (c, h)]
    got, last = run(weights, *bad)
    for leaf, expected in zip(got, wanted, strict=True):
        assert_array_equal(leaf, expected)
        assert np.abs(expected).max() > 0.01
    for leaf, given in zip(last, bad, strict=True):
        assert_array_equal(leaf[1], given[1])  # a row without steps returns its carry
