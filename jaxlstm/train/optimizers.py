"""Optimizers that a lane chooses by a traced number: Keras's names, defaults and numbers.

The arithmetic is optax's where the two agree. All optimizers share two slots of the parameters'
shape, so that the state of a trial looks the same whichever it uses; programs of those that need a
third have it beside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from jaxlstm.train.hyperparameters import OPTIMIZERS, Hyperparameters
from jaxlstm.train.hyperparameters import RULES as NAMES

Array = jax.Array


class Slots(NamedTuple):
    """State of any of the optimizers."""

    first: Any  # like the parameters: a mean of gradients, a momentum, or ftrl's linear term
    second: Any  # like the parameters: a mean or sum of squared gradients; adadelta's two are here
    product: Array  # shape=(), of the momenta of nadam's schedule so far
    third: Any = None  # like the parameters: amsgrad's largest mean, or rmsprop's mean of gradients


# One rule: (hyperparameters, slots, grads, params, rate, step) -> (params, first, second), and third
# where it has one, arrays of one shape. The slots' product is that of this step.
Rule = Callable[..., Any]

# Rules that have a third slot.
WITH_THIRD = frozenset({"amsgrad", "centered_rmsprop"})


def has_third(among: Sequence[str]) -> bool:
    """Whether the state of a program with these rules has a third slot."""
    return not WITH_THIRD.isdisjoint(among)


def init(params: Any, hyperparameters: Hyperparameters, among: Sequence[str] = OPTIMIZERS) -> Slots:
    """Returns the slots before the first step.

    Args:
      params: the parameters, floating-point arrays.
      hyperparameters: of one trial. The sums of squares of adagrad and ftrl begin at its
        ``initial_accumulator_value``, everything else at 0.
      among: rules of the program.
    """
    h = hyperparameters
    sums = jnp.isin(h.optimizer, jnp.asarray([NAMES.index(n) for n in ("adagrad", "ftrl")]))
    start = jnp.where(sums, h.initial_accumulator_value, 0)
    dtype = jnp.result_type(*jax.tree.leaves(params), jnp.result_type(start))
    return Slots(
        jax.tree.map(jnp.zeros_like, params),
        jax.tree.map(lambda leaf: jnp.full_like(leaf, start), params),
        jnp.ones((), dtype),
        jax.tree.map(jnp.zeros_like, params) if has_third(among) else None,
    )


def _nadam_momentum(h: Hyperparameters, step: Array) -> Array:
    """Momentum of Keras's schedule at a step counted from 1."""
    return h.beta_1 * (1 - 0.5 * 0.96 ** step.astype(h.beta_1.dtype))


def _adam(h: Hyperparameters, s: Slots, g: Array, p: Array, rate: Array, step: Array) -> Any:
    # Keras adds epsilon to the root of the uncorrected mean, optax to that of the corrected one.
    epsilon = h.epsilon / jnp.sqrt(1 - h.beta_2 ** (step + 1))
    rule = optax.scale_by_adam(h.beta_1, h.beta_2, epsilon)
    updates, state = rule.update(g, optax.ScaleByAdamState(step, s.first, s.second))
    return p - rate * updates, state.mu, state.nu


def _nadam(h: Hyperparameters, s: Slots, g: Array, p: Array, rate: Array, step: Array) -> Any:
    now, ahead = _nadam_momentum(h, step + 1), _nadam_momentum(h, step + 2)
    first = s.first + (1 - h.beta_1) * (g - s.first)
    second = s.second + (1 - h.beta_2) * (jnp.square(g) - s.second)
    mean = ahead / (1 - s.product * ahead) * first + (1 - now) / (1 - s.product) * g
    root = jnp.sqrt(second / (1 - h.beta_2 ** (step + 1)))
    return p - rate * mean / (root + h.epsilon), first, second


def _momentum(momentum: Array, nesterov: Array, trace: Array, updates: Array) -> Any:
    """Keras keeps momentum over updates already scaled by the learning rate: so do we."""
    state = optax.TraceState(trace)
    plain, state = optax.trace(momentum).update(updates, state)
    ahead, _ = optax.trace(momentum, nesterov=True).update(updates, optax.TraceState(trace))
    return jnp.where(nesterov, ahead, plain), state.trace


def _rmsprop(h: Hyperparameters, s: Slots, g: Array, p: Array, rate: Array, step: Array) -> Any:
    rule = optax.scale_by_rms(h.rho, h.epsilon, eps_in_sqrt=True)
    updates, state = rule.update(g, optax.ScaleByRmsState(s.second))
    updates, trace = optax.trace(h.momentum).update(-rate * updates, optax.TraceState(s.first))
    return p + updates, trace.trace, state.nu


def _sgd(h: Hyperparameters, s: Slots, g: Array, p: Array, rate: Array, step: Array) -> Any:
    updates, trace = _momentum(h.momentum, h.nesterov, s.first, -rate * g)
    return p + updates, trace, s.second


def _adadelta(h: Hyperparameters, s: Slots, g: Array, p: Array, rate: Array, step: Array) -> Any:
    rule = optax.scale_by_adadelta(h.rho, h.epsilon)
    updates, state = rule.update(g, optax.ScaleByAdaDeltaState(e_g=s.second, e_x=s.first))
    return p - rate * updates, state.e_x, state.e_g


def _adagrad(h: Hyperparameters, s: Slots, g: Array, p: Array, rate: Array, step: Array) -> Any:
    rule = optax.scale_by_rss(eps=h.epsilon)
    updates, state = rule.update(g, optax.ScaleByRssState(s.second))
    return p - rate * updates, s.first, state.sum_of_squares


def _ftrl(h: Hyperparameters, s: Slots, g: Array, p: Array, rate: Array, step: Array) -> Any:
    still = rate == 0  # it divides by the rate; one of 0, as at the start of warm-up, moves nothing
    rate = jnp.where(still, 1, rate)
    second = s.second + jnp.square(g)
    before, after = s.second**-h.learning_rate_power, second**-h.learning_rate_power
    shrunk = g + 2 * h.l2_shrinkage_regularization_strength * p
    first = s.first + shrunk - (after - before) / rate * p
    strength = h.l1_regularization_strength
    numerator = jnp.clip(first, -strength, strength) - first
    denominator = after / rate + 2 * h.l2_regularization_strength + h.beta / rate
    # 0 / 0 where there never was a gradient and the sum of squares began at 0.
    moved = jnp.where(numerator == 0, 0, numerator / denominator), first, second
    return [jnp.where(still, old, new) for old, new in zip((p, *s[:2]), moved, strict=True)]


def _lion(h: Hyperparameters, s: Slots, g: Array, p: Array, rate: Array, step: Array) -> Any:
    rule = optax.scale_by_lion(h.beta_1, h.beta_2)
    updates, state = rule.update(g, optax.ScaleByLionState(step, s.first))
    return p - rate * updates, state.mu, s.second


def _amsgrad(h: Hyperparameters, s: Slots, g: Array, p: Array, rate: Array, step: Array) -> Any:
    first = s.first + (1 - h.beta_1) * (g - s.first)
    second = s.second + (1 - h.beta_2) * (jnp.square(g) - s.second)
    # Keras's largest is of the uncorrected means.
    largest = jnp.maximum(s.third, second)
    corrected = rate * jnp.sqrt(1 - h.beta_2 ** (step + 1)) / (1 - h.beta_1 ** (step + 1))
    return p - corrected * first / (jnp.sqrt(largest) + h.epsilon), first, second, largest


def _centered(h: Hyperparameters, s: Slots, g: Array, p: Array, rate: Array, step: Array) -> Any:
    second = h.rho * s.second + (1 - h.rho) * jnp.square(g)
    mean = h.rho * s.third + (1 - h.rho) * g
    # A variance that rounding takes below 0 is none.
    variance = jnp.maximum(second - jnp.square(mean), 0)
    trace = h.momentum * s.first + rate * g / jnp.sqrt(variance + h.epsilon)
    return p - trace, trace, second, mean


def _adamax(h: Hyperparameters, s: Slots, g: Array, p: Array, rate: Array, step: Array) -> Any:
    first = s.first + (1 - h.beta_1) * (g - s.first)
    second = jnp.maximum(h.beta_2 * s.second, jnp.abs(g))
    corrected = rate / (1 - h.beta_1 ** (step + 1))
    return p - corrected * first / (second + h.epsilon), first, second


def _lamb(
    h: Hyperparameters, s: Slots, g: Array, p: Array, rate: Array, step: Array, total: Any
) -> Any:
    first = s.first + (1 - h.beta_1) * (g - s.first)
    second = s.second + (1 - h.beta_2) * (jnp.square(g) - s.second)
    root = jnp.sqrt(second / (1 - h.beta_2 ** (step + 1)))
    updates = first / (1 - h.beta_1 ** (step + 1)) / (root + h.epsilon)
    own, theirs = (jnp.sqrt(total(jnp.square(vector))) for vector in (p, updates))
    is_zero = (own == 0) | (theirs == 0)
    trust = jnp.where(is_zero, 1, own / jnp.where(is_zero, 1, theirs))
    return p - rate * trust * updates, first, second


RULES: dict[str, Rule] = {
    "adam": _adam,
    "adamw": _adam,  # its weight decay has another default: that is all
    "nadam": _nadam,
    "rmsprop": _rmsprop,
    "sgd": _sgd,
    "adadelta": _adadelta,
    "adagrad": _adagrad,
    "ftrl": _ftrl,
    "lion": _lion,
    "adamax": _adamax,
    "lamb": _lamb,
    "amsgrad": _amsgrad,
    "centered_rmsprop": _centered,
}


def _clip(h: Hyperparameters, grads: Any) -> Array:
    """The gradients as one vector, clipped as Keras does; where nothing is set, their bits stay."""

    def clipped() -> Array:
        leaves, structure = jax.tree.flatten(grads)
        squares = [jnp.sum(jnp.square(leaf)) for leaf in leaves]
        whole = jnp.sqrt(sum(squares, jnp.zeros(())))

        def factor(norm: Array, most: Array) -> Array:
            return jnp.where(norm > most, most / norm, 1)

        shared = factor(whole, h.global_clipnorm)
        scaled = [
            leaf * (factor(jnp.sqrt(square), h.clipnorm) * shared).astype(leaf.dtype)
            for square, leaf in zip(squares, leaves, strict=True)
        ]
        vector = ravel_pytree(jax.tree.unflatten(structure, scaled))[0]
        return jnp.clip(vector, -h.clipvalue, h.clipvalue).astype(vector.dtype)

    limits = jnp.stack([h.clipnorm, h.clipvalue, h.global_clipnorm])
    return lax.cond(jnp.any(jnp.isfinite(limits)), clipped, lambda: ravel_pytree(grads)[0])


def update(
    hyperparameters: Hyperparameters,
    slots: Slots,
    grads: Any,
    params: Any,
    rate: Array,
    step: Array,
    among: Sequence[str] = OPTIMIZERS,
    undecayed: Sequence[str] = (),
) -> tuple[Any, Slots]:
    """Applies one optimizer step: clips the gradients, decays the weights, then steps.

    Every optimizer decays weights as Keras's do: all variables, biases too, but those that are
    ``undecayed``, by ``weight_decay * rate`` of their value, before its rule sees them.

    A parameter that is 0 and has zero gradients from the start stays 0 under every rule, so units
    padded with zeros stay out of the network.

    Args:
      hyperparameters: of one trial; its ``optimizer`` picks the rule. Numbers named as Keras names
        them: adam, adamw and nadam (beta_1, beta_2, epsilon), rmsprop (rho, momentum, epsilon), sgd
        (momentum, nesterov), adadelta (rho, epsilon), adagrad (initial_accumulator_value, epsilon),
        ftrl (learning_rate_power, initial_accumulator_value, the three regularization strengths,
        beta), lion (beta_1, beta_2), adamax and lamb (beta_1, beta_2, epsilon).
      slots: the optimizer's state.
      grads: gradients, like the parameters.
      params: the parameters.
      rate: learning rate of this step, shape ``()``.
      step: steps done so far, shape ``()``, dtype int32.
      among: names that hold the trial's own. Lanes side by side compute every rule that is compiled
        and choose afterwards.
      undecayed: regular expressions, found in the names of parameters that keep their weight, such
        as "Dense_0/bias".

    Returns:
      The new parameters and slots.

    References:
      Kingma and Ba, "Adam", arXiv:1412.6980. Loshchilov and Hutter, "Decoupled Weight Decay
      Regularization", arXiv:1711.05101. Dozat, "Incorporating Nesterov Momentum into Adam", 2016.
      Tieleman and Hinton, "RMSProp", 2012. Sutskever et al., "On the importance of initialization
      and momentum", ICML 2013. Zeiler, "ADADELTA", arXiv:1212.5701. Duchi et al., "Adaptive
      Subgradient Methods", JMLR 2011. McMahan et al., "Ad Click Prediction", KDD 2013. Chen et al.,
      "Symbolic Discovery of Optimization Algorithms", arXiv:2302.06675. You et al., "Large Batch
      Optimization for Deep Learning", arXiv:1904.00962. Reddi et al., "On the Convergence of Adam and
      Beyond", arXiv:1904.09237.
    """
    h = hyperparameters
    # As one vector: a rule compiled leaf by leaf takes 3 times as long to compile.
    flat, restore = ravel_pytree(params)
    has_more = slots.third is not None
    trees = (slots.first, slots.second, *([slots.third] if has_more else []))
    vectors = [ravel_pytree(tree)[0] for tree in trees]
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]

    def total(vector: Array) -> Array:
        """Each entry's sum over its parameter."""
        parts = jnp.split(vector, np.cumsum(sizes)[:-1])
        return jnp.concatenate([jnp.broadcast_to(jnp.sum(part), part.shape) for part in parts])

    decays = _decays(params, undecayed)
    product = (slots.product * _nadam_momentum(h, step + 1)).astype(slots.product.dtype)

    def branch(rule: Rule) -> Any:
        def apply(first: Array, second: Array, *rest: Array) -> Any:
            *third, grads, params = rest
            lighter = params - params * h.weight_decay * rate
            params = lighter if decays is None else jnp.where(decays, lighter, params)
            more = (total,) if rule is _lamb else ()
            own = Slots(first, second, product, *third)
            new = tuple(rule(h, own, grads, params, rate, step, *more))
            return new if len(new) == 3 + has_more else (*new, *third)

        return apply

    used = list(dict.fromkeys(RULES[name] for name in among))
    places = [used.index(RULES[name]) if name in among else 0 for name in NAMES]
    place = jnp.asarray(places, jnp.int32)[h.optimizer]
    rules = [branch(rule) for rule in used]
    params, first, second, *third = map(
        restore, lax.switch(place, rules, *vectors, _clip(h, grads), flat)
    )
    return params, Slots(first, second, product, *third)


def names_of(params: Any) -> list[str]:
    """Names of parameters, such as "Dense_0/bias", in the order of the tree's leaves."""
    paths, _ = jax.tree_util.tree_flatten_with_path(params)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]


def _decays(params: Any, undecayed: Sequence[str]) -> Any:
    """Which entries of the parameters as a vector lose weight; None: all."""
    if not undecayed:
        return None
    found = [not re.search("|".join(undecayed), name) for name in names_of(params)]
    leaves = zip(found, jax.tree.leaves(params), strict=True)
    return jnp.concatenate([jnp.full(leaf.size, one) for one, leaf in leaves])
