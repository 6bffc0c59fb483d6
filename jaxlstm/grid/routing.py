"""Where the arguments of a search's `fit` go: weights and groups, to fits, scorers and splitters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from sklearn import get_config
from sklearn.metrics._scorer import _MultimetricScorer
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import process_routing

from jaxlstm.grid.pipelines import prefix_of
from jaxlstm.train.hyperparameters import nearest


@dataclasses.dataclass(frozen=True)
class Routed:
    """Where the arguments of `fit` go."""

    weight: Any  # sample_weight of the fits
    fit: dict[str, Any]  # arguments of the refit
    split: dict[str, Any]  # arguments of the splitter
    score_weight: Any  # sample_weight of the scorers; with metadata routing all that goes to them
    scores: Mapping[str, dict[str, Any]] | None  # arguments of each scorer; None: as they take them


def weight_name(estimator: Any) -> str:
    """What the weights of the fits are called in a search's `fit`."""
    if isinstance(estimator, Pipeline) and not get_config()["enable_metadata_routing"]:
        return f"{prefix_of(estimator)}sample_weight"
    return "sample_weight"


def route(search: Any, params: Mapping[str, Any]) -> Routed:
    """Where the arguments of `fit` beside X, y and groups go.

    With scikit-learn's metadata routing where its users have asked for it; else
    ``sample_weight`` (for a pipeline ``step__sample_weight``) goes to the fits, and to the
    scorers that take it.
    """
    given = {name: value for name, value in params.items() if value is not None}
    if get_config()["enable_metadata_routing"]:
        routed = process_routing(search, "fit", **given)
        fits, scores = dict(routed.estimator["fit"]), dict(routed.scorer["score"])
        own, estimator = fits, search.estimator
        while isinstance(estimator, Pipeline) and own:
            steps = process_routing(estimator, "fit", **own)
            last, inner = estimator.steps[-1]
            for name, _ in estimator.steps[:-1]:
                if any(steps[name].values()):
                    raise ValueError(
                        f"the step {name!r} of the pipeline asks for metadata; a search hands it"
                        " to the last step alone."
                    )
            own, estimator = steps[last]["fit"], inner
        weight = scores["sample_weight"] if list(scores) == ["sample_weight"] else scores or None
        return Routed(
            own.get("sample_weight"),
            fits,
            dict(routed.splitter["split"]),
            weight,
            scorer_arguments(search, scores),
        )
    name = weight_name(search.estimator)
    unknown = [key for key in given if key != name]
    if unknown:
        raise TypeError(f"fit takes {name}, got {unknown[0]!r}.{nearest(unknown[0], [name])}")
    weight = given.get(name)
    return Routed(weight, given, {}, weight, None)


def scorer_arguments(search: Any, scores: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What metadata routing has for the scorers, by metric, under each scorer's own names.

    Args:
      search: says the scorers; a single one is "score".
      scores: what goes to the search's scorers, under the names that they ask for.
    """
    scorers, _ = search._get_scorers()
    if not isinstance(scorers, _MultimetricScorer):
        return {"score": dict(scores)}
    routed = process_routing(scorers, "score", **scores) if scores else {}
    return {name: dict(routed[name]["score"]) if scores else {} for name in scorers._scorers}
