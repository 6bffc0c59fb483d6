"""The idx format: what is read, and what a damaged file is answered with."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from jaxlstm.data.idx import parse_idx, read_idx

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx(array: np.ndarray) -> bytes:
    """Written from the format's description, value by value."""
    content = bytes([0, 0, CODES[array.dtype.str[1:]], array.ndim])
    content += b"".join(struct.pack(">I", side) for side in array.shape)
    letter = {"u1": "B", "i1": "b", "i2": "h", "i4": "i", "f4": "f", "f8": "d"}[array.dtype.str[1:]]
    return content + b"".join(struct.pack(">" + letter, value) for value in array.ravel().tolist())


@given(st.data())
def test_every_type_and_shape(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(sorted(CODES)))
    shape = data.draw(array_shapes(max_dims=4, max_side=5, min_side=0))
    array = data.draw(arrays(dtype, shape))
    for content in (idx(array), gzip.compress(idx(array), mtime=0)):
        read = parse_idx(content, "x")
        np.testing.assert_array_equal(read, array)
        assert read.dtype == array.dtype
        assert read.dtype.isnative


def test_a_file(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    for name, content in (("plain", idx(array)), ("packed.gz", gzip.compress(idx(array), mtime=0))):
        (tmp_path / name).write_bytes(content)
        np.testing.assert_array_equal(read_idx(tmp_path / name), array)
    (tmp_path / "bad").write_bytes(b"\0\0\7\1")
    with pytest.raises(ValueError, match=r"bad is not an idx file"):
        read_idx(tmp_path / "bad")
    with pytest.raises(FileNotFoundError, match="none is not there"):
        read_idx(tmp_path / "none")
    with pytest.raises(ValueError, match="cannot be read"):
        read_idx(tmp_path)


GOOD = idx(np.arange(12, dtype=np.int16).reshape(3, 4))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "x is not an idx file"),
        (b"\0\0\x08", "x is not an idx file"),
        (b"\0\0\x0a\1" + bytes(4), r"got \[0, 0, 10, 1\]"),
        (b"\1\0\x08\1" + bytes(4), r"got \[1, 0, 8, 1\]"),
        (b"a text", "x is not an idx file"),
        (b"\0\0\x08\0", "claims 0 dimensions at byte 3; 1 to 8"),
        (b"\0\0\x08\xff" + bytes(2000), "claims 255 dimensions"),
        (GOOD[:9], "ends within its header, at byte 9"),
        (GOOD[:-1], "cut off: its header claims 3 x 4 values, 24 bytes, of which 23 are there"),
        (GOOD + b"\0", "goes on after the 24 bytes"),
        (gzip.compress(GOOD, mtime=0)[:-3], "x is not a whole gzip file"),
        (gzip.compress(GOOD, mtime=0)[:12], "x is not a whole gzip file|cut off"),
        (gzip.compress(GOOD, mtime=0) + b"tail", "x is not a whole gzip file"),
        (b"\x1f\x8b", "x is not a whole gzip file"),
        (struct.pack(">BBBBI", 0, 0, 8, 1, (1 << 31) + 5) + b"abc", "of which 3 are there"),
        (b"\0\0\x0e\x08" + b"\xff" * 32 + b"abc", "of which 3 are there"),
        (gzip.compress(b"\0\0\x0e\x03" + b"\xff" * 12 + b"abc", mtime=0), "of which 3 are there"),
    ],
)
def test_damage(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_idx(content, "x")


@settings(max_examples=300)
@given(st.data())
def test_damage_of_any_kind_is_a_value_error(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from([GOOD, gzip.compress(GOOD, mtime=0)])))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    said = "x "
    try:
        parse_idx(bytes(content), "x")
    except ValueError as error:
        said = str(error)
    assert said.startswith("x ")
