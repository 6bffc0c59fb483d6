"""The command `jaxlstm search`: a search on a file of one's own."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tyro

from jaxlstm.options import parse_grid, parse_single

if TYPE_CHECKING:
    from jaxlstm.data import SequenceData


@dataclasses.dataclass(frozen=True)
class Search:
    """Search the hyperparameters of an LSTM on your own data, and write a report.

    Rows may be of unequal length. Targets are labels, several labels or numbers, one per row or one
    per step; which they are is seen from the data unless --task says it.
    """

    data: tyro.conf.Positional[Path]
    """An .npz file with x [N, T, F] (or [N, T]), y, and lengths [N] where rows are padded; a table
    (.csv, .tsv, .parquet) with a header, one sequence of numbers per line and its target in a
    column; a long table with a line for each step, which has the columns id and time or those of
    --id and --time; or a .ts file of the time-series archives."""
    grid: tuple[str, ...]
    """What to search: name=value,value entries, such as units=32,64 "units=(50,25),(100,50)"
    dropout=0.1,0.3 optimizer=adam,rmsprop loss=mse,huber "augment=(),(Jitter(0.1),Scaling(0.2))".
    Names are the parameters of LSTMClassifier or, for numbers, LSTMRegressor. A distribution,
    "learning_rate=loguniform(1e-4,1e-1)", "units=randint(8,64)" or "dropout=uniform(0,0.5)" (start,
    width), is drawn from: see --n-iter."""
    n_iter: int | None = None
    """Cells to draw at random, 10 by default where --grid names a distribution; else the whole
    grid is searched."""
    test: Path | None = None
    """A file with rows for the final test, in the form of the first; then none are held out."""
    task: Literal["auto", "classification", "multilabel", "regression"] = "auto"
    """What the targets are."""
    per_step: bool | None = None
    """Whether there is a target for every step, True or False; by default as the data looks."""
    set: tuple[str, ...] = ()
    """What to fix for all cells: name=value entries, such as epochs=50 learning_rate=0.003
    early_stopping=True patience=5 "augment=Jitter(0.1)"."""
    cv: int = 3
    """Folds of the cross-validation, stratified by class; with groups, nobody is in two of them."""
    scoring: str | None = None
    """Name of a scikit-learn scorer: accuracy (the default for labels), balanced_accuracy,
    f1_macro, neg_log_loss, r2 (the default for numbers), neg_mean_absolute_error, ..."""
    test_size: float = 0.2
    """Share of the rows held out for the final test; 0 for none. With groups a share of these."""
    label: str = "label"
    """Column of a table that holds the targets; several, with commas, are several labels or
    numbers."""
    weight: str | None = None
    """Column of a table that says what each row counts for."""
    group: str | None = None
    """Column of a table that says who each row is from."""
    features: str | None = None
    """Columns of a table to learn from, with commas; by default all others but an index."""
    id: str | None = None
    """Column of a long table that says which sequence a line belongs to, by default id."""
    time: str | None = None
    """Column of a long table to sort a sequence's lines by, by default time."""
    seed: int = 0
    """Seed of the split, initial weights, shuffling and dropout."""
    results: Path = Path("results")
    """Folder for the results; the run goes into one of its own, named after the data."""
    checkpoint_dir: Path | None = None
    """Folder to save finished fits and lanes in work in: the same command goes on from there."""
    plan: bool = False
    """Print what would be compiled and run, and stop."""

    def run(self) -> None:
        """Runs the command."""
        from sklearn.metrics import get_scorer_names
        from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

        from jaxlstm.cli import plan_or_run, settings
        from jaxlstm.estimators.classifier import LSTMClassifier
        from jaxlstm.estimators.regressor import LSTMRegressor
        from jaxlstm.grid.search import GridSearch, RandomSearch
        from jaxlstm.train.hyperparameters import nearest

        fixed = parse_single(self.set)
        if not 0 <= self.test_size < 1:
            raise ValueError(f"--test-size must be in [0, 1), got {self.test_size}.")
        if self.scoring is not None and self.scoring not in get_scorer_names():
            raise ValueError(
                "--scoring takes the name of a scikit-learn scorer, such as accuracy, f1_macro or r2,"
                f" got {self.scoring!r}.{nearest(self.scoring, get_scorer_names())}"
            )
        space = _space(parse_grid(self.grid))
        train, test = self._load()
        is_labels = train.task != "regression"
        estimator = LSTMClassifier() if is_labels else LSTMRegressor()
        estimator.set_params(return_sequences=train.per_step)
        estimator.set_params(**fixed)
        cv: Any = self.cv
        if train.groups is not None:
            stratified = train.task == "classification" and not train.per_step
            cv = StratifiedGroupKFold(self.cv) if stratified else GroupKFold(self.cv)
        options = {"cv": cv, "scoring": self.scoring, "random_state": self.seed, "verbose": 1}
        search: Any
        if self.n_iter is not None or any(hasattr(values, "rvs") for values in space.values()):
            n_iter = 10 if self.n_iter is None else self.n_iter
            search = RandomSearch(estimator, space, n_iter=n_iter, **options)
        else:
            search = GridSearch(estimator, space, **options)
        plan_or_run(
            search,
            train,
            test,
            plan=self.plan,
            checkpoint_dir=self.checkpoint_dir,
            folder=self.results / train.name,
            title=f"LSTM search on {train.name}",
            command=shlex.join(["jaxlstm", *sys.argv[1:]]),
            config=settings(self),
        )

    def _load(self) -> tuple[SequenceData, SequenceData | None]:
        """The rows to search on, and those for the final test, if any."""
        from jaxlstm.data.delimited import table_suffix

        data = self._rows(self.data)
        if self.test is not None:
            # The same columns in the same order, whatever else the file has.
            columns = data.feature_names or data.step_names
            same: dict[str, Any] = {}
            if table_suffix(self.test) and columns:
                same["features"] = list(columns)
            if table_suffix(self.test) or self.test.suffix == ".npz":
                same["task"] = data.task
            return data, self._alike(data, self._rows(self.test, **same))
        if not self.test_size:
            return data, None
        by: Any = "sample" if data.groups is None else "group"
        return data.split(self.test_size, by, seed=self.seed)

    def _rows(self, path: Path, **same: Any) -> SequenceData:
        from jaxlstm.exploration import load_named

        fields = {field.name: field.default for field in dataclasses.fields(self)}
        names = ("label", "weight", "group", "features", "id", "time", "task", "per_step")
        # A loader is given what was said; not all loaders take all of it.
        options = {name: getattr(self, name) for name in names}
        options = {name: value for name, value in options.items() if value != fields[name]}
        splits = load_named(str(path), None, options | same).splits
        if len(splits) > 1:
            raise ValueError(f"{path} has the parts {', '.join(splits)}: give one of them.")
        return next(iter(splits.values()))

    def _alike(self, data: SequenceData, test: SequenceData) -> SequenceData:
        """The test rows with the classes of the others, of which they may lack some."""
        from jaxlstm.data.checks import valid_steps

        kinds = [(part.task, part.per_step, part.target_names) for part in (data, test)]
        if kinds[0] != kinds[1] or (data.task == "multilabel" and data.classes != test.classes):
            raise ValueError(f"{self.test} has other targets than {self.data}.")
        if data.x.shape[2:] != test.x.shape[2:]:
            raise ValueError(
                f"{self.test} has rows of shape {test.x.shape[1:]}, {self.data} of"
                f" {data.x.shape[1:]}."
            )
        new = [name for name in test.classes if name not in data.classes]
        if new:
            raise ValueError(f"{self.test} has the class {new[0]!r}, which {self.data} lacks.")
        if data.task != "classification" or data.classes == test.classes:
            return test
        places = np.array([data.classes.index(name) for name in test.classes], np.int32)
        y = places[test.y]
        if test.per_step:
            y[~valid_steps(test)] = 0
        return dataclasses.replace(test, y=y, classes=data.classes, label_values=data.label_values)


def _space(grid: dict[str, list[Any]]) -> dict[str, Any]:
    """The grid with each distribution in place of its list."""
    space: dict[str, Any] = {}
    for name, values in grid.items():
        drawn = [hasattr(value, "rvs") for value in values]
        if any(drawn) and len(values) > 1:
            raise ValueError(f"--grid takes one distribution or values for {name!r}, not both.")
        space[name] = values[0] if any(drawn) else values
    return space
