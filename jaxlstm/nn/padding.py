"""Exact padding of widths: networks of several widths as lanes of one, by zeros.

A unit whose kernel columns, recurrent rows and columns, bias and peepholes are 0, and whose rows in
the next layer are 0, has z = 0 and g = tanh 0 = 0, so its c and h stay 0, also with a forget bias:
the forget gate's own bias is 0 here. What flows back to it is 0, as its rows in the next layer are;
their gradient is h^T dz = 0; so its weights get a gradient of 0. Every optimizer that answers a
gradient of 0 from a state of 0 by an update of 0 therefore leaves all of its weights exactly 0, and
L2 adds 0. It needs hidden activations that map 0 to 0, initial weights drawn at the network's own
width, and random masks that do not depend on how many units follow (`layers.dropout_factors`).

A network that can be padded has two members; a network of your own may have them, too:

- ``paddable``: a property, a dict of those of its fields that hold widths, each with an integer or a
  tuple of integers; empty where padding would not be exact;
- ``parameter_blocks(x_shape)``: a dict like its parameters that has, for each axis of each of them,
  the widths of the blocks that lie on each other along it: ``((3,), (8, 8, 8, 8))`` for the kernel
  of an LSTM of 8 units over 3 features. `layers` has it of each layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

Widths = tuple[int, ...]
Axes = tuple[Widths, ...]  # of one parameter: the blocks along each axis


def _fields(module: nn.Module) -> dict[str, int | Widths]:
    if not hasattr(type(module), "paddable") or not hasattr(type(module), "parameter_blocks"):
        return {}
    fields: dict[str, Any] = module.paddable
    return {
        name: int(held) if isinstance(held, Integral) else tuple(held)
        for name, held in fields.items()
    }


def width_of(module: nn.Module) -> Widths | None:
    """The widths of a network that may be padded, in one tuple; None if none may."""
    return tuple(jax.tree.leaves(list(_fields(module).values()))) or None


def widened(module: nn.Module, widths: Sequence[int]) -> nn.Module:
    """The network with other widths, given as `width_of` gives them.

    Raises:
      ValueError: another number of widths.
    """
    fields = _fields(module)
    wanted = len(width_of(module) or ())
    if len(widths) != wanted:
        raise ValueError(
            f"widths must be the {wanted} of {', '.join(fields) or type(module).__name__},"
            f" got {widths!r}."
        )
    rest = iter(widths)
    # One by one: JAX would take a dict's names in the order of the alphabet.
    return module.clone(
        **{name: jax.tree.map(lambda _: next(rest), held) for name, held in fields.items()}
    )


def can_share(a: nn.Module, b: nn.Module) -> bool:
    """Whether two networks differ in widths alone that may be padded."""
    ours, theirs = _fields(a), _fields(b)
    if type(a) is not type(b) or not ours:
        return False
    depths: list[Any] = [jax.tree.structure(fields) for fields in (ours, theirs)]
    if depths[0] != depths[1]:
        return False
    same: dict[str, Any] = ours
    return bool(a.clone(**same) == b.clone(**same))


def widest(modules: Sequence[nn.Module]) -> nn.Module:
    """The network into which all of these fit: each width the largest of theirs.

    Raises:
      ValueError: no networks, or some that differ in more than widths.
    """
    if not modules:
        raise ValueError("modules must hold at least one network.")
    first, *others = modules
    for other in others:
        if not can_share(first, other):
            raise ValueError(f"padding cannot make {other!r} and {first!r} one network.")
    widths = [width_of(module) or () for module in modules]
    return widened(first, [max(column) for column in zip(*widths, strict=True)])


def _places(own: Axes, wide: Axes) -> tuple[np.ndarray, ...]:
    """For each axis, where the own entries lie on the wide one; shaped as `numpy.ix_` does."""
    places = []
    for own_widths, wide_widths in zip(own, wide, strict=True):
        starts = np.cumsum((0, *wide_widths[:-1]))
        pairs = zip(starts, own_widths, strict=True)
        places.append(np.concatenate([start + np.arange(width) for start, width in pairs]))
    return np.ix_(*places)


def _shape(axes: Axes) -> tuple[int, ...]:
    return tuple(map(sum, axes))


def _map(
    module: nn.Module, wide: nn.Module, tree: Any, x_shape: Sequence[int], embeds: bool
) -> Any:
    if not can_share(module, wide):
        raise ValueError(f"{wide!r} is not {module!r} with other widths.")
    if any(
        own > widest
        for own, widest in zip(width_of(module) or (), width_of(wide) or (), strict=True)
    ):
        raise ValueError(f"{wide!r} is narrower than {module!r}.")
    own_blocks, wide_blocks = (
        flatten_dict(network.parameter_blocks(tuple(x_shape))) for network in (module, wide)
    )

    def change(path: Any, leaf: Any) -> Any:
        names: tuple[Any, ...] = tuple(getattr(part, "key", None) for part in path)
        known = (names[start:] for start in range(len(names)))
        name = next((name for name in known if name in own_blocks), None)
        if name is None:
            return leaf
        own, padded = own_blocks[name], wide_blocks[name]
        wanted = _shape(own if embeds else padded)
        lanes, shape = np.shape(leaf)[: -len(wanted)], np.shape(leaf)[-len(wanted) :]
        if shape != wanted:
            raise ValueError(
                f"{'/'.join(name)} must have the shape {wanted}, after any axes of lanes,"
                f" got {np.shape(leaf)}."
            )
        places: Any = (..., *_places(own, padded))
        if not embeds:
            return leaf[places]
        if isinstance(leaf, jax.Array):
            return jnp.zeros((*lanes, *_shape(padded)), leaf.dtype).at[places].set(leaf)
        zeros = np.zeros((*lanes, *_shape(padded)), leaf.dtype)
        zeros[places] = leaf
        return zeros

    return jax.tree_util.tree_map_with_path(change, tree)


def embed(module: nn.Module, wide: nn.Module, tree: Any, x_shape: Sequence[int]) -> Any:
    """Pads parameters, or anything that holds such, with zeros.

    Args:
      module: the network that they belong to.
      wide: the same network with larger widths, see `widest`.
      tree: parameters, NumPy's or JAX's arrays; or any pytree in which dicts like the parameters
        occur, such as a trial's state: gradients, an optimizer's slots and the best weights are
        padded, too. Axes before a parameter's own are those of lanes. Other leaves stay.
      x_shape: shape of the network's input, ``[B, ...]``; B does not matter.

    Returns:
      The tree with arrays of the wide network's shapes.

    Raises:
      ValueError: networks that differ in more than widths; a ``wide`` narrower than ``module``; an
        array that is not of ``module``'s shape.
    """
    return _map(module, wide, tree, x_shape, embeds=True)


def extract(module: nn.Module, wide: nn.Module, tree: Any, x_shape: Sequence[int]) -> Any:
    """Takes ``module``'s entries out of a tree of the wide network: the inverse of `embed`.

    Arguments and errors are `embed`'s; arrays have ``wide``'s shapes.
    """
    return _map(module, wide, tree, x_shape, embeds=False)
