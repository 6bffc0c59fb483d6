"""A data set from its name, or the path of one's own, to its page: the command `jaxlstm data`."""

from __future__ import annotations

import datetime
import difflib
import importlib.metadata
import inspect
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

import jaxlstm.data
from jaxlstm.data import SequenceData
from jaxlstm.data.archives import members
from jaxlstm.data.delimited import read_header, table_suffix
from jaxlstm.data.duplicates import find_duplicates
from jaxlstm.plain_text import shown
from jaxlstm.report.data_tables import Exploration, explore
from jaxlstm.report.explore import Kind, Waves, save_exploration
from jaxlstm.report.text import bytes_text

PACKAGES = ("jaxlstm", "numpy", "pandas", "scikit-learn", "pillow", "librosa", "matplotlib")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
RECORDINGS = (".wav", ".flac", ".ogg", ".mp3")
OTHERS = {
    **dict.fromkeys((".xlsx", ".xlsm", ".xls", ".ods"), "a workbook"),
    **dict.fromkeys((".json", ".jsonl"), "a JSON file"),
    **dict.fromkeys((".npy", ".mat", ".h5", ".hdf5"), "a file of arrays of another kind"),
    **dict.fromkeys((".feather", ".arrow", ".sav", ".dta", ".rds"), "a table of another kind"),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), "a pickle, which may run code"),
    **dict.fromkeys((".txt", ".dat", ".data", ".tab"), "text without a known ending"),
}
_CLASSES_PRINTED = 20


class Loader(NamedTuple):
    """How a data set is loaded and drawn."""

    function: str  # of jaxlstm.data
    kind: Kind


NAMED = {
    "digits": Loader("load_digits", "image"),
    "wisdm": Loader("load_wisdm", "sequence"),
    "emnist": Loader("load_emnist", "image"),
    "faces": Loader("load_faces", "image"),
    "ravdess": Loader("load_ravdess", "audio"),
}


class Loaded(NamedTuple):
    """A data set and how it came about."""

    splits: dict[str, SequenceData]  # one called "all" where there is only one
    kind: Kind
    arguments: dict[str, Any]  # of its loader


def load_named(name: str, path: Path | None, options: Mapping[str, Any]) -> Loaded:
    """Loads a data set.

    Args:
      name: one of ``NAMED``, or the path of an own .npz file, of a table (.csv, .tsv, .parquet) with
        a line for each sequence, or a long one, which has the columns id and time or those that the
        options id or time name, of a .ts file, plain or gzipped, of a folder or an archive of images
        or of recordings.
      path: of a named data set's raw files, where they were placed by hand.
      options: of the loader, by name.

    Raises:
      FileNotFoundError: nothing at the path, or no raw files.
      ValueError: an unknown name or option; damaged files; a folder of nothing known.
    """
    given = dict(options)
    if name in NAMED:
        loader = NAMED[name]
        if path is not None:
            given["path"] = path
    else:
        if path is not None:
            raise ValueError(f"--path goes with a name ({', '.join(NAMED)}), got {name!r}.")
        loader = _own(name, given)
        given["path"] = Path(name)
    load = getattr(jaxlstm.data, loader.function)
    arguments = _checked(load, name, given)
    data = load(**arguments)
    splits = {"all": data} if isinstance(data, SequenceData) else dict(data)
    return Loaded(splits, loader.kind, arguments)


def _own(name: str, options: Mapping[str, Any]) -> Loader:
    path = Path(name)
    if not path.exists():
        if len(path.parts) > 1 or path.suffix:
            raise FileNotFoundError(f"{name} is not there.")
        near = difflib.get_close_matches(name.lower(), NAMED, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"{name!r} is neither a data set ({', '.join(NAMED)}) nor the path of one.{hint}"
        )
    if path.suffix == ".npz":
        return Loader("load_arrays", "sequence")
    if path.name.endswith((".ts", ".ts.gz")):
        return Loader("load_ts", "sequence")
    if path.is_file() and table_suffix(path):
        long = {"id", "time"} & set(options) or {"id", "time"} <= set(read_header(path))
        return Loader("load_table" if long else "load_arrays", "sequence")
    if path.is_file() and (kind := OTHERS.get(path.suffix.lower())):
        raise ValueError(f"{path} is {kind}: save it as CSV UTF-8 or as an .npz file.")
    found = {IMAGES: 0, RECORDINGS: 0}

    def count(file: PurePosixPath) -> bool:
        for endings in found:
            found[endings] += file.suffix.lower() in endings and not file.name.startswith("._")
        return False

    for _ in members(path, count):
        pass
    if not any(found.values()):
        raise ValueError(
            f"{path} must be an .npz, .csv, .tsv, .parquet or .ts file, or a folder or archive of"
            f" images ({', '.join(IMAGES)}) or of recordings ({', '.join(RECORDINGS)}); it is none."
        )
    if found[IMAGES] >= found[RECORDINGS]:
        return Loader("load_image_folder", "image")
    return Loader("load_audio_folder", "audio")


def _checked(load: Callable[..., Any], name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Returns a loader's arguments; fields of its MFCC options may be named like its own."""
    allowed = inspect.signature(load).parameters
    missing = [
        parameter
        for parameter, found in allowed.items()
        if found.default is found.empty and parameter not in given
    ]
    if missing:
        raise ValueError(f"{name} needs --set {' '.join(f'{word}=...' for word in missing)}.")
    features = _feature_fields(allowed)
    for option in given:
        if option not in allowed and option not in features:
            if option == "path":
                raise ValueError(f"{name} has no raw files to place: leave out --path.")
            known = sorted({*allowed, *features} - {"path", "features"})
            near = difflib.get_close_matches(option, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"--set: {name} has no option {option!r}; it has"
                f" {', '.join(known) or 'none'}.{hint}"
            )
    own = {option: value for option, value in given.items() if option in allowed}
    fields = {option: value for option, value in given.items() if option not in allowed}
    if fields:
        own["features"] = type(allowed["features"].default)(**fields)
    return own


def _feature_fields(parameters: Mapping[str, inspect.Parameter]) -> set[str]:
    default = parameters["features"].default if "features" in parameters else None
    return set(getattr(default, "__dataclass_fields__", ()))


def run_exploration(
    name: str,
    *,
    path: Path | None = None,
    options: Mapping[str, Any] | None = None,
    kind: Kind | None = None,
    samples: int = 8,
    seed: int = 0,
    results: Path = Path("results"),
    command: str = "",
    config: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> Path:
    """Loads a data set, prints what it holds and leaves its page in a folder.

    Args:
      name: see ``load_named``.
      path: see ``load_named``.
      options: of the loader, by name.
      kind: what a row is drawn as; by default what its loader gives.
      samples: rows of each class on the sheets.
      seed: of the draw of those rows.
      results: the page goes into a folder of its own in it, ``data-NAME``.
      command: shell command that repeats it.
      config: its settings.
      console: where to print.

    Returns:
      The path of the page.

    Raises:
      ValueError: see ``load_named``; ``samples`` is below 1.
      OSError: see ``load_named``; the folder cannot be written.
    """
    if samples < 1:
        raise ValueError(f"--samples must be 1 or more, got {samples}.")
    console = console or Console()
    loaded = load_named(name, path, options or {})
    found = explore(loaded.splits, find_duplicates(loaded.splits))
    short = name if name in NAMED else Path(name).resolve().name.split(".")[0] or "own"
    page = save_exploration(
        found,
        results / f"data-{short}",
        kind=kind or loaded.kind,
        config={
            "name": f"data-{short}",
            "title": f"Data: {short}",
            "command": command,
            "config": dict(config or {}),
            "versions": _versions(),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
        samples=samples,
        seed=seed,
        waves=_waves(loaded) if loaded.kind == "audio" else None,
    )
    for part in _printed(found):
        console.print(part, highlight=False)
    console.print(shown(f"Report: {page}"), soft_wrap=True, highlight=False)
    return page


def _waves(loaded: Loaded) -> Waves:
    """Returns what reads the recordings of a split's rows from where its loader found them."""
    from jaxlstm.waveforms import waveform_reader

    def read(split: str, rows: Sequence[int]) -> Mapping[int, tuple[np.ndarray, float]]:
        data = loaded.splits[split]
        path = Path(loaded.arguments.get("path") or data.source)
        if not path.exists():
            return {}
        return waveform_reader(data, path, loaded.arguments.get("features"))(rows)

    return read


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # only some data sets need it
    return found


def _printed(found: Exploration) -> list[Any]:
    """Returns what the terminal shows: two tables and a few lines."""
    several = len(found.splits) > 1
    targets = found.targets
    first = _printed_counts(found) if targets is None else _printed_targets(found, targets)
    sizes = Table(title="Sizes", title_justify="left")
    unequal = any(size.lengths for size in found.sizes.values())
    for head in (
        "split",
        "rows",
        "shape",
        *(["steps"] if unequal else []),
        "type",
        "memory",
        "values",
    ):
        sizes.add_column(head, justify="left" if head in ("split", "type") else "right")
    for split, size in found.sizes.items():
        shape = " x ".join(map(str, size.shape))
        span = f"{size.low:.4g} to {size.high:.4g}"
        cells: list[Any] = [shown(split), f"{size.rows:,}", shape]
        if unequal:
            cells.append(f"{size.lengths[0]} to {size.lengths[2]}" if size.lengths else "all")
        sizes.add_row(*cells, size.dtype, bytes_text(size.bytes), span)
    lines = []
    if found.people is not None:
        lines.append(f"People: {found.people['group'].nunique():,}")
    twins = found.duplicates
    across = f", {twins.across:,} of them across splits" if several else ""
    kinds = "targets" if "target" in found.twins else "classes"
    conflicting = f", {twins.conflicting:,} with different {kinds}" if twins.sets else ""
    lines.append(
        f"Sets of identical rows: {twins.sets:,}{across if twins.sets else ''}{conflicting}"
    )
    reasons: dict[str, int] = {}
    for data in found.splits.values():
        for reason, count in data.dropped.items():
            reasons[reason] = reasons.get(reason, 0) + count
    told = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())
    lines.append(f"Left out: {found.left_out:,}" + (f" ({told})" if told else ""))
    return [first, sizes, *map(shown, lines)]


def _printed_counts(found: Exploration) -> Table:
    several, unit = len(found.splits) > 1, found.unit
    noun = "label" if found.first.task == "multilabel" else "class"
    counts = Table(title=f"{unit.capitalize()} of each {noun}", title_justify="left")
    counts.add_column(noun, overflow="fold")
    for split in found.splits:
        counts.add_column(shown(f"{split} {unit}" if several else unit), justify="right")
        counts.add_column("%", justify="right")
    tables = {split: data.summary() for split, data in found.splits.items()}
    for name in [*found.classes[:_CLASSES_PRINTED], "all"]:
        if name == "all" and len(found.classes) > _CLASSES_PRINTED:
            counts.add_row(f"... {len(found.classes) - _CLASSES_PRINTED} more")
        cells = []
        for split, table in tables.items():
            place = len(table) - 1 if name == "all" else found.splits[split].classes.index(name)
            row = table.iloc[place]
            cells += [f"{int(row[unit]):,}", f"{row['percent']:.1f}"]
        counts.add_row(shown(name), *cells, style="bold" if name == "all" else None)
    return counts


def _printed_targets(found: Exploration, targets: pd.DataFrame) -> Table:
    several, unit = len(found.splits) > 1, found.unit
    table = Table(title="Numbers to predict", title_justify="left")
    table.add_column("target", overflow="fold")
    for head in (*(["split"] if several else []), unit, "mean", "std", "min", "max"):
        table.add_column(head, justify="left" if head == "split" else "right")
    for line in targets.head(_CLASSES_PRINTED).to_dict("records"):
        table.add_row(
            shown(line["target"]),
            *([shown(line["split"])] if several else []),
            f"{line[unit]:,}",
            *(f"{line[measure]:.4g}" for measure in ("mean", "std", "min", "max")),
        )
    if len(targets) > _CLASSES_PRINTED:
        table.add_row(f"... {len(targets) - _CLASSES_PRINTED} more")
    return table
