"""What augmentations are, and how a batch of rows goes through them."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from jaxlstm.train import hyperparameters

Array = jax.Array

Augmentations = tuple[Callable[..., Array], ...]


class Augmentation:
    """A random change of one row of the data set, in training only.

    A subclass is a frozen dataclass of settings that shape the program. It is called with a random
    key and a row ``[T, F]``, and returns a row of the same shape and type; `augment_rows` calls it
    with a key of its own for each row. Where rows are of unequal length, one that takes a third
    argument ``length`` gets the number of the row's own steps, which come first; what it makes of
    the others is not looked at.
    """

    def __call__(self, key: Array, x: Array) -> Array:
        """Returns the row, changed."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """The settings that are not the usual ones, as scikit-learn shows an estimator."""
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if getattr(self, field.name) != field.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    def _check(self, **allowed: Any) -> None:
        """Raises TypeError or ValueError unless each setting is such a number."""
        for name, numbers in allowed.items():
            label = f"{type(self).__name__}'s {name}"
            hyperparameters.check_number(label, getattr(self, name), numbers)

    def _check_row(self, x: Array, ranks: tuple[int, ...], wanted: str) -> None:
        """Raises ValueError for a row of another rank."""
        if x.ndim not in ranks:
            raise ValueError(f"{type(self).__name__} takes {wanted}, got a row of shape {x.shape}.")


class Affine(Augmentation):
    """An augmentation of images that looks each pixel up where a matrix says.

    Neighbours of this kind are one resampling: their matrices are multiplied. Keep them side by side:
    what stands before a resampling may be computed anew for each pixel that it reads.
    """

    def matrix(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        """Where a pixel of the result comes from.

        Args:
          key: a random key.
          shape: of the image, ``(H, W)`` or ``(H, W, C)``.
          dtype: type of the result.

        Returns:
          ``[2, 3]``: times (row, column, 1) of a pixel of the result, from the image's centre, it is
          (row, column) of where to look, from the centre.
        """
        raise NotImplementedError

    def __call__(self, key: Array, x: Array) -> Array:
        """Returns the image ``[H, W]`` or ``[H, W, C]``, resampled."""
        self._check_image(x)
        return resample(x, self.matrix(key, x.shape, x.dtype))

    def _check_image(self, x: Array) -> None:
        self._check_row(x, (2, 3), "images [H, W] or [H, W, C]")


def after(first: Array, second: Array) -> Array:
    """The matrix ``[2, 3]`` of one look-up and then another on its result.

    Sums of products in the data's own precision: an accelerator's matrix product would round more.
    """
    linear = jnp.sum(first[:, :2, None] * second[None, :, :], axis=1)
    return linear.at[:, 2].add(first[:, 2])


def resample(x: Array, matrix: Array) -> Array:
    """Looks an image up between its pixels, bilinearly; beyond its edge is its edge.

    The same as `scipy.ndimage.affine_transform` with ``order=1, mode="nearest"``.

    Args:
      x: ``[H, W]`` or ``[H, W, C]``.
      matrix: see `Affine.matrix`.
    """
    height, width = x.shape[:2]
    middle = (height - 1) / 2, (width - 1) / 2
    row = (jnp.arange(height, dtype=x.dtype) - middle[0])[:, None]
    column = (jnp.arange(width, dtype=x.dtype) - middle[1])[None, :]
    places = [matrix[i, 0] * row + matrix[i, 1] * column + matrix[i, 2] + middle[i] for i in (0, 1)]

    def look_up(channel: Array) -> Array:
        return map_coordinates(channel, places, order=1, mode="nearest")

    return look_up(x) if x.ndim == 2 else jax.vmap(look_up, in_axes=-1, out_axes=-1)(x)


@functools.lru_cache(maxsize=256)
def _takes_length(one: Callable[..., Array]) -> bool:
    try:
        return "length" in inspect.signature(one).parameters
    except (TypeError, ValueError):
        return False


def augment_row(
    augmentations: Augmentations, key: Array, x: Array, length: Array | None = None
) -> Array:
    """One row through all augmentations, each with a key of its own.

    ``length`` is the number of its own steps, None where all are.
    """
    runs = itertools.groupby(enumerate(augmentations), lambda one: isinstance(one[1], Affine))
    for is_affine, run in runs:
        members = [(jax.random.fold_in(key, place), one) for place, one in run]
        if is_affine and len(members) > 1:
            matrices = []
            for own, one in members:
                one._check_image(x)  # type: ignore[attr-defined]
                matrices.append(one.matrix(own, x.shape, x.dtype))  # type: ignore[attr-defined]
            x = resample(x, functools.reduce(after, matrices))
            continue
        for own, one in members:
            more = () if length is None or not _takes_length(one) else (length,)
            x = one(own, x, *more)
    return x


def augment_rows(
    augmentations: Augmentations,
    key: Array,
    x: Array,
    first_row: Any = 0,
    lengths: Array | None = None,
) -> Array:
    """Rows through all augmentations.

    A row's randomness comes from the key and its own place: an epoch cut into pieces gives what the
    whole one gives.

    Args:
      augmentations: callables ``(key, row) -> row``.
      key: a random key of the epoch.
      x: rows ``[B, ...]``.
      first_row: place in the epoch of the first of them, an integer; may be traced.
      lengths: steps of each row that are its own, ``[B]``; None: all.
    """
    places = jnp.asarray(first_row, jnp.uint32) + jnp.arange(len(x), dtype=jnp.uint32)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, places)
    return jax.vmap(functools.partial(augment_row, augmentations))(keys, x, lengths)


def checked(
    augment: Any, shape: tuple[int, ...], dtype: Any, is_ragged: bool = False
) -> Augmentations:
    """The estimators' parameter ``augment`` as a tuple.

    Args:
      augment: one augmentation, a tuple or list of them, or None.
      shape: of a row of the data set.
      dtype: its type.
      is_ragged: whether rows are of unequal length.

    Raises:
      TypeError: something that cannot be called or hashed.
      ValueError: an augmentation that does not take such rows, or changes their shape or type.
    """
    if augment is None or callable(augment):
        augment = () if augment is None else (augment,)
    if not isinstance(augment, Sequence) or isinstance(augment, str):
        raise TypeError(
            "augment must be an augmentation (see jaxlstm.train.augment) or a tuple of them, got"
            f" {augment!r}."
        )
    for place, one in enumerate(augment):
        if isinstance(one, type) or not callable(one):
            hint = f" Did you mean {one.__name__}()?" if isinstance(one, type) else ""
            raise TypeError(f"augment[{place}] must be called as (key, row), got {one!r}.{hint}")
        try:
            hash(one)
        except TypeError as error:
            raise TypeError(
                f"augment[{place}] must be hashable, so that trials can share a program: {error}."
            ) from error
        if is_ragged and isinstance(one, Affine):
            raise ValueError(
                f"{one!r} in augment is for images of one size; rows of unequal length are none."
            )
    _check_rows(tuple(augment), tuple(shape), jnp.dtype(dtype))
    return tuple(augment)


@functools.lru_cache(maxsize=256)
def _check_rows(augmentations: Augmentations, shape: tuple[int, ...], dtype: Any) -> None:
    key = jax.eval_shape(lambda: jax.random.key(0))
    row: Any = jax.ShapeDtypeStruct(shape, dtype)
    for one in augmentations:
        got = jax.eval_shape(one, key, row)
        found = getattr(got, "shape", None), getattr(got, "dtype", None)
        if found != (shape, dtype):
            said = f"{found[1]} of shape {found[0]}" if found[1] else type(got).__name__
            raise ValueError(
                f"{one!r} in augment must return a row as it gets it, {dtype} of shape {shape};"
                f" it returns {said}."
            )
