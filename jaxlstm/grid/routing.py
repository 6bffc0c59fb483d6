"""Where the arguments of a search's `fit` go: weights and groups, to fits, scorers and splitters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from sklearn import get_config
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import process_routing

from jaxlstm.train.hyperparameters import nearest


@dataclasses.dataclass(frozen=True)
class Routed:
    """Where the arguments of `fit` go."""

    weight: Any  # sample_weight of the fits
    fit: dict[str, Any]  # arguments of the refit
    split: dict[str, Any]  # arguments of the splitter
    score_weight: Any  # sample_weight of the scorers
    is_enabled: bool  # whether scikit-learn's metadata routing says so


def weight_name(estimator: Any) -> str:
    """What the weights of the fits are called in a search's `fit`."""
    if isinstance(estimator, Pipeline) and not get_config()["enable_metadata_routing"]:
        return f"{estimator.steps[-1][0]}__sample_weight"
    return "sample_weight"


def route(search: Any, params: Mapping[str, Any]) -> Routed:
    """Where the arguments of `fit` beside X, y and groups go.

    With scikit-learn's metadata routing where its users have asked for it; else
    ``sample_weight`` (for a pipeline ``step__sample_weight``) goes to the fits, and to the
    scorers that take it.
    """
    last = search.estimator.steps[-1][0] if isinstance(search.estimator, Pipeline) else None
    given = {name: value for name, value in params.items() if value is not None}
    if get_config()["enable_metadata_routing"]:
        routed = process_routing(search, "fit", **given)
        fits, scores = dict(routed.estimator["fit"]), dict(routed.scorer["score"])
        own = fits
        if last is not None and fits:
            steps = process_routing(search.estimator, "fit", **fits)
            own = steps[last]["fit"]
            for name, _ in search.estimator.steps[:-1]:
                if any(steps[name].values()):
                    raise ValueError(
                        f"the step {name!r} of the pipeline asks for metadata; a search hands it"
                        " to the last step alone."
                    )
        return Routed(
            own.get("sample_weight"),
            fits,
            dict(routed.splitter["split"]),
            scores.get("sample_weight"),
            True,
        )
    name = weight_name(search.estimator)
    unknown = [key for key in given if key != name]
    if unknown:
        raise TypeError(f"fit takes {name}, got {unknown[0]!r}.{nearest(unknown[0], [name])}")
    weight = given.get(name)
    return Routed(weight, given, {}, weight, False)
