"""What a search is, in a few letters: whether a folder of an earlier run may be gone on with."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def digest(*values: Any) -> str:
    """SHA-256 of arrays and parameters, the same in every process.

    Arrays and tables count by type, shape and bytes; numbers, strings and containers by value (dicts
    and sets in any order); functions and classes by qualified name, lambdas and local functions by
    their code and what they enclose, too; estimators, dataclasses and Flax modules by class and
    parameters; random generators by state; the rest by repr without addresses.
    """
    sha = hashlib.sha256()
    for value in values:
        _feed(sha, value, frozenset())
    return sha.hexdigest()


def _feed(sha: Any, value: Any, above: frozenset[int]) -> None:
    """Adds a value; ``above`` are the ids of what holds it, for values that hold themselves."""

    def put(*texts: str) -> None:
        for text in texts:
            content = text.encode("utf-8", "surrogatepass")
            sha.update(f"{len(content)}:".encode() + content)

    def put_all(kind: str, items: Any) -> None:
        put(kind, str(len(items)))
        for item in items:
            _feed(sha, item, inside)

    def one(item: Any) -> str:
        own = hashlib.sha256()
        _feed(own, item, inside)
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
        put("module", value.__name__)
    elif isinstance(value, types.CodeType):
        put_all("code", [value.co_code, value.co_names, value.co_consts])
    elif isinstance(value, functools.partial):
        put_all("partial", [value.func, value.args, value.keywords])
    elif isinstance(value, types.MethodType):
        put_all("method", [value.__func__, value.__self__])
    elif inspect.isclass(value) or isinstance(getattr(value, "__qualname__", None), str):
        put("name", str(getattr(value, "__module__", "")), value.__qualname__)
        if isinstance(value, types.FunctionType) and "<" in value.__qualname__:
            enclosed = inspect.getclosurevars(value).nonlocals
            put_all("local", [value.__code__, value.__defaults__, value.__kwdefaults__, enclosed])
    elif str(getattr(value, "dtype", "")).startswith("key<"):  # a typed random key
        import jax

        put("key", str(value.dtype))
        _feed(sha, np.asarray(jax.random.key_data(value)), inside)
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
        put_all(name, [value.get_params(deep=False)])
    elif dataclasses.is_dataclass(value):
        # A Flax module's parent is whoever uses it.
        names = [field.name for field in dataclasses.fields(value) if field.name != "parent"]
        put_all(name, [(field, getattr(value, field, None)) for field in names])
    elif kind.__repr__ is object.__repr__ and hasattr(value, "__dict__"):
        put_all(name, [vars(value)])
    else:
        put(name, re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)))


def code_version() -> str:
    """Versions of jaxlstm and JAX, and 12 hex digits over the sources that training runs."""
    import jax

    import jaxlstm

    root = Path(__file__).parents[1]
    sha = hashlib.sha256()
    for package in ("nn", "train", "grid", "estimators"):
        for path in sorted((root / package).rglob("*.py")):
            content = path.read_bytes()
            sha.update(f"{path.relative_to(root).as_posix()}:{len(content)}:".encode() + content)
    return f"jaxlstm {jaxlstm.__version__}, jax {jax.__version__}, {sha.hexdigest()[:12]}"
