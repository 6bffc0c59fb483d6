"""Augmentations: their draws, what they do with them, and where a row's randomness comes from."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from numpy.testing import assert_allclose, assert_array_equal
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation as Turn

from jaxlstm.train.augment import (
    FrequencyMask,
    Jitter,
    Noise,
    RandomBrightness,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomShear,
    RandomShift,
    RandomZoom,
    Rotation,
    Scaling,
    TimeMask,
    TimeWarp,
    WindowSlice,
    augment_row,
    augment_rows,
    checked,
)

IMAGES: list[Any] = [
    RandomFlip(),
    RandomRotation(25),
    RandomShift(0.2, 0.3),
    RandomShear(15),
    RandomZoom(0.3),
    RandomCrop(0.6),
    RandomBrightness(0.3),
]
SERIES: list[Any] = [
    Jitter(0.1),
    Scaling(0.2),
    Rotation(),
    TimeWarp(0.3),
    WindowSlice(0.7),
    TimeMask(8, masks=2),
    FrequencyMask(4, masks=2),
    Noise(5, 15),
]
CHAIN = (RandomRotation(30), RandomShift(0.1, 0.2), RandomShear(20), RandomZoom(0.2), RandomFlip())


def rows_of(*shape: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(4).uniform(size=shape).astype(dtype)


def keys(count: int, seed: int = 0) -> Any:
    return jax.random.split(jax.random.key(seed), count)


def matrices(one: Any, count: int = 3000, shape: tuple[int, ...] = (20, 30)) -> Any:
    return np.asarray(jax.vmap(lambda key: one.matrix(key, shape, jnp.float32))(keys(count)), float)


def assert_uniform(draws: Any, low: float, high: float) -> None:
    assert draws.min() >= low - 1e-5
    assert draws.max() <= high + 1e-5
    assert scipy.stats.kstest(draws, scipy.stats.uniform(low, high - low).cdf).pvalue > 1e-3


class TestEvery:
    @pytest.mark.parametrize("one", [*IMAGES, *SERIES], ids=repr)
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.usefixtures("strict_ranks")
    def test_rows_differ_and_keep_their_type(self, one: Any, dtype: Any) -> None:
        with jax.enable_x64(dtype == np.float64):
            x = np.repeat(rows_of(1, 11, 12, dtype=dtype), 40, axis=0)
            key = jax.random.key(1)
            got = jax.jit(lambda key, x: augment_rows((one,), key, x))(key, x)
            assert got.shape == x.shape
            assert got.dtype == dtype
            different = {row.tobytes() for row in np.asarray(got)}
            assert len(different) == (2 if isinstance(one, RandomFlip) else 4) or len(different) > 9
            # vmap and jit do what one call after another does, but for the last bits.
            tolerance = 1e-5 if dtype == np.float32 else 1e-12
            for place in (0, 39):
                own = jax.random.fold_in(jax.random.fold_in(key, place), 0)
                assert_allclose(got[place], one(own, x[place]), rtol=tolerance, atol=tolerance)

    @pytest.mark.parametrize("one", [*IMAGES, *SERIES], ids=repr)
    def test_a_rows_randomness_is_its_place(self, one: Any) -> None:
        """Pieces of an epoch are the epoch, and lanes with other keys see other rows."""
        x, key = rows_of(12, 11, 12), jax.random.key(2)
        run = jax.jit(lambda key, x, first: augment_rows((one,), key, x, first))
        whole = run(key, x, 5)
        parts = [run(key, x[start : start + 4], 5 + start) for start in (0, 4, 8)]
        # Programs for 4 rows and for 12 may round differently.
        assert_allclose(np.concatenate(parts), whole, rtol=1e-6, atol=1e-6)
        lanes = jax.jit(jax.vmap(lambda key: augment_rows((one,), key, x, 5)))(
            jnp.stack([key, jax.random.key(3)])
        )
        assert_allclose(lanes[0], whole, rtol=1e-6, atol=1e-6)
        assert not np.allclose(lanes[1], whole, atol=1e-3)

    def test_settings_are_values(self) -> None:
        for one in [*IMAGES, *SERIES]:
            same = dataclasses.replace(one)
            assert same == one
            assert hash(same) == hash(one)
            assert same is not one
        assert RandomZoom(0.1) != RandomZoom(0.2)
        assert RandomShear(0.2) != RandomZoom(0.2)
        assert repr((RandomFlip(), RandomZoom(0.1))) == "(RandomFlip(), RandomZoom(zoom=0.1))"

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: RandomZoom(1.0), r"RandomZoom's zoom must be a number in \[0, 1\), got 1\.0"),
            (lambda: RandomZoom((1.2, 0.8)), r"\(lowest, highest\).* got \(1\.2, 0\.8\)"),
            (lambda: RandomShift(2), r"RandomShift's height must be .*\[0, 1\], got 2"),
            (lambda: RandomCrop(0), r"RandomCrop's share must be .*\(0, 1\], got 0"),
            (lambda: RandomBrightness(0.1, 1, 0), "low must be below high, got 1 and 0"),
            (lambda: Jitter(-1), "Jitter's sigma must be a number of at least 0, got -1"),
            (lambda: TimeWarp(0.1, 0), "TimeWarp's knots must be .* got 0"),
            (lambda: TimeMask(fill="median"), "TimeMask's fill must be 'mean' or .* 'median'"),
            (lambda: Noise(3, 1), "Noise's low must not be above high, got 3 and 1"),
            (lambda: WindowSlice(1.5), "WindowSlice's share must be .* got 1.5"),
        ],
    )
    def test_bad_settings(self, make: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            make()

    def test_wrong_types(self) -> None:
        with pytest.raises(TypeError, match="RandomFlip's vertical must be True or False, got 1"):
            RandomFlip(vertical=1)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="FrequencyMask's features must be an integer"):
            FrequencyMask(2.5)  # type: ignore[arg-type]

    def test_wrong_rows(self) -> None:
        key = jax.random.key(0)
        for chain in [(RandomFlip(),), (RandomFlip(), RandomZoom())]:
            with pytest.raises(ValueError, match=r"takes images .* got a row of shape \(7,\)"):
                augment_row(chain, key, jnp.zeros(7))
        for one in SERIES:
            with pytest.raises(ValueError, match=r"takes sequences \[T, F\], got a row"):
                one(key, jnp.zeros((3, 3, 3)))
        with pytest.raises(ValueError, match=r"in threes.* got a row of shape \(5, 4\)"):
            Rotation()(key, jnp.zeros((5, 4)))

    def test_checked_makes_a_tuple(self) -> None:
        one = RandomFlip()
        for given in [one, [one], (one,)]:
            assert checked(given, (3, 4), np.float32) == (one,)
        assert checked((), (3, 4), np.float32) == checked(None, (3, 4), np.float32) == ()
        with pytest.raises(TypeError, match="must be hashable"):
            checked(
                dataclasses.make_dataclass("Own", [], namespace={"__call__": abs})(), (3,), "f4"
            )
        with pytest.raises(ValueError, match="it returns tuple"):
            checked(lambda key, x: (x, x), (3,), np.float32)
        with pytest.raises(ValueError, match="it returns int32 of shape"):
            checked(lambda key, x: x.astype("int32"), (3,), np.float32)

    @pytest.mark.parametrize("one", SERIES, ids=repr)
    @pytest.mark.parametrize("shape", [(1, 3), (2, 3)])
    def test_shortest_rows(self, one: Any, shape: Any) -> None:
        got = augment_rows((one,), jax.random.key(0), rows_of(20, *shape))
        assert np.isfinite(got).all()


class TestImages:
    def test_draws_are_uniform(self) -> None:
        turned = matrices(RandomRotation(30))
        angle = np.rad2deg(np.arctan2(turned[:, 0, 1], turned[:, 0, 0]))
        assert_uniform(angle, -30, 30)
        assert_allclose(turned[:, 1, 0], -turned[:, 0, 1])
        assert_uniform(np.rad2deg(np.arcsin(-matrices(RandomShear(20))[:, 1, 0])), -20, 20)
        for factors in (matrices(RandomZoom(0.2)), matrices(RandomZoom((0.8, 1.2)))):
            rows, columns = factors[:, 0, 0], factors[:, 1, 1]
            assert_uniform(rows, 0.8, 1.2)
            assert_uniform(columns, 0.8, 1.2)
            assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.06  # three standard errors
        moves = matrices(RandomShift(0.1, 0.2))[:, :, 2]
        assert_uniform(moves[:, 0], -2, 2)
        assert_uniform(moves[:, 1], -6, 6)
        signs = matrices(RandomFlip(vertical=True))
        for axis in (0, 1):
            assert 0.47 < (signs[:, axis, axis] == -1).mean() < 0.53
        assert (matrices(RandomFlip())[:, 0, 0] == 1).all()
        more = jax.vmap(lambda key: RandomBrightness(0.2)(key, jnp.full((1, 1), 0.5)))(keys(3000))
        assert_uniform(np.asarray(more).ravel(), 0.3, 0.7)

    def test_shear_of_keras_is_hardly_to_be_seen(self) -> None:
        """Its 0.2 is in degrees."""
        outermost = matrices(RandomShear(0.2), shape=(32, 32))[:, 1, 0] * 15.5
        assert 0.05 < np.abs(outermost).max() < 0.0545

    def test_crops_are_windows_inside(self) -> None:
        found = matrices(RandomCrop(0.6), shape=(20, 30))
        size = found[:, 0, 0]
        assert_array_equal(size, found[:, 1, 1])
        assert_uniform(size, 0.6, 1)
        for axis, length in [(0, 20), (1, 30)]:
            most = (1 - size) / 2 * length
            assert_uniform(found[:, axis, 2] / most, -1, 1)

    @pytest.mark.filterwarnings("ignore:.*scipy.ndimage.interpolation:DeprecationWarning")
    @pytest.mark.usefixtures("x64")
    def test_a_chain_is_what_keras_computes_from_the_same_draws(self) -> None:
        keras_image = pytest.importorskip("keras.src.legacy.preprocessing.image")
        images = rows_of(6, 17, 17, dtype=np.float64)
        flipped = set()
        for own, image in zip(keys(6), images, strict=True):
            turn, shift, shear, zoom, flip = (
                np.asarray(one.matrix(jax.random.fold_in(own, place), image.shape, image.dtype))
                for place, one in enumerate(CHAIN)
            )
            wanted = keras_image.apply_affine_transform(
                image[..., None],
                theta=np.rad2deg(np.arctan2(turn[0, 1], turn[0, 0])),
                tx=shift[1, 2],  # Keras's x runs along a row
                ty=shift[0, 2],
                shear=np.rad2deg(np.arcsin(-shear[1, 0])),
                zx=zoom[1, 1],
                zy=zoom[0, 0],
                row_axis=0,
                col_axis=1,
                channel_axis=2,
                fill_mode="nearest",
                order=1,
            )[..., 0]
            if flip[1, 1] < 0:
                wanted = wanted[:, ::-1]
            flipped.add(flip[1, 1])
            assert np.abs(wanted - image).max() > 0.1
            assert_allclose(augment_row(CHAIN, own, image), wanted, atol=1e-9)
        assert flipped == {-1.0, 1.0}

    @pytest.mark.parametrize("one", [one for one in IMAGES[:-1]], ids=repr)
    @pytest.mark.parametrize("shape", [(14, 23), (14, 23, 3)])
    @pytest.mark.usefixtures("x64")
    def test_resampling_is_scipys(self, one: Any, shape: tuple[int, ...]) -> None:
        image = rows_of(*shape, dtype=np.float64)
        for own in keys(3, seed=5):
            matrix = np.asarray(one.matrix(own, shape, image.dtype))
            middle = (np.asarray(shape[:2]) - 1) / 2
            offset = matrix[:, 2] + middle - matrix[:, :2] @ middle
            channels = [
                scipy.ndimage.affine_transform(
                    channel, matrix[:, :2], offset, order=1, mode="nearest"
                )
                for channel in np.moveaxis(np.atleast_3d(image), -1, 0)
            ]
            wanted = np.stack(channels, -1).reshape(shape)
            assert_allclose(one(own, image), wanted, atol=1e-9)

    @pytest.mark.usefixtures("x64")
    def test_neighbours_are_one_resampling(self) -> None:
        """Of the product of their matrices; another augmentation between them ends it."""
        image, key = rows_of(13, 16, dtype=np.float64), jax.random.key(7)
        whole = np.eye(3)
        for place, one in enumerate(CHAIN):
            own = one.matrix(jax.random.fold_in(key, place), image.shape, image.dtype)
            whole = whole @ np.vstack([own, [0, 0, 1]])
        centre = np.array([[1, 0, 6], [0, 1, 7.5], [0, 0, 1.0]])
        whole = centre @ whole @ np.linalg.inv(centre)
        wanted = scipy.ndimage.affine_transform(image, whole, order=1, mode="nearest")
        assert_allclose(augment_row(CHAIN, key, image), wanted, atol=1e-9)

        apart = (RandomRotation(30), RandomBrightness(0.1), RandomZoom(0.2))
        step = image
        for place, one in enumerate(apart):
            step = one(jax.random.fold_in(key, place), step)
        assert_array_equal(augment_row(apart, key, image), step)

    def test_a_flip_keeps_pixels(self) -> None:
        x = rows_of(60, 5, 6)
        got = np.asarray(augment_rows((RandomFlip(vertical=True),), jax.random.key(0), x))
        seen = set()
        for row, image in zip(got, x, strict=True):
            ways = [image, image[::-1], image[:, ::-1], image[::-1, ::-1]]
            (way,) = [n for n, one in enumerate(ways) if np.array_equal(one, row)]
            seen.add(way)
        assert seen == {0, 1, 2, 3}

    def test_brightness_is_one_number_and_clipped(self) -> None:
        x = rows_of(50, 5, 6) * 4 - 2
        got = np.asarray(augment_rows((RandomBrightness(0.2, -2, 2),), jax.random.key(0), x))
        assert got.min() == -2
        assert got.max() == 2
        for row, image in zip(got, x, strict=True):
            inside = np.abs(row) < 2
            assert np.ptp((row - image)[inside]) < 1e-6
            assert np.abs((row - image)[inside]).max() <= 0.8


class TestSensors:
    def test_jitter_and_scaling(self) -> None:
        x = rows_of(2000, 6, 2) + 1
        noise = np.asarray(augment_rows((Jitter(0.3),), jax.random.key(0), x)) - x
        assert scipy.stats.kstest(noise.ravel() / 0.3, "norm").pvalue > 1e-3
        factors = np.asarray(augment_rows((Scaling(0.2),), jax.random.key(0), x)) / x
        assert np.ptp(factors, axis=1).max() < 1e-5  # one number for all steps
        draws = (factors[:, 0] - 1) / 0.2
        assert scipy.stats.kstest(draws.ravel(), "norm").pvalue > 1e-3
        assert abs(np.corrcoef(draws.T)[0, 1]) < 0.07

    @pytest.mark.usefixtures("x64")
    def test_rotation_is_one_of_space(self) -> None:
        one = Rotation(90)
        draws = np.asarray(jax.vmap(lambda key: one.matrix(key, jnp.float64))(keys(3000)))
        vectors = Turn.from_matrix(draws).as_rotvec()
        assert_allclose(Turn.from_rotvec(vectors).as_matrix(), draws, atol=1e-12)
        angle = np.linalg.norm(vectors, axis=1)
        assert_uniform(np.rad2deg(angle), 0, 90)
        for axis in (vectors / angle[:, None]).T:
            assert_uniform(axis, -1, 1)  # on a sphere each coordinate is
        x, key = rows_of(7, 6, dtype=np.float64), jax.random.key(3)
        turn = Turn.from_matrix(np.asarray(one.matrix(key, x.dtype)))
        wanted = np.hstack([turn.apply(x[:, :3]), turn.apply(x[:, 3:])])
        assert_allclose(one(key, x), wanted, atol=1e-12)

    @pytest.mark.usefixtures("x64")
    def test_time_warp_is_the_papers(self) -> None:
        """By NumPy and SciPy as in the authors' code, from the same draws."""
        one, x = TimeWarp(0.3, knots=3), rows_of(25, 2, dtype=np.float64)
        ratios = []
        for key in keys(200):
            values = 1 + 0.3 * np.asarray(jax.random.normal(key, (1, 5), jnp.float64))[0]
            speed = CubicSpline(np.linspace(0, 24, 5), values)(np.arange(25))
            time = np.cumsum(np.maximum(speed, 0.1))
            time = (time - time[0]) * 24 / (time[-1] - time[0])
            clock = np.asarray(one.clock(key, 25, jnp.float64))
            assert_allclose(clock, time, atol=1e-9)
            assert (np.diff(clock) > 0).all()
            ratios.append(clock[12] / 12)
            wanted = [np.interp(np.arange(25), time, channel) for channel in x.T]
            assert_allclose(one(key, x), np.transpose(wanted), atol=1e-9)
        assert np.std(ratios) > 0.05
        assert_allclose(TimeWarp(0.0)(keys(1)[0], x), x, atol=1e-12)

    @pytest.mark.usefixtures("x64")
    def test_window_slices_are_every_piece(self) -> None:
        x = rows_of(10, 2, dtype=np.float64)
        place = np.linspace(0, 6, 10)
        pieces = [
            np.transpose([np.interp(place, np.arange(7), c) for c in x[first : first + 7].T])
            for first in range(4)
        ]
        seen = []
        for key in keys(80):
            got = np.asarray(WindowSlice(0.7)(key, x))
            (which,) = [n for n, piece in enumerate(pieces) if np.allclose(piece, got, atol=1e-12)]
            seen.append(which)
        assert (np.bincount(seen, minlength=4) > 8).all()
        assert_array_equal(WindowSlice(1.0)(keys(1)[0], x), x)


class TestAudio:
    @pytest.mark.parametrize("axis", [0, 1])
    def test_masks(self, axis: int) -> None:
        one: Any = [TimeMask(5), FrequencyMask(5)][axis]
        x = rows_of(3000, 12, 12)
        got = np.asarray(augment_rows((one,), jax.random.key(0), x))
        widths, firsts = [], []
        for row, before in zip(got, x, strict=True):
            hidden = (row != before).all(axis=1 - axis)
            assert_array_equal((row != before).any(axis=1 - axis), hidden)
            places = np.flatnonzero(hidden)
            widths.append(len(places))
            if len(places):
                assert len(places) == np.ptp(places) + 1  # one stretch
                firsts.append(places[0] / (12 - len(places)))
                wanted = np.broadcast_to(before.mean(0), before.shape)
                assert_allclose(row.take(places, axis), wanted.take(places, axis), rtol=1e-5)
        counts = np.bincount(widths, minlength=6)
        assert len(counts) == 6
        assert scipy.stats.chisquare(counts).pvalue > 1e-3
        assert min(firsts) == 0
        assert max(firsts) == 1
        assert 0.45 < np.mean(firsts) < 0.55

    def test_a_share_bounds_a_mask_and_a_number_fills_it(self) -> None:
        x = rows_of(300, 12, 3) + 1
        one = TimeMask(50, share=0.25, fill=-7)
        hidden = (np.asarray(augment_rows((one,), jax.random.key(0), x)) == -7).all(-1).sum(-1)
        assert sorted(set(hidden.tolist())) == [0, 1, 2, 3]
        several = TimeMask(4, masks=3, fill=-7)
        hidden = (np.asarray(augment_rows((several,), jax.random.key(0), x)) == -7).all(-1).sum(-1)
        assert hidden.max() > 8

    def test_noise_is_as_loud_as_it_says(self) -> None:
        x = rows_of(400, 200, 2) * np.asarray([1, 100], np.float32)
        noise = np.asarray(augment_rows((Noise(10, 20),), jax.random.key(0), x)) - x
        decibel = 20 * np.log10(x.std(1) / noise.std(1))
        assert_allclose(decibel[:, 0], decibel[:, 1], atol=2)  # 200 steps measure it to 5 %
        assert decibel.min() > 9
        assert decibel.max() < 21
        assert_uniform(np.clip(decibel.mean(1), 10, 20), 10, 20)


class TestLengths:
    """Rows that end before the array does."""

    @pytest.mark.parametrize("one", [*SERIES, TimeMask(8, masks=2, share=0.4)], ids=repr)
    @pytest.mark.usefixtures("x64", "strict_ranks")
    def test_a_padded_row_is_the_row_alone(self, one: Any) -> None:
        """In its own steps, with the same key."""
        rng = np.random.default_rng(6)
        x = rng.normal(size=(11, 6)) + np.arange(6)
        changes = 0
        run = jax.jit(lambda key, x, length: augment_row((one,), key, x, length))
        for length in (1, 2, 3, 7, 10, 11):
            for key in keys(4, seed=length):
                padded = np.where(np.arange(11)[:, None] < length, x, 0)
                got = run(key, padded, np.int32(length))[:length]
                alone = augment_row((one,), key, jnp.asarray(x[:length]))
                assert_allclose(got, alone, rtol=1e-9, atol=1e-9)
                changes += not np.allclose(got, x[:length])
        assert changes > 8

    @pytest.mark.parametrize("one", SERIES, ids=repr)
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_what_stands_in_the_padding_does_not_matter(self, one: Any, dtype: Any) -> None:
        """Noise and numbers far from the row's own, as an augmentation before it may leave them."""
        with jax.enable_x64(dtype == np.float64):
            rng = np.random.default_rng(7)
            x = rng.normal(size=(40, 11, 6)).astype(dtype)
            lengths = rng.integers(1, 11, 40).astype(np.int32)
            own = (np.arange(11) < lengths[:, None])[..., None]
            run = jax.jit(lambda x: augment_rows((one,), jax.random.key(3), x, 2, lengths))
            wanted = np.where(own, run(np.where(own, x, 0)), 0)
            for other in (x, 1e4 * rng.normal(size=x.shape).astype(dtype)):
                got = np.where(own, run(np.where(own, x, other)), 0)
                assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)

    def test_shares_are_those_of_the_row_alone(self) -> None:
        """However a share times a length is rounded."""
        many = keys(200)
        for share, length in [(0.29, 100), (0.42, 150), (0.58, 50), (0.7, 90), (0.3, 10)]:
            one, x = TimeMask(10**6, share=share, fill=-7), np.ones((length + 5, 1), np.float32)
            padded = jax.vmap(lambda key, one=one, x=x, n=length: one(key, x, jnp.int32(n)))(many)
            alone = jax.vmap(lambda key, one=one, x=x[:length]: one(key, x))(many)
            widths = [int((np.asarray(got) == -7).sum(1).max()) for got in (padded, alone)]
            assert widths[0] == widths[1], (share, length)
        for share in (0.07, 0.28, 0.55, 0.57, 0.9, 1.0):
            cut, x = WindowSlice(share), np.arange(121, dtype=np.float32)[:, None]
            run = jax.jit(jax.vmap(lambda n, cut=cut, x=x: cut(many[0], x, n)))
            lengths = np.arange(2, 121, dtype=np.int32)
            got = np.asarray(run(lengths))[:, :, 0]
            span = got[np.arange(len(lengths)), lengths - 1] - got[:, 0]
            assert_allclose(span, np.ceil(share * lengths - 1e-9) - 1, atol=1e-3)

    def test_an_augmentation_of_ones_own_may_ask_for_the_length(self) -> None:
        def reverse(key: Any, x: Any, length: Any = None) -> Any:
            last = (len(x) if length is None else length) - 1
            return x[jnp.clip(last - jnp.arange(len(x)), 0)]

        def negate(key: Any, x: Any) -> Any:
            return -x

        x, lengths = rows_of(5, 7, 2), np.int32([1, 3, 7, 6, 2])
        got = np.asarray(augment_rows((reverse, negate), jax.random.key(0), x, 0, lengths))
        for row, before, length in zip(got, x, lengths, strict=True):
            assert_array_equal(row[:length], -before[:length][::-1])

    def test_images_are_no_rows_of_unequal_length(self) -> None:
        for one in IMAGES[:-1]:
            with pytest.raises(ValueError, match=r"in augment is for images of one size; rows of"):
                checked(one, (5, 6), np.float32, is_ragged=True)
        for one in SERIES:
            assert checked(one, (5, 6), np.float32, is_ragged=True) == (one,)
