"""Searches with scikit-learn's interface whose fits are lanes of compiled programs."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn import config_context, get_config
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import GridSearchCV, ParameterGrid, check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.validation import indexable

from jaxlstm.grid.plan import Plan, make_plan
from jaxlstm.grid.progress import LiveProgress
from jaxlstm.grid.results import curve_table, cv_results, trial_table
from jaxlstm.grid.run import Outcome, execute
from jaxlstm.grid.space import Fold, Problem, Trial
from jaxlstm.train.hyperparameters import NUMBERS, check_number, nearest
from jaxlstm.train.trial import Data


def _classifier_of(estimator: Any) -> Any:
    """The classifier itself, or a pipeline's last step."""
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    if not hasattr(last, "_network"):
        raise TypeError(
            "estimator must be a jaxlstm classifier (LSTMClassifier, FlaxClassifier) or a scikit-learn"
            f" Pipeline that ends in one, got {type(last).__name__}."
        )
    return last


class _Prepared:
    """A search's problem, and what its scores and its refit need."""

    def __init__(self, search: GridSearch, X: Any, y: Any, groups: Any):
        _classifier_of(search.estimator)
        self.search = search
        self.candidates = search._candidates()
        self._check_names()
        if y is None:
            raise ValueError("y is missing: a search needs the label of each row.")
        X, y, groups = indexable(X, y, groups)
        base = clone(search.estimator)
        self.is_pipeline = isinstance(base, Pipeline)
        self._variants: dict[Any, int] = {}
        self._datasets: list[Data] = []
        # What each data set was made by: a classifier that knows its columns, and a pipeline's steps.
        self._made_by: list[tuple[Any, list[Any]]] = []
        if self.is_pipeline:
            self.labels, self.classes = self._check_y(y)
        else:
            x, self.labels, self.classes = base._check_xy(X, y)
            self._add_dataset(x, base, [])
        self.X, self.y = X, np.asarray(y)
        splitter = check_cv(search.cv, self.y, classifier=True)
        self._check_folds(splitter)
        with warnings.catch_warnings():
            # Said above, with the class's name.
            warnings.filterwarnings("ignore", message="The least populated class")
            splits = list(splitter.split(X, y, groups))
        if not splits:
            raise ValueError(f"cv={search.cv!r} makes no split.")
        self.folds = [
            Fold(*(_row_numbers(part, len(self.y), number) for part in split))
            for number, split in enumerate(splits)
        ]
        self.seeds, self.refit_seed = self._draw_seeds(_classifier_of(base))
        self.estimators = [clone(base).set_params(**_copies(c)) for c in self.candidates]
        self.problem = self._build()

    def _check_names(self) -> None:
        allowed = self.search.estimator.get_params(deep=True)
        for candidate in self.candidates:
            for name in candidate:
                if name not in allowed and name.split("__")[0] not in allowed:
                    raise ValueError(
                        f"{name!r} in the grid is not a parameter of"
                        f" {type(self.search.estimator).__name__}.{nearest(name, allowed)}"
                    )

    def _check_y(self, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Labels and classes; the pipeline's steps check X themselves."""
        probe = clone(_classifier_of(self.search.estimator))
        _, labels, classes = probe._check_xy(np.zeros((len(y), 1), np.float32), y)
        return labels, classes

    def _check_folds(self, splitter: Any) -> None:
        if not isinstance(self.search.cv, Integral | type(None)):
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
                stacklevel=4,
            )

    def _draw_seeds(self, classifier: Any) -> tuple[list[int], int]:
        """A seed for each fold, the same in every cell, and one for the refit.

        They do not depend on the cells: a value added to the grid changes no other cell.
        """
        fixed = classifier.random_state
        if isinstance(fixed, Integral):
            return [int(fixed)] * len(self.folds), int(fixed)
        source = fixed if fixed is not None else self.search.random_state
        drawn = check_random_state(source).randint(np.iinfo(np.int32).max, size=len(self.folds) + 1)
        return drawn[:-1].tolist(), int(drawn[-1])

    def _build(self) -> Problem:
        trials: list[Trial] = []
        for cell, estimator in enumerate(self.estimators):
            classifier = _classifier_of(estimator)
            for number, fold in enumerate(self.folds):
                variant = self._variant(cell, number)
                try:
                    network = classifier._network(
                        self._datasets[variant].x, self.labels[fold.train], self.classes
                    )
                except (TypeError, ValueError) as error:
                    kind = TypeError if isinstance(error, TypeError) else ValueError
                    raise kind(f"{error} (in the cell {self.candidates[cell]})") from error
                own = classifier.random_state
                seed = int(own) if isinstance(own, Integral) else self.seeds[number]
                trials.append(
                    Trial(len(trials), cell, number, seed, variant, network, self.candidates[cell])
                )
        return Problem(trials, self.folds, self._datasets)

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
            classifier = clone(_classifier_of(estimator))
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

    def fitted(self, outcome: Outcome) -> Any:
        """The estimator that a finished trial stands for."""
        trial = self.problem.trials[outcome.trial]
        estimator = clone(self.estimators[trial.cell])
        classifier = _classifier_of(estimator)
        x = self.problem.datasets[trial.variant].x
        classifier._adopt(outcome, trial.network, self.classes, x.shape[1:])
        checked, steps = self._made_by[trial.variant]
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(checked, name):
                setattr(classifier, name, getattr(checked, name))
        if self.is_pipeline:
            estimator.steps[:-1] = steps
        return estimator

    def rows(self, numbers: np.ndarray) -> tuple[Any, np.ndarray]:
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


def _scorers(estimator: Any, scoring: Any) -> Any:
    """A scorer, or a dict of them where several are named."""
    if isinstance(scoring, list | tuple | set):
        scoring = {name: name for name in scoring}
    if isinstance(scoring, Mapping):
        if not scoring:
            raise ValueError("scoring must name at least one metric, got an empty collection.")
        return {name: check_scoring(estimator, one) for name, one in scoring.items()}
    return check_scoring(estimator, scoring)


def _number(score: Any) -> Any:
    """A score as a plain number; it may come as an array of NumPy or JAX without axes.

    Raises:
      TypeError: something else.
    """
    number = score.item() if getattr(score, "shape", None) == () else score
    if not isinstance(number, Real):
        raise TypeError(f"scoring must return numbers, got {score!r}.")
    return number


class _Scoring:
    """Scores finished trials, in the workers' threads."""

    def __init__(self, prepared: _Prepared, search: GridSearch):
        self.prepared, self.search = prepared, search
        self.config = get_config()  # scikit-learn's settings are a thread's own
        self.scorer = _scorers(search.estimator, search.scoring)
        if isinstance(self.scorer, dict):
            self._check_refit(self.scorer)
        # Accuracy on the validation rows is counted in the program itself.
        self.is_counted = search.scoring in (None, "accuracy") and not search.return_train_score

    def __call__(self, outcome: Outcome) -> dict[str, Any]:
        """Returns test and train scores and the seconds they took."""
        start = time.perf_counter()
        scores: dict[str, Any] = {}
        if outcome.failed is None and self.is_counted:
            scores["test"] = outcome.curves["val_accuracy"][-1]
        elif outcome.failed is None:
            try:
                with config_context(**self.config):
                    scores = self._score_parts(outcome)
            except Exception as error:
                if self.search.error_score == "raise":
                    raise
                outcome.failed = f"scoring raised {type(error).__name__}: {error}"
        elif self.search.error_score == "raise":
            trial = self.prepared.problem.trials[outcome.trial]
            raise ValueError(
                f"The fit of {trial.params}, fold {trial.fold} failed: {outcome.failed}."
            )
        for part, found in scores.items():
            if isinstance(found, Mapping):
                self._check_refit(found)
                scores[part] = {name: _number(score) for name, score in found.items()}
            else:
                scores[part] = _number(found)
        return scores | {"seconds": time.perf_counter() - start}

    def _score_parts(self, outcome: Outcome) -> dict[str, Any]:
        fold = self.prepared.folds[self.prepared.problem.trials[outcome.trial].fold]
        parts = {"test": fold.validation}
        if self.search.return_train_score:
            parts["train"] = fold.train
        estimator = self.prepared.fitted(outcome)
        scores = {}
        for part, numbers in parts.items():
            X, y = self.prepared.rows(numbers)
            if isinstance(self.scorer, dict):
                scores[part] = {name: one(estimator, X, y) for name, one in self.scorer.items()}
            else:
                scores[part] = self.scorer(estimator, X, y)
        return scores

    def _check_refit(self, metrics: Iterable[str]) -> None:
        refit = self.search.refit
        if refit is False or callable(refit) or (isinstance(refit, str) and refit in metrics):
            return
        raise ValueError(
            "with several metrics, refit must be False, a callable or one of"
            f" {', '.join(metrics)}; got {refit!r}."
        )


class GridSearch(GridSearchCV):
    """Searches a parameter grid, with all cells and folds trained as lanes of compiled programs.

    The interface is scikit-learn's `GridSearchCV`; so are the meaning and the defaults of what both
    have. Cells that differ in the network's shape or in ``batch_size`` are programs of their own,
    all others share one.

    Args:
      estimator: an `LSTMClassifier`, a `FlaxClassifier`, or a Pipeline that ends in one. The
        pipeline's other steps are fitted on each fold's training rows.
      param_grid: a dict of name: values, or a list of such dicts.
      scoring: None (accuracy), a scorer's name, a callable ``(estimator, X, y)``, or several as a
        list or dict.
      refit: whether to train the best cell on all rows; a metric's name where there are several, or
        a callable that picks the best index from `cv_results_`.
      cv: number of stratified folds (5 by default), a splitter, or an iterable of splits.
      error_score: the score of a lane that diverged or could not be scored, or "raise".
      return_train_score: whether to score on the training rows as well.
      validation_freq: validate every so many epochs (Keras's name and meaning), and after the last
        one in any case; a large number saves time and leaves gaps in `curves_`.
      random_state: seed for an estimator whose own ``random_state`` is None: an integer, a
        RandomState or None. Folds get different seeds, cells the same ones.
      n_jobs: CPU cores to use; None or -1 for all. An accelerator does not look at it.
      layout: how lanes run: "loop" (one after another on each CPU core), "vmap" (side by side), or
        "auto", which picks by the device.
      verbose: 1 shows a progress bar.

    Attributes:
      cv_results_: scikit-learn's table.
      best_index_: the best cell.
      best_params_: its parameters.
      best_score_: its mean test score.
      best_estimator_: the refitted winner.
      refit_time_: seconds of the refit.
      n_splits_: number of folds.
      scorer_: the scorer, or a dict of them.
      multimetric_: whether there are several metrics.
      plan_: the `Plan` that was run.
      results_: one row a trial, a pandas table.
      curves_: one row a trial and epoch.

    Example:
      >>> import numpy as np
      >>> from jaxlstm import LSTMClassifier
      >>> X = np.random.default_rng(0).normal(size=(60, 5, 2)).astype("float32")
      >>> y = np.where(X[:, :, 0].sum(1) > 0, "up", "down")
      >>> search = GridSearch(
      ...     LSTMClassifier(units=8, epochs=40), {"learning_rate": [1e-5, 0.02]}, cv=3, random_state=0
      ... )
      >>> search.fit(X, y).best_params_
      {'learning_rate': 0.02}
    """

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        scoring: Any = None,
        refit: Any = True,
        cv: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        validation_freq: int = 1,
        random_state: Any = None,
        n_jobs: int | None = None,
        layout: str = "auto",
        verbose: int = 0,
    ):
        super().__init__(
            estimator,
            param_grid,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.validation_freq = validation_freq
        self.random_state = random_state
        self.layout = layout

    def _candidates(self) -> list[dict[str, Any]]:
        try:
            candidates = list(ParameterGrid(self.param_grid))
        except (TypeError, ValueError) as error:
            raise type(error)(f"param_grid: {error}") from error
        grids = [self.param_grid] if isinstance(self.param_grid, Mapping) else self.param_grid
        if not candidates or not any(grids):
            raise ValueError(
                "param_grid is empty: give at least one parameter with at least one value, such as"
                " {'units': [32, 64]}."
            )
        return candidates

    def plan(self, X: Any, y: Any, groups: Any = None, *, measure: bool = True) -> Plan:
        """Returns what `fit` would compile and run; print it.

        Args:
          X: rows, as for `fit`.
          y: labels.
          groups: for the splitter.
          measure: whether to compile the programs, which their memory is read from; a later `fit`
            finds them compiled.
        """
        return self._plan(_Prepared(self, X, y, groups), measure)

    def _plan(self, prepared: _Prepared, measure: bool) -> Plan:
        return make_plan(prepared.problem, layout=self.layout, n_jobs=self.n_jobs, measure=measure)

    def fit(self, X: Any, y: Any = None, groups: Any = None) -> GridSearch:
        """Trains every cell on every fold, then the best cell on all rows.

        Args:
          X: rows ``[N, ...]``.
          y: labels ``[N]``.
          groups: for the splitter, ``[N]``.

        Returns:
          self.

        Raises:
          TypeError, ValueError: bad data, grid or parameters; every fit failed.
        """
        prepared = _Prepared(self, X, y, groups)
        check_number("validation_freq", self.validation_freq, NUMBERS["epochs"])
        if self.error_score != "raise" and not isinstance(self.error_score, Real):
            raise ValueError(f"error_score must be a number or 'raise', got {self.error_score!r}.")
        scoring = _Scoring(prepared, self)
        # Memory matters before the run where lanes share a device.
        plan = self._plan(prepared, measure=False)
        if plan.layout == "vmap":
            plan = self._plan(prepared, measure=True)
        display: Any = contextlib.nullcontext()
        if self.verbose:
            display = LiveProgress(plan, prepared.problem)
        with display as progress:
            outcomes = execute(
                plan,
                prepared.problem,
                on_finish=scoring,
                progress=progress,
                validation_freq=self.validation_freq,
            )
        # Everything is compiled by now, so that measuring costs nothing.
        self._collect(prepared, scoring, self._plan(prepared, measure=True), outcomes)
        if self.refit:
            self._refit(prepared, X, y)
        return self

    def _collect(
        self,
        prepared: _Prepared,
        scoring: _Scoring,
        plan: Plan,
        outcomes: Sequence[Outcome],
    ) -> None:
        """Sets the fitted attributes from the trials' outcomes."""
        self._report_failures(prepared, outcomes)
        shape = len(prepared.candidates), len(prepared.folds)
        done = [outcome.scores for outcome in outcomes]
        first = next(scores["test"] for scores in done if "test" in scores)
        self.multimetric_ = isinstance(first, Mapping)
        metrics = list(first) if self.multimetric_ else ["score"]

        def values(part: str, metric: str) -> np.ndarray:
            picked = [
                (scores[part][metric] if self.multimetric_ else scores[part])
                if part in scores
                else self.error_score
                for scores in done
            ]
            return np.asarray(picked, float).reshape(shape)

        parts = ["test", "train"] if self.return_train_score else ["test"]
        scores = {part: {metric: values(part, metric) for metric in metrics} for part in parts}
        self.cv_results_ = cv_results(
            prepared.candidates,
            scores,
            np.asarray([outcome.fit_seconds for outcome in outcomes]).reshape(shape),
            np.asarray([found["seconds"] for found in done]).reshape(shape),
        )
        groups = {index: number for number, g in enumerate(plan.groups) for index in g.trials}
        self.results_ = trial_table(prepared.problem, outcomes, scores["test"], groups)
        self.curves_ = curve_table(prepared.problem, outcomes)
        self.plan_ = plan
        self.n_splits_ = len(prepared.folds)
        self.scorer_ = scoring.scorer
        if self.refit or not self.multimetric_:
            self._choose(
                self.refit if isinstance(self.refit, str) and self.multimetric_ else "score"
            )

    def _choose(self, metric: str) -> None:
        if callable(self.refit):
            index = self.refit(self.cv_results_)
            if not isinstance(index, int | np.integer):
                raise TypeError(f"refit must return an index, got {index!r}.")
            if not 0 <= index < len(self.cv_results_["params"]):
                raise IndexError(f"refit returned {index}, which is no index of a cell.")
            self.best_index_ = int(index)
        else:
            self.best_index_ = int(self.cv_results_[f"rank_test_{metric}"].argmin())
            self.best_score_ = float(self.cv_results_[f"mean_test_{metric}"][self.best_index_])
        self.best_params_ = self.cv_results_["params"][self.best_index_]

    def _report_failures(self, prepared: _Prepared, outcomes: Sequence[Outcome]) -> None:
        failed = [outcome for outcome in outcomes if outcome.failed]
        if not failed:
            return
        named = "; ".join(
            f"{t.params}, fold {t.fold}"
            for t in (prepared.problem.trials[outcome.trial] for outcome in failed[:5])
        )
        more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
        message = (
            f"{len(failed)} of {len(outcomes)} fits failed ({failed[0].failed}): {named}{more}."
        )
        if len(failed) == len(outcomes):
            raise ValueError(f"{message} Nothing is left to choose from.")
        warnings.warn(
            f"{message} Their score is {self.error_score}.", FitFailedWarning, stacklevel=4
        )

    def _refit(self, prepared: _Prepared, X: Any, y: Any) -> None:
        estimator = clone(prepared.estimators[self.best_index_])
        classifier = _classifier_of(estimator)
        if not isinstance(classifier.random_state, Integral):
            # The winner can be trained again by anybody.
            classifier.random_state = prepared.refit_seed
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="X was converted")  # said by the search
            self.best_estimator_ = estimator.fit(X, y)
        self.refit_time_ = time.perf_counter() - start
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_
