"""Searches of a grid and of random draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.model_selection import ParameterGrid, ParameterSampler

from jaxlstm.grid.base import LaneSearch
from jaxlstm.train.hyperparameters import NUMBERS, check_number


class GridSearch(LaneSearch):
    """Searches a parameter grid, with all cells and folds trained as lanes of compiled programs.

    The interface is scikit-learn's `GridSearchCV`; so are the meaning and the defaults of what both
    have. Cells that differ in the network's shape are programs of their own, unless padding their
    widths is cheaper; all others share one, and those that differ in epochs alone one run.

    On a cluster: inside ``with joblib.parallel_config(backend="dask")`` (or ``"ray"``, after Ray's own
    `register_ray`; or ``"loky"``, processes of this machine) `fit` sends lanes to the workers in a few
    tasks each, and takes the results as they come. A worker that dies loses nothing: its tasks go
    to another one, with loky and Ray up to twice. Results equal those without a cluster bit for bit
    where lanes run one at a time on processors of one kind. ``checkpoint_dir`` keeps the fits that
    came back; lanes in work on a worker are not saved. Workers with an accelerator should have one
    thread each, and ``layout="vmap"``. The data set is sent once a `fit`, or once a round where a
    search has several.

    In several JAX processes: each calls `jax.distributed.initialize` and then runs the same script. The
    lanes run side by side on all devices of all processes, and each process gets the whole result.
    Process 0 alone writes ``checkpoint_dir``, finished fits only. Data, splits and seeds must be the
    same everywhere, which is checked.

    Args:
      estimator: an `LSTMClassifier`, `LSTMRegressor`, `FlaxClassifier` or `FlaxRegressor`, or a
        Pipeline that ends in one, or in None that the candidates replace. The pipeline's other steps
        are fitted on each fold's training rows; those of a list get a list and must return one of
        as many rows. A subclass may predict and score in its own way, but not have its own ``fit``.
      param_grid: a dict of name: values, or a list of such dicts; ``{}`` for the estimator as it is.
      scoring: None (the estimator's own score: accuracy or R2), a scorer's name, a callable
        ``(estimator, X, y)``, or several as a list or dict. A metric of scikit-learn's that the
        targets of a split do not allow is said before anything is trained: an error where no split
        allows the one that ``refit`` looks at, else a warning. With targets per step scikit-learn's
        scorers see all own steps of the validation rows, one after another.
      refit: whether to train the best cell on all rows; a metric's name where there are several, or
        a callable that picks the best index from `cv_results_`.
      cv: number of folds (5 by default), stratified where a row has one label, a splitter, or an
        iterable of splits, of which an iterator is read once and kept.
      error_score: the score of a lane that diverged, or of one metric whose scorer raised; or
        "raise".
      return_train_score: whether to score on the training rows as well.
      return_estimator: whether to keep every trained lane, as `estimators_` (scikit-learn's
        `cross_validate` has the same word); with ``checkpoint_dir`` they are saved there.
      validation_freq: validate every so many epochs (Keras's name and meaning), and after the last
        one in any case; a large number saves time and leaves gaps in `curves_`.
      n_seeds: fits of each cell and fold that differ in their seed alone; `cv_results_` has their
        mean, `results_` each.
      random_state: seed for an estimator whose own ``random_state`` is None: an integer, a
        RandomState or None. Folds get different seeds, cells the same ones.
      n_jobs: CPU cores to use; None or -1 for all. An accelerator does not look at it. On a cluster,
        how many workers; None for what `joblib.parallel_config` says, or all.
      layout: how lanes run: "loop" (one after another on each CPU core), "vmap" (side by side),
        "stream" (as "loop", the data staying on the host, where X may be a float32
        `numpy.memmap`, and coming in chunks), or "auto": "stream" for data that is more than
        ``memory_limit``, else by the device and, for long searches, by timing the first two.
      memory_limit: bytes that the lanes of a program and the data may take on one device; 80 % of
        what is free by default. With "vmap" fewer lanes run at a time for it.
      checkpoint_dir: a folder to save finished fits, lanes in work and the refit in. A search that
        was killed goes on there when `fit` is called again. A search with other candidates, more
        draws or seeds takes the fits that are its own from there, by estimator, rows, seed, scoring
        and the code of them all, fewer epochs of a run included where scores are read from its
        curve; the rest is trained. Other data, splits or versions of jaxlstm are refused.
      checkpoint_every: seconds between two saves of the lanes in work.
      verbose: 0 shows nothing; 1 a progress bar on a terminal, and in a file or a notebook without
        ipywidgets a line for each tenth of the work and each half a minute; 2 a line for each epoch
        of each fit (not on a joblib cluster, which tells of whole fits).

    Attributes:
      cv_results_: scikit-learn's table.
      best_index_: the best cell.
      best_params_: its parameters.
      best_score_: its mean test score.
      best_estimator_: the refitted winner.
      refit_time_: seconds of the refit, which like those of `cv_results_` leave compiling out.
      compile_time_: seconds that compiling has taken, of searching and refit; where programs compile
        side by side, their share of the wall clock.
      n_splits_: number of folds.
      scorer_: the scorer, or a dict of them.
      multimetric_: whether there are several metrics.
      plan_: the `Plan` that was run.
      results_: one row a trial, a pandas table.
      curves_: one row a trial and epoch.
      estimators_: with ``return_estimator`` the fitted estimator of each row of `results_`, None
        for a fit that has none.
      interrupted_: whether Ctrl-C ended it before all fits and the refit were done.

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
        return_estimator: bool = False,
        validation_freq: int = 1,
        n_seeds: int = 1,
        random_state: Any = None,
        n_jobs: int | None = None,
        layout: str = "auto",
        memory_limit: int | None = None,
        checkpoint_dir: Any = None,
        checkpoint_every: float = 60.0,
        verbose: int = 0,
    ):
        super().__init__(
            estimator,
            scoring=scoring,
            refit=refit,
            cv=cv,
            error_score=error_score,
            return_train_score=return_train_score,
            validation_freq=validation_freq,
            n_seeds=n_seeds,
            random_state=random_state,
            n_jobs=n_jobs,
            layout=layout,
            memory_limit=memory_limit,
            checkpoint_dir=checkpoint_dir,
            checkpoint_every=checkpoint_every,
            verbose=verbose,
        )
        self.param_grid = param_grid
        self.return_estimator = return_estimator

    def _candidates(self) -> list[dict[str, Any]]:
        return listed(self.param_grid)


class RandomSearch(LaneSearch):
    """Searches random draws from distributions; see `GridSearch` for all that both have.

    The interface is scikit-learn's `RandomizedSearchCV`, and the same ``random_state`` draws the same
    candidates.

    Integers drawn from a distribution, such as ``units=randint(8, 64)``, would be a program each: on
    a CPU, too, narrower networks are then padded with zeros to share the program of wider ones where
    compiling another one is estimated to take longer. Padding changes the last digits of a fit by
    rounding. Widths from a list, and all those of a `GridSearch`, are not padded on a CPU.

    Args:
      estimator: see `GridSearch`.
      param_distributions: a dict of name: values or a SciPy distribution, or a list of such dicts.
      n_iter: how many candidates to draw.
      scoring: this and all that follow are `GridSearch`'s.
      refit: see `GridSearch`.
      cv: see `GridSearch`.
      error_score: see `GridSearch`.
      return_train_score: see `GridSearch`.
      return_estimator: see `GridSearch`.
      validation_freq: see `GridSearch`.
      n_seeds: see `GridSearch`.
      random_state: seed of the draws, too.
      n_jobs: see `GridSearch`.
      layout: see `GridSearch`.
      memory_limit: see `GridSearch`.
      checkpoint_dir: see `GridSearch`.
      checkpoint_every: see `GridSearch`.
      verbose: see `GridSearch`.
    """

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_iter: int = 10,
        scoring: Any = None,
        refit: Any = True,
        cv: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        return_estimator: bool = False,
        validation_freq: int = 1,
        n_seeds: int = 1,
        random_state: Any = None,
        n_jobs: int | None = None,
        layout: str = "auto",
        memory_limit: int | None = None,
        checkpoint_dir: Any = None,
        checkpoint_every: float = 60.0,
        verbose: int = 0,
    ):
        super().__init__(
            estimator,
            scoring=scoring,
            refit=refit,
            cv=cv,
            error_score=error_score,
            return_train_score=return_train_score,
            validation_freq=validation_freq,
            n_seeds=n_seeds,
            random_state=random_state,
            n_jobs=n_jobs,
            layout=layout,
            memory_limit=memory_limit,
            checkpoint_dir=checkpoint_dir,
            checkpoint_every=checkpoint_every,
            verbose=verbose,
        )
        self.param_distributions = param_distributions
        self.n_iter = n_iter
        self.return_estimator = return_estimator

    @property
    def _draws(self) -> bool:
        return True

    @property
    def _draws_widths(self) -> bool:
        return draws_widths(self.param_distributions)

    def _candidates(self) -> list[dict[str, Any]]:
        check_number("n_iter", self.n_iter, NUMBERS["epochs"])
        return drawn(self.param_distributions, self.n_iter, self.random_state)


def listed(param_grid: Any) -> list[dict[str, Any]]:
    """All candidates of a grid; of an empty dict the one of the estimator's own parameters.

    Raises:
      TypeError, ValueError: a grid that scikit-learn does not take, or an empty list.
    """
    try:
        candidates = list(ParameterGrid(param_grid))
    except (TypeError, ValueError) as error:
        raise type(error)(f"param_grid: {error}") from error
    if not candidates:
        raise ValueError(
            "param_grid is empty: give a dict of parameters, each with at least one value, such as"
            " {'units': [32, 64]}, or {} for the estimator as it is."
        )
    return candidates


def draws_widths(distributions: Any) -> bool:
    """Whether a parameter that may be a width is drawn from a distribution of integers."""
    several = distributions if isinstance(distributions, list | tuple) else [distributions]
    return any(
        hasattr(values, "pmf")
        and name.split("__")[-1] not in ("epochs", "batch_size", "random_state")
        for one in several
        for name, values in one.items()
    )


def _undrawable(distributions: Any) -> str:
    """The name of the distribution that nothing can be drawn from, as the start of a sentence."""
    for one in distributions if isinstance(distributions, list) else [distributions]:
        for name, values in one.items() if isinstance(one, Mapping) else ():
            if hasattr(values, "rvs"):
                try:
                    values.rvs(random_state=0)
                except (TypeError, ValueError):
                    return f"{name!r} cannot be drawn: "
    return ""


def drawn(distributions: Any, count: int, random_state: Any) -> list[dict[str, Any]]:
    """Draws candidates as scikit-learn does, NumPy's numbers as Python's.

    Raises:
      TypeError, ValueError: distributions that scikit-learn does not take, or none.
    """
    if isinstance(distributions, list) and not distributions:
        raise ValueError(
            "param_distributions is empty: give a dict of parameters, such as"
            " {'learning_rate': scipy.stats.loguniform(1e-4, 1e-1)}."
        )
    try:
        sampler = ParameterSampler(distributions, count, random_state=random_state)
        candidates = list(sampler)
    except (TypeError, ValueError) as error:
        raise type(error)(f"param_distributions: {_undrawable(distributions)}{error}") from error
    return [
        {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in candidate.items()
        }
        for candidate in candidates
    ]
