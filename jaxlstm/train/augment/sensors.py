"""Augmentations of sensors' windows ``[T, F]``, T steps of F channels.

References:
  Um et al., "Data Augmentation of Wearable Sensor Data for Parkinson's Disease Monitoring using
  Convolutional Neural Networks", arXiv:1706.00527. Le Guennec et al., "Data Augmentation for Time
  Series Classification using Convolutional Neural Networks", ECML/PKDD workshop AALTD 2016.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import CubicSpline

from jaxlstm.train.augment.base import Array, Augmentation
from jaxlstm.train.hyperparameters import NOT_NEGATIVE, SHARE, SIZE

# A clock that stands still or runs back has no inverse.
LEAST_SPEED = 0.1


class _OfSteps(Augmentation):
    def _check_steps(self, x: Array) -> None:
        self._check_row(x, (2,), "sequences [T, F]")


@dataclasses.dataclass(frozen=True, repr=False)
class Jitter(_OfSteps):
    """Adds noise to every number.

    Attributes:
      sigma: its standard deviation, in the data's units; Um et al. take 0.05 (g).
    """

    sigma: float = 0.05

    def __post_init__(self) -> None:
        self._check(sigma=NOT_NEGATIVE)

    def __call__(self, key: Array, x: Array) -> Array:
        """Returns the window with noise."""
        self._check_steps(x)
        return x + self.sigma * jax.random.normal(key, x.shape, x.dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class Scaling(_OfSteps):
    """Multiplies every channel by a number of its own.

    Attributes:
      sigma: standard deviation of that number about 1.
    """

    sigma: float = 0.1

    def __post_init__(self) -> None:
        self._check(sigma=NOT_NEGATIVE)

    def __call__(self, key: Array, x: Array) -> Array:
        """Returns the window, scaled."""
        self._check_steps(x)
        factors = 1 + self.sigma * jax.random.normal(key, (1, x.shape[1]), x.dtype)
        return x * factors


@dataclasses.dataclass(frozen=True, repr=False)
class Rotation(_OfSteps):
    """Turns the sensor in space, as if it had been worn another way round.

    Channels are x, y, z of one sensor after another; all sensors of a row turn together. The axis is
    uniform on the sphere (Um et al. draw it in a cube, whose corners it then prefers), the angle
    uniform.

    Attributes:
      degrees: largest angle, either way.
    """

    degrees: float = 180.0

    def __post_init__(self) -> None:
        self._check(degrees=NOT_NEGATIVE)

    def matrix(self, key: Array, dtype: np.dtype) -> Array:
        """A rotation ``[3, 3]`` by Rodrigues's formula."""
        axis_key, angle_key = jax.random.split(key)
        axis = jax.random.normal(axis_key, (3,), dtype)
        x, y, z = axis / jnp.linalg.norm(axis)
        bound = np.deg2rad(self.degrees)
        angle = bound * jax.random.uniform(angle_key, (), dtype, -1, 1)
        cos, sin, rest = jnp.cos(angle), jnp.sin(angle), 1 - jnp.cos(angle)
        rows = [
            [cos + x * x * rest, x * y * rest - z * sin, x * z * rest + y * sin],
            [y * x * rest + z * sin, cos + y * y * rest, y * z * rest - x * sin],
            [z * x * rest - y * sin, z * y * rest + x * sin, cos + z * z * rest],
        ]
        return jnp.stack([jnp.stack(row) for row in rows])

    def __call__(self, key: Array, x: Array) -> Array:
        """Returns the window, turned."""
        self._check_steps(x)
        if x.shape[1] % 3:
            raise ValueError(
                "Rotation takes channels in threes, x, y, z of each sensor, got a row of shape"
                f" {x.shape}."
            )
        vectors = x.reshape(len(x), -1, 1, 3)
        # Not a matrix product, which an accelerator would round.
        turned = jnp.sum(vectors * self.matrix(key, x.dtype)[None, None], axis=-1)
        return turned.reshape(x.shape)


@dataclasses.dataclass(frozen=True, repr=False)
class TimeWarp(_OfSteps):
    """Lets time run faster here and slower there, the same for all channels.

    The clock's speed is a cubic spline through numbers about 1 at evenly spaced steps, and at least
    0.1; first and last step stay in place, values between steps are interpolated linearly.

    Attributes:
      sigma: standard deviation of those numbers.
      knots: how many of them lie between the first step and the last, which have one each.
    """

    sigma: float = 0.2
    knots: int = 4

    def __post_init__(self) -> None:
        self._check(sigma=NOT_NEGATIVE, knots=SIZE)

    def clock(self, key: Array, steps: int, dtype: np.dtype, length: Array | None = None) -> Array:
        """When each step is after the warp, in steps, ``[steps]``; of the first ``length`` ones."""
        knots = np.linspace(0, steps - 1, self.knots + 2)
        # A spline is linear in its values: one column for each knot.
        spline = CubicSpline(knots, np.eye(len(knots)))
        last: Any
        if length is None:
            columns, last = jnp.asarray(spline(np.arange(steps)), dtype), steps - 1
        else:
            last = jnp.maximum(length - 1, 1)
            at = jnp.arange(steps, dtype=dtype) * ((steps - 1) / last.astype(dtype))
            columns = _spline_at(spline, at)
        values = 1 + self.sigma * jax.random.normal(key, (1, len(knots)), dtype)
        speed = jnp.sum(columns * values, axis=1)
        time = jnp.cumsum(jnp.maximum(speed, LEAST_SPEED))
        time = time - time[0]
        time = time * (last / time[last])
        if length is None:
            return time
        # No rounding lets the last step look at what comes after it.
        return jnp.where(jnp.arange(steps) == last, last.astype(dtype), time)

    def __call__(self, key: Array, x: Array, length: Array | None = None) -> Array:
        """Returns the window, warped."""
        self._check_steps(x)
        if len(x) < 2:
            return x
        clock = self.clock(key, len(x), x.dtype, length)
        steps = jnp.arange(len(x), dtype=x.dtype)
        return jax.vmap(lambda one: jnp.interp(steps, clock, one), 1, 1)(x)


def _spline_at(spline: CubicSpline, at: Array) -> Array:
    """A spline's columns at traced places, ``[places, columns]``; beyond its end as at its end."""
    knots, powers = jnp.asarray(spline.x, at.dtype), jnp.asarray(spline.c, at.dtype)
    at = jnp.minimum(at, knots[-1])
    piece = jnp.clip(jnp.searchsorted(knots, at, side="right") - 1, 0, len(spline.x) - 2)
    x = (at - knots[piece])[:, None]
    a, b, c, d = (power[piece] for power in powers)
    return ((a * x + b) * x + c) * x + d


@dataclasses.dataclass(frozen=True, repr=False)
class WindowSlice(_OfSteps):
    """Cuts a piece out of the window and stretches it to the window's length, linearly.

    Attributes:
      share: length of the piece, a share of the window's.
    """

    share: float = 0.9

    def __post_init__(self) -> None:
        self._check(share=SHARE._replace(open_low=True))

    def __call__(self, key: Array, x: Array, length: Array | None = None) -> Array:
        """Returns the piece, stretched."""
        self._check_steps(x)
        steps = len(x)
        if length is not None:
            return self._of_first(key, jnp.asarray(x), length)
        size = self._size(steps)
        first = jax.random.randint(key, (), 0, steps - size + 1, jnp.int32)
        place = np.linspace(0, size - 1, steps)
        whole = np.minimum(np.floor(place), max(0, size - 2)).astype(np.int32)
        part = jnp.asarray(place - whole, x.dtype)[:, None]
        low = x[first + whole]
        return low + part * (x[jnp.minimum(first + whole + 1, steps - 1)] - low)

    def _size(self, steps: int) -> int:
        """Steps of the piece."""
        return min(steps, max(1, int(np.ceil(self.share * steps - 1e-9))))

    def _of_first(self, key: Array, x: Array, length: Array) -> Array:
        """The same of a row's first steps, whose number is traced."""
        sizes = [self._size(steps) for steps in range(len(x) + 1)]
        size = jnp.asarray(sizes, jnp.int32)[length]
        first = jax.random.randint(key, (), 0, length - size + 1, jnp.int32)
        stretch = (size - 1).astype(x.dtype) / jnp.maximum(length - 1, 1).astype(x.dtype)
        place = jnp.arange(len(x), dtype=x.dtype) * stretch
        whole = jnp.minimum(jnp.floor(place).astype(jnp.int32), jnp.maximum(0, size - 2))
        part = (place - whole.astype(x.dtype))[:, None]
        last = length - 1
        low = x[jnp.minimum(first + whole, last)]
        return low + part * (x[jnp.minimum(first + whole + 1, last)] - low)
