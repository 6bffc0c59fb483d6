"""What tells searches apart: digests of data and settings, and the code's version."""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax import linen
from scipy import sparse
from scipy.stats import loguniform, randint
from sklearn.metrics import make_scorer
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsClassifier

from jaxlstm.grid import codes
from jaxlstm.grid.store import code_version, digest

ROOT = Path(__file__).parents[2]


def score_a(y: Any, prediction: Any) -> float:
    return float(np.mean(y == prediction))


class Split:
    def __init__(self, n: int):
        self.n = n

    def twice(self) -> int:
        return 2 * self.n


def different_things() -> list[Any]:
    x = np.arange(6.0).reshape(2, 3)
    initial = linen.initializers.variance_scaling
    return [
        *(x, x.T, x.astype(np.float32), x.reshape(3, 2), x + 1, x.tolist(), x.view(np.int64)),
        *(None, 0, 1, 1.0, True, "1", b"1", -0.0, 0.0, float("nan"), [], (), {}, "", set()),
        *([1, 2], [2, 1], [[1], 2], (1, 2), {"a": 1, "b": 2}, {"a": 2, "b": 1}, {1, 2}, "12"),
        *(["ab", "c"], ["a", "bc"], np.array(["ab", "c"]), np.array(["ab", "c"], object)),
        *(score_a, make_scorer(score_a), len, lambda: 1, lambda: 2, lambda y: y.a, lambda y: y.b),
        *(KFold(3), KFold(4), Split(3), Split(4), KFold, np.random.RandomState(1)),
        *(KNeighborsClassifier(3), KNeighborsClassifier(p=1), np.random.RandomState(2)),
        *(linen.Dense(3), linen.Dense(4), linen.Dense(3, use_bias=False), linen.relu, linen.tanh),
        *(linen.Dense(3, kernel_init=initial(s, "fan_in", "normal")) for s in (1.0, 2.0)),
        *(linen.Sequential([linen.Dense(3), f]) for f in (linen.relu, linen.tanh)),
        *(jax.random.key(0), jax.random.key(1), jax.random.key(0, impl="rbg")),
        *(functools.partial(score_a, f) for f in (linen.relu, linen.tanh)),
        *(Split(3).twice, Split(4).twice, Split.twice),
        *(pd.DataFrame({"a": [1.0, 2.0]}), pd.DataFrame({"b": [1.0, 2.0]}), pd.Series(["a", "b"])),
        *(sparse.csr_array(x), sparse.csr_array(x + 1)),
        *(loguniform(1e-4, 1), loguniform(1e-4, 0.1), randint(1, 4)),
        *(np.random.default_rng(1), np.random.default_rng(2), np.datetime64("2020-01-01")),
    ]


def test_different_things_have_different_digests() -> None:
    digests = [digest(thing) for thing in different_things()]
    assert len(set(digests)) == len(digests)
    assert digest(1, 2) != digest(12) != digest("1", "2")
    assert digest() != digest(None)


def test_the_same_things_have_the_same_digest() -> None:
    x = np.random.default_rng(0).normal(size=(4, 5))
    assert digest(x) == digest(x.copy(order="F")) == digest(np.repeat(x, 2, axis=0)[::2])
    assert digest(jnp.float32(x)) == digest(np.float32(x))
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest(np.float64(0.1), np.int32(3), np.bool_(1)) == digest(0.1, 3, True)
    loop: list[Any] = [1]
    loop.append(loop)
    assert digest(loop) == digest(loop)


def test_digests_do_not_depend_on_the_process() -> None:
    here = [digest(thing) for thing in different_things()] + [code_version()]
    script = (
        "import test_grid_fingerprint as t, json;"
        "print(json.dumps([t.digest(x) for x in t.different_things()] + [t.code_version()]))"
    )
    there = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"},
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = json.loads(there.stdout.splitlines()[-1])
    assert here == theirs


def test_code_version_names_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_version()
    assert re.fullmatch(rf"jaxlstm \S+, jax {jax.__version__}, [0-9a-f]{{12}}", before)
    copy = tmp_path / "jaxlstm"
    shutil.copytree(ROOT / "jaxlstm", copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(codes, "__file__", str(copy / "grid" / "codes.py"))
    assert code_version() == before
    (copy / "report" / "page.py").write_text("")
    assert code_version() == before
    for package, file in (("estimators", "classifier"), ("grid", "lanes"), ("train", "epoch")):
        with open(copy / package / f"{file}.py", "a") as source:
            source.write('\n\n#  A comment.\ndef unused(x):\n    """Text."""\n    return x + 1\n')
        edited = code_version()
        assert edited != before
        text = (copy / package / f"{file}.py").read_text()
        text = text.replace("#  A comment.", "").replace('    """Text."""\n', "")
        (copy / package / f"{file}.py").write_text(text.replace("x + 1", "(x +\n      1)"))
        assert code_version() == edited
        before = edited


# -- code of the user's own

HELPERS = """
import functools, dataclasses
import jax, numpy as np
from flax import linen
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.metrics import make_scorer
from jaxlstm import LSTMClassifier
"""


def made(source: str, name: str = "f") -> Any:
    """What a module of this source has under a name, as a notebook or an edited file has it."""
    module = types.ModuleType("helpers_of_a_test")
    sys.modules[module.__name__] = module
    exec(compile(HELPERS + textwrap.dedent(source), "<stdin>", "exec"), module.__dict__)
    return getattr(module, name)


# Each source, with what is to be replaced in it by what.
EDITED = {
    "body": ("def f(y, p): return (y == p).mean()", "mean", "sum"),
    "constant": ("def f(y, p): return (y == p).mean() - 0.5", "0.5", "0.25"),
    "operator": ("def f(y, p): return y - p", "-", "+"),
    "default": ("def f(y, p, power=2): return y ** power", "2", "3"),
    "keyword default": ("def f(y, *, power=2): return y ** power", "2", "3"),
    "global": ("C = 0.5\ndef f(y, p): return (y > C).mean()", "0.5", "0.6"),
    "global dict": ("C = {'a': [1, 2]}\ndef f(y): return C['a']", "2]", "3]"),
    "global array": ("C = np.arange(4.0)\ndef f(y): return y @ C", "4.0", "5.0"),
    "helper": ("def g(y): return y.mean()\ndef f(y, p): return g(y)", "mean", "sum"),
    "helper's helper": (
        "def h(y): return y.mean()\ndef g(y): return h(y)\ndef f(y): return g(y)", "mean", "sum"
    ),
    "recursive helper": (
        "def g(n): return h(n) if n else 0\ndef h(n): return g(n - 1)\ndef f(n): return g(n)",
        "- 1", "- 2",
    ),
    "helper's global": ("C = 1\ndef g(): return C\ndef f(): return g()", "C = 1", "C = 2"),
    "comprehension's helper": ("def g(y): return 2 * y\ndef f(y): return [g(x) for x in y]", "2", "3"),
    "closure": ("def made(c):\n  def f(y): return y > c\n  return f\nf = made(1)", "e(1)", "e(2)"),
    "nested function": ("def f(y):\n  def g(x): return x + 1\n  return g(y)", "+ 1", "+ 2"),
    "nested class": ("def f(y):\n  class G:\n    c = 1\n  return G.c", "c = 1", "c = 2"),
    "lambda": ("f = lambda y, p: (y == p).mean()", "mean", "sum"),
    "lambda in a dict": ("f = {'a': lambda y: y.mean()}", "mean", "sum"),
    "partial": ("def g(y, c): return y > c\nf = functools.partial(g, c=1)", "> c", "< c"),
    "partial's argument": ("def g(y, c): return y > c\nf = functools.partial(g, c=1)", "c=1", "c=2"),
    "cached": ("@functools.lru_cache\ndef f(y): return y + 1", "+ 1", "+ 2"),
    "wrapped": (
        "def d(g):\n  @functools.wraps(g)\n  def w(*a): return g(*a)\n  return w\n"
        "@d\ndef f(y): return y + 1",
        "y + 1", "y + 2",
    ),
    "wrapper": (
        "def d(g):\n  @functools.wraps(g)\n  def w(*a): return 1 * g(*a)\n  return w\n"
        "@d\ndef f(y): return y + 1",
        "1 * g", "2 * g",
    ),
    "jitted": ("@jax.jit\ndef f(y): return y + 1", "+ 1", "+ 2"),
    "vmapped": ("f = jax.vmap(lambda y: y + 1)", "+ 1", "+ 2"),
    "custom gradient": (
        "@jax.custom_vjp\ndef f(y): return y\n"
        "f.defvjp(lambda y: (y, None), lambda _, g: (2 * g,))",
        "2 * g", "3 * g",
    ),
    "vectorized": ("f = np.vectorize(lambda y: y + 1)", "+ 1", "+ 2"),
    "scorer": ("def g(y, p): return (y == p).mean()\nf = make_scorer(g)", "mean", "sum"),
    "scorer's sign": ("f = make_scorer(len, greater_is_better=True)", "True", "False"),
    "callable's method": ("class G:\n  def __call__(self, y): return y + 1\nf = G()", "+ 1", "+ 2"),
    "callable's state": (
        "class G:\n  def __init__(self, c): self.c = c\n  def __repr__(self): return 'G'\n"
        "  def __call__(self, y): return y + self.c\nf = G(1)",
        "G(1)", "G(2)",
    ),
    "slots": (
        "class G:\n  __slots__ = ('c',)\n  def __init__(self, c): self.c = c\nf = G(1)", "G(1)", "G(2)"
    ),
    "base class": (
        "class A:\n  def g(self): return 1\n"
        "class B(A):\n  def __call__(self): return self.g()\nf = B()",
        "return 1", "return 2",
    ),
    "class attribute": ("class f:\n  c = 1", "1", "2"),
    "static method": ("class f:\n  @staticmethod\n  def g(): return 1", "1", "2"),
    "class method": ("class f:\n  @classmethod\n  def g(cls): return 1", "1", "2"),
    "property": ("class f:\n  @property\n  def g(self): return 1", "1", "2"),
    "cached property": ("class f:\n  @functools.cached_property\n  def g(self): return 1", "1", "2"),
    "method": ("class G:\n  def g(self): return 1\nf = G().g", "1", "2"),
    "dataclass": ("@dataclasses.dataclass\nclass G:\n  c: int = 1\nf = G()", "1", "2"),
    "dataclass's method": (
        "@dataclasses.dataclass\nclass G:\n  c: int = 1\n  def g(self): return self.c + 1\nf = G()",
        "+ 1", "+ 2",
    ),
    "exception": (
        "def f(y):\n  try:\n    return g(y)\n  except ValueError:\n    return 0",
        "ValueError", "KeyError",
    ),
    "handler's reach": (
        "def f(y):\n  try:\n    y = y + 1\n  except ValueError:\n    y = 0\n  return y",
        "    y = 0\n  return y", "    y = 1\n  return y",
    ),
    "estimator's score": (
        "class G(LSTMClassifier):\n  def score(self, X, y): return 1.0\nf = G()", "1.0", "2.0"
    ),
    "transformer": (
        "class G(TransformerMixin, BaseEstimator):\n  def fit(self, X, y=None): return self\n"
        "  def transform(self, X): return X * 2\nf = G()",
        "X * 2", "X * 3",
    ),
    "flax": (
        "class G(linen.Module):\n  n: int = 2\n  @linen.compact\n  def __call__(self, x):\n"
        "    return linen.Dense(self.n)(linen.relu(x))\nf = G()",
        "relu", "tanh",
    ),
    "flax's helper": (
        "def g(x): return linen.relu(x)\nclass G(linen.Module):\n  @linen.compact\n"
        "  def __call__(self, x): return linen.Dense(2)(g(x))\nf = G()",
        "relu", "tanh",
    ),
    "flax's submodule": (
        "class A(linen.Module):\n  @linen.compact\n  def __call__(self, x): return linen.relu(x)\n"
        "class G(linen.Module):\n  def setup(self): self.a = A()\n"
        "  def __call__(self, x): return self.a(x)\nf = G()",
        "relu", "tanh",
    ),
    "estimator's loss": (
        "def loss(y, p): return ((y - p) ** 2).mean()\nf = LSTMClassifier(loss=loss)", "** 2", "** 4"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITED)
def test_edited_code_has_another_digest(name: str) -> None:
    source, before, after = EDITED[name]
    assert source.count(before) >= 1
    one, same = (digest(made(source)) for _ in range(2))
    assert one == same
    assert digest(made(source.replace(before, after))) != one


@pytest.mark.parametrize(
    "change",
    [
        ("# A comment.", "# Another one."),
        ('"""Scores."""', '"""Scores rows\n    by what they are."""'),
        ('    """Scores."""\n', ""),
        ("    total = g(y, p, 1)", "    total = g(\n        y,\n        p,\n        1,\n    )"),
        ("if total > 3:\n        pass", "if (\n        total\n        >\n        3\n    ): pass"),
        ("\n\ndef f", "\n\n\n\n\ndef f"),
        ('    """Sums."""\n', ""),
        ('"""A class."""', '"""A class of its own."""'),
    ],
)
def test_docstrings_comments_and_lines_do_not_matter(change: tuple[str, str]) -> None:
    source = '''
class G:
    """A class."""
    def g(self):
        """Sums."""
        return 1

def g(y, p, c):
    """Sums."""
    return (y == p).sum() + c + G().g()

def f(y, p):
    """Scores."""
    # A comment.
    total = g(y, p, 1)
    if total > 3:
        pass
    def inner():
        """Within."""
        return total
    try:
        return inner()
    except ValueError:
        return 0
'''
    assert change[0] in source
    edited = source.replace(*change)
    assert digest(made(edited)) == digest(made(source))
    assert digest(made(edited, "G")) == digest(made(source, "G"))


def test_what_a_function_leaves_behind_does_not_matter() -> None:
    source = """
    CALLS, SEEN, COUNT = [], set(), 0
    def made():
        calls, count = [], 0
        def f(y):
            global COUNT
            nonlocal count
            COUNT, count = COUNT + 1, count + 1
            CALLS.append(y)
            SEEN.add(y)
            calls.append(y)
            return y
        return f
    f = made()
    """
    f = made(source)
    before = digest(f)
    f(3)
    assert digest(f) == before


def test_modules_of_the_users_count_by_what_is_used(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "kit").mkdir()
    files = {
        "kit/__init__.py": "",
        "kit/parts.py": "def used(y):\n    return y + 1\n\ndef unused(y):\n    return y\n",
        "flat.py": "C = 1\n",
    }
    user = """
    import kit.parts, flat
    import numpy
    def f(y):
        from kit.parts import used
        return numpy.sum(kit.parts.used(y)) * flat.C
    def late(y):
        from kit import parts
        return parts.used(y)
    """

    def digests() -> list[str]:
        for name in [name for name in sys.modules if name.split(".")[0] in ("kit", "flat")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        return [digest(made(user, name)) for name in ("f", "late")]

    sys.dont_write_bytecode, before_all = True, sys.dont_write_bytecode
    try:
        before = digests()
        files["kit/parts.py"] = files["kit/parts.py"].replace("return y\n", "return y * 9\n")
        assert digests() == before
        files["flat.py"] = "C = 2\n"
        after = digests()
        assert after[0] != before[0]
        assert after[1] == before[1]
        files["kit/parts.py"] = files["kit/parts.py"].replace("y + 1", "y + 2")
        assert all(one != other for one, other in zip(digests(), after, strict=True))
    finally:
        sys.dont_write_bytecode = before_all


def test_libraries_count_by_their_version(monkeypatch: pytest.MonkeyPatch) -> None:
    things = [KFold(3), linen.Dense(2), make_scorer(score_a), linen.relu]
    before = [digest(thing) for thing in things]
    versions = {"sklearn": "99", "flax": "99", "jax": "99"}
    monkeypatch.setattr(codes, "_version", lambda package: versions.get(package, ""))
    assert all(digest(one) != other for one, other in zip(things, before, strict=True))


def test_using_a_module_does_not_change_its_digest() -> None:
    source, *_ = EDITED["flax's submodule"]
    module = made(source)
    before = digest(module)
    module.init(jax.random.key(0), np.ones((2, 3)))
    assert digest(module) == before == digest(made(source))
