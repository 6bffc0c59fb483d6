"""Scores of trials -> scikit-learn's `cv_results_` and tidy tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from jaxlstm.grid.outcome import Outcome, curve_names
from jaxlstm.grid.space import Problem


def _param_arrays(candidates: Sequence[Mapping[str, Any]]) -> dict[str, np.ma.MaskedArray]:
    """One masked array a parameter, masked where a candidate does not have it."""
    names = dict.fromkeys(name for candidate in candidates for name in candidate)
    arrays = {}
    for name in names:
        held = [(i, c[name]) for i, c in enumerate(candidates) if name in c]
        try:
            natural = np.array([value for _, value in held])
        except ValueError:  # values of different lengths
            natural = np.empty((0, 0))
        # Strings and sequences stay objects, as in scikit-learn.
        is_plain = natural.ndim == 1 and natural.dtype.kind != "U"
        dtype = natural.dtype if is_plain else object
        array = np.ma.MaskedArray(np.empty(len(candidates), dtype), mask=True)
        for index, value in held:
            array[index] = value
        arrays[f"param_{name}"] = array
    return arrays


def _statistics(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    with np.errstate(invalid="ignore"):  # scores of -inf
        return {f"mean_{name}": values.mean(axis=1), f"std_{name}": values.std(axis=1)}


def _ranks(means: np.ndarray) -> np.ndarray:
    """1 for the best; cells without a score share the last rank, below -inf."""
    if np.isnan(means).all():
        return np.ones(len(means), np.int32)
    # An infinite score becomes the largest finite number, so that a lower one is left for NaN.
    filled = np.nan_to_num(means, nan=np.nanmin(means) - 1)
    return rankdata(-filled, method="min").astype(np.int32)


def score_columns(
    outcomes: Sequence[Outcome], part: str, error_score: Any
) -> dict[str, list[float]]:
    """Scores of all trials by metric, which is "score" where there is one.

    Args:
      outcomes: of the trials.
      part: "test" or "train".
      error_score: the score where the fit failed or the scorer raised; those that Ctrl-C has left
        out have NaN, as has a metric that a scorer's dict lacks.

    Raises:
      ValueError: a scorer that returns numbers and dicts.
    """
    found = [(one.scores or {}).get(part) for one in outcomes]
    names = dict.fromkeys(
        name for scores in found if isinstance(scores, Mapping) for name in scores
    )
    if names and not all(scores is None or isinstance(scores, Mapping) for scores in found):
        raise ValueError("scoring must return a number for each fit, or a dict for each.")
    lacking = error_score if error_score != "raise" else np.nan

    def score(outcome: Outcome, scores: Any, name: str) -> float:
        number = scores.get(name, np.nan) if isinstance(scores, Mapping) else scores
        if number is None:
            has_failed = outcome.status == "failed" or "errors" in (outcome.scores or {})
            return lacking if has_failed else np.nan
        return number

    pairs = list(zip(outcomes, found, strict=True))
    return {name: [score(*pair, name) for pair in pairs] for name in names or ["score"]}


def cv_results(
    candidates: Sequence[Mapping[str, Any]],
    scores: Mapping[str, Mapping[str, np.ndarray]],
    fit_seconds: np.ndarray,
    score_seconds: np.ndarray,
) -> dict[str, Any]:
    """Builds the table that scikit-learn's searches keep as `cv_results_`.

    Args:
      candidates: parameters of each cell.
      scores: arrays ``[cells, folds]`` as ``scores["test"][metric]``, and "train" if wanted; the
        metric's name is "score" when there is one.
      fit_seconds: ``[cells, folds]``.
      score_seconds: ``[cells, folds]``.

    Returns:
      The keys, types and order of scikit-learn's.
    """
    table: dict[str, Any] = {
        **_statistics("fit_time", fit_seconds),
        **_statistics("score_time", score_seconds),
        **_param_arrays(candidates),
        "params": [dict(candidate) for candidate in candidates],
    }
    for metric in scores["test"]:
        for part in scores:
            values = scores[part][metric]
            name = f"{part}_{metric}"
            for fold in range(values.shape[1]):
                table[f"split{fold}_{name}"] = values[:, fold]
            table |= _statistics(name, values)
            if part == "test":
                table[f"rank_{name}"] = _ranks(table[f"mean_{name}"])
    return table


def trial_table(
    problem: Problem,
    outcomes: Sequence[Outcome],
    scores: Mapping[str, Sequence[float]],
    groups: Mapping[int, int],
) -> pd.DataFrame:
    """One row a trial: its place, its parameters, its last epoch, its score, its times.

    `fit_seconds` is what the training would take once compiled; what the trial had to wait for
    programs, those of its scores included, is `compile_seconds`.

    Args:
      problem: the trials.
      outcomes: in the trials' order.
      scores: test scores ``[trials]`` by metric.
      groups: the group of each trial's index.
    """
    rows = []
    for place, (trial, outcome) in enumerate(zip(problem.trials, outcomes, strict=True)):
        # Where the best weights are kept, of their epoch.
        last = {
            name: values[outcome.last] if values else np.nan
            for name, values in outcome.curves.items()
        }
        last.pop("learning_rate")
        rows.append(
            {
                "trial": trial.index,
                "cell": trial.cell,
                "fold": trial.fold,
                "seed": trial.seed,
                "group": groups[trial.index],
                "status": outcome.status,
                **{f"param_{name}": value for name, value in trial.params.items()},
                "epochs": outcome.epochs,
                **last,
                **{
                    ("score" if metric == "score" else f"score_{metric}"): values[place]
                    for metric, values in scores.items()
                },
                "fit_seconds": outcome.fit_seconds,
                "compile_seconds": outcome.compile_seconds,
            }
        )
    return _portable(pd.DataFrame(rows))


def curve_table(problem: Problem, outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row a trial and epoch: learning rate, loss and the task's metrics of both parts."""
    names = curve_names(problem.task)
    rows = [
        (trial.index, trial.cell, trial.fold, epoch + 1, *values)
        for trial, outcome in zip(problem.trials, outcomes, strict=True)
        for epoch, values in enumerate(zip(*(outcome.curves[name] for name in names), strict=True))
    ]
    return _portable(pd.DataFrame(rows, columns=["trial", "cell", "fold", "epoch", *names]))


def _portable(table: pd.DataFrame) -> pd.DataFrame:
    """The table with text as objects: pickled, pandas' own text may need pyarrow to be read again."""
    text = [name for name in table if isinstance(table[name].dtype, pd.StringDtype)]
    table = table.astype(dict.fromkeys(text, object))
    table.columns = table.columns.astype(object)
    return table
