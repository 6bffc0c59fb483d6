"""What has gone wrong in a search, said once for all fits."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import FitFailedWarning

from jaxlstm.grid.outcome import INTERRUPTED, Outcome
from jaxlstm.grid.space import Trial

# To the caller of a search's `fit`.
_LEVEL = 4


def report_fits(trials: Sequence[Trial], outcomes: Sequence[Outcome], error_score: Any) -> None:
    """Warns of fits that failed, or that Ctrl-C has left out.

    Raises:
      KeyboardInterrupt: no fit was finished before Ctrl-C.
      ValueError: all fits failed.
    """
    interrupted = [one for one in outcomes if one.status == INTERRUPTED]
    if not any(one.status == "ok" for one in outcomes) and interrupted:
        raise KeyboardInterrupt("interrupted before a fit was finished")
    if interrupted:
        warnings.warn(
            f"Interrupted: {len(outcomes) - len(interrupted)} of {len(outcomes)} fits are"
            " finished, the rest are marked and have no score. There is no refit.",
            RuntimeWarning,
            stacklevel=_LEVEL,
        )
    failed = [place for place, one in enumerate(outcomes) if one.status == "failed"]
    if not failed:
        return
    if error_score == "raise":  # of an earlier run that did not raise
        trial, why = trials[failed[0]], outcomes[failed[0]].failed
        raise ValueError(f"The fit of {trial.params}, fold {trial.fold} failed: {why}.")
    message = (
        f"{len(failed)} of {len(outcomes)} fits failed ({outcomes[failed[0]].failed}):"
        f" {_named(trials, failed)}."
    )
    if len(failed) == len(outcomes):
        raise ValueError(f"{message} Nothing is left to choose from.")
    warnings.warn(f"{message} Their score is {error_score}.", FitFailedWarning, stacklevel=_LEVEL)


def report_scores(trials: Sequence[Trial], outcomes: Sequence[Outcome], error_score: Any) -> None:
    """Warns, for each metric, of trials for which its scorer raised."""
    failed: dict[str, list[int]] = {}
    for place, outcome in enumerate(outcomes):
        for name in (outcome.scores or {}).get("errors", {}):
            failed.setdefault(name, []).append(place)
    for name, places in failed.items():
        scores: Any = outcomes[places[0]].scores
        if error_score == "raise":  # of an earlier run that did not raise
            raise ValueError(
                f"Scoring of {_named(trials, places)} failed: {scores['errors'][name]}"
            )
        metric = "" if name == "score" else f" of {name!r}"
        warnings.warn(
            f"Scoring failed. The score{metric} of {len(places)} of {len(outcomes)} fits will be set"
            f" to {error_score}: {_named(trials, places)}. Details: {scores['errors'][name]}",
            UserWarning,
            stacklevel=_LEVEL,
        )


def report_non_finite(results: Mapping[str, Any], parts: Sequence[str]) -> None:
    """Warns, as scikit-learn does, of mean scores that are NaN or infinite.

    Args:
      results: `cv_results_`.
      parts: "test", and "train" if wanted.
    """
    for part in parts:
        for name in results:
            if name.startswith(f"mean_{part}_") and not np.isfinite(results[name]).all():
                warnings.warn(
                    f"One or more of the {part} scores are non-finite: {results[name]}",
                    UserWarning,
                    stacklevel=_LEVEL,
                )


def _named(trials: Sequence[Trial], places: Sequence[int]) -> str:
    named = "; ".join(f"{trials[one].params}, fold {trials[one].fold}" for one in places[:5])
    return named + (f"; and {len(places) - 5} more" if len(places) > 5 else "")
