"""Which trials share a run, which lanes share a program, and in what order they start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid

from jaxlstm import FlaxClassifier, GridSearch, LSTMClassifier
from jaxlstm.grid.groups import MICRO_BATCH, lane_cost
from jaxlstm.grid.plan import Plan, make_plan
from jaxlstm.grid.space import Problem
from jaxlstm.nn import MLP


def problem_of(estimator: Any, grid: Any, data: Any, **settings: Any) -> Problem:
    search = GridSearch(estimator, grid, **{"cv": 2, "random_state": 0} | settings)
    candidates = search._candidates()
    return search._problem(search._prepare(*data, None, candidates), candidates)


def planned(estimator: Any, grid: Any, data: Any, layout: str = "loop", **how: Any) -> Plan:
    return make_plan(problem_of(estimator, grid, data), layout=layout, measure=False, **how)


# -- runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["loop", "vmap"])
@pytest.mark.parametrize(
    ("settings", "lanes"),
    [
        ({}, 1),
        ({"schedule": "exponential", "warmup_epochs": 5}, 1),
        ({"schedule": "cosine_restarts"}, 1),
        ({"early_stopping": True, "patience": 9}, 1),
        ({"restore_best_weights": True}, 1),
        ({"schedule": "cosine"}, 3),
        ({"schedule": "onecycle"}, 3),
    ],
    ids=repr,
)
def test_epochs_are_read_from_one_run(
    settings: Any, lanes: int, layout: str, data: Any, classifier: Any
) -> None:
    """A study's epochs [300, 350, 400]: one run of 400, unless the schedule counts them."""
    classifier.set_params(**settings, validation_fraction=0.3)
    problem = problem_of(classifier, {"epochs": [350, 300, 400]}, data, cv=3)
    plan = make_plan(problem, layout=layout, measure=False)
    assert (plan.fits, plan.lanes, plan.programs) == (9, 3 * lanes, 1)
    longest = [problem.trials[lane.trials[-1]].network.epochs for lane in plan.groups[0].lanes]
    assert sorted(longest) == sorted(([400] if lanes == 1 else [300, 350, 400]) * 3)
    assert ("epochs 300, 350, 400 in one run" in str(plan)) == (lanes == 1)


def test_other_differences_are_other_runs(data: Any, classifier: Any) -> None:
    """Also those that steer nothing in this fold, as the plan does not look at numbers' effect."""
    classifier.set_params(validation_fraction=0.3)
    for name, values in {
        "restore_best_weights": [False, True],
        "batch_size": [8, 9],
        "random_state": [1, 2],
        "class_weight": [None, {"low": 2.0}],
        "early_stopping": [False, True],
        "clipnorm": [None, 1.0],
    }.items():
        plan = planned(classifier, {name: values, "epochs": [1, 2]}, data)
        assert (plan.fits, plan.lanes) == (8, 4), name


def test_sparse_validation_keeps_what_watches_it_apart(data: Any, classifier: Any) -> None:
    """Where a trial is validated after its last epoch, its longer neighbour would look, too."""
    classifier.set_params(validation_fraction=0.3)
    grid = {"epochs": [3, 4], "early_stopping": [False, True], "monitor": ["loss", "val_loss"]}
    problem = problem_of(classifier, grid, data, validation_freq=3)
    lanes = {freq: make_plan(problem, measure=False, validation_freq=freq).lanes for freq in (1, 3)}
    assert lanes == {1: 8, 3: 2 * (1 + 1 + 1 + 2)}


GRIDS = st.fixed_dictionaries(
    {"epochs": st.lists(st.sampled_from([1, 2, 3]), min_size=1, unique=True)},
    optional={
        "units": st.lists(st.sampled_from([4, (5, 3), 6]), min_size=1, unique=True),
        "batch_size": st.lists(st.sampled_from([5, 8, 40]), min_size=1, unique=True),
        "schedule": st.lists(st.sampled_from(["constant", "cosine"]), min_size=1, unique=True),
        "early_stopping": st.lists(st.booleans(), min_size=1, unique=True),
        "dropout": st.lists(st.sampled_from([0.0, 0.25]), min_size=1, unique=True),
        "l2": st.just([0.1]),
    },
)


@given(grid=GRIDS, layout=st.sampled_from(["loop", "vmap"]), freq=st.sampled_from([1, 2]))
@settings(max_examples=30)
def test_lanes_of_any_grid_are_its_trials_each_once(
    data: Any, grid: dict[str, list[Any]], layout: str, freq: int
) -> None:
    problem = problem_of(LSTMClassifier(validation_fraction=0.3), grid, data)
    plan = make_plan(problem, layout=layout, measure=False, n_jobs=2, validation_freq=freq)
    assert plan.fits == len(problem.trials) == 2 * len(ParameterGrid(grid))
    everyone = list(range(plan.fits))
    assert sorted(place for group in plan.groups for place in group.trials) == everyone
    chunks = [place for chunk in plan.chunks for lane in chunk.lanes for place in lane.trials]
    assert sorted(chunks) == everyone

    runs = set()
    for number, group in enumerate(plan.groups):
        assert 0 <= group.padding < 1
        members = [lane for chunk in plan.chunks if chunk.group == number for lane in chunk.lanes]
        assert sorted(lane.trials for lane in members) == sorted(
            lane.trials for lane in group.lanes
        )
        for lane in group.lanes:
            trials = [problem.trials[place] for place in lane.trials]
            epochs = [trial.network.epochs for trial in trials]
            assert epochs == sorted(set(epochs))
            settings = [(t.fold, t.seed, {**t.params, "epochs": 0}) for t in trials]
            assert all(one == settings[0] for one in settings)
            if trials[0].params.get("schedule") == "cosine":
                assert len(trials) == 1
            else:
                watches = freq > 1 and trials[0].params.get("early_stopping")
                run = repr(settings[0])
                assert watches or run not in runs
                runs.add(run)
            if layout == "loop":
                assert group.structure.module == trials[0].network.structure.module
    assert 0 <= plan.padding < 1
    costs = [lane_cost(problem, chunk.lanes[0]) for chunk in plan.chunks]
    assert costs == sorted(costs, reverse=True)
    for chunk in plan.chunks:
        costs = [lane_cost(problem, lane) for lane in chunk.lanes]
        assert costs == sorted(costs, reverse=True)
        assert layout == "vmap" or len(costs) == 1


def test_longest_lanes_start_first(data: Any, classifier: Any) -> None:
    problem = problem_of(classifier, {"units": [4, 8], "epochs": [3, 1, 9]}, data)
    plan = make_plan(problem, layout="loop", measure=False)
    first, *_, last = (chunk.lanes[0] for chunk in plan.chunks)
    assert [problem.trials[place].params for place in first.trials] == [
        {"epochs": epochs, "units": 8} for epochs in (1, 3, 9)
    ]
    assert problem.trials[last.trials[0]].params["units"] == 4


# -- programs -------------------------------------------------------------------------------------


def test_loop_never_merges(data: Any, classifier: Any) -> None:
    """A lane's own width, and a micro-batch that follows from its own batch size alone."""
    grid = {"units": [3, 4], "batch_size": [1, 8, 32, 33, 64, 100, 128]}
    X, y = (np.concatenate([part] * 12) for part in data)
    problem = problem_of(classifier, grid, (X, y))
    plan = make_plan(problem, layout="loop", measure=False)
    sizes = {1: 1, 8: 8, 32: 32, 33: 17, 64: 32, 100: 25, 128: 32}
    assert max(sizes.values()) <= MICRO_BATCH
    for group in plan.groups:
        assert group.slots == 1
        for lane in group.lanes:
            network = problem.trials[lane.trials[0]].network
            assert group.structure.module == network.structure.module
            assert group.structure.micro_batch == sizes[network.batch_size]
    assert plan.programs == 2 * len(set(sizes.values()))
    few = planned(classifier, {"units": [4], "batch_size": [64]}, (X, y))
    assert few.groups[0].structure in [group.structure for group in plan.groups]


MERGERS: list[tuple[str, dict[str, list[Any]], int]] = [
    ("widths", {"units": [3, 5, 4]}, 1),
    ("widths of several layers", {"units": [(3, 5), (6, 2)]}, 1),
    ("widths of dense layers", {"dense": [(3,), (5,)]}, 1),
    ("batch sizes", {"batch_size": [4, 8, 13]}, 1),
    ("both", {"units": [3, 5], "batch_size": [4, 8]}, 1),
    ("depths", {"units": [(3,), (3, 3)]}, 2),
    ("dense layers and none", {"dense": [(), (3,)]}, 2),
    ("directions", {"bidirectional": [False, True]}, 2),
    ("activations", {"dense": [(3,)], "activation": ["tanh", "relu"]}, 2),
    ("an activation that is not 0 at 0", {"dense": [(3,), (5,)], "activation": ["sigmoid"]}, 2),
    ("traced fields", {"recurrent_dropout": [0.0, 0.1, 0.2]}, 2),
]


@pytest.mark.parametrize(
    ("grid", "programs"), [case[1:] for case in MERGERS], ids=[case[0] for case in MERGERS]
)
def test_vmap_merges_what_differs_in_widths_and_batch_sizes(
    grid: dict[str, list[Any]], programs: int, data: Any, classifier: Any
) -> None:
    """Networks this small cost less padded than compiled once more."""
    problem = problem_of(classifier, grid, data)
    plan = make_plan(problem, layout="vmap", measure=False)
    assert plan.programs == programs
    assert plan.lanes == len(problem.trials)
    for group in plan.groups:
        networks = [problem.trials[place].network for place in group.trials]
        assert group.structure.micro_batch in {network.batch_size for network in networks}
        for network in networks:
            own, wide = network.structure.module, group.structure.module
            for name in ("units", "dense"):
                pairs = zip(getattr(own, name), getattr(wide, name), strict=True)
                assert all(narrow <= width for narrow, width in pairs)
            assert own.clone(units=wide.units, dense=wide.dense) == wide


def test_widths_are_not_merged_where_padding_costs_more(data: Any) -> None:
    """Tiny lanes trained long beside a few that are hundreds of times as large."""
    X, y = (np.concatenate([part] * 8) for part in data)
    grid = [{"units": [2], "epochs": [400]}, {"units": [300], "epochs": [400]}]
    classifier = LSTMClassifier(batch_size=32)
    assert planned(classifier, grid, (X, y), "vmap").programs == 2
    assert planned(classifier, {"units": [2, 3], "epochs": [400]}, (X, y), "vmap").programs == 1


def test_networks_with_batch_statistics_keep_their_batches(data: Any) -> None:
    import flax.linen as nn

    class Normed(nn.Module):
        @nn.compact
        def __call__(self, x: Any, train: bool) -> Any:
            x = nn.BatchNorm(use_running_average=not train)(x.reshape(len(x), -1))
            return nn.Dense(3)(x)

    grid = {"batch_size": [4, 8, 100], "epochs": [1, 2]}
    for layout in ("loop", "vmap"):
        plan = planned(FlaxClassifier(Normed()), grid, data, layout)
        assert (plan.fits, plan.lanes) == (12, 6)
        # More rows than there are is all of them.
        assert [group.structure.micro_batch for group in plan.groups] == [4, 8, 13]


def test_a_batch_comes_whole_where_its_pieces_would_draw_alike(data: Any) -> None:
    """Flax's dropout draws by the place in what it is given, ours by the place in the batch."""
    import flax.linen as nn

    from jaxlstm.nn import Dropout

    class Dropped(nn.Module):
        own: bool

        @nn.compact
        def __call__(self, x: Any, train: bool) -> Any:
            x = x.reshape(len(x), -1)
            if self.own:
                return nn.Dense(3)(Dropout(0.5)(x, train=train))
            return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(x))

    X, y = (np.concatenate([part] * 6) for part in data)
    for own, size in [(True, MICRO_BATCH), (False, 2 * MICRO_BATCH)]:
        plan = planned(FlaxClassifier(Dropped(own)), {"batch_size": [2 * MICRO_BATCH]}, (X, y))
        assert [group.structure.micro_batch for group in plan.groups] == [size]


def test_a_module_of_ones_own_without_widths_is_not_merged(data: Any) -> None:
    model = FlaxClassifier(MLP(classes=3, units=(4,)), batch_size=8)
    grid = {"module__units": [(3,), (5,)], "module__activation": ["relu", "sigmoid"]}
    assert planned(model, grid, data, "loop").programs == 4
    assert planned(model, grid, data, "vmap").programs == 1 + 2


# -- padding --------------------------------------------------------------------------------------


def lstm_weights(features: int, units: int, classes: int = 3) -> int:
    return 4 * units * (features + units + 1) + classes * (units + 1)


def test_padding_is_what_a_hand_counts(data: Any, classifier: Any) -> None:
    """13 rows: as batches of 8 they are walked as 16, as batches of 4 as 16, of 13 as 13."""
    plan = planned(classifier, {"units": [4]}, data)
    assert plan.padding == plan.groups[0].padding == pytest.approx(3 / 16)
    plan = planned(clone(classifier).set_params(batch_size=13), {"units": [4]}, data)
    assert plan.padding == 0
    # Widths 3 and 5 as 5, 13 rows of 13; epochs 1 and 3.
    grid = [{"units": [3], "epochs": [3]}, {"units": [5], "epochs": [1]}]
    wide = clone(classifier).set_params(batch_size=13)
    plan = planned(wide, grid, data, "vmap")
    assert plan.programs == 1
    small, large = lstm_weights(2, 3), lstm_weights(2, 5)
    share = 1 - (3 * small + 1 * large) / (4 * large)
    assert plan.padding == pytest.approx(share)
    assert f"{share:.0%}" in str(plan)
    assert planned(wide, grid, data, "loop").padding == 0
