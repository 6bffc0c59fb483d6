"""Augmentations of images: a row is ``[H, W]`` grey values, or ``[H, W, C]``.

Ranges and conventions are those of Keras's `ImageDataGenerator`: bilinear interpolation, and beyond
the edge the nearest pixel. In its order (rotation, shift, shear, zoom, flip) a chain is what it
computes from the same draws, for square images; for others Keras takes height for width.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlstm.train.augment.base import Affine, Array, Augmentation
from jaxlstm.train.hyperparameters import NOT_NEGATIVE, RATE, SHARE, check_number


def _uniform(key: Array, bound: Any, dtype: Any, shape: tuple[int, ...] = ()) -> Array:
    """Uniform between minus and plus ``bound``."""
    return bound * jax.random.uniform(key, shape, dtype, -1, 1)


def _matrix(linear: Any, offset: Any, dtype: Any) -> Array:
    """``[2, 3]`` from its numbers, traced ones among them."""
    rows = [[*row, shift] for row, shift in zip(linear, offset, strict=True)]
    return jnp.stack([jnp.stack([jnp.asarray(n, dtype) for n in row]) for row in rows])


@dataclasses.dataclass(frozen=True, repr=False)
class RandomFlip(Affine):
    """Mirrors an image, each way with probability 1/2.

    Attributes:
      horizontal: whether left and right may change places.
      vertical: whether top and bottom may.
    """

    horizontal: bool = True
    vertical: bool = False

    def __post_init__(self) -> None:
        for name in ("horizontal", "vertical"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                got = getattr(self, name)
                raise TypeError(f"RandomFlip's {name} must be True or False, got {got!r}.")

    def _flips(self, key: Array) -> Array:
        """Whether to mirror rows and columns, ``[2]``."""
        return jax.random.bernoulli(key, shape=(2,)) & jnp.array([self.vertical, self.horizontal])

    def matrix(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        """See `Affine.matrix`."""
        sign = jnp.where(self._flips(key), -1, 1)
        return _matrix([[sign[0], 0], [0, sign[1]]], (0, 0), dtype)

    def __call__(self, key: Array, x: Array) -> Array:
        """Returns the image, its pixels as they are."""
        self._check_image(x)
        flips = self._flips(key)
        x = jnp.where(flips[0], x[::-1], x)
        return jnp.where(flips[1], x[:, ::-1], x)


@dataclasses.dataclass(frozen=True, repr=False)
class RandomRotation(Affine):
    """Turns an image about its centre.

    Attributes:
      degrees: largest angle, either way (Keras's ``rotation_range``).
    """

    degrees: float = 10.0

    def __post_init__(self) -> None:
        self._check(degrees=NOT_NEGATIVE)

    def matrix(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        """See `Affine.matrix`."""
        angle = _uniform(key, np.deg2rad(self.degrees), dtype)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return _matrix([[cos, sin], [-sin, cos]], (0, 0), dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class RandomShift(Affine):
    """Moves an image, by fractions of a pixel, too.

    Attributes:
      height: largest move up or down, a share of the height.
      width: largest move to the left or right, a share of the width.
    """

    height: float = 0.1
    width: float = 0.1

    def __post_init__(self) -> None:
        self._check(height=SHARE, width=SHARE)

    def matrix(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        """See `Affine.matrix`."""
        draws = _uniform(key, 1, dtype, (2,))
        moves = draws[0] * (self.height * shape[0]), draws[1] * (self.width * shape[1])
        return _matrix([[1, 0], [0, 1]], moves, dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class RandomShear(Affine):
    """Shears an image: rows are moved along themselves, the further from the centre the more.

    The setting is an angle in degrees, as ``shear_range`` of Keras's `ImageDataGenerator` is since 2018
    (before it was in radians): its 0.2 is 0.2 degrees, which moves the outer rows of an image of 32 by
    0.06 pixels. `keras.layers.RandomShear` takes a factor instead: its 0.2 moves a row by up to 0.2 of
    its distance from the centre, as 11.5 degrees do here.

    Attributes:
      degrees: largest angle, either way.
    """

    degrees: float = 0.2

    def __post_init__(self) -> None:
        self._check(degrees=NOT_NEGATIVE)

    def matrix(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        """See `Affine.matrix`."""
        angle = _uniform(key, np.deg2rad(self.degrees), dtype)
        return _matrix([[jnp.cos(angle), 0], [-jnp.sin(angle), 1]], (0, 0), dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class RandomZoom(Affine):
    """Zooms height and width, each by a factor of its own.

    A factor is the share of the image that fills the result: below 1 zooms in, above 1 out.

    Attributes:
      zoom: z for factors in [1 - z, 1 + z], or ``(lowest, highest)`` (Keras's ``zoom_range``).
    """

    zoom: float | tuple[float, float] = 0.2

    def __post_init__(self) -> None:
        if isinstance(self.zoom, tuple):
            if len(self.zoom) != 2 or not 0 < self.zoom[0] <= self.zoom[1] < np.inf:
                raise ValueError(
                    "RandomZoom's zoom must be a number in [0, 1) or (lowest, highest) factor, above"
                    f" 0, got {self.zoom!r}."
                )
        else:
            self._check(zoom=RATE)

    def matrix(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        """See `Affine.matrix`."""
        zoom = self.zoom
        low, high = zoom if isinstance(zoom, tuple) else (1 - zoom, 1 + zoom)
        factors = jax.random.uniform(key, (2,), dtype, low, high)
        return _matrix([[factors[0], 0], [0, factors[1]]], (0, 0), dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class RandomCrop(Affine):
    """Cuts a window out of an image and stretches it to the image's size.

    The window has the image's proportions; its size and place are drawn uniformly.

    Attributes:
      share: least height of the window, a share of the image's.
    """

    share: float = 0.8

    def __post_init__(self) -> None:
        self._check(share=SHARE._replace(open_low=True))

    def matrix(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        """See `Affine.matrix`."""
        size_key, place_key = jax.random.split(key)
        size = jax.random.uniform(size_key, (), dtype, self.share, 1)
        place = _uniform(place_key, (1 - size) / 2, dtype, (2,))
        moves = place[0] * shape[0], place[1] * shape[1]
        return _matrix([[size, 0], [0, size]], moves, dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class RandomBrightness(Augmentation):
    """Adds one number to all pixels, and clips them (`keras.layers.RandomBrightness`).

    Attributes:
      factor: largest number either way, a share of the range.
      low: the darkest value that a pixel may have.
      high: the brightest.
    """

    factor: float = 0.2
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        self._check(factor=SHARE)
        for name in ("low", "high"):
            anything = NOT_NEGATIVE._replace(low=-np.inf)
            check_number(f"RandomBrightness's {name}", getattr(self, name), anything)
        if not self.low < self.high:
            raise ValueError(
                f"RandomBrightness's low must be below high, got {self.low!r} and {self.high!r}."
            )

    def __call__(self, key: Array, x: Array) -> Array:
        """Returns the image, brighter or darker."""
        more = _uniform(key, self.factor * (self.high - self.low), x.dtype)
        return jnp.clip(x + more, self.low, self.high)
