"""Lanes sharded over several devices: a process of its own, with three CPU devices."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import jax
jax.config.update("jax_num_cpu_devices", 3)
jax.config.update("jax_enable_x64", True)
import numpy as np, pandas as pd
from jaxlstm import GridSearch, LSTMClassifier
from jaxlstm.grid import program_cache
from jaxlstm.grid.lanes import Lanes

assert len(jax.local_devices()) == 3
rng = np.random.default_rng(7)
X, y = rng.normal(size=(26, 5, 2)), np.arange(26) % 3
grid = {"dropout": [0.0, 0.1, 0.2, 0.3, 0.4], "epochs": [2]}
classifier = LSTMClassifier(units=4, batch_size=8, learning_rate=0.02, optimizer="sgd")

shards, idle = set(), []
plain = Lanes.train_epoch
def spy(self, active, validate):
    shards.add(len(self._state.step.sharding.device_set))
    idle.append((~active).sum())
    return plain(self, active, validate)
Lanes.train_epoch = spy

def run(layout, **settings):
    search = GridSearch(classifier, grid, cv=2, random_state=0, layout=layout, refit=False)
    return search.set_params(**settings).fit(X, y)

loop = run("loop")
assert shards == {1} and loop.plan_.devices == 1
shards.clear(), idle.clear()
vmap = run("vmap")
assert vmap.plan_.devices == 3 and "on 3 x cpu" in str(vmap.plan_)
assert shards == {3}, shards
assert vmap.plan_.groups[0].slots == 12 and set(idle) == {2}, (vmap.plan_.groups[0].slots, idle)
assert len(vmap.results_) == 10
pd.testing.assert_frame_equal(vmap.curves_, loop.curves_, rtol=1e-11)
assert vmap.cv_results_["split1_test_score"].tolist() == loop.cv_results_["split1_test_score"].tolist()

# As many lanes as the program has, one of them diverging: the others do not notice.
before = program_cache.compilations["train"]
grid = [{"optimizer": ["sgd"], "learning_rate": [1e200], "epochs": [2]}, *[grid]]
import warnings
warnings.simplefilter("ignore")
mixed = run("vmap")
assert program_cache.compilations["train"] == before
pd.testing.assert_frame_equal(
    mixed.curves_[mixed.curves_["cell"] > 0].drop(columns=["trial", "cell"]).reset_index(drop=True),
    vmap.curves_.drop(columns=["trial", "cell"]),
    rtol=1e-11,
)
assert mixed.results_["status"].tolist() == ["failed"] * 2 + ["ok"] * 10
# Ten idle lanes copy the first one, which diverges in its first epoch.
grid = [grid[0]]
try:
    run("vmap")
except ValueError as error:
    assert "2 of 2 fits failed" in str(error), error
else:
    raise AssertionError("should have failed")
print("three devices agree")
"""


def test_lanes_over_three_devices() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:jaxlstm", "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "three devices agree\n"
