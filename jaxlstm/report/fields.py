"""The fields of a run's `config.json` and `summary.json`, and the check that they hold their kind.

Files may come from elsewhere: what the report computes with is checked once, when it is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jaxlstm.report.problem import is_number
from jaxlstm.report.text import shorten

#: In a schema: any field that it does not name.
OTHER = "*"
_DEEPEST = 32


@dataclasses.dataclass(frozen=True)
class Field:
    """What a field holds.

    Attributes:
        words: What is needed, for an error: `"a text"`.
        accepts: Whether a value is of the kind.
    """

    words: str
    accepts: Callable[[Any], bool]


#: The kind of a field, the fields of an object, or the one kind of a list's items.
Schema = Field | Mapping[str, "Schema"] | list["Schema"]

TEXT = Field("a text", lambda value: isinstance(value, str))
FLAG = Field("true or false", lambda value: isinstance(value, bool))
NUMBER = Field("a finite number", is_number)
# Up to 2**63: more bytes, rows or seconds than there can be, and sums of them stay finite.
SIZE = Field("a number from 0 on", lambda value: is_number(value) and 0 <= value < 2**63)
COUNT = Field(
    "a whole number from 0 on", lambda value: isinstance(value, int) and SIZE.accepts(value)
)
SCALAR = Field(
    "a text or a finite number", lambda value: isinstance(value, str | bool) or is_number(value)
)
ANY = Field("anything", lambda value: True)

CONFIG: Schema = {
    "name": TEXT,
    "title": TEXT,
    "command": TEXT,
    "created": TEXT,
    "config": {OTHER: ANY},
    "versions": {OTHER: ANY},
    "device": {
        "platform": TEXT,
        "kind": TEXT,
        "cpu": TEXT,
        "count": COUNT,
        "cores": COUNT,
        OTHER: ANY,
    },
    "data": {
        "name": TEXT,
        "source": TEXT,
        "sha256": TEXT,
        "rows": COUNT,
        "train_rows": COUNT,
        "test_rows": COUNT,
        "shape": [COUNT],
        "classes": [SCALAR],
        "task": TEXT,
        "per_step": FLAG,
        "targets": [SCALAR],
        "horizon": FLAG,
        "units": TEXT,
        "lengths": [NUMBER],
        OTHER: ANY,
    },
    OTHER: ANY,
}

SUMMARY: Schema = {
    "best": {
        "params": {OTHER: ANY},
        "cell": COUNT,
        "mean_score": NUMBER,
        "std_score": NUMBER,
        OTHER: ANY,
    },
    "scoring": TEXT,
    "plan": {
        "layout": TEXT,
        "lanes": COUNT,
        "programs": COUNT,
        "workers": COUNT,
        "bytes": SIZE,
        "groups": [
            {
                "group": COUNT,
                "structure": TEXT,
                "lanes": COUNT,
                "programs": COUNT,
                "bytes": SIZE,
                "seconds": SIZE,
                OTHER: ANY,
            }
        ],
        OTHER: ANY,
    },
    "test": {"rows": COUNT, "steps": COUNT, OTHER: NUMBER},
    "baselines": {OTHER: {OTHER: NUMBER}},
    "seconds": {OTHER: SIZE},
    "comparison": [{"what": SCALAR, "paper": SCALAR, "ours": SCALAR, "note": TEXT, OTHER: ANY}],
    "notes": [TEXT],
    OTHER: ANY,
}


def check_fields(value: Any, schema: Schema, where: str) -> None:
    """Check that the fields of an object, and of those in it, hold their kind.

    A field may be missing or null; of a field of any kind only the depth is checked.

    Args:
        value: What a JSON file holds.
        schema: What it must hold.
        where: The file, for an error.

    Raises:
        ValueError: A field holds another kind; the sentence names file and field.
    """
    for name, found, words in _wrong(value, schema, ""):
        field = f"the field {name}" if name else "it"
        raise ValueError(f"{where}: {field} is {shorten(repr(found), 60)}; {words} is needed")


def _wrong(value: Any, schema: Schema, name: str) -> Iterator[tuple[str, Any, str]]:
    """Yield name, value and what is needed of each field that is of another kind."""
    if isinstance(schema, Field):
        if not schema.accepts(value):
            yield name, value, schema.words
        elif not _is_shallow(value):
            yield name, value, f"something nested at most {_DEEPEST} deep"
    elif isinstance(schema, list):
        if not isinstance(value, list):
            yield name, value, "a list"
            return
        for place, item in enumerate(value):
            yield from _wrong(item, schema[0], f"{name}[{place}]")
    elif not isinstance(value, Mapping):
        yield name, value, "an object"
    else:
        for key, item in value.items():
            kind = schema.get(key, schema.get(OTHER))
            if kind is not None and item is not None:
                yield from _wrong(item, kind, f"{name}.{key}" if name else str(key))


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            item
            for outer in level
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return not level
