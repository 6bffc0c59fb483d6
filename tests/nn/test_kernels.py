"""The resident kernel against `lstm` on XLA: compiled where there is a GPU, else interpreted."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxlstm.nn.kernels import lstm_resident, resident, supports, unavailable
from jaxlstm.nn.recurrence import LSTMParams, lstm

INTERPRET = unavailable() is not None
# Most of the time goes into compiling.
QUICK: dict[str, Any] = (
    {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    if INTERPRET
    else {}
)

# Its own warning in JAX 0.12; the documentation of `resident` says so.
pytestmark = pytest.mark.filterwarnings("ignore:The Pallas Triton backend:DeprecationWarning")


def make(
    batch: int,
    steps: int,
    features: int,
    units: int,
    *,
    dtype: Any = np.float32,
    seed: int = 0,
    lengths: bool = True,
    mask: bool = False,
) -> dict[str, Any]:
    """Arguments of `run`, other numbers in every row; the first length of several is 0."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int, scale: float = 1) -> Any:
        return (scale * rng.normal(size=shape)).astype(dtype)

    made = {
        "params": LSTMParams(
            normal(features, 4 * units, scale=features**-0.5),
            normal(units, 4 * units, scale=units**-0.5),
            normal(4 * units),
        ),
        "x": normal(batch, steps, features),
        "carry": (normal(batch, units), normal(batch, units)),
    }
    if mask:
        made["mask"] = (rng.random((batch, units)) < 0.7).astype(dtype) / dtype(0.7)
    if lengths:
        made["lengths"] = rng.integers(1, steps + 1, batch)
        made["lengths"][0] = 0 if batch > 1 else steps
    return made


def run_kernel(
    params: Any, x: Any, carry: Any, mask: Any = None, lengths: Any = None, **options: Any
) -> Any:
    weights = params.kernel, params.recurrent_kernel, params.bias
    return lstm_resident(*weights, x, carry, lengths, mask, **({"interpret": INTERPRET} | options))


def run_xla(
    params: Any, x: Any, carry: Any, mask: Any = None, lengths: Any = None, reverse: bool = False
) -> Any:
    with jax.default_matmul_precision("highest"):  # on a GPU the default is TF32
        return lstm(
            params,
            x,
            initial_carry=carry,
            lengths=lengths,
            reverse=reverse,
            recurrent_mask=mask,
            backend="xla",
        )


def loss(run: Any, **options: Any) -> Any:
    """A sum of all outputs with other weights in every row, and the outputs."""

    def weighted(inputs: Any) -> Any:
        out = run(**inputs, **options)
        total = 0.0
        for number, leaf in enumerate(jax.tree.leaves(out)):
            weights = jnp.cos(jnp.arange(leaf.size, dtype=jnp.float32) + number)
            total += jnp.sum(leaf.astype(weights.dtype) * weights.reshape(leaf.shape))
        return total, out

    return weighted


def graded(run: Any, **options: Any) -> Any:
    """Outputs, and gradients of everything but the lengths."""

    def both(inputs: Any) -> Any:
        inputs = dict(inputs)
        lengths = {"lengths": inputs.pop("lengths")} if "lengths" in inputs else {}
        run_loss = loss(run, **lengths, **options)
        (_, out), grads = jax.value_and_grad(run_loss, has_aux=True)(inputs)
        return out, grads

    return both


def compiled(function: Any) -> Any:
    run = jax.jit(function, compiler_options=QUICK)
    return lambda *args: jax.device_get(run(*args))


def assert_trees_close(got: Any, wanted: Any, **tolerance: float) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert_allclose(a, b, **tolerance)


CASES = [
    # batch, steps, features, units; lengths; mask; reverse
    pytest.param((1, 1, 3, 5), False, False, False, id="B1-T1-H5"),
    pytest.param((3, 7, 2, 5), True, False, True, id="B3-H5-ragged-reverse"),
    pytest.param((17, 7, 3, 16), True, True, False, id="B17-H16-ragged-mask"),
    pytest.param((3, 7, 1, 33), True, True, True, id="B3-H33-ragged-mask-reverse"),
    pytest.param((17, 1, 20, 64), False, False, True, id="B17-T1-H64-reverse"),
    pytest.param((1, 7, 5, 64), True, False, False, id="B1-H64-full"),
]


class TestEqualsXLA:
    @pytest.mark.parametrize(("sizes", "lengths", "mask", "reverse"), CASES)
    def test_float32(self, sizes: Any, lengths: bool, mask: bool, reverse: bool) -> None:
        inputs = make(*sizes, lengths=lengths, mask=mask)
        out, grads = compiled(graded(run_kernel, reverse=reverse))(inputs)
        wanted, wanted_grads = compiled(graded(run_xla, reverse=reverse))(inputs)
        assert_trees_close(out, wanted, atol=1e-5)
        assert_trees_close(grads, wanted_grads, rtol=1e-4, atol=1e-4)
        for row, length in enumerate(inputs.get("lengths", [])):
            assert not np.any(out[0][row, length:])
            if length == 0:
                assert_array_equal(out[1][0][row], inputs["carry"][0][row])
                assert_array_equal(out[1][1][row], inputs["carry"][1][row])

    @pytest.mark.parametrize(("sizes", "lengths", "mask", "reverse"), [CASES[1], CASES[2]])
    @pytest.mark.usefixtures("x64")
    def test_float64(self, sizes: Any, lengths: bool, mask: bool, reverse: bool) -> None:
        """Interpreted everywhere: rounding cannot hide a wrong term."""
        inputs = make(*sizes, lengths=lengths, mask=mask, dtype=np.float64)
        got = compiled(graded(run_kernel, reverse=reverse, interpret=True))(inputs)
        wanted = compiled(graded(run_xla, reverse=reverse))(inputs)
        assert_trees_close(got, wanted, rtol=1e-10, atol=1e-10)

    def test_without_a_gradient(self) -> None:
        """The kernel that keeps nothing for it."""
        inputs = make(3, 4, 2, 5)
        got = compiled(lambda inputs: run_kernel(**inputs))(inputs)
        assert_trees_close(got, compiled(lambda inputs: run_xla(**inputs))(inputs), atol=1e-5)

    @pytest.mark.usefixtures("strict_ranks")
    def test_no_silent_broadcasting(self) -> None:
        jax.make_jaxpr(graded(run_kernel))(make(3, 4, 2, 5, mask=True))

    @pytest.mark.parametrize("fill", [np.nan, np.inf])
    def test_inputs_past_the_length_change_nothing(self, fill: float) -> None:
        inputs = make(3, 4, 2, 5)
        past = np.arange(4) >= inputs["lengths"][:, None]
        run = compiled(graded(run_kernel, reverse=True))
        changed = inputs | {"x": np.where(past[..., None], np.float32(fill), inputs["x"])}
        wanted, got = run(inputs), run(changed)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
            assert_array_equal(a, b)
        assert not np.any(got[1]["x"][past])

    @pytest.mark.parametrize("reverse", [False, True])
    def test_lengths_outside_count_as_0_or_all(self, reverse: bool) -> None:
        inputs = make(3, 4, 2, 5)
        run = compiled(graded(run_kernel, reverse=reverse))
        got = run(inputs | {"lengths": np.array([-2, 9, 3])})
        wanted = run(inputs | {"lengths": np.array([0, 4, 3])})
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
            assert_array_equal(a, b)

    @pytest.mark.parametrize("sizes", [(3, 0, 2, 5), (0, 4, 2, 5)])
    def test_nothing_to_do_returns_the_carry(self, sizes: Any) -> None:
        inputs = make(*sizes, lengths=False)
        (hs, last), grads = graded(run_kernel)(inputs)
        assert hs.shape == (*sizes[:2], 5)
        assert_trees_close(last, inputs["carry"], atol=0)
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads["params"]))


class TestTypes:
    def test_bfloat16_with_a_float32_carry(self) -> None:
        inputs = make(3, 6, 4, 5, mask=True)
        half = jax.tree.map(
            lambda leaf: leaf.astype(jnp.bfloat16) if leaf.dtype == np.float32 else leaf, inputs
        )
        half["carry"] = inputs["carry"]
        rounded = jax.tree.map(  # so that only the arithmetic differs
            lambda leaf: leaf.astype(np.float32) if leaf.dtype == jnp.bfloat16 else leaf, half
        )
        (hs, last), grads = compiled(graded(run_kernel))(half)
        (wanted_hs, wanted_last), wanted_grads = compiled(graded(run_xla))(rounded)
        assert hs.dtype == jnp.bfloat16
        assert {state.dtype for state in last} == {np.dtype(np.float32)}
        half_types, types = (jax.tree.map(lambda leaf: leaf.dtype, tree) for tree in (half, grads))
        del half_types["lengths"]
        assert types == half_types
        # 8 bits of mantissa, that is 0.4 %, in x K, in h and in the kept gates; sums are exact.
        assert_allclose(hs.astype(np.float32), wanted_hs, atol=0.01)
        assert_trees_close(last, wanted_last, atol=0.02)
        for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(wanted_grads), strict=True):
            assert np.linalg.norm(a.astype(np.float32) - b) < 0.01 * np.linalg.norm(b)

    def test_a_bfloat16_sum_does_not_stall(self) -> None:
        """A bfloat16 carry of 1 plus 0.003 is 1; in float32 600 of them are near 1.8."""
        units = 3
        bias = np.repeat(np.array([10, 10, 0.003, 0], np.float32), units)
        zeros = np.zeros((1, units), np.float32)
        params = LSTMParams(np.zeros((1, 4 * units)), np.zeros((units, 4 * units)), bias)
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params)
        x = jnp.zeros((1, 600, 1), jnp.bfloat16)
        _, (c, _) = compiled(lambda x: run_kernel(params, x, (zeros, zeros)))(x)
        keep, step = 1 / (1 + np.exp(-10)), np.tanh(float(params.bias[2 * units]))
        assert_allclose(c, step * keep * (1 - keep**600) / (1 - keep), rtol=0.02)

    @pytest.mark.parametrize(("precision", "tolerance"), [("tf32x3", 1e-4), ("tf32", 2e-2)])
    def test_tf32(self, precision: str, tolerance: float) -> None:
        """21 or 11 bits in products; the interpreter has neither, and only float32's rounding."""
        tolerance = 1e-4 if INTERPRET else tolerance
        inputs = make(3, 6, 4, 17)
        got = compiled(graded(run_kernel, precision=precision))(inputs)
        wanted = compiled(graded(run_xla))(inputs)
        assert_trees_close(got, wanted, rtol=tolerance, atol=tolerance)


def stacked(*args: Any, lanes: int = 3, **options: Any) -> Any:
    made = [make(*args, seed=seed, **options) for seed in range(lanes)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *made)


def axes_of(inputs: Any, mapped: set[str]) -> Any:
    return {name: 0 if name in mapped else None for name in inputs}


def lane_of(inputs: Any, mapped: set[str], lane: int) -> Any:
    return {
        name: jax.tree.map(lambda leaf: leaf[lane], value) if name in mapped else value
        for name, value in inputs.items()
    }


def kernel_calls(jaxpr: Any) -> Iterator[Any]:
    """All calls of kernels in a jaxpr; a loop outside of them is an error."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "pallas_call":
            yield eqn
            continue
        assert eqn.primitive.name not in ("scan", "while"), eqn
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from kernel_calls(inner)


ALL = {"params", "x", "carry", "lengths"}
MAPPED = [
    pytest.param(ALL, id="all"),
    pytest.param({"params"}, id="params"),
    pytest.param({"x"}, id="x"),
    pytest.param({"lengths"}, id="lengths"),
]


class TestLanes:
    """Lanes with weights of their own are what each is alone, and blocks of one launch."""

    @pytest.mark.parametrize("mapped", MAPPED)
    def test_vmap_of_the_gradient(self, mapped: set[str]) -> None:
        inputs = stacked(3, 4, 2, 5)
        inputs = {
            name: value if name in mapped else lane_of(inputs, {name}, 0)[name]
            for name, value in inputs.items()
        }
        run = jax.vmap(graded(run_kernel), (axes_of(inputs, mapped),))
        together = compiled(run)(inputs)
        alone = compiled(graded(run_xla))
        for lane in range(3):
            wanted = alone(lane_of(inputs, mapped, lane))
            got = jax.tree.map(lambda leaf: leaf[lane], together)  # noqa: B023
            assert_trees_close(got, wanted, rtol=1e-4, atol=1e-4)

    def test_nested_vmap(self) -> None:
        """Weights by weights: 2 sets of sequences, each through 3 networks."""
        inputs = stacked(17, 3, 2, 5)
        xs = np.stack([inputs["x"][0], inputs["x"][1]])
        carry, lengths = lane_of(inputs, ALL, 2)["carry"], inputs["lengths"][2]

        def run(params: Any, x: Any, run: Any = run_kernel) -> Any:
            return run(params, x, carry, lengths=lengths)

        nested = jax.vmap(jax.vmap(run, (0, None)), (None, 0))
        got = compiled(nested)(inputs["params"], xs)
        (call,) = kernel_calls(jax.make_jaxpr(nested)(inputs["params"], xs).jaxpr)
        assert sorted(call.params["grid_mapping"].grid) == [2, 2, 3]
        alone = compiled(lambda params, x: run(params, x, run_xla))
        for network in range(3):
            params = lane_of(inputs, ALL, network)["params"]
            for which in range(2):
                lane = jax.tree.map(lambda leaf: leaf[which, network], got)  # noqa: B023
                assert_trees_close(lane, alone(params, xs[which]), atol=1e-5)

    @pytest.mark.parametrize("mapped", MAPPED)
    def test_lanes_are_blocks_of_one_launch(self, mapped: set[str]) -> None:
        inputs = make(33, 4, 2, 5)
        lanes = jax.tree.map(lambda leaf: np.stack([leaf] * 7), inputs)
        inputs = {name: (lanes if name in mapped else inputs)[name] for name in inputs}
        axes = axes_of(inputs, mapped)
        for run, outputs in [
            (lambda inputs: run_kernel(**inputs), [3]),
            (graded(run_kernel), [5, 3]),  # the first keeps gates and c for the second
        ]:
            jaxpr = jax.make_jaxpr(jax.vmap(run, (axes,)))(inputs).jaxpr
            calls = list(kernel_calls(jaxpr))
            assert [len(call.outvars) for call in calls] == outputs
            for call in calls:
                assert sorted(call.params["grid_mapping"].grid) == [3, 7]  # 33 rows: 3 tiles


def h100() -> Any:
    """What lowering for a GPU asks for where there is none; JAX 0.9 does not ask."""
    if jax.__version_info__ < (0, 10):
        return contextlib.nullcontext()
    device = jax.sharding.AbstractDevice(
        device_kind="NVIDIA H100 80GB HBM3", num_cores=132, platform="gpu"
    )
    return jax.sharding.use_abstract_mesh(
        jax.sharding.AbstractMesh((1,), ("lanes",), abstract_device=device)
    )


class TestCUDA:
    @pytest.mark.parametrize("lanes", [0, 3])
    @pytest.mark.parametrize(
        ("units", "dtype", "precision", "warps"),
        [
            (64, "float32", "float32", 8),
            (33, "float32", "tf32", 8),
            (16, "float32", "tf32x3", 2),
            (128, "bfloat16", "float32", 16),
        ],
    )
    def test_lowers_without_a_gpu(
        self, units: int, dtype: str, precision: str, warps: int, lanes: int
    ) -> None:
        """To Triton's language, by its checks; compiling that and running it need more."""
        pytest.importorskip("jax.experimental.pallas.triton", reason="no Triton lowering")
        inputs = jax.eval_shape(
            lambda: jax.tree.map(
                lambda leaf: leaf.astype(dtype) if leaf.dtype == np.float32 else leaf,
                jax.tree.map(jnp.asarray, make(33, 9, 3, units, mask=True)),
            )
        )
        run = graded(run_kernel, precision=precision, interpret=False)
        if lanes:
            run = jax.vmap(run)
            inputs = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct((lanes, *leaf.shape), leaf.dtype), inputs
            )
        with h100():
            traced = jax.jit(run).trace(inputs)
            text = traced.lower(lowering_platforms=("cuda",)).as_text()
        calls = [line for line in text.splitlines() if "xla.gpu.triton" in line]
        assert len(calls) == 2
        for line, name in zip(calls, ("forward", "backward"), strict=True):
            assert f"lstm_resident_{name}" in line
            assert f"num_warps = {warps} : i32" in line
            assert f"grid_x = 3 : i32, grid_y = {max(lanes, 1)} : i32" in line

    @pytest.mark.parametrize(
        ("units", "dtype", "said"),
        [
            (1, "float32", None),
            (64, "float32", None),
            (128, jnp.bfloat16, None),
            (65, np.float32, r"at most 64 units in float32, not 65.* 272 KiB of the 227 KiB"),
            (129, "bfloat16", r"at most 128 units in bfloat16, not 129"),
            (8, "float64", r"float32 or bfloat16, not in float64"),
            (8, "float16", r"float32 or bfloat16, not in float16"),
        ],
    )
    def test_supports(
        self, units: int, dtype: Any, said: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(resident, "_gpu", lambda: None)  # an H100 is taken
        reason = supports(units, dtype)
        assert supports(units, dtype, "tf32") == reason
        if said is None:
            assert reason is None
        else:
            assert reason is not None
            assert reason.endswith(".")
            assert re.search(said, reason), reason

    def test_a_smaller_gpu_holds_less(self, monkeypatch: pytest.MonkeyPatch) -> None:
        limits = {}
        for capability in ("8.0", "8.9", "9.0", "10.0", "12.0"):
            gpu = SimpleNamespace(compute_capability=capability)
            monkeypatch.setattr(resident, "_gpu", lambda gpu=gpu: gpu)
            limits[capability] = [
                supports(128, "bfloat16") is None,
                supports(64, "float32") is None,
                supports(64, "float32", "tf32x3") is None,  # in two parts: twice the memory
            ]
        assert all(all(limits[capability]) for capability in ("8.0", "9.0", "10.0"))
        assert limits["8.9"] == limits["12.0"] == [False, True, False]

    @pytest.mark.parametrize(
        ("platform", "capability", "said"),
        [
            ("cpu", None, "runs on CUDA GPUs, and JAX runs on .* here"),
            ("gpu", "gfx942", "runs on CUDA GPUs, and JAX runs on .* here"),
            ("gpu", "7.5", r"8\.0 \(A100\) or higher, and a GPU has 7\.5"),
            ("gpu", "9.0", None),
        ],
    )
    def test_unavailable(
        self, platform: str, capability: Any, said: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        device = SimpleNamespace(platform=platform, device_kind="a GPU")
        if capability is not None:
            device.compute_capability = capability
        monkeypatch.setattr(jax, "devices", lambda: [device])
        reason = unavailable()
        if said is None:
            assert reason is None
        else:
            assert reason is not None
            assert re.search(said, reason), reason

    def test_errors(self) -> None:
        inputs = make(2, 3, 2, 5)
        with pytest.raises(
            ValueError, match="precision must be one of float32, tf32x3, tf32, got 'tf'"
        ):
            run_kernel(**inputs, precision="tf")
        wide = make(2, 3, 2, 300)
        with pytest.raises(ValueError, match="at most 64 units in float32, not 300"):
            run_kernel(**wide, interpret=False)
