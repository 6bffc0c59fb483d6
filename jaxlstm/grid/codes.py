"""What results owe to code: a function's instructions and all that they name, a class's members.

Code of the user's own counts by what it does: docstrings, comments and formatting do not. Code of
libraries counts by their version, and jaxlstm's own as `code_version` says.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import dis
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import site
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# What changes a list, dict or set and returns nothing.
_CHANGES = {
    *("append", "extend", "insert", "add", "update", "appendleft", "extendleft"),
    *("remove", "discard", "clear", "sort", "reverse"),
}

_IS_PYTHON = 1 << 9  # the flag of classes that are not C's

# Instructions that formatting and the compiler's version of the day decide.
_SKIPPED = {"NOP", "RESUME", "CACHE", "EXTENDED_ARG", "PRECALL", "NOT_TAKEN"}

# What a class body stores that is not behaviour.
_NOTES = {"__doc__", "__firstlineno__", "__static_attributes__"}

# Members of a class that say nothing more, or are made anew in every process.
_UNTOLD = _NOTES | {
    *("__module__", "__qualname__", "__dict__", "__weakref__", "__annotations__"),
    *("__annotate__", "__annotate_func__", "__annotations_cache__", "__abstractmethods__"),
    *("__dataclass_fields__", "__dataclass_params__", "__match_args__", "__parameters__"),
    *("__orig_bases__", "__subclasshook__", "_abc_impl"),
}


@functools.cache
def _libraries() -> tuple[str, ...]:
    """Folders of code that counts by its version."""
    paths = sysconfig.get_paths()
    found = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found += [*site.getsitepackages(), site.getusersitepackages()]
    found.append(str(Path(__file__).parents[1]))  # jaxlstm, wherever it is
    return tuple(os.path.join(os.path.realpath(path), "") for path in found)


@functools.cache
def _is_library(file: str) -> bool:
    if file.startswith(("<frozen", "<__array")):
        return True
    return os.path.realpath(file).startswith(_libraries()) if os.path.isabs(file) else False


def is_own(value: Any) -> bool:
    """Whether a function, class or module is the user's own, not a library's."""
    if isinstance(value, types.FunctionType):
        return not _is_library(value.__code__.co_filename)
    module = value
    if isinstance(value, type):
        if not value.__flags__ & _IS_PYTHON:
            return False
        module = sys.modules.get(value.__module__)
        if module is None or module is builtins:  # made where there is no module
            return True
    file = getattr(module, "__file__", None)
    if file is None:
        return module.__name__ not in sys.builtin_module_names
    return not _is_library(os.path.abspath(file))


@functools.cache
def _version(package: str) -> str:
    module = sys.modules.get(package)
    found = getattr(module, "__version__", None)
    if found is None and package not in sys.stdlib_module_names:
        try:
            found = importlib.metadata.version(package)
        except (importlib.metadata.PackageNotFoundError, ValueError):
            found = None
    return str(found or "")


def library_name(value: Any) -> tuple[str, str, str]:
    """Module, name and version of what a library has."""
    module = str(getattr(value, "__module__", None) or "")
    name = str(getattr(value, "__qualname__", None) or getattr(value, "__name__", ""))
    return module, name, _version((module or name).split(".")[0])


# -- functions


def function_parts(function: types.FunctionType) -> list[Any]:
    """What a function does: its code, defaults, and what it finds by name.

    A global that it assigns, and a list, dict or set that it only changes, is what it leaves behind,
    not what it depends on.
    """
    code = function.__code__
    found: dict[str, Any] = {}
    names = frozenset(_attributes(code))
    left = _left_behind(code)
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        if name not in left:
            try:
                found[f"cell {name}"] = cell.cell_contents
            except ValueError:  # not filled yet
                found[f"cell {name}"] = None
    for name in sorted(_globals(code) - left):
        if name in function.__globals__:
            _add(found, name, function.__globals__[name], names)
        elif not hasattr(builtins, name):
            found[name] = "missing"
    for name, module in _imports(code, function.__globals__.get("__package__") or ""):
        _add(found, f"import {name}", module, names)
    attributes = {
        name: value for name, value in vars(function).items() if not name.startswith("__")
    }
    return [
        *(code_parts(code), function.__defaults__, function.__kwdefaults__, attributes, found),
        getattr(function, "__wrapped__", None),
    ]


def enclosing_parts(function: types.FunctionType) -> list[Any]:
    """What a library's function encloses: a decorated function, a schedule's numbers."""
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # not filled yet
            cells.append(None)
    is_local = "<" in function.__qualname__
    return [
        code_parts(function.__code__) if is_local else None,
        *(function.__defaults__, function.__kwdefaults__, cells),
        getattr(function, "__wrapped__", None),
    ]


def _add(found: dict[str, Any], name: str, value: Any, names: frozenset[str]) -> None:
    """Adds what a name stands for; of a module of the user's what is named of it."""
    is_module = isinstance(value, types.ModuleType)
    if not is_module or not is_own(value) or name.count(".") > 8:
        found[name] = value
        return
    for attribute in sorted(names & vars(value).keys()):
        _add(found, f"{name}.{attribute}", vars(value)[attribute], names)


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and those in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)


def _attributes(code: types.CodeType) -> set[str]:
    return {name for each in _nested(code) for name in each.co_names}


def _globals(code: types.CodeType) -> set[str]:
    return {
        str(instruction.argval)
        for each in _nested(code)
        for instruction in dis.get_instructions(each)
        if instruction.opname.startswith(("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"))
    }


def _left_behind(code: types.CodeType) -> set[str]:
    """Names that are assigned, or only stand for something that is changed by a method."""
    assigned: set[str] = set()
    changed: set[str] = set()
    read: set[str] = set()
    for each in _nested(code):
        instructions = [one for one in dis.get_instructions(each) if one.opname not in _SKIPPED]
        for one, following in zip(instructions, [*instructions[1:], None], strict=True):
            is_outer = one.opname == "STORE_DEREF" and one.argval in each.co_freevars
            if is_outer or one.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                assigned.add(str(one.argval))
            elif one.opname.startswith(("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF")):
                is_changed = (
                    following is not None
                    and following.opname in ("LOAD_METHOD", "LOAD_ATTR")
                    and following.argval in _CHANGES
                )
                (changed if is_changed else read).add(str(one.argval))
    return assigned | (changed - read)


def _imports(code: types.CodeType, package: str) -> Iterator[tuple[str, types.ModuleType]]:
    """The user's modules that are imported inside."""
    for each in _nested(code):
        level: Any = 0
        before: list[Any] = []
        for one in dis.get_instructions(each):
            if one.opname == "IMPORT_NAME":
                level = before[-2] if len(before) > 1 else 0
                name = "." * level + str(one.argval) if isinstance(level, int) else str(one.argval)
                try:
                    module = importlib.import_module(name, package or None)
                except Exception:  # it is the function's to fail
                    continue
                if is_own(module):
                    yield name, module
            if one.opname.startswith(("LOAD_CONST", "LOAD_SMALL_INT")):
                before.append(one.argval)


def code_parts(code: types.CodeType) -> list[Any]:
    """A code object's instructions, whatever its lines, docstrings and the places of its constants."""
    kept: list[tuple[int, str, Any]] = []  # offset, name, argument
    jumps = {*dis.hasjrel, *dis.hasjabs, *getattr(dis, "hasjump", ())}
    for one in dis.get_instructions(code):
        if one.opname in _SKIPPED:
            continue
        if one.opname in ("STORE_NAME", "STORE_GLOBAL") and one.argval in _NOTES:
            kept.pop()  # the constant that it would store
            continue
        argument = one.argval
        if isinstance(argument, types.CodeType):
            argument = code_parts(argument)
        elif one.opcode in jumps:
            argument = _Jump(argument)
        # Some versions join two instructions where they stand on one line.
        parts = _pair(one.opname)
        if len(parts) == 2 and isinstance(argument, tuple) and len(argument) == 2:
            kept += [(one.offset, part, value) for part, value in zip(parts, argument, strict=True)]
        else:
            kept.append((one.offset, one.opname, argument))
    offsets = [offset for offset, _, _ in kept]

    def place(offset: int) -> int:
        return next((n for n, known in enumerate(offsets) if known >= offset), len(offsets))

    steps = [
        (name, ("jump", place(argument.offset)) if isinstance(argument, _Jump) else argument)
        for _, name, argument in kept
    ]
    handlers = [
        (place(entry.start), place(entry.end), place(entry.target), entry.depth, entry.lasti)
        for entry in getattr(dis.Bytecode(code), "exception_entries", None) or ()
    ]
    arguments = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount
    kinds = code.co_flags & 0x3AC  # *args, **kwargs, generators and coroutines
    return [steps, handlers, arguments, kinds, code.co_varnames[: sum(arguments)]]


@dataclasses.dataclass(frozen=True)
class _Jump:
    offset: int


def _pair(name: str) -> list[str]:
    """The two instructions that one stands for, such as LOAD_FAST_LOAD_FAST."""
    for first in ("LOAD_FAST_BORROW", "LOAD_FAST", "STORE_FAST"):
        if name.startswith(f"{first}_") and name[len(first) + 1 :] in (
            "LOAD_FAST_BORROW",
            "LOAD_FAST",
            "STORE_FAST",
        ):
            return [first, name[len(first) + 1 :]]
    return [name]


# -- classes


def class_parts(cls: type) -> list[Any]:
    """What the instances of a class of the user's do: its members, and its bases'."""
    parts: list[Any] = []
    for base in cls.__mro__:
        if not is_own(base):
            parts.append(library_name(base))
            continue
        members = {
            name: _unwrapped(member)
            for name, member in vars(base).items()
            if name not in _UNTOLD
            and not isinstance(member, types.MemberDescriptorType | types.GetSetDescriptorType)
        }
        factories = {}
        if dataclasses.is_dataclass(base):
            factories = {
                field.name: field.default_factory
                for field in dataclasses.fields(base)
                if field.default_factory is not dataclasses.MISSING
            }
        parts.append([base.__qualname__, members, factories])
    return parts


def _unwrapped(member: Any) -> Any:
    if isinstance(member, staticmethod | classmethod):
        return [type(member).__name__, member.__func__]
    if isinstance(member, property):
        return ["property", member.fget, member.fset, member.fdel]
    if isinstance(member, functools.cached_property):
        return ["cached_property", member.func]
    return member


# -- jaxlstm


def code_version() -> str:
    """Versions of jaxlstm and JAX, and 12 hex digits over what training runs.

    That is jaxlstm's own code, but for docstrings, comments and formatting, and the versions of Python
    and of the libraries beneath.
    """
    import jax

    import jaxlstm

    below = ("jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn")
    versions = [f"python {sys.version_info[0]}.{sys.version_info[1]}", *map(_version, below)]
    sources = _sources(Path(__file__).parents[1])
    sha = hashlib.sha256(repr((versions, sources)).encode())
    return f"jaxlstm {jaxlstm.__version__}, jax {jax.__version__}, {sha.hexdigest()[:12]}"


def _sources(root: Path) -> list[tuple[str, str]]:
    files = [
        path
        for package in ("nn", "train", "grid", "estimators")
        for path in sorted((root / package).rglob("*.py"))
    ]
    return [(path.relative_to(root).as_posix(), _source(path.read_bytes())) for path in files]


@functools.lru_cache(maxsize=512)
def _source(content: bytes) -> str:
    """A digest of a source as Python reads it."""
    tree = ast.parse(content)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(ast.Constant(str())), *rest]:
                    node.body = rest
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
