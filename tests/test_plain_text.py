"""Text that acts on a terminal or a page is shown instead."""

from __future__ import annotations

import unicodedata

import pytest

from jaxlstm.plain_text import visible

#: Classes of characters that turn the direction of writing.
TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\x00b\x9b31m\x7f", r"a\x00b\x9b31m\x7f"),
        ("one\r\ntwo\tthree\x85", r"one\r\ntwo\tthree\x85"),
        ("exe\u202egnp.\u2066\u200f", r"exe\u202egnp.\u2066\u200f"),
        ("a\u2028b\ufeff\ud800", r"a\u2028b\ufeff\ud800"),
        ("tag\U000e0041", r"tag\U000e0041"),
        (7, "7"),
    ],
)
def test_what_acts_is_shown(text: object, shown: str) -> None:
    assert visible(text) == shown


def test_kept_lines_stay_lines() -> None:
    assert visible("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"


def test_every_character_alone() -> None:
    """By Unicode's own categories: no control, separator or lone surrogate is left, and what is
    written stays, joined emoji and scripts that need a joiner included."""
    for code in range(0x30000):
        character = chr(code)
        shown = visible(character)
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
            assert shown == repr(character)[1:-1]
        if unicodedata.bidirectional(character) in TURNING:
            assert shown != character
        if unicodedata.category(character)[0] in "LMNPS" or character in " \u200c\u200d":
            assert shown == character
    assert visible("👩‍🔬 نمی‌خواهم É") == "👩‍🔬 نمی‌خواهم É"
