"""What a search is, in a few letters: whether a folder of an earlier run may be gone on with."""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import logging
import re
import types
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlstm.grid import codes
from jaxlstm.grid.codes import code_version

__all__ = ["code_version", "digest"]


def digest(*values: Any, memo: dict[int, tuple[Any, str]] | None = None) -> str:
    """SHA-256 of arrays, parameters and code, the same in every process.

    Arrays and tables count by type, shape and bytes; numbers, strings and containers by value (dicts
    and sets in any order); functions and classes of the user's by what they do and depend on
    (`jaxlstm.grid.codes`), those of libraries by name and version; estimators, dataclasses and Flax
    modules by class and parameters; random generators by state; other objects by class and
    attributes, or by repr without addresses.

    Args:
      *values: what to digest.
      memo: keeps what is known of functions and classes from one call to the next.
    """
    sha = hashlib.sha256()
    feeder = _Feeder({} if memo is None else memo)
    for value in values:
        feeder.feed(sha, value, frozenset())
    return sha.hexdigest()


class _Feeder:
    """Adds values to digests; what functions and classes do is digested once."""

    def __init__(self, memo: dict[int, tuple[Any, str]]):
        self._whole = memo
        # Of functions and classes that a function in work depends on, which may stand for it.
        self._within: dict[int, tuple[Any, str]] = {}
        self._depth = 0

    def _code(self, value: Any, above: frozenset[int]) -> str:
        """Digest of a function or class of the user's."""
        known = self._whole.get(id(value)) or self._within.get(id(value))
        if known is None:
            sha = hashlib.sha256()
            self._depth += 1
            try:
                is_class = isinstance(value, type)
                parts = codes.class_parts(value) if is_class else codes.function_parts(value)
                self.feed(sha, parts, above)
            finally:
                self._depth -= 1
            known = value, sha.hexdigest()
            (self._within if self._depth else self._whole)[id(value)] = known
        return known[1]

    def feed(self, sha: Any, value: Any, above: frozenset[int]) -> None:
        """Adds a value; ``above`` are the ids of what holds it, for values that hold themselves."""

        def put(*texts: str) -> None:
            for text in texts:
                content = text.encode("utf-8", "surrogatepass")
                sha.update(f"{len(content)}:".encode() + content)

        def put_all(kind: str, items: Any) -> None:
            put(kind, str(len(items)))
            for item in items:
                self.feed(sha, item, inside)

        def one(item: Any) -> str:
            own = hashlib.sha256()
            self.feed(own, item, inside)
            return own.hexdigest()

        if id(value) in above:
            put("above")
            return
        inside = above | {id(value)}
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if isinstance(value, np.generic):
            value = value.item() if value.dtype.kind in "biufcSU" else f"{value.dtype} {value}"
            kind = type(value)
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
            put(kind.__name__, repr(value))
        elif isinstance(value, Mapping):
            items = sorted((one(key), one(item)) for key, item in value.items())
            put("dict", str(len(items)), *(text for item in items for text in item))
        elif isinstance(value, (set, frozenset)):
            put("set", str(len(value)), *sorted(map(one, value)))
        elif isinstance(value, (list, tuple, range)):
            put_all("tuple" if isinstance(value, tuple) else "list", value)
        elif isinstance(value, types.ModuleType):
            put("module", *codes.library_name(value))
        elif isinstance(value, enum.Enum):
            put("enum", name, value.name)
        elif isinstance(value, logging.Logger):
            put("logger", value.name)
        elif isinstance(value, functools.partial):
            put_all("partial", [value.func, value.args, value.keywords])
        elif isinstance(value, types.MethodType):
            put_all("method", [value.__func__, value.__self__])
        elif isinstance(value, type):
            put("class", *codes.library_name(value))
            if codes.is_own(value):
                put(self._code(value, inside))
        elif isinstance(value, types.FunctionType):
            put("function", *codes.library_name(value))
            if codes.is_own(value):
                put(self._code(value, inside))
            elif "<" in value.__qualname__ or value.__closure__ or hasattr(value, "__wrapped__"):
                put_all("enclosing", codes.enclosing_parts(value))
        elif isinstance(getattr(value, "__qualname__", None), str):
            # Of C, or something like a function, such as what `jax.jit` makes.
            put("named", *codes.library_name(value))
            state = {key: item for key, item in _state(value).items() if not key.startswith("__")}
            holder = getattr(value, "__self__", None)
            holder = None if isinstance(holder, types.ModuleType) else holder
            put_all("of", [state, getattr(value, "__wrapped__", None), holder])
        elif str(getattr(value, "dtype", "")).startswith("key<"):  # a typed random key
            import jax

            put("key", str(value.dtype))
            self.feed(sha, np.asarray(jax.random.key_data(value)), inside)
        elif hasattr(value, "__array__"):
            array = np.asarray(value)
            put("array", str(array.dtype), str(array.shape))
            if hasattr(value, "columns"):
                put_all("columns", list(value.columns))
            if array.dtype == object:
                put_all("objects", array.ravel().tolist())
            else:
                sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        elif hasattr(value, "tocsr"):
            rows = value.tocsr()
            put_all("sparse", [rows.shape, rows.indptr, rows.indices, rows.data])
        elif value is np.random.mtrand._rand:
            put(name)  # NumPy's own, which SciPy's distributions hold: its state is this process's
        elif isinstance(value, np.random.RandomState):
            put_all(name, [value.get_state()])
        elif isinstance(value, np.random.Generator):
            put_all(name, [value.bit_generator.state])
        elif hasattr(value, "get_params"):
            put_all("estimator", [kind, value.get_params(deep=False)])
        elif dataclasses.is_dataclass(value):
            # A Flax module's parent is whoever uses it.
            names = [field.name for field in dataclasses.fields(value) if field.name != "parent"]
            fields = [(field, getattr(value, field, None)) for field in names]
            put_all("dataclass", [kind, fields])
        elif state := _state(value):
            put_all("object", [kind, state])
        else:
            put_all("other", [kind])
            put(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)))


def _state(value: Any) -> dict[str, Any]:
    """An object's attributes, in slots, too."""
    found = {}
    for cls in type(value).__mro__:
        names = vars(cls).get("__slots__", ())
        for name in [names] if isinstance(names, str) else names:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return found | dict(getattr(value, "__dict__", {}))
