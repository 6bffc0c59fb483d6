"""The `jaxlstm` command, and what the experiments' commands share with it."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from jaxlstm.options import parse_single
from jaxlstm.plain_text import shown, visible
from jaxlstm.search_command import Search

FLAGS = (tyro.conf.FlagCreatePairsOff,)


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turns a user's mistake into one sentence on stderr (exit 2), and Ctrl-C into exit 130.

    Warnings are sentences on stderr, too, without the place in the code that they come from. With
    JAXLSTM_DEBUG set in the environment, mistakes keep their traceback.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            yield
    except KeyboardInterrupt:
        print("\ninterrupted: no results were written", file=sys.stderr)
        raise SystemExit(130) from None
    except (ValueError, TypeError, OSError, ImportError) as error:
        if os.environ.get("JAXLSTM_DEBUG"):
            raise
        print(f"error: {_sentence(error)}", file=sys.stderr)
        raise SystemExit(2) from None


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"warning: {_sentence(message)}", file=sys.stderr)


def _sentence(message: object) -> str:
    """A message in one line, whatever the names in it hold."""
    return visible(" ".join(line.strip() for line in str(message).strip().splitlines()))


def parse_arguments(parse: Callable[[list[str]], Any]) -> Any:
    """Parses the command line; what cannot be parsed is shown without control characters.

    Args:
      parse: makes a configuration of the arguments, or says why not and exits.
    """
    given = sys.argv[1:]
    harmless = list(map(visible, given))
    if harmless != given:
        parse(harmless)
    return parse(given)


@dataclasses.dataclass(frozen=True)
class Report:
    """Draw a run's figures and report again from its files."""

    folder: tyro.conf.Positional[Path]
    """The run's folder, such as results/digits."""

    def run(self) -> None:
        """Runs the command."""
        from jaxlstm.report import redraw
        from jaxlstm.study import say_report

        say_report(Console(), redraw(self.folder))


@dataclasses.dataclass(frozen=True)
class Data:
    """Look at a data set: classes, samples, sizes, people, duplicates, what was left out."""

    name: tyro.conf.Positional[str]
    """digits, wisdm, emnist, faces or ravdess; or the path of your own: an .npz file, a table (.csv,
    .tsv, .parquet; a long one has the columns id and time), a .ts file, a folder or archive of images
    or of recordings with a folder for each class."""
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

        run_exploration(
            self.name,
            path=self.path,
            options=parse_single(self.set),
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
        Console().print(shown(plan), soft_wrap=True, highlight=False)
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
        config = parse_arguments(
            lambda given: tyro.cli(
                config_type, prog=f"python -m experiments.{name}", args=given, config=FLAGS
            )
        )
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
    if sys.argv[1:] == ["--version"]:
        print(f"jaxlstm {importlib.metadata.version('jaxlstm')}")
        return
    commands: dict[str, Callable[..., Any]] = {"search": Search, "data": Data, "report": Report}
    about = "Train every LSTM of a hyperparameter search at once; --version says which version."

    def parse(given: list[str]) -> Any:
        return tyro.extras.subcommand_cli_from_dict(
            commands, prog="jaxlstm", description=about, args=given, config=FLAGS
        )

    with user_errors():
        command = parse_arguments(parse)
        command.run()
