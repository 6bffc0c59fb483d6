"""Searches on joblib's backends: the same numbers as in this process, through dead workers too."""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import jax
import joblib
import numpy as np
import pandas as pd
import pytest
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from jaxlstm import GridSearch, LSTMClassifier
from jaxlstm.grid import cluster, run
from jaxlstm.grid.groups import lane_cost
from jaxlstm.grid.plan import make_plan
from jaxlstm.grid.prepare import Prepared
from jaxlstm.grid.store import Store

GRID = {"dropout": [0.0, 0.2, 0.4], "epochs": [2, 3]}


def same(one: Any, other: Any) -> None:
    """Every score and curve, bit for bit; times differ."""
    pd.testing.assert_frame_equal(one.curves_, other.curves_, check_exact=True)
    assert one.cv_results_.keys() == other.cv_results_.keys()
    for name, values in one.cv_results_.items():
        if "time" not in name and not name.startswith("param"):
            assert values.tolist() == other.cv_results_[name].tolist(), name


class Diary:
    """A scorer that writes down who scored, in a file that processes share."""

    unpacked: ClassVar[collections.Counter[str]] = collections.Counter()

    def __init__(self, path: Path):
        self.path = str(path)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        self.unpacked[self.path] += 1

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        with open(self.path, "a") as file:
            file.write(f"{os.getpid()} {threading.get_ident()}\n")
        return float(estimator.predict_proba(X)[:, 0].sum())

    def lines(self) -> list[str]:
        return Path(self.path).read_text().splitlines() if Path(self.path).exists() else []


@pytest.fixture(scope="module")
def dask() -> Iterator[None]:
    """Two worker threads of this process behind a scheduler."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        ) as local,
        distributed.Client(local),
    ):
        yield


def search(classifier: Any, grid: Any = GRID, **settings: Any) -> GridSearch:
    settings = {"cv": 2, "random_state": 0, "refit": False, "layout": "loop"} | settings
    return GridSearch(classifier, grid, **settings)


# -- which backend


def test_only_a_chosen_backend_is_a_cluster() -> None:
    assert cluster.active_cluster() is None
    with joblib.parallel_config(n_jobs=2):
        assert cluster.active_cluster(2) is None
    with joblib.parallel_config(backend="threading", n_jobs=2):
        assert cluster.active_cluster() is None
    with joblib.parallel_config(backend="loky"):
        assert cluster.active_cluster().n_jobs == -1  # type: ignore[union-attr]
        assert cluster.active_cluster(3).n_jobs == 3  # type: ignore[union-attr]
    with joblib.parallel_config(backend="loky", n_jobs=2):
        assert cluster.active_cluster().n_jobs == 2  # type: ignore[union-attr]
        assert cluster.active_cluster(3).n_jobs == 3  # type: ignore[union-attr]
    assert cluster.active_cluster() is None


def test_forks_are_refused(data: Any, classifier: LSTMClassifier) -> None:
    with (
        joblib.parallel_config(backend="multiprocessing", n_jobs=2),
        pytest.raises(
            ValueError, match=r"'multiprocessing' forks .* choose 'loky', 'dask' or 'ray'"
        ),
    ):
        search(classifier).fit(*data)


# -- how a plan is cut


@pytest.mark.parametrize("layout", ["loop", "vmap"])
@pytest.mark.parametrize("tasks", [1, 3, 8, 1000])
def test_tasks_hold_every_lane_once(data: Any, layout: str, tasks: int) -> None:
    X, y = data
    scaled = FunctionTransformer(kw_args={"factor": 2.0}, func=_times)
    pipe = make_pipeline(scaled, LSTMClassifier(batch_size=8))
    grid = [
        {
            "lstmclassifier__units": [units],
            "lstmclassifier__epochs": [epochs],
            "lstmclassifier__dropout": [0.1 * number for number in range(count)],
        }
        for units, epochs, count in [(4, 2, 5), (3, 9, 2), (8, 1, 1)]
    ]
    made = search(pipe, grid)
    prepared = Prepared(pipe, X, y, cv=2, random_state=0)
    problem = prepared.problem(made._candidates())
    plan = make_plan(problem, layout=layout, measure=False)
    done = {1, 2, 8}
    chunks = cluster.cut(plan, problem, done, tasks)
    places = sorted(place for chunk in chunks for lane in chunk.lanes for place in lane.trials)
    assert places == [place for place in range(16) if place not in done]
    kinds = {
        (chunk.group, problem.trials[lane.trials[0]].variant)
        for chunk in plan.chunks
        for lane in chunk.lanes
    }
    assert min(tasks, len(kinds)) <= len(chunks) <= max(tasks + len(kinds), len(kinds))
    loads = [sum(lane_cost(problem, lane) for lane in chunk.lanes) for chunk in chunks]
    assert loads == sorted(loads, reverse=True)
    for chunk in chunks:
        assert len({problem.trials[lane.trials[0]].variant for lane in chunk.lanes}) == 1
        assert {*chunk.lanes} <= {*plan.groups[chunk.group].lanes}
        costs = [lane_cost(problem, lane) for lane in chunk.lanes]
        assert costs == sorted(costs, reverse=True)
        own, alone = cluster._only(plan, problem, chunk)
        assert [lane.trials for lane in own.groups[0].lanes] == [
            tuple(alone.trials.index(t) for t in alone.trials if t.index in indices)
            for indices in [{problem.trials[p].index for p in lane.trials} for lane in chunk.lanes]
        ]
        (variant,) = {problem.trials[lane.trials[0]].variant for lane in chunk.lanes}
        assert [one.x is problem.datasets[variant].x for one in alone.datasets] == [True]


def _times(x: np.ndarray, factor: float) -> np.ndarray:
    return x * factor


# -- the same numbers


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:X was converted")
def test_processes_of_this_machine(
    data: Any, classifier: LSTMClassifier, tmp_path: Path, x64: None
) -> None:
    X, y = data
    steps = FunctionTransformer(_times, kw_args={"factor": 0.5})
    pipe = make_pipeline(steps, classifier)
    grid = {f"lstmclassifier__{name}": values for name, values in GRID.items()}
    grid["functiontransformer__kw_args"] = [{"factor": 0.5}, {"factor": 2.0}]
    here, there = Diary(tmp_path / "here"), Diary(tmp_path / "there")
    alone = search(pipe, grid, scoring=here).fit(X.astype(np.float64), y)
    try:
        with joblib.parallel_config(backend="loky", n_jobs=2), jax.default_matmul_precision("high"):
            spread = search(pipe, grid, scoring=there).fit(X.astype(np.float64), y)
    finally:
        get_reusable_executor().shutdown(wait=True)
    same(alone, spread)
    assert len(here.lines()) == len(there.lines()) == 24
    # One of two may be fast enough to do all.
    pids = {line.split()[0] for line in there.lines()}
    assert 1 <= len(pids) <= 2
    assert str(os.getpid()) not in pids


def test_tasks_side_by_side_in_one_process(
    dask: None, data: Any, classifier: LSTMClassifier, tmp_path: Path
) -> None:
    grid = GRID | {"dropout": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]}
    scoring = Diary(tmp_path / "diary")
    alone = search(classifier, grid, scoring=Diary(tmp_path / "alone")).fit(*data)
    with joblib.parallel_config(backend="dask"):
        spread = search(classifier, grid, scoring=scoring, refit=True).fit(*data)
    same(alone, spread)
    assert len(scoring.lines()) == 24
    assert len({line.split()[1] for line in scoring.lines()}) > 1
    # Eight tasks or more, for which the data were unpacked once.
    assert Diary.unpacked[scoring.path] == 1
    assert spread.predict(data[0]).shape == (26,)


def test_lanes_side_by_side_on_workers(dask: None, data: Any, classifier: LSTMClassifier) -> None:
    grid = {"dropout": [0.0, 0.2, 0.4]}
    alone = search(classifier, grid, layout="vmap").fit(*data)
    with joblib.parallel_config(backend="dask"):
        spread = search(classifier, grid, layout="vmap").fit(*data)
    # Programs of other widths.
    pd.testing.assert_frame_equal(alone.curves_, spread.curves_, rtol=1e-4)


def test_a_settings_context_reaches_the_workers(
    dask: None, data: Any, classifier: LSTMClassifier
) -> None:
    X, y = data
    with joblib.parallel_config(backend="dask"):
        single = search(classifier).fit(X, y)
        with jax.enable_x64(True):
            double = search(classifier).fit(X.astype(np.float64), y)
    losses = single.curves_["train_loss"], double.curves_["train_loss"]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert (losses[0].astype(np.float32) == losses[0]).sum() > (
        (losses[1].astype(np.float32) == losses[1]).sum()
    )


# -- broken off


def test_what_came_back_is_not_done_again(
    dask: None,
    data: Any,
    classifier: LSTMClassifier,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    diary = Diary(tmp_path / "diary")
    whole = search(classifier, scoring=diary).fit(*data)
    plain, added = Store.add, []

    def add(self: Store, trial: str, record: Any) -> None:
        plain(self, trial, record)
        added.append(trial)
        if len(added) == 6:  # a lane has two trials
            raise KeyboardInterrupt

    first, second = Diary(tmp_path / "first"), Diary(tmp_path / "second")
    folder = tmp_path / "search"
    with joblib.parallel_config(backend="dask"):
        begun = search(classifier, scoring=first, checkpoint_dir=folder)
        # The search is the same, though its scorer is another object.
        monkeypatch.setattr(Diary, "get_params", lambda *_, **__: {}, raising=False)
        with monkeypatch.context() as patch:
            patch.setattr(Store, "add", add)
            with pytest.warns(RuntimeWarning, match="Interrupted"):
                begun.fit(*data)
        assert begun.interrupted_
        assert (begun.results_["status"] == "interrupted").sum() == 12 - 6
        resumed = search(classifier, scoring=second, checkpoint_dir=folder).fit(*data)
    same(whole, resumed)
    assert len(second.lines()) == 12 - 6


def test_a_worker_s_error_is_raised(dask: None, data: Any) -> None:
    diverging = LSTMClassifier(units=4, batch_size=8, optimizer="sgd", learning_rate=1e38)
    with (
        joblib.parallel_config(backend="dask"),
        pytest.raises(ValueError, match=r"The fit of .* failed: the loss is not finite"),
    ):
        search(diverging, {"epochs": [3]}, error_score="raise").fit(*data)


def test_lanes_go_on_elsewhere(dask: None, data: Any, classifier: LSTMClassifier) -> None:
    """Halving's way: some epochs on the cluster, then more, from the states that came back."""
    X, y = data
    outcomes = {}
    for backend in (None, "dask"):
        prepared = Prepared(classifier, X, y, cv=2, random_state=0)
        begun: Any = {}
        for epochs in (2, 5):
            problem = prepared.problem([{"epochs": epochs, "dropout": 0.3}])
            plan = make_plan(problem, layout="loop", measure=False)
            settings: Any = {
                "on_finish": lambda trial, outcome: {"test": outcome.params is None},
                "needs_weights": lambda trial: False,
                "keep_runs": True,
                "begun": begun,
            }
            if backend is None:
                found = run.execute(plan, problem, **settings)
            else:
                with joblib.parallel_config(backend=backend):
                    here = cluster.active_cluster()
                    assert here is not None
                    found = cluster.execute(here, plan, problem, **settings)
            first = [trial.index + len(found) for trial in problem.trials]
            begun = {index: run_of.run for index, run_of in zip(first, found, strict=True)}
        outcomes[backend] = found
    for one, other in zip(outcomes[None], outcomes["dask"], strict=True):
        assert one.epochs == other.epochs == 5
        assert one.curves == other.curves
        assert one.scores == other.scores == {"test": True}
        leaves = [jax.tree.leaves(found.run.state._replace(key=0)) for found in (one, other)]
        for a, b in zip(*leaves, strict=True):
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
        keys = [jax.random.key_data(found.run.state.key).tolist() for found in (one, other)]
        assert keys[0] == keys[1]


class Dying:
    """In place of joblib's workers: each of the first so many lives ends with its third task."""

    def __init__(self, lives: int):
        self.lives = lives
        self.trained: list[int] = []

    @contextlib.contextmanager
    def __call__(self, _: Any) -> Any:
        yield self.run

    def run(self, tasks: Any) -> Any:
        self.lives -= 1
        for number, (function, args, options) in enumerate(tasks):
            if self.lives >= 0 and number == 2:
                raise TerminatedWorkerError("A worker process was unexpectedly terminated.")
            outcomes = function(*args, **options)
            self.trained += [outcome.trial for outcome in outcomes]
            yield outcomes


@pytest.fixture
def dying_search(data: Any, classifier: LSTMClassifier) -> Callable[..., GridSearch]:
    X, y = data

    def fit(**options: Any) -> GridSearch:
        grid = {"learning_rate": [0.01, 0.02, 0.03, 0.04]}
        search = GridSearch(
            clone(classifier).set_params(epochs=1),
            grid,
            cv=2,
            random_state=0,
            refit=False,
            **options,
        )
        with joblib.parallel_config(backend="loky", n_jobs=2):
            return search.fit(X[:, :, :1], y)

    return fit


def test_fits_in_work_begin_again_where_a_worker_of_loky_dies(
    dying_search: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    whole = Dying(0)
    monkeypatch.setattr(cluster, "_parallel", whole)
    expected = dying_search().cv_results_["mean_test_score"]
    dying = Dying(2)
    monkeypatch.setattr(cluster, "_parallel", dying)
    with caplog.at_level(logging.WARNING, "jaxlstm"):
        found = dying_search()
    np.testing.assert_array_equal(found.cv_results_["mean_test_score"], expected)
    assert sorted(dying.trained) == list(range(8))  # what came back is not done again
    said = [record.getMessage() for record in caplog.records if record.name == "jaxlstm"]
    assert len(said) == 2
    assert "a worker process has died" in said[0]


def test_a_worker_that_dies_for_good_leaves_what_is_finished(
    dying_search: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    died = r"a worker process has died, most likely because memory ran out.*n_jobs.* 6 of 8 fits"
    monkeypatch.setattr(cluster, "_parallel", Dying(9))
    with pytest.raises(RuntimeError, match=died + r".*Give checkpoint_dir"):
        dying_search()
    monkeypatch.setattr(cluster, "_parallel", Dying(9))
    with pytest.raises(RuntimeError, match=died + r".*kept in checkpoint_dir: call fit again"):
        dying_search(checkpoint_dir=tmp_path)
    rest = Dying(0)
    monkeypatch.setattr(cluster, "_parallel", rest)
    assert (dying_search(checkpoint_dir=tmp_path).results_["status"] == "ok").all()
    assert len(rest.trained) == 2


# -- real clusters of two workers, one of which dies

PROGRAM = """
import os, signal, sys, time
os.environ["RAY_AUTH_MODE"] = "disabled"
import joblib, numpy as np, pandas as pd
from jaxlstm import GridSearch, LSTMClassifier

class Killer:
    # Kills the process that scores the fifth fit.
    def __init__(self, folder):
        self.folder = folder
    def __call__(self, estimator, X, y):
        if self.folder:
            with open(os.path.join(self.folder, "scored"), "a") as file:
                file.write(f"{os.getpid()}\\n")
            with open(os.path.join(self.folder, "scored")) as file:
                count = len(file.readlines())
            if count >= 5 and not os.path.exists(os.path.join(self.folder, "dead")):
                open(os.path.join(self.folder, "dead"), "x").close()
                os.kill(os.getpid(), signal.SIGKILL)
        return float(estimator.predict_proba(X)[:, 0].sum())

def fit(folder):
    rng = np.random.default_rng(7)
    X, y = rng.normal(size=(26, 5, 2)).astype("float32"), np.arange(26) % 3
    grid = {"dropout": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5], "units": [4, 3], "epochs": [2, 4]}
    classifier = LSTMClassifier(batch_size=8, learning_rate=0.02)
    search = GridSearch(classifier, grid, cv=2, random_state=0, refit=False, layout="loop",
                        scoring=Killer(folder))
    return search.fit(X, y)

def check(alone, found, folder):
    pd.testing.assert_frame_equal(alone.curves_, found.curves_, check_exact=True)
    one, other = (search.cv_results_["split1_test_score"].tolist() for search in (alone, found))
    assert one == other
    if folder:
        assert os.path.exists(os.path.join(folder, "dead"))
        pids = open(os.path.join(folder, "scored")).read().split()
        assert len(pids) > 48 and len(set(pids)) >= 2 and str(os.getpid()) not in pids, pids

def main():
    backend, folder = sys.argv[1:]
    if backend == "ray":
        try:
            import ray
            from ray.util.joblib import register_ray
        except (ImportError, OSError):  # OSError: built for another Python
            sys.exit(77)
    alone = fit(None)
    if backend == "dask":
        from distributed import Client, LocalCluster
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as local:
            with Client(local), joblib.parallel_config(backend="dask"):
                check(alone, fit(None), None)
                check(alone, fit(folder), folder)
    elif backend == "loky":
        with joblib.parallel_config(backend="loky", n_jobs=2):
            check(alone, fit(folder), folder)
    else:
        ray.init(num_cpus=2, include_dashboard=False)
        register_ray()
        with joblib.parallel_config(backend="ray"):
            check(alone, fit(folder), folder)
        ray.shutdown()
    print("nothing is lost")

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["dask", "loky", "ray"])
def test_a_killed_worker(backend: str, tmp_path: Path) -> None:
    if backend == "dask":
        pytest.importorskip("distributed")
    script = tmp_path / "script.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(script), backend, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    if done.returncode == 77:
        pytest.skip("ray cannot be imported")
    assert done.returncode == 0, done.stderr[-4000:]
    assert "nothing is lost" in done.stdout
