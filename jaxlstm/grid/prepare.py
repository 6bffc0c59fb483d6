"""A search's data and candidates -> trials, and a trial's outcome -> a fitted estimator."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import jax
import numpy as np
from sklearn.base import clone
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.validation import indexable

from jaxlstm.grid.outcome import Outcome
from jaxlstm.grid.space import Fold, Network, Problem, Trial, hold_out
from jaxlstm.train import standardization
from jaxlstm.train.hyperparameters import nearest
from jaxlstm.train.trial import Data


def classifier_of(estimator: Any) -> Any:
    """The classifier itself, or a pipeline's last step.

    Raises:
      TypeError: neither.
    """
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    if not hasattr(last, "_network"):
        raise TypeError(
            "estimator must be a jaxlstm classifier (LSTMClassifier, FlaxClassifier) or a scikit-learn"
            f" Pipeline that ends in one, got {type(last).__name__}."
        )
    return last


class Prepared:
    """The rows, splits and seeds of a search; builds the trials of any candidates on them.

    Args:
      estimator: of the search.
      X: rows, as the user gave them.
      y: labels.
      groups: for the splitter.
      cv: as scikit-learn's searches take it.
      random_state: seed for an estimator that has none of its own.
      n_seeds: trials of each cell and split that differ in their seed alone.
    """

    def __init__(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        groups: Any = None,
        *,
        cv: Any = None,
        random_state: Any = None,
        n_seeds: int = 1,
    ):
        classifier_of(estimator)
        if y is None:
            raise ValueError("y is missing: a search needs the label of each row.")
        X, y, groups = indexable(X, y, groups)
        self.base = clone(estimator)
        self.is_pipeline = isinstance(self.base, Pipeline)
        self.n_seeds = n_seeds
        self._variants: dict[Any, int] = {}
        self._datasets: list[Data] = []
        # What each data set was made by: a classifier that knows its columns, and a pipeline's steps.
        self._made_by: list[tuple[Any, list[Any]]] = []
        if self.is_pipeline:
            self.labels, self.classes = self._check_y(y)
        else:
            x, self.labels, self.classes = self.base._check_xy(X, y)
            self._add_dataset(x, self.base, [])
        self.X, self.y = X, np.asarray(y)
        splitter = check_cv(cv, self.y, classifier=True)
        self._check_folds(cv, splitter)
        with warnings.catch_warnings():
            # Said above, with the class's name.
            warnings.filterwarnings("ignore", message="The least populated class")
            splits = list(splitter.split(X, y, groups))
        if not splits:
            raise ValueError(f"cv={cv!r} makes no split.")
        self.folds = [
            Fold(*(_row_numbers(part, len(self.y), number) for part in split))
            for number, split in enumerate(splits)
        ]
        self._held_out: dict[Any, int] = {}
        self._standardizations: dict[tuple[int, int], standardization.Standardization] = {}
        self._row_lists = list(self.folds)
        self.seeds, self.refit_seed = self._draw_seeds(random_state)
        #: Of all candidates so far: `problem` adds to them.
        self.candidates: list[dict[str, Any]] = []
        self.estimators: list[Any] = []

    def _check_y(self, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Labels and classes; the pipeline's steps check X themselves."""
        probe = clone(classifier_of(self.base))
        x = np.zeros((len(y), 1), jax.dtypes.canonicalize_dtype(float))
        _, labels, classes = probe._check_xy(x, y)
        return labels, classes

    def _check_folds(self, cv: Any, splitter: Any) -> None:
        if not isinstance(cv, Integral | type(None)):
            return
        folds = splitter.get_n_splits()
        counts = np.bincount(self.labels)
        if counts.max() < folds:
            raise ValueError(
                f"cv={folds} folds need a class with at least {folds} rows; the largest,"
                f" {self.classes.tolist()[counts.argmax()]!r}, has {counts.max()}."
            )
        small = [
            f"{label!r} ({count})"
            for label, count in zip(self.classes.tolist(), counts, strict=True)
            if count < folds
        ]
        if small:
            warnings.warn(
                f"Fewer rows than the {folds} folds of cv: class {', '.join(small)}. Some folds are"
                " validated without it.",
                UserWarning,
                stacklevel=5,
            )

    def _draw_seeds(self, random_state: Any) -> tuple[list[list[int]], int]:
        """Seeds ``[n_seeds][folds]``, the same in every cell, and one for the refit.

        They depend neither on the cells nor on ``n_seeds``: what is added changes no other trial.
        """
        fixed = classifier_of(self.base).random_state
        if isinstance(fixed, Integral):
            return [[int(fixed) + repeat] * len(self.folds) for repeat in range(self.n_seeds)], int(
                fixed
            )
        source = check_random_state(fixed if fixed is not None else random_state)
        largest = np.iinfo(np.int32).max
        drawn = source.randint(largest, size=len(self.folds) + 1)
        more = [
            source.randint(largest, size=len(self.folds)).tolist() for _ in range(self.n_seeds - 1)
        ]
        return [drawn[:-1].tolist(), *more], int(drawn[-1])

    def _check_names(self, candidates: Sequence[Mapping[str, Any]]) -> None:
        allowed = self.base.get_params(deep=True)
        for name in dict.fromkeys(name for candidate in candidates for name in candidate):
            if name not in allowed and name.split("__")[0] not in allowed:
                raise ValueError(
                    f"{name!r} in the grid is not a parameter of {type(self.base).__name__}."
                    f"{nearest(name, allowed)}"
                )

    def problem(self, candidates: Sequence[dict[str, Any]]) -> Problem:
        """The trials of some candidates, numbered on from those of earlier calls.

        Raises:
          TypeError, ValueError: a name or value that the estimator does not take.
        """
        self._check_names(candidates)
        trials: list[Trial] = []
        cells = range(len(self.candidates), len(self.candidates) + len(candidates))
        first = len(self.candidates) * len(self.folds) * self.n_seeds
        self.candidates += candidates
        self.estimators += [clone(self.base).set_params(**_copies(c)) for c in candidates]
        for cell in cells:
            networks: dict[Any, Network] = {}
            standardized: dict[Any, Network] = {}
            for number in range(len(self.folds)):
                variant = self._variant(cell, number)
                network = self._network(cell, number, variant, networks)
                for repeat in range(self.n_seeds):
                    own = classifier_of(self.estimators[cell]).random_state
                    seed = self.seeds[repeat][number]
                    if isinstance(own, Integral):
                        seed = int(own) + repeat
                    rows = self._rows(number, network.holds_out, seed)
                    own_network = self._standardized(network, variant, rows, standardized)
                    trials.append(
                        Trial(
                            first + len(trials),
                            cell,
                            number,
                            seed,
                            variant,
                            rows,
                            own_network,
                            self.candidates[cell],
                        )
                    )
        return Problem(trials, self._row_lists, self._datasets)

    def _network(self, cell: int, number: int, variant: int, known: dict[Any, Network]) -> Network:
        """A cell's network for one split.

        Splits differ where class weights are balanced, or a batch would be more than all rows.
        """
        classifier = classifier_of(self.estimators[cell])
        x = self._datasets[variant].x
        is_own = classifier.class_weight is not None or not self._fits_all(classifier.batch_size)
        key = x.shape[1:], number if is_own else None
        if key not in known:
            try:
                known[key] = classifier._network(
                    x, self.labels[self.folds[number].train], self.classes
                )
            except (TypeError, ValueError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"{error} (in the cell {self.candidates[cell]})") from error
        return known[key]

    def _standardized(
        self, network: Network, variant: int, rows: int, known: dict[Any, Network]
    ) -> Network:
        """The network for one row list, by whose training rows its inputs are standardised."""
        if not network.structure.standardizes:
            return network
        key = id(network), variant, rows
        if key not in known:
            place = variant, rows
            if place not in self._standardizations:
                x, numbers = self._datasets[variant].x, self._row_lists[rows].train
                self._standardizations[place] = standardization.fit(x, numbers)
            known[key] = network.standardized(self._standardizations[place])
        return known[key]

    def _fits_all(self, batch_size: Any) -> bool:
        """Whether a batch of this size fits into the training rows of every split."""
        least = min(len(fold.train) for fold in self.folds)
        return not isinstance(batch_size, Integral) or batch_size <= least

    def _rows(self, number: int, fraction: float, seed: int) -> int:
        """Which row lists a trial uses: the split's, or with training rows held out of it."""
        if not fraction:
            return number
        key = number, fraction, seed
        if key not in self._held_out:
            self._held_out[key] = len(self._row_lists)
            self._row_lists.append(hold_out(self.folds[number], self.labels, fraction, seed))
        return self._held_out[key]

    def _variant(self, cell: int, number: int) -> int:
        """Which data set a cell's fold trains on; a pipeline's is transformed, fitted on the fold."""
        if not self.is_pipeline:
            return 0
        estimator = self.estimators[cell]
        own = f"{estimator.steps[-1][0]}__"
        others = {k: v for k, v in self.candidates[cell].items() if not k.startswith(own)}
        key = number, frozenset((name, _identity(value)) for name, value in others.items())
        if key not in self._variants:
            fold = self.folds[number]
            train, test = (_safe_indexing(self.X, rows) for rows in (fold.train, fold.validation))
            steps: list[Any] = []
            if len(estimator.steps) > 1:
                transformers = clone(Pipeline(estimator.steps[:-1]))
                train = transformers.fit_transform(train, self.y[fold.train])
                test = transformers.transform(test)
                steps = transformers.steps
            classifier = clone(classifier_of(estimator))
            with warnings.catch_warnings():
                # Steps give float64 as a rule; to say it for each fold helps nobody.
                warnings.filterwarnings("ignore", message="X was converted")
                train_x = classifier._check_x(train, reset=True)
                test_x = classifier._check_x(test)
            x = np.zeros((len(self.labels), *train_x.shape[1:]), train_x.dtype)
            x[fold.train], x[fold.validation] = train_x, test_x
            self._variants[key] = self._add_dataset(x, classifier, steps)
        return self._variants[key]

    def _add_dataset(self, x: np.ndarray, classifier: Any, steps: list[Any]) -> int:
        self._datasets.append(Data(x, self.labels))
        self._made_by.append((classifier, steps))
        return len(self._datasets) - 1

    def fitted(self, trial: Trial, outcome: Outcome) -> Any:
        """The estimator that a finished trial stands for."""
        estimator = clone(self.estimators[trial.cell])
        classifier = classifier_of(estimator)
        x = self._datasets[trial.variant].x
        classifier._adopt(outcome, trial.network, self.classes, x.shape[1:])
        checked, steps = self._made_by[trial.variant]
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(checked, name):
                setattr(classifier, name, getattr(checked, name))
        if self.is_pipeline:
            estimator.steps[:-1] = steps
        return estimator

    def part(self, numbers: np.ndarray) -> tuple[Any, np.ndarray]:
        """Rows and labels as `fit` got them, for a scorer."""
        return _safe_indexing(self.X, numbers), self.y[numbers]


def _copies(params: Mapping[str, Any]) -> dict[str, Any]:
    """Copies values that are estimators themselves, as a pipeline's steps are."""
    return {name: clone(value, safe=False) for name, value in params.items()}


def _identity(value: Any) -> Any:
    """What tells a parameter's values apart; those that cannot be hashed are equal to themselves."""
    try:
        hash(value)
    except TypeError:
        return id(value)
    return type(value), value


def _row_numbers(part: Any, rows: int, split: int) -> np.ndarray:
    """One part of a split as row numbers.

    Raises:
      TypeError: neither row numbers nor a mask.
      ValueError: no row, or one that X does not have.
    """
    numbers = np.asarray(part)
    where = f"split {split} of cv"
    if numbers.dtype == bool:
        if numbers.shape != (rows,):
            raise ValueError(f"{where} is a mask of shape {numbers.shape}, X has {rows} rows.")
        numbers = np.flatnonzero(numbers)
    if not numbers.size:
        raise ValueError(f"{where} leaves one part empty.")
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise TypeError(
            f"{where} must give row numbers or a mask, got {numbers.dtype} of shape {numbers.shape}."
        )
    beyond = numbers[(numbers < -rows) | (numbers >= rows)]
    if beyond.size:
        raise ValueError(f"{where} names row {beyond[0]}, X has {rows} rows.")
    return numbers % rows
