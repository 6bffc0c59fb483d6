"""Trees of arrays as Orbax saves: whole, checked, bit for bit, from any thread.

A folder holds the saves of one thing, numbered; a save is there once it is complete. Leaves are saved
under numbers, beside ``about``, JSON of what they are, and ``sha256``, a digest of all bytes. Another
digest, of the save's files, keeps damaged ones from Orbax, whose threads print what they run into.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxlstm.grid.fingerprint import digest
from jaxlstm.grid.journal import write_atomically

#: Held while Orbax works: it does not promise that two saves at once keep apart, see `_orbax`.
lock = threading.RLock()

Arrays = dict[str, np.ndarray]

_SEAL = "files.sha256"


@contextlib.contextmanager
def _orbax() -> Iterator[Any]:
    """Orbax, imported on first use, one at a time; silent, as all that goes wrong is raised."""
    with lock:
        from orbax.checkpoint import v1 as ocp

        log = logging.getLogger("absl")
        level = log.level
        log.setLevel(logging.CRITICAL)
        try:
            context = ocp.Context()
            # Its default hands the folders to threads through names that two saves at once mix up:
            # some come out unreadable, others wait for minutes.
            context.asynchronous.create_directories_asynchronously = False
            with context:
                yield ocp
        finally:
            log.setLevel(level)


def to_arrays(tree: Any, meta: Any) -> Arrays:
    """What to save of a tree of JAX or NumPy arrays, typed random keys and Python numbers.

    Args:
      tree: the tree.
      meta: JSON data to keep beside it.

    Raises:
      TypeError: a leaf is something else.
    """
    import jax

    facts, leaves, _ = _describe(tree)
    arrays = [np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf) for leaf in leaves]
    about = {
        "meta": meta,
        "leaves": facts,
        "arrays": [[str(array.dtype), array.shape] for array in arrays],
        "keys": [str(jax.random.key_impl(leaf)) if _is_key(leaf) else None for leaf in leaves],
    }
    text = json.dumps(about).encode()
    # Orbax's own checks miss some flipped bits.
    sha = np.frombuffer(bytes.fromhex(digest(text, *arrays)), np.uint8)
    # Orbax refuses arrays without elements; their shapes say all.
    named = {f"leaf{number}": array for number, array in enumerate(arrays) if array.size}
    return {"about": np.frombuffer(text, np.uint8), "sha256": sha, **named}


def save(folder: Path, arrays: Arrays) -> None:
    """Saves in place of the last save, which is removed once the new one is complete.

    Raises:
      Exception: whatever Orbax's threads ran into; the last save is still there.
    """
    import jax

    with _orbax() as ocp:
        if jax.process_count() > 1:  # there an Orbax save waits for all processes to join in
            raise RuntimeError("JAX runs over several processes")
        older = numbers(folder)
        path = folder / str(older[-1] + 1 if older else 0)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            ocp.save(path, arrays)
        except Exception:
            clean(folder)
            raise
        # A kill just before this leaves a save that `load` checks by what it holds alone.
        write_atomically(path / _SEAL, _files_digest(path))
        for number in older:
            _remove(folder / str(number))


def load(folder: Path, like: Any, damaged: Callable[[str], None]) -> tuple[Any, Any] | None:
    """The newest save that is whole, as (tree, meta); None if there is none.

    Args:
      folder: its folder.
      like: a tree of the same structure, shapes and types; a leaf comes back as a JAX array (on the
        same devices), NumPy array or number as it is here. Abstract leaves give NumPy arrays, or
        random keys. Or a function that makes it from the meta; None: it is not wanted.
      damaged: called with a sentence for each save that is left out.

    Raises:
      ValueError: the saved tree has another structure, shape or type.
    """
    for number in reversed(numbers(folder)):
        try:
            _check_files(folder / str(number))
            with _orbax() as ocp:
                about, leaves = _from_arrays(ocp.load(folder / str(number)))
        except Exception as error:  # whatever the damage makes Orbax raise
            damaged(
                f"the saved state {folder.name}/{number} is damaged and is left out ({one_line(error)})"
            )
        else:
            wanted = like(about["meta"]) if callable(like) else like
            return None if wanted is None else (_restore(about, leaves, wanted), about["meta"])
    return None


def drop(folder: Path) -> None:
    """Removes all saves."""
    with lock:
        for number in numbers(folder):
            _remove(folder / str(number))
        with contextlib.suppress(OSError):
            folder.rmdir()


def clean(folder: Path) -> None:
    """Removes what a kill left: half-written and half-removed saves."""
    with lock, contextlib.suppress(OSError):
        for path in folder.iterdir():
            if not path.name.isdecimal():
                shutil.rmtree(path, ignore_errors=True)


def one_line(error: BaseException) -> str:
    """What an error says, its first line; of Orbax's long ones only what the system said."""
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(code[1]))
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]


def numbers(folder: Path) -> list[int]:
    """The complete saves, oldest first."""
    try:
        return sorted(int(name) for name in os.listdir(folder) if name.isdecimal())
    except OSError:
        return []


def _remove(path: Path) -> None:
    """Removes a save so that a kill in the middle leaves no half one under its name."""
    with contextlib.suppress(OSError):
        gone = path.rename(path.with_name(path.name + ".gone"))
        shutil.rmtree(gone, ignore_errors=True)


def _files_digest(path: Path) -> bytes:
    sha = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file() and file.name != _SEAL):
        with file.open("rb") as content:
            of_file = hashlib.file_digest(content, "sha256").hexdigest()
        sha.update(f"{file.relative_to(path).as_posix()}\0{of_file}\n".encode())
    return sha.hexdigest().encode()


def _check_files(path: Path) -> None:
    """Raises a ValueError where a save's files are not those that were written."""
    try:
        expected = (path / _SEAL).read_bytes()
    except FileNotFoundError:
        return
    if expected != _files_digest(path):
        raise ValueError("its bytes have changed")


def _is_key(leaf: Any) -> bool:
    import jax

    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def _describe(tree: Any) -> tuple[list[dict[str, Any]], list[Any], Any]:
    """What each leaf is (name, type, shape), the leaves, and the tree's structure."""
    import jax

    paths, treedef = jax.tree_util.tree_flatten_with_path(tree)
    facts = []
    for path, leaf in paths:
        name = jax.tree_util.keystr(path)
        array = leaf if hasattr(leaf, "dtype") and hasattr(leaf, "shape") else np.asarray(leaf)
        if not _is_key(array) and (array.dtype.kind in "OUSMm" or array.dtype.names):
            raise TypeError(f"cannot save {name or 'a leaf'} of type {type(leaf).__name__}.")
        facts.append({"name": name, "dtype": str(array.dtype), "shape": list(array.shape)})
    return facts, [leaf for _, leaf in paths], treedef


def _from_arrays(arrays: Mapping[str, Any]) -> tuple[dict[str, Any], list[np.ndarray]]:
    import jax.numpy as jnp

    text = np.asarray(arrays["about"]).tobytes()
    about = json.loads(text)
    leaves = [
        np.asarray(arrays[f"leaf{number}"])
        if math.prod(shape)
        else np.zeros(shape, jnp.dtype(dtype))
        for number, (dtype, shape) in enumerate(about["arrays"])
    ]
    if digest(text, *leaves) != np.asarray(arrays["sha256"]).tobytes().hex():
        raise ValueError("its bytes have changed")
    return about, leaves


def _restore(about: dict[str, Any], arrays: list[np.ndarray], like: Any) -> Any:
    import jax

    facts, leaves, treedef = _describe(like)
    if len(about["leaves"]) != len(facts):
        raise ValueError(f"{len(about['leaves'])} arrays were saved, wanted {len(facts)}.")
    for there, here in zip(about["leaves"], facts, strict=True):
        if there != here:
            raise ValueError(f"saved is {_say(there)}, wanted {_say(here)}.")
    return jax.tree.unflatten(
        treedef, [_like(*each) for each in zip(arrays, leaves, about["keys"], strict=True)]
    )


def _say(fact: dict[str, Any]) -> str:
    return f"{fact['name'] or 'an array'} {fact['dtype']}{fact['shape']}"


def _like(array: np.ndarray, leaf: Any, impl: str | None) -> Any:
    import jax
    import jax.numpy as jnp

    if impl is not None:
        key = jax.random.wrap_key_data(jnp.asarray(array), impl=impl)
        return jax.device_put(key, leaf.sharding) if isinstance(leaf, jax.Array) else key
    if isinstance(leaf, jax.Array):
        return jax.device_put(array, leaf.sharding)
    if isinstance(leaf, np.generic):
        return array[()]
    return array.item() if isinstance(leaf, (bool, int, float, complex)) else array
