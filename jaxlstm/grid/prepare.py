"""A search's data and candidates -> trials, and a trial's outcome -> a fitted estimator."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import jax
import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.validation import _num_samples, indexable

from jaxlstm import forks
from jaxlstm.estimators import targets as reading
from jaxlstm.estimators.inputs import (
    DictRows,
    Sequences,
    is_dict,
    read_padding,
    read_rows,
    targets_of,
)
from jaxlstm.estimators.targets import Targets
from jaxlstm.grid.outcome import Outcome
from jaxlstm.grid.pipelines import (
    check_fit,
    estimator_of,
    is_nothing,
    last_of,
    prefix_of,
    put_together,
    transformed,
    with_last,
)
from jaxlstm.grid.space import Fold, Network, Problem, Trial, fit_scales, hold_out
from jaxlstm.train import standardization
from jaxlstm.train.data import Data, counted_rows, with_mass
from jaxlstm.train.hyperparameters import nearest

# Parameters that say whether inputs and targets are standardised.
_SCALES = ("standardize", "standardize_targets")


def _scales(estimator: Any) -> tuple[bool, ...]:
    return tuple(bool(getattr(estimator, name)) for name in _SCALES if hasattr(estimator, name))


class _Origin(NamedTuple):
    """What a data set was made by, and what it is written in."""

    estimator: Any  # it knows the columns
    pipeline: Any  # fitted, if the estimator stands in one
    units: standardization.Units | None
    targets: Targets

    def is_written_as(self, other: _Origin) -> bool:
        """Whether numbers of both mean the same."""
        ours, theirs = ((*(one.units or ()), one.targets.center) for one in (self, other))
        return len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))


class Prepared:
    """The rows, splits and seeds of a search; builds the trials of any candidates on them.

    Args:
      estimator: of the search.
      X: rows, as the user gave them.
      y: targets; None for those of a `jaxlstm.data.SequenceData`.
      groups: for the splitter.
      cv: as scikit-learn's searches take it.
      random_state: seed for an estimator that has none of its own.
      n_seeds: trials of each cell and split that differ in their seed alone.
      sample_weight: what each row, or step, counts for in training.
      split_params: further arguments of the splitter.
      refits: whether the best candidate will be trained on all rows.
      example: a candidate, which says what a pipeline without a last step will end in.
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
        sample_weight: Any = None,
        split_params: Mapping[str, Any] | None = None,
        refits: bool = False,
        example: Mapping[str, Any] | None = None,
    ):
        is_complete = not is_nothing(last_of(estimator))
        self._plain = self.base = clone(estimator)
        if not is_complete and example is not None:
            with contextlib.suppress(AttributeError):  # parameters of a step that is not there
                self.base = clone(estimator).set_params(**_copies(example))
        estimator_of(self.base)
        forks.check()
        y = targets_of(X, y)
        if y is None:
            raise ValueError("y is missing: a search needs the target of each row.")
        if is_dict(X):
            X = DictRows(X)
        X, y, groups, sample_weight = indexable(X, y, groups, sample_weight)
        self.is_pipeline = isinstance(self.base, Pipeline)
        self.n_seeds, self.refits = n_seeds, refits
        self._variants: dict[Any, int] = {}
        self._datasets: list[Data] = []
        self._made_by: list[_Origin] = []
        self.X, self.y, self.weight = X, y, sample_weight
        if self.is_pipeline:
            # The steps check X themselves; what comes of it is a data set a fold.
            data, self.targets = self._check_y(estimator_of(self.base), X, y, sample_weight)
        else:
            data, self.targets, rows = self.base._check_data(X, y, sample_weight)
            self._add_dataset(data, _Origin(self.base, None, rows.units, self.targets))
        #: Its targets and weights are those of all versions of the data set.
        self.whole = data
        strata = self.targets.task.strata(data.y)
        # Of a pipeline that ends in nothing yet, scikit-learn does not know that it classifies.
        is_stratified = strata is not None and (is_complete or is_classifier(estimator))
        splitter = check_cv(cv, strata, classifier=is_stratified)
        self._check_folds(cv, splitter, data, is_stratified)
        with warnings.catch_warnings():
            # Said above, with the class's name.
            warnings.filterwarnings("ignore", message="The least populated class")
            splits = list(splitter.split(X, y, groups, **(split_params or {})))
        if not splits:
            raise ValueError(f"cv={cv!r} makes no split.")
        promised = splitter.get_n_splits(X, y, groups, **(split_params or {}))
        if promised != len(splits):
            raise ValueError(
                "cv.split and cv.get_n_splits return inconsistent results. Expected"
                f" {promised} splits, got {len(splits)}"
            )
        self.folds = [
            Fold(*(_row_numbers(part, len(data.y), number) for part in split))
            for number, split in enumerate(splits)
        ]
        self._held_out: dict[Any, int] = {}
        self._all_rows = counted_rows(self.whole, np.arange(len(data.y)))
        self._refit_fractions: set[float] = set()  # those that can be held out of all rows
        self._standardizations: dict[tuple[int, int], standardization.Standardization] = {}
        #: Rows that are trained on and watched: those that count for anything.
        self._row_lists = [self._counted(fold, number) for number, fold in enumerate(self.folds)]
        self._random_state = random_state
        self._seeds: tuple[list[list[int]], int] | None = None
        #: Of all candidates so far: `problem` adds to them.
        self.candidates: list[dict[str, Any]] = []
        self.estimators: list[Any] = []

    def _check_y(self, last: Any, X: Any, y: Any, sample_weight: Any) -> tuple[Data, Any]:
        """Targets and weights; of the rows only how many there are and how long they are."""
        probe = clone(last)
        dtype = jax.dtypes.canonicalize_dtype(float)
        rows = None if isinstance(X, DictRows) else read_rows(X)
        if rows is None and not hasattr(X, "tocsr") and not isinstance(X, DictRows):
            given = np.asarray(X)
            rows = read_padding(given) if given.ndim == 3 else Sequences(given, None, None)
        if rows is None or rows.x.ndim < 2:
            rows = Sequences(np.zeros((_num_samples(y), 1), dtype), None, 1)
        else:  # their values are the steps' to check
            rows = rows._replace(x=np.zeros(rows.x.shape[:2], dtype))
        per_step = estimator_of(self.base).return_sequences
        if per_step and rows.lengths is None and not isinstance(y, list | tuple):
            # A step may give rows their steps: as many as there are targets.
            shape = np.shape(y)[:2]
            if len(shape) == 2 and shape[0] == len(rows.x):
                rows = Sequences(np.zeros(shape, dtype), None, shape[1])
        targets = probe._check_targets(y, rows)
        per_step = targets.task.per_step
        weight = reading.weights(sample_weight, rows, per_step)
        data = Data(rows.x, targets.y, rows.lengths, weight)
        return with_mass(data, per_step), targets.without_y()

    def _counted(self, fold: Fold, number: int) -> Fold:
        """A split without the rows that weigh nothing."""
        counted = Fold(*(counted_rows(self.whole, rows) for rows in (fold.train, fold.validation)))
        if not len(counted.train):
            raise ValueError(f"all training rows of split {number} of cv have the weight 0.")
        return counted

    def _check_folds(self, cv: Any, splitter: Any, data: Data, is_stratified: bool) -> None:
        if not isinstance(cv, Integral | type(None)):
            return
        folds = splitter.get_n_splits()
        small = self.targets.check_folds(folds, data.y) if is_stratified else None
        if len(data.y) < folds:
            raise ValueError(f"cv={folds} folds need at least {folds} rows, X has {len(data.y)}.")
        if small:
            warnings.warn(small, UserWarning, stacklevel=5)

    @property
    def seeds(self) -> list[list[int]]:
        """Seeds ``[n_seeds][folds]``, the same in every cell."""
        return self._drawn_seeds()[0]

    @property
    def refit_seed(self) -> int:
        """Seed of the refit, for an estimator that has none of its own."""
        return self._drawn_seeds()[1]

    def _drawn_seeds(self) -> tuple[list[list[int]], int]:
        """Drawn when they are first wanted: candidates come first, as in scikit-learn's searches."""
        if self._seeds is None:
            self._seeds = self._draw_seeds(self._random_state)
        return self._seeds

    def _draw_seeds(self, random_state: Any) -> tuple[list[list[int]], int]:
        """Seeds of the trials, and one for the refit.

        They depend neither on the cells nor on ``n_seeds``: what is added changes no other trial.
        """
        fixed = estimator_of(self.base).random_state
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
        self.estimators += [clone(self._plain).set_params(**_copies(c)) for c in candidates]
        for cell in cells:
            check_fit(estimator_of(self.estimators[cell]))
        for cell in cells:
            networks: dict[Any, Network] = {}
            standardized: dict[Any, Network] = {}
            for number in range(len(self.folds)):
                variant = self._variant(cell, number)
                network = self._network(cell, number, variant, networks)
                if self.refits and number == 0:
                    self._check_refit(cell, variant, network)
                for repeat in range(self.n_seeds):
                    own = estimator_of(self.estimators[cell]).random_state
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
        estimator = estimator_of(self.estimators[cell])
        data = self._datasets[variant]
        is_own = estimator._row_numbers_matter() or not self._fits_all(estimator.batch_size)
        key = data.x.shape[1:], data.lengths is None, number if is_own else None
        if key not in known:
            with self._naming(cell):
                rows = self._row_lists[number].train
                made_by = self._made_by[variant][0]
                if hasattr(made_by, "inputs_"):
                    estimator.inputs_ = made_by.inputs_
                known[key] = estimator._network(data, rows, self.targets)
        return known[key]

    @contextlib.contextmanager
    def _naming(self, cell: int) -> Iterator[None]:
        """Errors say which cell they are of."""
        try:
            yield
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{error} (in the cell {self.candidates[cell]})") from error

    def _check_refit(self, cell: int, variant: int, network: Network) -> None:
        """Raises what a refit of this cell would end with, after all training.

        Args:
          cell: the candidate.
          variant: a data set of it.
          network: of one of its splits.
        """
        estimator, rows = estimator_of(self.estimators[cell]), self._all_rows
        with self._naming(cell):
            if estimator._row_numbers_matter():
                estimator._network(self._datasets[variant], rows, self.targets)
            fraction = network.holds_out
            if fraction and fraction not in self._refit_fractions:
                strata = self.targets.task.strata(self.whole.y)
                hold_out(Fold(rows, rows[:0]), strata, fraction, 0)
                self._refit_fractions.add(fraction)
            elif network.watches_validation and not fraction:
                raise ValueError(
                    "a metric of validation rows is watched (early stopping, restore_best_weights or"
                    " the plateau schedule), of which the refit on all rows has none: give a"
                    " validation_fraction above 0, watch 'loss' or another metric of training, or set"
                    " refit=False."
                )

    def _standardized(
        self, network: Network, variant: int, rows: int, known: dict[Any, Network]
    ) -> Network:
        """The network for one row list, by whose training rows it is standardised."""
        if not network.structure.standardizes and not network.standardizes_targets:
            return network
        key = id(network), variant, rows
        if key not in known:
            data, numbers = self._datasets[variant], self._row_lists[rows].train
            units = self._made_by[variant].units
            if network.structure.standardizes:
                network = network.standardized(self._standardization(variant, rows), units)
            known[key] = fit_scales(network, data, numbers)
        return known[key]

    def _standardization(self, variant: int, rows: int) -> standardization.Standardization:
        place = variant, rows
        if place not in self._standardizations:
            data, numbers = self._datasets[variant], self._row_lists[rows].train
            units = self._made_by[variant].units
            scale = standardization.fit(data.x, numbers, data.lengths, data.weight, units)
            self._standardizations[place] = scale
        return self._standardizations[place]

    def _fits_all(self, batch_size: Any) -> bool:
        """Whether a batch of this size fits into the training rows of every split."""
        least = min(len(fold.train) for fold in self._row_lists[: len(self.folds)])
        return not isinstance(batch_size, Integral) or batch_size <= least

    def _rows(self, number: int, fraction: float, seed: int) -> int:
        """Which row lists a trial uses: the split's, or with training rows held out of it."""
        if not fraction:
            return number
        key = number, fraction, seed
        if key not in self._held_out:
            self._held_out[key] = len(self._row_lists)
            strata = self.targets.task.strata(self.whole.y)
            self._row_lists.append(hold_out(self._row_lists[number], strata, fraction, seed))
        return self._held_out[key]

    def _variant(self, cell: int, number: int) -> int:
        """Which data set a cell's fold trains on; a pipeline's is transformed, fitted on the fold."""
        estimator = self.estimators[cell]
        if not self.is_pipeline:
            return self._given(estimator, number)
        own, last = prefix_of(estimator), clone(estimator_of(estimator))
        others = {
            name: value
            for name, value in self.candidates[cell].items()
            if not f"{name}__".startswith(own)
        }
        values = frozenset((name, _identity(value)) for name, value in others.items())
        scales = _scales(last)
        key = number, type(last), scales, values
        if key not in self._variants:
            fold = self.folds[number]
            train, test = (_safe_indexing(self.X, rows) for rows in (fold.train, fold.validation))
            made = transformed(estimator, train, _safe_indexing(self.y, fold.train), test)
            with warnings.catch_warnings():
                # Steps give float64 as a rule; to say it for each fold helps nobody.
                warnings.filterwarnings("ignore", message="X was converted")
                first = last._check_rows(made.train, reset=True)
                parts = [first, last._check_rows(made.validation, units=first.units)]
            y, targets = self.whole.y, self.targets
            if scales != _scales(estimator_of(self.base)):
                whole, targets = self._check_y(last, self.X, self.y, self.weight)
                y = whole.y
            data = put_together(self.whole, self.targets.task.per_step, fold, parts)
            origin = _Origin(last, made.pipeline, first.units, targets)
            self._variants[key] = self._add_dataset(data._replace(y=y), origin)
        return self._variants[key]

    def _given(self, estimator: Any, number: int) -> int:
        """Which data set holds the rows as given.

        Where inputs or targets are standardised and float32 cannot tell them apart, it is another one
        than where they are not; where not even a split's own rows could be, the split's own.
        """
        scales = _scales(estimator)
        variant = self._written(scales, None)
        is_scaled = scales[0] and self._datasets[variant].x.dtype.kind == "f"
        if is_scaled:
            scale = self._standardization(variant, number)
            if not standardization.is_told_apart(*scale).all():
                variant = self._written(scales, number)
        return variant

    def _written(self, scales: tuple[bool, ...], number: int | None) -> int:
        """The data set in the units that all rows, or the training rows of a split, need."""
        key = scales, number
        if key not in self._variants:
            maker = clone(self.base)
            for name, value in zip(_SCALES, scales, strict=False):
                setattr(maker, name, value)  # a subclass's constructor may not name it
            by = None if number is None else self._row_lists[number].train
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", category=DataConversionWarning)  # said before
                data, targets, rows = maker._check_data(self.X, self.y, self.weight, by=by)
            origin = _Origin(maker, None, rows.units, targets)
            same = [place for place, one in enumerate(self._made_by) if one.is_written_as(origin)]
            self._variants[key] = same[0] if same else self._add_dataset(data, origin)
        return self._variants[key]

    def _add_dataset(self, data: Data, origin: _Origin) -> int:
        self._datasets.append(data)
        self._made_by.append(origin)
        return len(self._datasets) - 1

    def fitted(self, trial: Trial, outcome: Outcome) -> Any:
        """The estimator that a finished trial stands for."""
        last = clone(estimator_of(self.estimators[trial.cell]))
        x = self._datasets[trial.variant].x
        checked, pipeline, _, targets = self._made_by[trial.variant]
        last._adopt(outcome, trial.network, targets, x.shape[1:])
        for name in ("n_features_in_", "feature_names_in_", "inputs_"):
            if hasattr(checked, name):
                setattr(last, name, getattr(checked, name))
        return with_last(pipeline, last)

    def part(self, numbers: np.ndarray) -> tuple[Any, Any]:
        """Rows and targets as `fit` got them, for a scorer."""
        y = self.y
        if hasattr(y, "tocsr"):
            return _safe_indexing(self.X, numbers), _safe_indexing(y, numbers)
        if not isinstance(y, list | tuple):
            return _safe_indexing(self.X, numbers), _safe_indexing(np.asarray(y), numbers)
        some = [y[number] for number in numbers]
        y = some if any(np.ndim(entry) for entry in some) else np.asarray(some)
        return _safe_indexing(self.X, numbers), y


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
