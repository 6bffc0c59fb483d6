"""Optimizers that a lane chooses by a traced number: Keras's names, defaults and numbers.

The arithmetic is optax's. All optimizers share two slots of the parameters' shape, so that the
state of a trial looks the same whichever it uses.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxlstm.train.hyperparameters import OPTIMIZERS, Hyperparameters

Array = jax.Array


class Slots(NamedTuple):
    """State of any of the optimizers."""

    first: Any  # like the parameters: adam's mean of gradients, the others' momentum
    second: Any  # like the parameters: adam's and rmsprop's mean of squared gradients


def init(params: Any) -> Slots:
    """Returns the slots before the first step."""
    return Slots(jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params))


def _momentum(h: Hyperparameters, trace: Any, updates: Any) -> tuple[Any, Any]:
    """Keras keeps momentum over updates already scaled by the learning rate: so do we."""
    state = optax.TraceState(trace)
    plain, state = optax.trace(h.momentum).update(updates, state)
    ahead, _ = optax.trace(h.momentum, nesterov=True).update(updates, optax.TraceState(trace))
    chosen = jax.tree.map(lambda a, b: jnp.where(h.nesterov, a, b), ahead, plain)
    return chosen, state.trace


def _adam(h: Hyperparameters, slots: Slots, grads: Any, rate: Array, step: Array) -> Any:
    # Keras adds epsilon to the root of the uncorrected mean, optax to that of the corrected one.
    epsilon = h.epsilon / jnp.sqrt(1 - h.beta_2 ** (step + 1))
    rule = optax.scale_by_adam(h.beta_1, h.beta_2, epsilon)
    updates, state = rule.update(grads, optax.ScaleByAdamState(step, slots.first, slots.second))
    return jax.tree.map(lambda u: -rate * u, updates), Slots(state.mu, state.nu)


def _rmsprop(h: Hyperparameters, slots: Slots, grads: Any, rate: Array, step: Array) -> Any:
    rule = optax.scale_by_rms(h.rho, h.epsilon, eps_in_sqrt=True)
    updates, state = rule.update(grads, optax.ScaleByRmsState(slots.second))
    updates = jax.tree.map(lambda u: -rate * u, updates)
    updates, trace = _momentum(h._replace(nesterov=False), slots.first, updates)
    return updates, Slots(trace, state.nu)


def _sgd(h: Hyperparameters, slots: Slots, grads: Any, rate: Array, step: Array) -> Any:
    updates, trace = _momentum(h, slots.first, jax.tree.map(lambda g: -rate * g, grads))
    return updates, Slots(trace, slots.second)


RULES = {"adam": _adam, "rmsprop": _rmsprop, "sgd": _sgd}


def update(
    hyperparameters: Hyperparameters,
    slots: Slots,
    grads: Any,
    params: Any,
    rate: Array,
    step: Array,
) -> tuple[Any, Slots]:
    """Applies one optimizer step.

    Args:
      hyperparameters: of one trial; its ``optimizer`` picks the rule. Numbers named as Keras names
        them: adam (beta_1, beta_2, epsilon), rmsprop (rho, momentum, epsilon), sgd (momentum,
        nesterov).
      slots: the optimizer's state.
      grads: gradients, like the parameters.
      params: the parameters.
      rate: learning rate of this step, shape ``()``.
      step: steps done so far, shape ``()``, dtype int32.

    Returns:
      The new parameters and slots.

    References:
      Kingma and Ba, "Adam", arXiv:1412.6980. Tieleman and Hinton, "RMSProp", 2012.
      Sutskever et al., "On the importance of initialization and momentum", ICML 2013.
    """

    def branch(name: str) -> Any:
        def apply(slots: Slots, grads: Any, params: Any) -> tuple[Any, Slots]:
            updates, slots = RULES[name](hyperparameters, slots, grads, rate, step)
            return optax.apply_updates(params, updates), slots

        return apply

    return lax.switch(
        hyperparameters.optimizer, [branch(name) for name in OPTIMIZERS], slots, grads, params
    )
