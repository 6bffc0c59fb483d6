"""What tells searches apart: digests of data and settings, and the code's version."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
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
