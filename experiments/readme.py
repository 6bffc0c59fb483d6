"""Keeps the studies' figures: copies their small files here and writes them into README.md.

    python -m experiments.readme [--results FOLDER]

Of every study with a run in FOLDER (results) it copies comparison.csv, results.csv, config.json and the
tables into experiments/results/<study>/, and then writes the tables of README.md and of the project's
README.md between their markers, ``<!-- name -->`` and ``<!-- end -->``, from what is kept there.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from jaxlstm.grid.describe import human_seconds
from jaxlstm.report import markdown_table
from jaxlstm.report.study_tables import comparison_rows

HERE = Path(__file__).parent
KEPT = HERE / "results"
README = HERE / "README.md"
FRONT = HERE.parent / "README.md"
STUDIES = ("har_wisdm", "faces", "emnist", "ravdess")
#: Rows of the comparisons that the project's own README shows, by study.
MAIN = {
    "har_wisdm": (
        "Best: best setting, accuracy, random windows",
        "Best: best setting, accuracy, other people",
    ),
    "faces": (
        "row/column BiLSTM, ours: test accuracy",
        "CNN: test accuracy",
        "CNN+LSTM: test accuracy",
    ),
    "emnist": (
        "LSTM, the report's setting: accuracy",
        "LSTM, trained as we would: accuracy",
        "CNN, trained as we would: accuracy",
        "MLP, trained as we would: accuracy",
        "CNN+LSTM, trained as we would: accuracy",
    ),
    "ravdess": (
        "phase 1, longer, training accuracy, random split",
        "phase 1, longer, test accuracy, random split",
        "phase 2, test accuracy, random split",
        "phase 2, test accuracy, other singers",
    ),
}


def main() -> None:
    """Runs it from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=Path("results"))
    folder = parser.parse_args().results
    for study in STUDIES:
        if (folder / study / "report.html").exists():
            keep(folder / study, KEPT / study)
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
    FRONT.write_text(front(FRONT.read_text(encoding="utf-8")), encoding="utf-8")


def keep(run: Path, folder: Path) -> None:
    """Copies a run's small files, without the place of the data on this machine."""
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    if config["config"]["preset"] == "smoke":
        raise ValueError(f"{run} holds a run on made-up data, which is not worth keeping.")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "tables").mkdir(parents=True)
    for path in [run / "comparison.csv", run / "results.csv", *(run / "tables").glob("*.csv")]:
        shutil.copy(path, folder / path.relative_to(run))
    config["command"] = placeless(config["command"])
    config["config"]["data"] = Path(config["config"]["data"] or "").name
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")


def placeless(command: str) -> str:
    """A command without the folders of this machine: the data by name, no place for the results."""
    words: list[str] = []
    given = iter(shlex.split(command))
    for word in given:
        option, equals, value = word.partition("=")
        if option in ("--data", "--results"):
            value = value if equals else next(given, "")
            words += ["--data", Path(value).name] if option == "--data" else []
        else:
            words.append(word)
    return shlex.join(words)


def filled(readme: str) -> str:
    """The studies' README with every table as the kept files have it."""
    for study in STUDIES:
        if (KEPT / study).is_dir():
            readme = _between(readme, f"{study} run", run_text(study))
            readme = _between(readme, f"{study} figures", figures_text(study))
    return readme


def front(readme: str) -> str:
    """The project's README with the main figures as the kept files have them."""
    rows = [
        {"study": study, **{name: row[name] for name in ("figure", "the report", "ours")}}
        for study, wanted in MAIN.items()
        if (KEPT / study).is_dir()
        for row in _figures(study)
        if row["figure"] in wanted
    ]
    return _between(readme, "studies", markdown_table(pd.DataFrame(rows)))


def _between(readme: str, name: str, text: str) -> str:
    """A page with a text between the markers of this name."""
    # Not as a template: a backslash in the text stays one.
    parts = re.split(rf"(<!-- {name} -->\n).*?(<!-- end -->)", readme, flags=re.DOTALL)
    if len(parts) != 4:
        raise ValueError(f"there is no place for {name}.")
    return f"{parts[0]}{parts[1]}{text}\n{parts[2]}{parts[3]}"


def run_text(study: str) -> str:
    """Command, machine and time of a kept run."""
    config = json.loads((KEPT / study / "config.json").read_text(encoding="utf-8"))
    device, seconds = config["device"], config["seconds"]
    results = pd.read_csv(KEPT / study / "results.csv")
    machine = (
        f"{device['cores']} cores of an {device['cpu']}"
        if device["platform"] == "cpu"
        else device["kind"]
    )
    versions = config["versions"]
    times = pd.DataFrame(
        {
            "part": list(seconds),
            "fits": [int((results["part"] == part).sum()) for part in seconds],
            "time": [
                "more than " * (not config["seconds_are_whole"][part]) + human_seconds(spent)
                for part, spent in seconds.items()
            ],
        }
    )
    return (
        f"```\n{config['command']}\n```\n\n{machine}, jax {versions['jax']}, Python"
        f" {versions['python']}: {human_seconds(sum(seconds.values()))}.\n\n{markdown_table(times)}"
    )


def figures_text(study: str) -> str:
    """The report's figures and ours, a row each."""
    return markdown_table(pd.DataFrame(_figures(study)))


def _figures(study: str) -> list[dict[str, str]]:
    table = pd.read_csv(KEPT / study / "comparison.csv").astype(object)
    return [_row(row) for row in comparison_rows(table.map(_number))]


def _number(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _row(row: dict[str, str]) -> dict[str, str]:
    return {
        "figure": row["what"],
        "the report": row["paper"],
        "ours": " ".join([row["ours"], row["spread"]]).strip(),
        "note": row["note"],
    }


if __name__ == "__main__":
    main()
