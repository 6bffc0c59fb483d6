"""Padded networks train as their own selves: the padding stays 0, the rest does not notice it."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict
from hypothesis import given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose, assert_array_equal

from jaxlstm.nn import (
    CNN,
    CNNLSTM,
    LSTM,
    MLP,
    Bidirectional,
    Conv1D,
    LSTMClassifierNetwork,
    RowColumnBiLSTM,
)
from jaxlstm.nn.networks import ACTIVATIONS, NOT_PADDABLE, activation
from jaxlstm.nn.padding import can_share, embed, extract, widened, widest, width_of

STEPS = 32
RULES = {
    "adam": optax.adam(3e-3),
    "adamw": optax.adamw(3e-3, weight_decay=0.01),
    "nadam": optax.nadam(3e-3),
    "rmsprop": optax.rmsprop(1e-3, momentum=0.5),
    "sgd": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adadelta": optax.adadelta(0.5),
    "adagrad": optax.adagrad(0.03, initial_accumulator_value=0.0),
    "lion": optax.lion(1e-3),
    "adam, clipped": optax.chain(optax.clip_by_global_norm(0.5), optax.adam(3e-3)),
}
SEQUENCES, IMAGES, GREY = (5, 6, 2), (5, 11, 12, 2), (5, 6, 4)
DROPS: dict[str, Any] = {"dropout": 0.3, "dense_dropout": 0.2, "recurrent_dropout": 0.25}
HEAD: dict[str, Any] = {"dropout": 0.3, "dense_dropout": 0.2}


def lstm(*units: int, **fields: Any) -> LSTMClassifierNetwork:
    return LSTMClassifierNetwork(3, units, **{**DROPS, **fields})


# Name -> network, widths of the padded one, shape of the input.
CASES: dict[str, tuple[nn.Module, tuple[int, ...], tuple[int, ...]]] = {
    "1 layer, sigmoid": (lstm(3, dense=(4,), activation="sigmoid"), (5,), SEQUENCES),
    "3 layers, tanh": (
        lstm(3, 4, 2, dense=(5,), activation="tanh"),
        (5, 4, 7, 6),
        SEQUENCES,
    ),
    "flattened": (
        lstm(3, 2, dense=(4,), bidirectional=True, flatten=True),
        (4, 5, 6),
        SEQUENCES,
    ),
    "concat, relu": (lstm(3, 2, bidirectional=True, dense=(4, 3)), (4, 5, 6, 3), SEQUENCES),
    "sum, elu": (
        lstm(3, 2, bidirectional=True, merge="sum", dense=(4,), activation="elu"),
        (4, 3, 9),
        SEQUENCES,
    ),
    "mean, gelu": (
        lstm(3, bidirectional=True, merge="mean", dense=(4,), activation="gelu"),
        (6, 5),
        SEQUENCES,
    ),
    "mul, silu": (
        lstm(3, 4, bidirectional=True, merge="mul", dense=(2,), activation="silu"),
        (4, 6, 5),
        SEQUENCES,
    ),
    "MLP, selu": (MLP(3, (5, 3), "selu", dropout=0.3), (7, 4), SEQUENCES),
    "CNN": (CNN(3, (2, 3), (3, 2), "tanh", dropout=0.3), (5, 4), IMAGES),
    "CNN, dense": (
        CNN(3, (2,), (3, 2), "elu", dense=(4, 3), padding="same", pool=3, **HEAD),
        (4, 6, 5),
        IMAGES,
    ),
    "CNN, softmax": (CNN(3, (2,), activation="softmax", dense=(4,), **HEAD), (7,), IMAGES),
    "Conv1D": (Conv1D(3, (2, 3), 3, 2, "tanh", dense=(4,), **HEAD), (5, 4, 6), SEQUENCES),
    "CNNLSTM": (
        CNNLSTM(3, (2,), (3, 2), (3, 2), (4,), bidirectional=True, **HEAD),
        (4, 5, 4, 6),
        IMAGES,
    ),
    "CNNLSTM, 1 layer": (
        CNNLSTM(3, (2, 3), units=(3,), activation="tanh", **HEAD),
        (3, 5, 4),
        IMAGES,
    ),
    "RowColumnBiLSTM": (RowColumnBiLSTM(3, 3, 2, 2, (4,), **HEAD), (4, 5, 6), GREY),
    "RowColumnBiLSTM, sum": (
        RowColumnBiLSTM(3, 3, 4, 0, (4, 3), merge="sum", activation="tanh", **HEAD),
        (5, 6, 5, 4),
        GREY,
    ),
}


def normal(shape: Any, seed: int) -> Any:
    return np.random.default_rng(seed).normal(size=shape)


@functools.cache
def draw(module: nn.Module, shape: Any) -> Any:
    """Parameters of a module, random everywhere."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), np.zeros(shape))["params"]
    leaves, structure = jax.tree.flatten(shapes)
    return jax.tree.unflatten(
        structure, [normal(leaf.shape, 7 + n) / 2 for n, leaf in enumerate(leaves)]
    )


def is_padding(module: nn.Module, wide: nn.Module, params: Any, shape: Any) -> Any:
    """True at the entries of the wide network that the own one has not."""
    own = embed(module, wide, jax.tree.map(np.ones_like, params), shape)
    return jax.tree.map(lambda leaf: leaf == 0, own)


def train(module: nn.Module, params: Any, x: Any, y: Any) -> Any:
    """Parameters and state after some steps of each optimizer, and its losses."""
    start, unravel = ravel_pytree(params)  # one array compiles sooner

    def loss_fn(params: Any, key: Any) -> Any:
        params = unravel(params)
        logits: Any = module.apply({"params": params}, x, train=True, rngs={"dropout": key})
        squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params) if leaf.ndim > 1)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
        return loss + 1e-3 * squares

    def step(carry: Any, index: Any) -> Any:
        params, states = carry
        key = jax.random.fold_in(jax.random.key(5), index)
        losses, grads = jax.vmap(jax.value_and_grad(loss_fn), (0, None))(params, key)
        after = []
        for rule, state, own, grad in zip(RULES.values(), states, params, grads, strict=True):
            updates, new = rule.update(grad, state, own)
            after.append((optax.apply_updates(own, updates), new))
        lanes, states = zip(*after, strict=True)
        return (jnp.stack(lanes), states), losses

    @jax.jit
    def run(start: Any) -> Any:
        carry = jnp.stack([start] * len(RULES)), tuple(r.init(start) for r in RULES.values())
        (lanes, states), losses = jax.lax.scan(step, carry, jnp.arange(STEPS))
        return (list(lanes), states), losses.T

    def as_params(leaf: Any) -> Any:
        return unravel(leaf) if np.shape(leaf) == start.shape else leaf

    lanes, losses = jax.device_get(run(start))
    return jax.tree.map(as_params, lanes), losses


# One of each kind in the ordinary run.
USUAL = ("1 layer, sigmoid", "concat, relu", "MLP, selu", "CNN", "CNNLSTM", "RowColumnBiLSTM")
TRAINED = [case if case in USUAL else pytest.param(case, marks=pytest.mark.slow) for case in CASES]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", TRAINED)
def test_padded_training_is_exact(case: str) -> None:
    """Every optimizer's steps in float64, dropout and L2 on."""
    module, widths, shape = CASES[case]
    wide = widened(module, widths)
    params = draw(module, shape)
    x, y = normal(shape, 1), np.array([2, 0, 1, 1, 0])
    own, own_losses = train(module, params, x, y)
    got, got_losses = train(wide, embed(module, wide, params, shape), x, y)

    def near(got: Any, wanted: Any) -> None:
        assert_allclose(got, wanted, rtol=1e-12, atol=1e-12 * np.abs(wanted).max(initial=0))

    near(got_losses, own_losses)
    back = extract(module, wide, got, shape)
    jax.tree.map(near, back, own)
    # Weights and optimizer states are exactly 0 in the padding.
    jax.tree.map(assert_array_equal, embed(module, wide, back, shape), got)
    for lane in own[0]:  # and each optimizer did train
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), lane, params)
        assert min(jax.tree.leaves(moved)) > 1e-4


@pytest.mark.parametrize("case", CASES)
def test_blocks_describe_every_parameter(case: str) -> None:
    module, widths, shape = CASES[case]
    for network in (module, widened(module, widths)):
        blocks = flatten_dict(network.parameter_blocks(shape))  # type: ignore[attr-defined]
        shapes = {name: tuple(map(sum, axes)) for name, axes in blocks.items()}
        assert shapes == {n: leaf.shape for n, leaf in flatten_dict(draw(network, shape)).items()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_extract_inverts_embed(case: str, kind: Any) -> None:
    module, widths, shape = CASES[case]
    wide = widened(module, widths)
    params = jax.tree.map(lambda leaf: kind(leaf.astype(np.float32)), draw(module, shape))
    lanes = jax.tree.map(lambda leaf: kind(np.stack([leaf, leaf + 1])), params)
    state = {"best": params, "lanes": lanes, "adam": optax.adam(0.1).init(params), "key": 3}
    padded = embed(module, wide, state, shape)
    back = extract(module, wide, padded, shape)
    jax.tree.map(assert_array_equal, back, state)
    for leaf, before in zip(jax.tree.leaves(padded), jax.tree.leaves(state), strict=True):
        assert isinstance(leaf, type(before))
        assert np.asarray(leaf).dtype == np.asarray(before).dtype
    wanted = jax.tree.map(np.shape, draw(wide, shape))
    assert jax.tree.map(np.shape, padded["best"]) == wanted
    padding = is_padding(module, wide, params, shape)
    jax.tree.map(lambda leaf, mask: assert_array_equal(leaf[mask], 0), padded["best"], padding)


@pytest.mark.usefixtures("x64")
def test_where_entries_go() -> None:
    """Gates apart, both directions of the layer before apart."""
    own, wide = lstm(1, 1, bidirectional=True), lstm(2, 3, bidirectional=True)
    params = draw(own, SEQUENCES)
    padded = embed(own, wide, params, SEQUENCES)
    before = params["StackedLSTM_0"]["lstm_1"]["backward"]
    after = padded["StackedLSTM_0"]["lstm_1"]["backward"]
    for into, out in enumerate([0, 2]):
        assert_array_equal(after["kernel"][out, [0, 3, 6, 9]], before["kernel"][into])
    assert_array_equal(after["kernel"][[1, 3]], 0)
    assert_array_equal(after["bias"][[0, 3, 6, 9]], before["bias"])
    assert_array_equal(padded["logits"]["kernel"][[0, 3]], params["logits"]["kernel"])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("both", [False, True])
def test_layers_describe_peepholes_and_missing_biases(both: bool) -> None:
    if both:
        layer: Any = Bidirectional(3)
    else:
        layer = LSTM(3, use_bias=False, peephole=True)
    blocks = flatten_dict(layer.parameter_blocks((2, 5)))
    shapes = {name: leaf.shape for name, leaf in flatten_dict(draw(layer, (2, 4, 7))).items()}
    assert {name: tuple(map(sum, axes)) for name, axes in blocks.items()} == shapes


@given(st.lists(st.tuples(*[st.integers(1, 9)] * 3), min_size=1, max_size=4))
def test_the_widest_of_several(widths: list[tuple[int, int, int]]) -> None:
    networks = [lstm(a, b, dense=(c,)) for a, b, c in widths]
    both = widest(networks)
    assert width_of(both) == tuple(max(column) for column in zip(*widths, strict=True))
    assert all(can_share(network, both) for network in networks)
    assert widened(both, widths[0]) == networks[0]


@pytest.mark.parametrize(
    "other",
    [
        lstm(4, 4, dense=(2,)),
        lstm(4),
        lstm(4, dense=(2,), activation="tanh"),
        lstm(4, dense=(2,), bidirectional=True),
        MLP(3, (4, 2)),
        RowColumnBiLSTM(3),
        nn.Dense(3),
    ],
    ids=str,
)
def test_networks_that_cannot_share(other: nn.Module) -> None:
    first = lstm(5, dense=(3,))
    assert not can_share(first, other)
    assert not can_share(other, first)
    with pytest.raises(ValueError, match="padding cannot make"):
        widest([first, other])
    with pytest.raises(ValueError, match="with other widths"):
        embed(first, other, {}, SEQUENCES)


def test_what_may_be_padded() -> None:
    assert width_of(lstm(4, 3, dense=(2,))) == (4, 3, 2)
    assert width_of(lstm(4, 3, dense=(2,), activation="softmax")) == (4, 3)
    assert not can_share(*(lstm(4, dense=(n,), activation="sigmoid") for n in (2, 3)))
    assert width_of(MLP(3, activation="sigmoid")) is None
    assert width_of(CNN(3, (4, 8))) == (4, 8)
    assert width_of(RowColumnBiLSTM(3, 8, 4)) == (8, 4, 64, 64)
    assert width_of(RowColumnBiLSTM(3, 8, 4, activation="sigmoid")) == (8, 4)
    assert not can_share(*(RowColumnBiLSTM(3, depth=depth) for depth in (2, 3)))
    assert width_of(nn.Dense(3)) is None
    assert not can_share(nn.Dense(3), nn.Dense(3))
    lists = LSTMClassifierNetwork(3, [4, 3]), LSTMClassifierNetwork(3, (5, 2))
    assert can_share(*lists)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_0(name: str) -> None:
    assert (name in NOT_PADDABLE) == bool(activation(name)(jnp.zeros(2)).any())


def test_mistakes_are_said() -> None:
    own, wide = lstm(3), lstm(5)
    params = draw(own, SEQUENCES)
    with pytest.raises(ValueError, match="widths must be the 1 of units, dense, got"):
        widened(own, (3, 4))
    with pytest.raises(ValueError, match="at least one network"):
        widest([])
    with pytest.raises(ValueError, match="narrower"):
        embed(wide, own, params, SEQUENCES)
    with pytest.raises(ValueError, match=r"lstm_0/bias must have the shape \(20,\).* \(12,\)"):
        extract(own, wide, params, SEQUENCES)


class Normed(nn.Module):
    """A network of a user's own, with batch statistics."""

    inside: int = 4

    @property
    def paddable(self) -> dict[str, int]:
        return {"inside": self.inside}

    @nn.nowrap
    def parameter_blocks(self, x_shape: tuple[int, ...]) -> dict[str, Any]:
        inside = (self.inside,)
        return {
            "before": {"kernel": ((x_shape[-1],), inside)},
            "norm": dict.fromkeys(("scale", "bias", "mean", "var"), (inside,)),
            "after": {"kernel": (inside, (2,)), "bias": ((2,),)},
        }

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Dense(self.inside, use_bias=False, name="before")(x)
        x = nn.BatchNorm(use_running_average=False, name="norm")(x)
        return nn.Dense(2, name="after")(jnp.tanh(x))


@pytest.mark.usefixtures("x64")
def test_a_network_of_a_users_own() -> None:
    module, wide, x = Normed(3), Normed(5), normal((6, 4), 1)
    assert width_of(module) == (3,)
    assert widest([Normed(2), wide, module]) == wide
    params = draw(module, x.shape)
    stats = {"norm": {"mean": normal(3, 2), "var": normal(3, 3) ** 2}}
    variables = {"params": params, "batch_stats": stats}

    def loss(params: Any, stats: Any, module: nn.Module) -> Any:
        out, stats = module.apply({"params": params, **stats}, x, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(out)), stats

    run = jax.jit(jax.grad(loss, has_aux=True), static_argnums=2)
    wanted = run(params, {"batch_stats": stats}, module)
    padded = embed(module, wide, variables, x.shape)
    got = jax.device_get(run(padded.pop("params"), padded, wide))
    back = extract(module, wide, got, x.shape)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-12, atol=1e-14), back, wanted)
    jax.tree.map(assert_array_equal, embed(module, wide, back, x.shape), got)
