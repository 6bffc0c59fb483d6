"""`lstm` against independent references: one table of cases, and each reference's part of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from numpy.testing import assert_allclose
from references import Problem, equations, make_lengths, make_problem, plain_scan, run_stack

from jaxlstm.nn import scan
from jaxlstm.nn.recurrence import lstm

compiled = jax.jit(lstm, static_argnames=("reverse", "backend"))

# bfloat16 is computed in float32 and rounded at the end, to 8 bits.
TOLERANCE = {
    "float64": {"atol": 1e-12, "rtol": 0},
    "float32": {"atol": 1e-5, "rtol": 0},
    "bfloat16": {"atol": 1e-5, "rtol": 2**-8},
}


class Case(NamedTuple):
    """One row of the table."""

    direction: str = "forward"
    lengths: str = "none"
    layers: int = 1
    carry: bool = True
    bias: bool = True
    dtype: str = "float64"
    batch: int = 5
    peephole: bool = False
    mask: bool = False
    backend: str = "auto"
    steps: int = 7
    keeps_gates: bool = True

    def __str__(self) -> str:
        said = [
            name if value is True else f"no {name}" if value is False else str(value)
            for name, value in zip(self._fields, self, strict=True)
        ]
        return " ".join(said)

    def problem(self) -> Problem:
        return make_problem(
            self.direction,
            layers=self.layers,
            batch=self.batch,
            steps=self.steps,
            carry=self.carry,
            bias=self.bias,
            peephole=self.peephole,
            mask=self.mask,
            dtype=jnp.dtype(self.dtype),
        )

    def valid(self) -> Any:
        return make_lengths(self.lengths, self.batch, self.steps)

    def precision(self) -> AbstractContextManager[None]:
        return jax.enable_x64(self.dtype == "float64")


DIRECTIONS = ("forward", "reverse", "both")
LENGTHS = ("none", "full", "ones", "zeros", "ragged", "ragged with 0")
NO_OR_YES = (False, True)


def cross(**axes: Iterable[Any]) -> list[Case]:
    cases = (
        Case(**dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values())
    )
    return [
        case
        for case in cases
        if (case.batch > 1 or case.lengths != "ragged with 0")
        and not (case.peephole and case.backend == "xla")  # an error
    ]


def pairwise(cases: list[Case]) -> list[Case]:
    """A few of the cases in which every two values that meet in any of them still meet."""
    pairs = {case: set(itertools.combinations(enumerate(case), 2)) for case in cases}
    wanted, chosen = set().union(*pairs.values()), []
    while wanted:
        chosen.append(max(cases, key=lambda case: len(pairs[case] & wanted)))
        wanted -= pairs[chosen[-1]]
    return chosen


STACKS = cross(
    direction=DIRECTIONS,
    lengths=LENGTHS,
    layers=(1, 2, 3),
    carry=NO_OR_YES,
    bias=NO_OR_YES,
    dtype=("float32", "float64"),
)
# A program for every case: so not the whole cross, and one layer.
LAYERS = [
    case
    for dtype in TOLERANCE
    for case in pairwise(
        cross(
            direction=("forward", "reverse"),
            lengths=LENGTHS,
            carry=NO_OR_YES,
            bias=NO_OR_YES,
            dtype=(dtype,),
            batch=(1, 5),
            peephole=NO_OR_YES,
            mask=NO_OR_YES,
            backend=("auto", "autodiff"),
        )
    )
]


def table(cases: Iterable[Any]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=str)


def assert_close(got: Any, wanted: Any, **tolerance: float) -> None:
    """Leaf by leaf; a NamedTuple's name is nothing that counts."""
    got, wanted = jax.tree.leaves(jax.device_get(got)), jax.tree.leaves(jax.device_get(wanted))
    for a, b in zip(got, wanted, strict=True):
        assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), **tolerance)


def run_ours(case: Case, problem: Problem, lengths: Any) -> Any:
    return run_stack(compiled, problem, lengths, case.direction, backend=case.backend)


class TestForward:
    @table(STACKS + LAYERS)
    def test_equals_the_equations(self, case: Case) -> None:
        problem, lengths = case.problem(), case.valid()
        with case.precision():
            hs, last = jax.device_get(run_ours(case, problem, lengths))
        wanted = run_stack(equations, problem, lengths, case.direction)
        assert {leaf.dtype for leaf in jax.tree.leaves((hs, last))} == {jnp.dtype(case.dtype)}
        assert_close((hs, last), wanted, **TOLERANCE[case.dtype])
        for row, length in enumerate([] if lengths is None else lengths):
            assert not np.any(hs[row, length:])


# What to run, which lengths it gets right, and whether its cases have no program of their own.
PEERS = {
    "torch": (references.run_torch, ("none", "full", "ones", "ragged"), True),
    "onnx": (references.run_onnx, ("none", "full"), True),
    "keras": (partial(run_stack, references.keras_layer), LENGTHS, False),
    "flax": (
        partial(run_stack, references.flax_layer),
        ("none", "full", "ones", "ragged"),
        False,
    ),
    "jax": (references.run_jax, ("none", "full", "ones", "ragged"), False),
}


def peer_cases() -> list[Any]:
    cases = []
    for name, (_, lengths, is_cheap) in PEERS.items():
        own = [case for case in STACKS if case.lengths in lengths]
        for case in own if is_cheap else pairwise(own):
            cases.append(pytest.param(name, case, id=f"{name} {case}"))
    return cases


class TestPeers:
    """The peers and the equations were written apart from each other; we agree with all."""

    @pytest.mark.parametrize(("name", "case"), peer_cases())
    def test_equals(self, name: str, case: Case) -> None:
        problem, lengths = case.problem(), case.valid()
        with case.precision():
            wanted = PEERS[name][0](problem, lengths, case.direction)
            if name == "torch":
                wanted = jax.tree.map(lambda leaf: leaf.detach().numpy(), wanted)
            got = run_ours(case, problem, lengths)
            assert_close(got, wanted, **TOLERANCE[case.dtype])

    # The node tests of ONNX's LSTM operator, which have constant weights there, and what they miss.
    @pytest.mark.parametrize("layout", [0, 1])
    @pytest.mark.parametrize(
        "case",
        [
            pytest.param(Case(carry=False, bias=False), id="defaults"),
            pytest.param(Case(carry=False), id="initial_bias"),
            pytest.param(Case(lengths="full", peephole=True), id="peepholes"),
            pytest.param(Case("reverse", carry=False, bias=False), id="reverse"),
            pytest.param(Case("both", carry=False, bias=False), id="bidirectional"),
            pytest.param(Case(bias=False), id="initial_states"),
            pytest.param(Case("reverse", peephole=True), id="reverse with all"),
            pytest.param(Case("both", layers=2, peephole=True), id="bidirectional with all"),
        ],
    )
    def test_equals_onnx_nodes(self, case: Case, layout: int) -> None:
        """Layout 1 is the node test "batchwise"."""
        problem, lengths = case.problem(), case.valid()
        with case.precision():
            got = run_ours(case, problem, lengths)
        wanted = references.run_onnx(problem, lengths, case.direction, layout)
        assert_close(got, wanted, atol=1e-12, rtol=0)


def pull_back(layer: Any, problem: Problem, lengths: Any, direction: str, **options: Any) -> Any:
    """The gradient of a random product of the outputs and both states of all last carries."""

    @partial(jax.jit, compiler_options=references.QUICK if layer is plain_scan else None)
    def gradient(problem: Problem, lengths: Any, cotangents: Any) -> Any:
        def run(problem: Problem) -> Any:
            return run_stack(layer, problem, lengths, direction, **options)

        return jax.vjp(run, problem)[1](cotangents)[0]

    return jax.device_get(gradient(problem, lengths, make_cotangents(problem)))


def make_cotangents(problem: Problem) -> Any:
    rng = np.random.default_rng(1)
    batch, steps, _ = problem.x.shape
    top = problem.params[-1]
    units = len(top[0].recurrent_kernel)

    def normal(*shape: int) -> Any:
        return rng.normal(size=shape).astype(problem.x.dtype)

    last = [[(normal(batch, units), normal(batch, units)) for _ in top] for _ in problem.params]
    return normal(batch, steps, units * len(top)), tuple(map(tuple, last))


@cache
def our_gradient(case: Case) -> Problem:
    with case.precision(), pytest.MonkeyPatch.context() as patch:
        if not case.keeps_gates:
            patch.setattr(scan, "KEPT_BYTES_PER_UNIT", 0)
        problem = case.problem()
        return pull_back(lstm, problem, case.valid(), case.direction, backend=case.backend)


@cache
def plain_gradient(case: Case) -> Problem:
    """In float64; a case of another type is rounded to that type first."""
    problem, lengths = case.problem(), case.valid()
    problem = jax.tree.map(lambda leaf: leaf.astype(np.float64), problem)
    with jax.enable_x64(True):
        return pull_back(plain_scan, problem, lengths, case.direction)


def assert_gradients_close(got: Any, wanted: Any, tolerance: float) -> None:
    """Relative to the size of each leaf, as its entries are sums of terms of either sign."""
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        error = np.linalg.norm(np.asarray(a, np.float64) - b)
        assert error <= tolerance * np.linalg.norm(b)  # both 0 where no step is valid


def torch_gradient(problem: Problem, lengths: Any, direction: str) -> Problem:
    torch = pytest.importorskip("torch", reason="PyTorch is an optional reference")
    cotangents = jax.tree.map(torch.as_tensor, make_cotangents(problem))
    problem = jax.tree.map(lambda leaf: torch.tensor(leaf, requires_grad=True), problem)
    outputs = references.run_torch(problem, lengths, direction)
    products = jax.tree.map(lambda a, b: (a * b).sum(), outputs, cotangents)
    sum(jax.tree.leaves(products)).backward()
    return jax.tree.map(lambda leaf: leaf.grad.numpy(), problem)


# The gradient walks through time in blocks of at most 32 steps: 7 are one block, 64 two and
# 67 two and a rest. Peepholes have JAX's gradient instead.
GRADIENTS = pairwise(
    cross(
        direction=("forward", "reverse"),
        lengths=LENGTHS,
        carry=NO_OR_YES,
        bias=NO_OR_YES,
        mask=NO_OR_YES,
        backend=("xla",),
        steps=(7, 64, 67),
        keeps_gates=NO_OR_YES,
    )
)
PEEPHOLES = pairwise(
    cross(
        direction=("forward", "reverse"),
        lengths=("none", "ragged with 0"),
        carry=NO_OR_YES,
        bias=NO_OR_YES,
        peephole=(True,),
        mask=NO_OR_YES,
        backend=("auto", "autodiff"),
    )
)
DEEP = [
    Case("both", "ragged with 0", 2, mask=True, backend="xla"),
    Case("both", "ragged with 0", 2, peephole=True, mask=True),
    Case("both", "none", 3, carry=False, backend="xla"),
    Case("reverse", "ragged", 3, bias=False, backend="xla"),
    Case("both", "ragged", 1, backend="xla"),
    Case("forward", "ones", 2, bias=False, carry=False, backend="xla"),
]


class TestGradient:
    """For the parameters, x, the initial carry and the mask."""

    @table(
        GRADIENTS
        + PEEPHOLES
        + [case._replace(backend="autodiff") for case in GRADIENTS if case.steps == 7]
    )
    def test_equals_plain_autodiff(self, case: Case) -> None:
        assert_gradients_close(our_gradient(case), plain_gradient(case), 1e-10)

    # From rounded inputs, so that only the arithmetic differs.
    @table(
        [case._replace(dtype="float32") for case in GRADIENTS[::2]]
        + [case._replace(dtype="bfloat16") for case in GRADIENTS[:4]]
    )
    def test_in_fewer_bits(self, case: Case) -> None:
        gradient = our_gradient(case)
        assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype(case.dtype)}
        tolerance = {"float32": 1e-4, "bfloat16": 2**-8}[case.dtype]
        assert_gradients_close(gradient, plain_gradient(case), tolerance)

    @table(GRADIENTS + PEEPHOLES + DEEP)
    def test_equals_central_differences_of_the_equations(self, case: Case) -> None:
        """Along one random direction for each kind of input, the others held."""
        problem, lengths = case.problem(), case.valid()
        cotangents = make_cotangents(problem)
        rng = np.random.default_rng(2)
        paths = [path for path, _ in jax.tree.leaves_with_path(problem)]
        kinds = [[key.name for key in path if hasattr(key, "name")] for path in paths]

        def product(problem: Problem) -> float:
            outputs = run_stack(equations, problem, lengths, case.direction)
            products = jax.tree.map(lambda a, b: np.sum(a * b), outputs, cotangents)
            return float(sum(jax.tree.leaves(products)))

        for kind in {str(kind): kind for kind in kinds}.values():
            along = jax.tree.unflatten(
                jax.tree.structure(problem),
                [
                    rng.normal(size=leaf.shape) * (own == kind)
                    for leaf, own in zip(jax.tree.leaves(problem), kinds, strict=True)
                ],
            )

            def at(step: float, along: Problem = along) -> float:
                scaled = jax.tree.map(partial(np.multiply, step), along)
                return product(jax.tree.map(np.add, problem, scaled))

            # The error is near step^4 (five points) plus 1e-16 / step.
            step = 1e-3
            wanted = (8 * (at(step) - at(-step)) - at(2 * step) + at(-2 * step)) / step / 12
            products = jax.tree.map(lambda a, b: np.sum(a * b), our_gradient(case), along)
            got = float(sum(jax.tree.leaves(products)))
            assert_allclose(got, wanted, rtol=1e-7, atol=1e-9, err_msg=str(kind))

    @table(
        [
            case
            for case in GRADIENTS + DEEP
            if case.lengths in PEERS["torch"][1] and not (case.peephole or case.mask)
        ]
    )
    def test_equals_torch(self, case: Case) -> None:
        problem, lengths = case.problem(), case.valid()
        wanted = torch_gradient(problem, lengths, case.direction)
        assert_gradients_close(our_gradient(case), wanted, 1e-10)
