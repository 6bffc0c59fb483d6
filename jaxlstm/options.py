"""Values and names as they are written in a shell: name=value,value."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Sequence
from typing import Any

CLOSING = {"(": ")", "[": "]", "{": "}"}


def parse_values(text: str) -> list[Any]:
    """Parses the values of one grid parameter, separated by commas.

    Numbers, tuples, True, False, None and quoted strings as in Python; augmentations such as
    Jitter(0.1) and SciPy's distributions loguniform(a, b), uniform(start, width) and
    randint(low, high); other words are strings.

    Raises:
      ValueError: no value, brackets or quotes that do not match, or a call of anything else.

    Example:
      >>> parse_values("32,64"), parse_values("(50,25),(100,50)"), parse_values("adam,rmsprop")
      ([32, 64], [(50, 25), (100, 50)], ['adam', 'rmsprop'])
    """
    values = []
    for part in map(str.strip, _split(text)):
        if not part:
            raise ValueError(f"{text!r} has an empty value.")
        try:
            value = _value(ast.parse(part, mode="eval").body)
        except _Refused as error:
            raise ValueError(f"{part!r}: {error}.") from None
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            value = part
        values.append(tuple(value) if isinstance(value, list) else value)
    return values


class _Refused(Exception):
    """Why a call is none of those that are known."""


def _value(node: ast.expr) -> Any:
    """A literal's value, or that of a call of an augmentation or a distribution."""
    if isinstance(node, ast.Tuple | ast.List) and any(_calls(entry) for entry in node.elts):
        return tuple(_value(entry) for entry in node.elts)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return ast.literal_eval(node)
    known = _known()
    name = node.func.id
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(known))}"
        raise _Refused(f"there is no {name!r} to call{hint}".removesuffix("?"))
    try:
        given = [_value(argument) for argument in node.args]
        options = {word.arg: _value(word.value) for word in node.keywords if word.arg}
    except ValueError:
        raise _Refused(f"{name} takes numbers") from None
    try:
        return known[name](*given, **options)
    except (ValueError, TypeError) as error:
        raise _Refused(str(error).rstrip(".")) from None


def _calls(node: ast.expr) -> bool:
    return any(isinstance(part, ast.Call) for part in ast.walk(node))


def _known() -> dict[str, Callable[..., Any]]:
    """What may be called."""
    from scipy import stats

    from jaxlstm.train import augment

    found = {name: getattr(augment, name) for name in augment.__all__}
    found = {name: kind for name, kind in found.items() if isinstance(kind, type)}
    for name in ("Affine", "Augmentation", "Augmentations"):  # what others are made of
        found.pop(name, None)
    return found | {name: getattr(stats, name) for name in ("loguniform", "uniform", "randint")}


def _split(text: str) -> list[str]:
    """Parts between the commas that stand outside of brackets and quotes."""
    parts, open_brackets, quote, escaped = [""], "", "", False
    for character in text:
        if quote:
            quote = "" if character == quote and not escaped else quote
            escaped = character == "\\" and not escaped
        elif character in "'\"" and (open_brackets or not parts[-1].strip()):
            quote = character
        elif character in CLOSING:
            open_brackets += character
        elif character in CLOSING.values():
            if not open_brackets or CLOSING[open_brackets[-1]] != character:
                raise ValueError(f"the brackets in {text!r} do not match.")
            open_brackets = open_brackets[:-1]
        elif character == "," and not open_brackets:
            parts.append("")
            continue
        parts[-1] += character
    if open_brackets or quote:
        what = "quotes" if quote else "brackets"
        raise ValueError(f"the {what} in {text!r} do not match.")
    return parts


def parse_grid(entries: Sequence[str], option: str = "--grid") -> dict[str, list[Any]]:
    """Parses an option's ``name=value,value`` entries into a parameter grid.

    Raises:
      ValueError: an entry without "=" or values, or a name given twice.

    Example:
      >>> parse_grid(["units=32,64", "dropout=0.1"])
      {'units': [32, 64], 'dropout': [0.1]}
    """
    grid: dict[str, list[Any]] = {}
    for entry in entries:
        name, equals, values = entry.partition("=")
        if not equals or not name or not values:
            raise ValueError(f"{option} takes name=value entries, got {entry!r}.")
        if name in grid:
            raise ValueError(f"{option} names {name!r} twice: name it once, values with commas.")
        grid[name] = parse_values(values)
    return grid


def parse_single(entries: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """Parses entries with one value each.

    Raises:
      ValueError: as ``parse_grid``, or several values.
    """
    found = parse_grid(entries, option)
    for name, values in found.items():
        if len(values) != 1:
            raise ValueError(
                f"{option} takes one value for {name!r}, and lists go to --grid; a list that is one"
                " value stands in brackets or quotes."
            )
    return {name: values[0] for name, values in found.items()}
