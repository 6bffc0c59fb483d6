r"""Text of unknown origin, made safe to show in a terminal, on a page or in a figure."""

from __future__ import annotations

import re
from typing import Any

from rich.text import Text

# Characters that act instead of showing: the C0 and C1 controls, what turns the direction of
# writing, line and paragraph separators, invisible marks and tags, halves of surrogate pairs and
# codes that are no characters. Joiners (U+200C, U+200D) stay: scripts and emoji need them.
_ACTING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufdd0-\ufdef\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f\ud800-\udfff]"
)


def visible(text: Any, keep: str = "") -> str:
    r"""Returns a text with control characters shown as Python's escapes.

    Args:
      text: a class, a file's name, an error message; of another type, its ``str``.
      keep: control characters that stay, such as ``"\n\t"`` where a text may have lines.

    Returns:
      The text without control characters, marks that turn the direction of writing, line and
      paragraph separators, invisible marks and lone surrogates: a terminal, a browser and UTF-8
      take it as nothing but letters.

    Example:
      >>> print(visible("a\x1b[2Jb\u202ec\n"))
      a\x1b[2Jb\u202ec\n
    """
    return _ACTING.sub(
        lambda match: match[0] if match[0] in keep else repr(match[0])[1:-1], str(text)
    )


def shown(text: Any) -> Text:
    r"""Returns a text for rich's consoles and tables, in which "[red]" is nothing but letters.

    Args:
      text: see ``visible``; it may have lines.
    """
    return Text(visible(text, keep="\n"))
