"""`lstm` under JAX's transformations: every lane, shard and repetition is what it is alone."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from numpy.testing import assert_allclose, assert_array_equal
from references import make_lengths, make_problem, plain_scan

from jaxlstm.nn.recurrence import lstm

compiled = jax.jit(lstm, static_argnames=("reverse", "backend"))
LENGTHS = make_lengths("ragged with 0", 5)


def make(seed: int = 0, *, mask: bool = True, **settings: Any) -> dict[str, Any]:
    """The arguments of a call by name, without a peephole: that has JAX's gradient."""
    problem = make_problem(seed=seed, mask=mask, **settings)
    c, h = problem.carry[0][0]
    made = {"params": problem.params[0][0], "x": problem.x, "c": c, "h": h}
    if mask:
        made["mask"] = problem.mask[0][0]
    batch, steps, _ = problem.x.shape
    lengths = np.random.default_rng(seed).integers(0, steps + 1, size=batch)
    return made | {"lengths": lengths.astype(np.int32)}


def call(args: dict[str, Any], layer: Any = lstm, **options: Any) -> Any:
    return layer(
        args["params"],
        args["x"],
        initial_carry=(args["c"], args["h"]),
        lengths=args["lengths"],
        recurrent_mask=args.get("mask"),
        **options,
    )


def loss(args: dict[str, Any], layer: Any = lstm, **options: Any) -> Any:
    """A number that depends on every output in another way, and those outputs."""
    hs, (c, h) = outputs = call(args, layer, **options)
    weights = jnp.cos(jnp.arange(hs.size, dtype=hs.dtype)).reshape(hs.shape)
    return jnp.sum(weights * hs) + jnp.sum(jnp.sin(c) * weights[:, 0]) + jnp.sum(h * c), outputs


def split(args: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What can be differentiated, and the rest."""
    inexact = {name: value for name, value in args.items() if name != "lengths"}
    return inexact, {"lengths": args["lengths"]}


def gradient(args: dict[str, Any], layer: Any = lstm, **options: Any) -> Any:
    """Of `loss`, for all that can be differentiated; the outputs, too."""
    inexact, rest = split(args)
    return jax.grad(lambda inexact: loss(inexact | rest, layer, **options), has_aux=True)(inexact)


def assert_trees_close(got: Any, wanted: Any, **tolerance: float) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert_allclose(a, b, **tolerance)


class TestJit:
    def test_operation_by_operation_is_the_same(self) -> None:
        args = make(dtype=np.float32)
        assert_trees_close(call(args), call(args, compiled), rtol=1e-5, atol=1e-6)

    def test_a_second_call_does_not_retrace(self) -> None:
        traces = []

        @jax.jit
        def run(args: Any) -> Any:
            traces.append(1)
            return gradient(args)

        first, second = (run(make(seed, dtype=np.float32)) for seed in (0, 1))
        assert len(traces) == 1
        assert not np.allclose(first[0]["params"].kernel, second[0]["params"].kernel)

    def test_checkpoint(self) -> None:
        args = make(dtype=np.float32)

        def layer(*positional: Any, **named: Any) -> Any:
            return jax.checkpoint(lstm)(*positional, **named)

        got, wanted = (jax.jit(partial(gradient, layer=each))(args) for each in (layer, lstm))
        assert_trees_close(got, wanted, rtol=1e-5, atol=1e-5)

    def test_donated_buffers_are_used_and_no_others(self) -> None:
        """The carry that was given away becomes the next one, as in a loop over pieces."""
        args = make(dtype=np.float32)
        carry, rest = {name: jnp.asarray(args.pop(name)) for name in "ch"}, args
        wanted = jax.device_get(jax.jit(call)(rest | carry))
        rest = jax.tree.map(jnp.asarray, rest)
        run = jax.jit(lambda carry, rest: call(rest | carry), donate_argnums=0)
        got = run(carry, rest)
        assert carry["c"].is_deleted()
        assert carry["h"].is_deleted()
        assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(rest))
        assert_trees_close(jax.device_get(got), wanted, rtol=1e-6, atol=1e-7)


BATCHED = [
    ("params", False),
    ("x", True),
    ("c", False),
    ("h", True),
    ("lengths", True),
    ("mask", False),
    ("x lengths", False),
    ("params mask", True),
    ("c h lengths", False),
    ("params x c h lengths mask", False),
    ("params x c h lengths mask", True),
]


class TestVmap:
    @pytest.mark.parametrize(("batched", "reverse"), BATCHED)
    def test_equals_a_loop(self, batched: str, reverse: bool) -> None:
        """The outputs, and the gradient of every lane."""
        names = batched.split()
        lanes = [make(seed, dtype=np.float32) for seed in range(3)]
        lanes = [lanes[0] | {name: lane[name] for name in names} for lane in lanes]
        together = {
            name: jax.tree.map(lambda *leaves: np.stack(leaves), *(lane[name] for lane in lanes))
            if name in names
            else lanes[0][name]
            for name in lanes[0]
        }
        run = partial(gradient, reverse=reverse)
        axes = {name: 0 if name in names else None for name in together}
        got = jax.device_get(jax.jit(jax.vmap(run, (axes,)))(together))
        alone = LOOPS[reverse]
        for index, lane in enumerate(lanes):
            own = jax.tree.map(lambda leaf: leaf[index], got)  # noqa: B023
            assert_trees_close(own, alone(lane), rtol=1e-5, atol=1e-5)

    def test_axes_that_are_not_the_first(self) -> None:
        lanes = [make(seed, dtype=np.float32) for seed in range(3)]
        x = np.stack([lane["x"] for lane in lanes], axis=2)
        kernel = np.stack([lane["params"].kernel for lane in lanes], axis=-1)

        def run(x: Any, kernel: Any) -> Any:
            params = lanes[0]["params"]._replace(kernel=kernel)
            return call(lanes[0] | {"x": x, "params": params})[0]

        got = jax.jit(jax.vmap(run, (2, -1), 1))(x, kernel)
        for index in range(3):
            wanted = jax.jit(run)(x[:, :, index], kernel[..., index])
            assert_allclose(got[:, index], wanted, rtol=1e-5, atol=1e-6)

    def test_gradient_of_vmap_sums_over_lanes(self) -> None:
        lanes = [make(seed, dtype=np.float32) for seed in range(3)]
        shared, _ = split(lanes[0])
        lengths = np.stack([lane["lengths"] for lane in lanes])

        def total(shared: Any) -> Any:
            run = jax.vmap(lambda lengths: loss(shared | {"lengths": lengths})[0])
            return jnp.sum(run(lengths))

        got = jax.jit(jax.grad(total))(shared)
        alone = [LOOPS[False](shared | {"lengths": row})[0] for row in lengths]
        wanted = jax.tree.map(lambda *leaves: sum(leaves), *alone)
        assert_trees_close(got, wanted, rtol=1e-5, atol=2e-5)


LOOPS = {reverse: jax.jit(partial(gradient, reverse=reverse)) for reverse in (False, True)}


@pytest.mark.usefixtures("x64")
class TestHigherDerivatives:
    """Against those of the plain scan, which JAX differentiates as often as one likes."""

    args, _ = split(make(batch=3, steps=4, features=2, units=2))
    rest: ClassVar = {"lengths": np.array([4, 2, 0], np.int32)}
    directions, _ = split(make(1, batch=3, steps=4, features=2, units=2))

    def value(self, args: Any, layer: Any, **options: Any) -> Any:
        return loss(args | self.rest, layer, **options)[0]

    @pytest.mark.parametrize(
        ("order", "backend"),
        [
            ("jvp of grad", "xla"),
            ("grad of grad", "xla"),
            ("hessian", "xla"),
            ("jvp of grad", "autodiff"),
        ],
    )
    def test_second(self, order: str, backend: str) -> None:
        ours = partial(self.value, layer=partial(lstm, backend=backend))
        plain = partial(self.value, layer=plain_scan)

        def differentiate(value: Any) -> Any:
            if order == "jvp of grad":
                return jax.jvp(jax.grad(value), (self.args,), (self.directions,))[1]
            if order == "grad of grad":

                def slope(args: Any) -> Any:
                    products = jax.tree.map(jnp.vdot, jax.grad(value)(args), self.directions)
                    return sum(jax.tree.leaves(products))

                return jax.grad(slope)(self.args)
            # Of the bias alone, which meets itself in every step.
            params = self.args["params"]

            def of_bias(bias: Any) -> Any:
                return value(self.args | {"params": params._replace(bias=bias)})

            return jax.hessian(of_bias)(params.bias)

        got, wanted = jax.jit(lambda: (differentiate(ours), differentiate(plain)))()
        assert all(np.any(leaf) for leaf in jax.tree.leaves(wanted))
        assert_trees_close(got, wanted, rtol=1e-9, atol=1e-9)

    def test_equals_finite_differences(self) -> None:
        """JAX's own check, of the gradient and of the gradient's gradient."""
        run = jax.jit(lambda args: call(args | self.rest))
        check_grads(run, (self.args,), order=2, modes=["rev"], rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("x64")
class TestForwardMode:
    def test_autodiff_has_one(self) -> None:
        args, rest = split(make(peephole=True))
        directions, _ = split(make(1, peephole=True))

        @jax.jit
        def both(args: Any) -> Any:
            layers = partial(lstm, backend="autodiff"), plain_scan
            return [
                jax.jvp(lambda a, layer=layer: call(a | rest, layer), (args,), (directions,))
                for layer in layers
            ]

        got, wanted = both(args)
        assert_trees_close(got, wanted, rtol=1e-10, atol=1e-10)

        def run(c: Any) -> Any:
            return call(args | rest | {"c": c}, backend="autodiff")[0]

        _, push = jax.linearize(jax.jit(run), args["c"])
        jacobian = jax.jacfwd(jax.jit(run))(args["c"])
        wanted = np.tensordot(jacobian, directions["c"], 2)
        assert_allclose(push(directions["c"]), wanted, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize(
        "transform",
        [
            lambda run, x: jax.jvp(run, (x,), (x,)),
            lambda run, x: jax.linearize(run, x)[1](x),
            lambda run, x: jax.jacfwd(run)(x),
            lambda run, x: jax.jit(jax.jacfwd(run))(x),
        ],
        ids=["jvp", "linearize", "jacfwd", "jit"],
    )
    def test_xla_says_that_it_has_none(self, transform: Any) -> None:
        args, rest = split(make())

        def run(x: Any) -> Any:
            return call(args | rest | {"x": x}, backend="xla")[0]

        with pytest.raises(TypeError, match=r"custom_vjp|autodiff"):
            transform(run, args["x"])


@pytest.mark.parametrize("backend", ["xla", "autodiff"])
class TestExtremes:
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
    def test_saturated_gates_have_finite_gradients(self, dtype: str, backend: str) -> None:
        with jax.enable_x64(dtype == "float64"):
            args = make(dtype=jnp.dtype(dtype), mask=False)
            scale = args["x"].dtype.type
            args["x"] = args["x"] * scale(1e4)
            args["params"] = jax.tree.map(lambda leaf: leaf * scale(50), args["params"])
            got = jax.device_get(jax.jit(partial(gradient, backend=backend))(args))
            for leaf in jax.tree.leaves(got):
                assert np.isfinite(np.asarray(leaf, np.float64)).all()
            if dtype == "float64":
                wanted = jax.jit(partial(gradient, layer=plain_scan))(args)
                # tanh(z / 2) / 2 + 1 / 2 is right to 1e-16, not to 16 digits of a gate near 0.
                assert_trees_close(got, wanted, rtol=1e-8, atol=1e-10)

    @pytest.mark.parametrize("reverse", [False, True])
    def test_inputs_past_the_length_change_nothing(self, reverse: bool, backend: str) -> None:
        args = make(dtype=np.float32) | {"lengths": LENGTHS}
        is_padding = np.arange(7) >= LENGTHS[:, None]
        run = jax.jit(partial(gradient, reverse=reverse, backend=backend))
        wanted = run(args)
        for fill in (make(1)["x"], 1e30, np.inf, np.nan):
            x = np.where(is_padding[..., None], fill, args["x"]).astype(np.float32)
            got = run(args | {"x": x})
            for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
                assert_array_equal(a, b, err_msg=str(fill))
            assert not np.any(got[0]["x"][is_padding])


PROGRAM = """
import jax
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_enable_x64", True)
import numpy as np
from functools import partial
from jax.sharding import NamedSharding, PartitionSpec as P
import test_transforms as tests

assert len(jax.devices()) == 4
mesh = jax.sharding.Mesh(jax.devices(), ("rows",))
args = tests.make(batch=8)
specs = {name: P() if name == "params" else P("rows") for name in args}

def assert_close(got, wanted):
    tests.assert_trees_close(jax.device_get(got), jax.device_get(wanted), rtol=1e-10, atol=1e-10)

for backend in ("xla", "autodiff"):
    for reverse in (False, True):
        run = partial(tests.call, reverse=reverse, backend=backend)
        shards = jax.jit(jax.shard_map(run, mesh=mesh, in_specs=(specs,), out_specs=P("rows")))
        got = shards(args)
        assert len(got[0].sharding.device_set) == 4
        assert_close(got, jax.jit(run)(args))

    # Without an initial carry, of which lstm makes the zeros itself.
    def bare(params, x, lengths):
        return tests.lstm(params, x, lengths=lengths, backend=backend)
    three = args["params"], args["x"], args["lengths"]
    got = jax.jit(jax.shard_map(bare, mesh=mesh, in_specs=(P(), P("rows"), P("rows")),
                                out_specs=P("rows")))(*three)
    assert_close(got, jax.jit(bare)(*three))

    # The gradient of the sum over all devices: the parameters' is the sum over the shards.
    def total(args):
        hs, (c, h) = tests.call(args, backend=backend)
        return (hs ** 2).sum() + (c * h).sum()
    def sharded(args):
        parts = jax.shard_map(lambda args: jax.lax.psum(total(args), "rows"), mesh=mesh,
                              in_specs=(specs,), out_specs=P())
        return parts(args)
    inexact, rest = tests.split(args)
    got, wanted = (jax.jit(jax.grad(lambda inexact: each(inexact | rest)))(inexact)
                   for each in (sharded, total))
    assert_close(got, wanted)

    # And where XLA divides the work itself.
    placed = {name: jax.device_put(value, NamedSharding(mesh, specs[name]))
              for name, value in args.items()}
    got = jax.jit(partial(tests.gradient, backend=backend))(placed)
    assert len(got[1][0].sharding.device_set) == 4
    assert_close(got, jax.jit(partial(tests.gradient, backend=backend))(args))
print("four devices agree")
"""


def test_rows_over_four_devices() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=__file__.rpartition("/")[0],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "four devices agree\n"
