"""The `jaxlstm` command, and what the experiments' commands share with it."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

CLOSING = {"(": ")", "[": "]", "{": "}"}

FLAGS = (tyro.conf.FlagCreatePairsOff,)


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turns a user's mistake into one sentence on stderr (exit 2), and Ctrl-C into exit 130.

    With JAXLSTM_DEBUG set in the environment, mistakes keep their traceback.
    """
    try:
        yield
    except KeyboardInterrupt:
        print("\ninterrupted: no results were written", file=sys.stderr)
        raise SystemExit(130) from None
    except (ValueError, TypeError, OSError, ImportError) as error:
        if os.environ.get("JAXLSTM_DEBUG"):
            raise
        print(f"error: {str(error).strip()}", file=sys.stderr)
        raise SystemExit(2) from None


def parse_values(text: str) -> list[Any]:
    """Parses the values of one grid parameter, separated by commas.

    Numbers, tuples, True, False, None and quoted strings as in Python; other words are strings.

    Raises:
      ValueError: no value, or brackets or quotes that do not match.

    Example:
      >>> parse_values("32,64"), parse_values("(50,25),(100,50)"), parse_values("adam,rmsprop")
      ([32, 64], [(50, 25), (100, 50)], ['adam', 'rmsprop'])
    """
    values = []
    for part in map(str.strip, _split(text)):
        if not part:
            raise ValueError(f"{text!r} has an empty value.")
        try:
            value = ast.literal_eval(part)
        except (ValueError, SyntaxError):
            value = part
        values.append(tuple(value) if isinstance(value, list) else value)
    return values


def _split(text: str) -> list[str]:
    """Parts between the commas that stand outside of brackets and quotes."""
    parts, open_brackets, quote, escaped = [""], "", "", False
    for character in text:
        if quote:
            quote = "" if character == quote and not escaped else quote
            escaped = character == "\\" and not escaped
        elif character in "'\"" and (open_brackets or not parts[-1].strip()):
            quote = character
        elif character in CLOSING:
            open_brackets += character
        elif character in CLOSING.values():
            if not open_brackets or CLOSING[open_brackets[-1]] != character:
                raise ValueError(f"the brackets in {text!r} do not match.")
            open_brackets = open_brackets[:-1]
        elif character == "," and not open_brackets:
            parts.append("")
            continue
        parts[-1] += character
    if open_brackets or quote:
        what = "quotes" if quote else "brackets"
        raise ValueError(f"the {what} in {text!r} do not match.")
    return parts


def parse_grid(entries: Sequence[str], option: str = "--grid") -> dict[str, list[Any]]:
    """Parses an option's ``name=value,value`` entries into a parameter grid.

    Raises:
      ValueError: an entry without "=" or values, or a name given twice.

    Example:
      >>> parse_grid(["units=32,64", "dropout=0.1"])
      {'units': [32, 64], 'dropout': [0.1]}
    """
    grid: dict[str, list[Any]] = {}
    for entry in entries:
        name, equals, values = entry.partition("=")
        if not equals or not name or not values:
            raise ValueError(f"{option} takes name=value entries, got {entry!r}.")
        if name in grid:
            raise ValueError(f"{option} names {name!r} twice: name it once, values with commas.")
        grid[name] = parse_values(values)
    return grid


@dataclasses.dataclass(frozen=True)
class Search:
    """Search the hyperparameters of an LSTM on your own data, and write a report.

    Rows may be of unequal length. Targets are labels, several labels or numbers, one per row or one
    per step; which they are is seen from the data unless --task says it.
    """

    data: tyro.conf.Positional[Path]
    """An .npz file with x [N, T, F] (or [N, T]), y, and lengths [N] where rows are padded; a .csv
    file with a header, one sequence of numbers per line and its target in a column; a long table
    (.csv with columns id and time, .tsv, .parquet); or a .ts file of the time-series archives."""
    grid: tuple[str, ...]
    """What to search: name=value,value entries, such as units=32,64 "units=(50,25),(100,50)"
    dropout=0.1,0.3 optimizer=adam,rmsprop loss=mse,huber. Names are the parameters of LSTMClassifier
    or, for numbers, LSTMRegressor."""
    test: Path | None = None
    """A file with rows for the final test, in the form of the first; then none are held out."""
    task: Literal["auto", "classification", "multilabel", "regression"] = "auto"
    """What the targets are."""
    per_step: bool | None = None
    """Whether there is a target for every step, True or False; by default as the data looks."""
    set: tuple[str, ...] = ()
    """What to fix for all cells: name=value entries, such as epochs=50 learning_rate=0.003."""
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
        from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

        from jaxlstm.estimators.classifier import LSTMClassifier
        from jaxlstm.estimators.regressor import LSTMRegressor
        from jaxlstm.grid.search import GridSearch

        fixed = parse_grid(self.set, "--set")
        for name, values in fixed.items():
            if len(values) != 1:
                raise ValueError(f"--set takes one value for {name!r}; lists go to --grid.")
        if not 0 <= self.test_size < 1:
            raise ValueError(f"--test-size must be in [0, 1), got {self.test_size}.")
        train, test = self._load()
        is_labels = train.task != "regression"
        estimator = LSTMClassifier() if is_labels else LSTMRegressor()
        estimator.set_params(return_sequences=train.per_step)
        estimator.set_params(**{name: values[0] for name, values in fixed.items()})
        cv: Any = self.cv
        if train.groups is not None:
            stratified = train.task == "classification" and not train.per_step
            cv = StratifiedGroupKFold(self.cv) if stratified else GroupKFold(self.cv)
        search = GridSearch(
            estimator,
            parse_grid(self.grid),
            cv=cv,
            scoring=self.scoring,
            random_state=self.seed,
            verbose=1,
        )
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

    def _load(self) -> tuple[Any, Any]:
        """The rows to search on, and those for the final test, if any."""
        from jaxlstm.exploration import load_named

        fields = {field.name: field.default for field in dataclasses.fields(self)}
        names = ("label", "weight", "group", "task", "per_step")
        # A loader is given what was said; not all loaders take all of it.
        options = {name: getattr(self, name) for name in names}
        options = {name: value for name, value in options.items() if value != fields[name]}

        def load(path: Path) -> Any:
            splits = load_named(str(path), None, options).splits
            if len(splits) > 1:
                raise ValueError(f"{path} has the parts {', '.join(splits)}: give one of them.")
            return next(iter(splits.values()))

        data = load(self.data)
        if self.test is not None:
            test = load(self.test)
            if (data.task, data.classes, data.per_step) != (test.task, test.classes, test.per_step):
                raise ValueError(f"{self.test} has other targets than {self.data}.")
            return data, test
        if not self.test_size:
            return data, None
        by: Any = "sample" if data.groups is None else "group"
        train, test = data.split(self.test_size, by, seed=self.seed)
        return train, test


@dataclasses.dataclass(frozen=True)
class Report:
    """Draw a run's figures and report again from its files."""

    folder: tyro.conf.Positional[Path]
    """The run's folder, such as results/digits."""

    def run(self) -> None:
        """Runs the command."""
        from jaxlstm.report import redraw

        Console().print(f"Report: {redraw(self.folder)}", soft_wrap=True)


@dataclasses.dataclass(frozen=True)
class Data:
    """Look at a data set: classes, samples, sizes, people, duplicates, what was left out."""

    name: tyro.conf.Positional[str]
    """digits, wisdm, emnist, faces or ravdess; or the path of your own: an .npz or .csv file, a
    long table (.csv with columns id and time, .tsv, .parquet), a .ts file, a folder or archive of
    images or of recordings with a folder for each class."""
    path: Path | None = None
    """Raw files of a named data set, where you placed them by hand."""
    set: tuple[str, ...] = ()
    """Options of its loader: name=value entries, such as window=100 stride=50 (wisdm),
    split=letters (emnist), "size=(48,48)" (faces), n_mfcc=20 (ravdess), label=kind (csv)."""
    kind: Literal["image", "audio", "sequence"] | None = None
    """What to draw a row as; by default what its loader gives."""
    samples: int = 8
    """Rows of each class to draw; fewer where they are large."""
    seed: int = 0
    """Seed of the draw of those rows."""
    results: Path = Path("results")
    """Folder for the results; the page goes into one of its own, data-NAME."""

    def run(self) -> None:
        """Runs the command."""
        from jaxlstm.exploration import run_exploration

        options = parse_grid(self.set, "--set")
        for name, values in options.items():
            if len(values) != 1:
                raise ValueError(f"--set takes one value for {name!r}.")
        run_exploration(
            self.name,
            path=self.path,
            options={name: values[0] for name, values in options.items()},
            kind=self.kind,
            samples=self.samples,
            seed=self.seed,
            results=self.results,
            command=shlex.join(["jaxlstm", *sys.argv[1:]]),
            config={**settings(self), "set": " ".join(self.set)},
        )


def plan_or_run(
    search: Any, train: Any, test: Any, *, plan: bool, checkpoint_dir: Path | None, **study: Any
) -> None:
    """Prints a search's plan, and runs it unless only the plan is wanted."""
    from jaxlstm.study import groups_of, run_study

    search.set_params(checkpoint_dir=checkpoint_dir)
    if plan:
        plan = search.plan(train, train.targets, groups_of(search, train))
        Console().print(str(plan), soft_wrap=True, highlight=False)
    else:
        run_study(search, train, test, **study)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """Options that every experiment's command has; an experiment's configuration extends it."""

    results: Path = Path("results")
    """Folder for the results; the run goes into one of its own, named after the experiment."""
    checkpoint_dir: Path | None = None
    """Folder to save finished fits and lanes in work in: the same command goes on from there."""
    plan: bool = False
    """Print what would be compiled and run, and stop."""


def run_experiment(
    config_type: type[Experiment],
    build: Callable[[Any], Any],
    *,
    name: str,
    title: str,
    **study: Any,
) -> None:
    """Command line of an experiment: each field of its configuration is an option.

    Args:
      config_type: a dataclass; the fields' docstrings are the options' help.
      build: makes the search, and the train and test data, from a configuration.
      name: of the experiment and its results folder.
      title: of the report.
      **study: further arguments of `jaxlstm.study.run_study`.
    """
    with user_errors():
        config = tyro.cli(config_type, prog=f"python -m experiments.{name}", config=FLAGS)
        search, train, test = build(config)
        plan_or_run(
            search,
            train,
            test,
            plan=config.plan,
            checkpoint_dir=config.checkpoint_dir,
            folder=config.results / name,
            title=title,
            command=shlex.join(["python", "-m", f"experiments.{name}", *sys.argv[1:]]),
            config=settings(config),
            **study,
        )


def settings(config: Any) -> dict[str, Any]:
    """Fields of a configuration that belong into a report."""
    fields = dataclasses.asdict(config)
    return {
        name: value
        for name, value in fields.items()
        if name not in ("plan", "results", "checkpoint_dir")
    }


def main() -> None:
    """The `jaxlstm` command."""
    with user_errors():
        command = tyro.extras.subcommand_cli_from_dict(
            {"search": Search, "data": Data, "report": Report},
            prog="jaxlstm",
            description="Train every LSTM of a hyperparameter search at once.",
            config=FLAGS,
        )
        command.run()
