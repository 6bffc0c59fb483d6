"""Augmentations of audio features ``[T, F]``, T frames of F bands or coefficients.

References:
  Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition",
  arXiv:1904.08779.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlstm.train.augment.base import Array, Augmentation
from jaxlstm.train.hyperparameters import COUNT, NOT_NEGATIVE, SHARE, SIZE, check_number

_ANYTHING = NOT_NEGATIVE._replace(low=-np.inf)


class _OfFrames(Augmentation):
    def _check_frames(self, x: Array) -> None:
        self._check_row(x, (2,), "sequences [T, F]")


def _covered(key: Array, places: int, widest: Any, masks: int, size: Any = None) -> Array:
    """Which of so many places some mask covers.

    A mask is 0 to ``widest`` wide and lies anywhere within the first ``size`` places, by default all.
    """
    size = places if size is None else size
    width_key, place_key = jax.random.split(key)
    most = jnp.minimum(widest, size) + 1
    width = jax.random.randint(width_key, (masks, 1), 0, most, jnp.int32)
    first = jax.random.randint(place_key, (masks, 1), 0, size - width + 1, jnp.int32)
    place = jnp.arange(places, dtype=jnp.int32)[None]
    return jnp.any((place >= first) & (place < first + width), axis=0)


def _mean(x: Array, length: Array | None) -> Array:
    """Mean of each feature over a row's own steps, ``[1, F]``."""
    if length is None:
        return jnp.mean(x, axis=0, keepdims=True)
    own = jnp.arange(len(x))[:, None] < length
    return jnp.sum(jnp.where(own, x, 0), axis=0, keepdims=True) / length.astype(x.dtype)


def _filled(x: Array, covered: Array, fill: Any, length: Array | None) -> Array:
    value = _mean(x, length) if fill == "mean" else fill
    return jnp.where(covered, jnp.asarray(value, x.dtype), x)


def _check_fill(augmentation: Any) -> None:
    if augmentation.fill != "mean":
        if isinstance(augmentation.fill, str):
            raise ValueError(
                f"{type(augmentation).__name__}'s fill must be 'mean' or a number, got"
                f" {augmentation.fill!r}."
            )
        check_number(f"{type(augmentation).__name__}'s fill", augmentation.fill, _ANYTHING)


@dataclasses.dataclass(frozen=True, repr=False)
class TimeMask(_OfFrames):
    """Hides stretches of frames.

    Attributes:
      frames: most frames of a mask; each has 0 to that many.
      masks: how many there are.
      share: most frames of a mask as a share of the row's.
      fill: what hidden numbers become: "mean", each feature's over the row (0 in the paper, whose
        features have mean 0), or a number.
    """

    frames: int = 10
    masks: int = 1
    share: float = 1.0
    fill: float | str = "mean"

    def __post_init__(self) -> None:
        self._check(frames=COUNT, masks=SIZE, share=SHARE)
        _check_fill(self)

    def __call__(self, key: Array, x: Array, length: Array | None = None) -> Array:
        """Returns the row with its frames hidden."""
        self._check_frames(x)
        widest: Any = min(self.frames, int(self.share * len(x)))
        if length is not None:
            # Looked up: a product of float32 may round to another side of a whole number.
            most = [min(self.frames, int(self.share * own)) for own in range(len(x) + 1)]
            widest = jnp.asarray(most, jnp.int32)[length]
        covered = _covered(key, len(x), widest, self.masks, length)
        return _filled(x, covered[:, None], self.fill, length)


@dataclasses.dataclass(frozen=True, repr=False)
class FrequencyMask(_OfFrames):
    """Hides neighbouring features, the same ones in all frames.

    Attributes:
      features: most features of a mask; each has 0 to that many.
      masks: how many there are.
      fill: see `TimeMask`.
    """

    features: int = 4
    masks: int = 1
    fill: float | str = "mean"

    def __post_init__(self) -> None:
        self._check(features=COUNT, masks=SIZE)
        _check_fill(self)

    def __call__(self, key: Array, x: Array, length: Array | None = None) -> Array:
        """Returns the row with its features hidden."""
        self._check_frames(x)
        covered = _covered(key, x.shape[1], self.features, self.masks)
        return _filled(x, covered[None], self.fill, length)


@dataclasses.dataclass(frozen=True, repr=False)
class Noise(_OfFrames):
    """Adds white noise, as loud in proportion for every feature of the row.

    Attributes:
      low: lowest signal-to-noise ratio, in decibel; drawn uniformly, one for a row. The signal is a
        feature's deviation from its mean over the row.
      high: the highest.
    """

    low: float = 20.0
    high: float = 40.0

    def __post_init__(self) -> None:
        self._check(low=_ANYTHING, high=_ANYTHING)
        if self.low > self.high:
            raise ValueError(
                f"Noise's low must not be above high, got {self.low!r} and {self.high!r}."
            )

    def __call__(self, key: Array, x: Array, length: Array | None = None) -> Array:
        """Returns the row with noise."""
        self._check_frames(x)
        level_key, noise_key = jax.random.split(key)
        decibel = jax.random.uniform(level_key, (), x.dtype, self.low, self.high)
        deviation = jnp.std(x, axis=0, keepdims=True)
        if length is not None:
            deviation = jnp.sqrt(_mean(jnp.square(x - _mean(x, length)), length))
        level = deviation * 10 ** (-decibel / 20)
        return x + level * jax.random.normal(noise_key, x.shape, x.dtype)
