"""The benchmarks: their arguments, processes, checks of results, tables and files; no times."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.model_selection import ParameterGrid

from benchmarks import durability, grid, grid_peers, layer, layer_worker, scaling, scaling_report
from benchmarks.layer_case import MODES, Case, draw
from benchmarks.layer_report import (
    Memory,
    Timing,
    draw_figure,
    memory_table,
    summary,
    table,
    versus,
    write_csv,
)
from jaxlstm.nn import LSTMParams, lstm

CASE = Case(4, 8, 3, 8, 2)


def settings(**changes: Any) -> Namespace:
    options = layer.parse(["--quick", "--rounds", "2"])
    for name, value in changes.items():
        setattr(options, name, value)
    return options


def test_a_run_compares_ours_with_flax(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "--quick --rounds 2 --cpu --against flax cudnn --lanes 2 --lane-case 2 3 2 4 1"
    layer.main([*arguments.split(), "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "cudnn is left out: RuntimeError: jax.experimental.rnn needs an NVIDIA GPU" in printed
    assert "fastest peer (flax) / jaxlstm" in printed
    with (tmp_path / "layer.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {(row["kind"], row["implementation"], row["mode"]) for row in rows}
    names = ("jaxlstm", "flax")
    expected = {
        (kind, name, mode) for kind in ("layer", "lanes") for name in names for mode in MODES
    }
    assert found == expected
    for row in rows:
        assert row["device"] == "cpu"
        assert "jax=" in row["versions"]
        assert float(row["q1_ms"]) <= float(row["median_ms"]) <= float(row["q3_ms"])
    lanes = {row["setting"] for row in rows if row["kind"] == "lanes"}
    assert lanes == {"vmap", "loop"}
    assert (tmp_path / "layer.png").read_bytes()[1:4] == b"PNG"


def test_a_worker_answers_and_survives_errors(tmp_path: Path) -> None:
    requests = [
        "no json",
        json.dumps({"do": "dance"}),
        json.dumps({"do": "prepare", "case": CASE._asdict(), "save": str(tmp_path)}),
        json.dumps({"do": "time", "setting": "backend=auto", "mode": MODES[1], "calls": 2}),
        json.dumps({"do": "memory", "case": CASE._asdict()}),
        json.dumps({"do": "time", "setting": "unknown", "mode": MODES[1], "calls": 2}),
    ]
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.layer_worker", "--peer", "jaxlstm", "--cores", "1"],
        input="\n".join(requests) + "\n",
        env={**os.environ, "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    hello, no_json, dance, *rest = map(json.loads, done.stdout.splitlines())
    prepared, timed, memory, unknown = rest
    assert hello["device"] == "cpu"
    assert "JSONDecodeError" in no_json["error"]
    assert "do must be one of prepare, time, memory, got 'dance'" in dance["error"]
    assert timed["seconds"] > 0
    assert 0 <= timed["kernel"] <= 1
    # A program returns a loss and a gradient as large as the weights and the input, at least.
    arrays = [draw(CASE).x, *(weights for each in draw(CASE).layers for weights in each)]
    assert memory["program"] >= sum(array.nbytes for array in arrays) + 4
    assert "unknown" in unknown["error"]
    assert not prepared["failed"]

    # The outputs are those of the layers with the weights that `draw` gives.
    x = jnp.asarray(draw(CASE).x)
    for weights in draw(CASE).layers:
        x, _ = lstm(LSTMParams(*(jnp.asarray(array) for array in weights)), x)
    with np.load(prepared["settings"]["backend=auto"]["arrays"]) as saved:
        np.testing.assert_allclose(saved["output"], x, atol=1e-6)
        assert saved["dx"].shape == (CASE.batch, CASE.steps, CASE.features)
        assert saved["d_recurrent_kernel_1"].shape == (CASE.units, 4 * CASE.units)


def test_a_worker_that_dies_or_hangs_is_explained() -> None:
    with pytest.raises(layer.PeerError, match=r"its process has ended: exit status 2, .*nonsense"):
        start("nonsense", settings())
    with pytest.raises(layer.PeerError, match=r"no answer within 0\.01 s"):
        start("flax", settings(timeout=0.01))


def start(name: str, options: Namespace) -> None:
    worker = layer.Worker(name, sys.executable, options)
    try:
        worker.start()
    finally:
        worker.close()


def test_a_missing_library_is_an_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="torch"):
        layer_worker.PEERS["torch"](layer_worker.Options())


def test_disagreement_is_found_where_it_is() -> None:
    rng = np.random.default_rng(0)
    ours = {"output": rng.normal(size=(2, 3)), "dx": 100 * rng.normal(size=(2, 3))}
    assert layer.disagreement(ours, dict(ours)) == (0, "output")
    theirs = {**ours, "dx": ours["dx"] + 1}
    difference, name = layer.disagreement(ours, theirs)
    assert name == "dx"
    assert difference == pytest.approx(1 / np.abs(ours["dx"]).max())
    difference, name = layer.disagreement(ours, {**ours, "output": np.full((2, 3), np.nan)})
    assert (difference, name) == (np.inf, "output")
    with pytest.raises(layer.PeerError, match=r"dx has shape \(3, 2\) instead of \(2, 3\)"):
        layer.disagreement(ours, {**ours, "dx": ours["dx"].T})
    with pytest.raises(layer.PeerError, match="arrays"):
        layer.disagreement(ours, {"output": ours["output"]})


class Scripted:
    """A worker whose results are given; it breaks down when asked for its time."""

    def __init__(self, name: str, folder: Path, output: np.ndarray) -> None:
        self.name, self.idle = name, [0.0]
        self.path = folder / f"{name}.npz"
        np.savez(self.path, output=output)

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        if do == "prepare":
            estimates = dict.fromkeys(MODES, 0.01)
            answer = {"estimates": estimates, "arrays": str(self.path)}
            return {"settings": {"s": answer}, "failed": {"t": "ValueError: out of order"}}
        if self.name == "torch":
            raise layer.PeerError("its process has ended")
        return {"seconds": 0.01, "idle": 0.0, "kernel": 0.25}


def test_peers_that_fail_or_compute_something_else_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = np.linspace(-1, 1, 6)
    crew: Any = [
        Scripted("jaxlstm", tmp_path, output),
        Scripted("flax", tmp_path, output + 1e-3),
        Scripted("torch", tmp_path, output),
        Scripted("keras-jax", tmp_path, output + 1e-6),
    ]
    timings = layer.measure(CASE, crew, settings())
    assert {timing.name for timing in timings} == {"jaxlstm", "keras-jax"}
    assert all(timing.seconds == [0.01, 0.01] for timing in timings)
    printed = capsys.readouterr().out
    assert "flax (s) is left out: differs from jaxlstm by 1.0e-03 in output" in printed
    assert "keras-jax (t) is left out: ValueError: out of order" in printed
    assert "torch is left out: its process has ended" in printed


def made_up() -> list[Timing]:
    """Two cases; Flax takes 2 and 8 times as long as ours, PyTorch 4 times on the first alone."""
    other = CASE._replace(batch=9)
    ours, jitter = 0.004, [0.9, 1.0, 1.2]
    factors = [(CASE, "jaxlstm", 1), (CASE, "flax", 2), (CASE, "torch", 4)]
    factors += [(other, "jaxlstm", 1), (other, "flax", 8)]
    return [
        Timing(case, mode, name, "s", 3, [ours * factor * noise for noise in jitter], [0.25])
        for mode in MODES
        for case, name, factor in factors
    ]


def test_ratios_and_geometric_means() -> None:
    timings = made_up()
    fastest, ratio, low, high = versus(timings[:3], timings[0]) or pytest.fail("no peer")
    assert fastest.name == "flax"
    assert (ratio, low, high) == pytest.approx((2, 2, 2))
    assert versus(timings[:1], timings[0]) is None
    lines = {line.split("  ")[1]: line.split()[-4:] for line in summary(timings).splitlines()[1:-1]}
    assert lines["fastest peer"] == ["4.00", "(2)", "4.00", "(2)"]
    assert lines["flax"] == ["4.00", "(2)", "4.00", "(2)"]
    assert lines["torch"] == ["4.00", "(1)", "4.00", "(1)"]
    ours, flax, torch = (line.split() for line in table(timings[:3]).splitlines()[2:5])
    # median, quartiles, microseconds for each of 8 steps of 2 layers, the kernel's share, by ours
    assert ours == ["jaxlstm", "s", "4.000", "3.800", "-", "4.400", "250.00", "25%", "1.00"]
    assert flax[0] == "flax"
    assert flax[-1] == "2.00"
    assert torch[-1] == "4.00"


def test_files(tmp_path: Path) -> None:
    memories = [Memory(CASE, "jaxlstm", "s", 10**6, 3 * 10**6), Memory(CASE, "flax", "s", 1, 10**7)]
    assert "jaxlstm / flax (program): 0.30" in memory_table(memories)
    path = tmp_path / "new" / "layer.csv"
    write_csv(path, made_up(), memories, {"machine": "a, b"})
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert {row["machine"] for row in rows} == {"a, b"}
    assert rows[0]["median_ms"] == "4"
    assert rows[-1]["program_mb"] == "10"
    draw_figure(tmp_path / "layer.png", made_up(), "title")
    assert (tmp_path / "layer.png").stat().st_size > 10_000


def test_help_states_what_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        layer.main(["--help"])
    assert "What is measured" in capsys.readouterr().out


def words(table: str) -> list[str]:
    """A table's lines, with single spaces."""
    return [" ".join(line.split()) for line in table.splitlines()]


def answer(seconds: float, peak_mb: int | None = 300) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "refit": seconds / 10,
        "peak_mb": peak_mb,
        "versions": {"library": "1.0"},
        "device": "cpu",
    }


def test_grid_searches_take_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert grid.turns(["jaxlstm", "flax", "keras"], 2) == [
        *("jaxlstm", "flax", "keras"),
        *("jaxlstm", "keras", "flax"),
        "jaxlstm",
    ]
    assert grid.turns(["jaxlstm"], 2) == ["jaxlstm", "jaxlstm"]
    seconds = {"jaxlstm": iter([3.0, 5.0, 4.0]), "flax": iter([8.0, 10.0])}
    seconds["skorch-jobs"] = iter([4.0, 12.0])

    def once(name: str, epochs: int) -> dict[str, Any]:
        if name == "keras":
            raise grid.RunError("out of order")
        return answer(next(seconds[name]), None if name.endswith("-jobs") else 300)

    facts: dict[str, Any] = {"versions": {}, "device": {}, "failed": {}, "command": "c"}
    names = ["jaxlstm", "flax", "skorch-jobs", "keras"]
    rows = grid.compare(names, 1, 2, once, facts)
    assert "1 epochs, keras is left out: out of order" in capsys.readouterr().out
    assert facts["failed"] == {"keras": "out of order"}
    assert facts["versions"]["flax"] == {"library": "1.0"}
    assert words(grid.table(rows))[1:] == [
        "1 jaxlstm 4.0 3.0 5.0 4.0 300 1.00 (0.60 - 1.67)",
        "1 flax 9.0 8.0 10.0 300 2.25 (1.60 - 3.33)",
        "1 skorch-jobs 8.0 4.0 12.0 - 2.00 (0.80 - 4.00)",
    ]
    grid.write_json(tmp_path / "new" / "grid.json", rows, facts)
    written = json.loads((tmp_path / "new" / "grid.json").read_text())
    assert written["command"] == "c"
    assert [row["ratio_to"] for row in written["table"]] == [
        {"jaxlstm": ratio} for ratio in (1.0, 2.25, 2.0)
    ]


def test_a_grid_run_reports_what_it_cannot_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "python")
    arguments = ["--peers", missing, "--only", "keras", "--epochs", "1", "--out", str(tmp_path)]
    grid.main(arguments)
    assert "keras is left out: [Errno 2]" in capsys.readouterr().out
    written = json.loads((tmp_path / "grid.json").read_text())
    assert written["command"].startswith("python -m benchmarks.grid --peers python --only keras")
    assert written["table"] == []
    assert written["cores"] >= 1
    with pytest.raises(grid.RunError, match="invalid choice: 'nonsense'"):
        grid.measure(sys.executable, "nonsense", 200, 1)


def test_grid_searches_are_of_the_same_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"WIDTHS": (4,), "DROPOUTS": (0.1,), "OPTIMIZERS": ("rmsprop",), "CLASSES": 3}
    for name, value in small.items():
        monkeypatch.setattr(grid_peers, name, value)
    ours = grid_peers.run_jaxlstm(66, 1, curves=False)
    flax = grid_peers.run_flax(66, 1)
    assert ours["fits"] == flax["fits"] == 3
    assert 0 < flax["refit"] < flax["seconds"]


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (grid, "--rows 185", "--rows must be at least 186, got 185"),
        (grid, "--repeats 0", "--repeats must be at least 1, got 0"),
        (grid, "--epochs 1 0", "--epochs must be at least 1, got 0"),
        (scaling, "--lanes 1 3", "--lanes must be a power of two from 1 to 512, got 3"),
        (scaling, "--rounds 0", "--rounds must be at least 1, got 0"),
        (scaling, "--rows 8", "--rows must be at least 32, got 8"),
        (scaling, "--cores 9999", "--cores must be from 1 to"),
        (durability, "--rounds 0", "--rounds must be at least 1, got 0"),
    ],
)
def test_wrong_arguments(
    module: Any, arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        module.main(arguments.split())
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("lanes", [1, 2, 4, 32, 64, 512])
def test_scaling_grids_have_so_many_lanes(lanes: int) -> None:
    parameters, splits = scaling.grid_of(lanes)
    cells = {tuple(cell.items()) for cell in ParameterGrid(parameters)}
    assert len(cells) * splits == lanes


def test_a_scaling_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "--cpu --lanes 1 4 --cores 1 --rounds 2 --rows 32 --epochs 1 --machine M"
    scaling.main([*arguments.split(), "--out", str(tmp_path)])
    assert "round 2 of 2 is done" in capsys.readouterr().out
    with (tmp_path / "scaling.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["layout"], row["cores"], row["lanes"]) for row in rows] == [
        ("loop", "1", "1"),
        ("loop", "1", "4"),
    ]
    assert {row["machine"] for row in rows} == {"M"}
    assert float(rows[0]["compile_s"]) > 0  # "loop" compiles for its first lanes alone
    assert float(rows[1]["compile_s"]) == 0
    assert "jaxlstm=" in rows[0]["versions"]


class Counted:
    """A worker of the scaling benchmark whose seconds are given."""

    def __init__(self, setting: scaling.Setting, seconds: list[float]) -> None:
        self.setting, self.seconds = setting, iter(seconds)

    def ask(self, lanes: int) -> dict[str, Any]:
        return {"seconds": lanes * next(self.seconds), "compile": 0.5}


def test_scaling_tables_and_figure(tmp_path: Path) -> None:
    one = Counted(scaling.Setting(1, "loop"), [1.0, 1.0, 2.0, 1.5])
    two = Counted(scaling.Setting(2, "loop"), [1.0, 0.5, 1.0, 1.0])
    timings = scaling.measure([one, two], [1, 8], 2)
    # Of 1 core and 2 cores: 1 and 2 s by 1 and 1 s, then 8 and 12 s by 4 and 8 s.
    assert words(scaling_report.table(timings))[2:] == [
        "1 2 cores 1.000 1.000 - 1.000 1.0 1.0 1.50 (1.25 - 1.75)",
        "8 1 core 10.000 9.000 - 11.000 0.8 1.0",
        "8 2 cores 6.000 5.000 - 7.000 1.3 1.0 1.75 (1.62 - 1.88)",
    ]
    path = tmp_path / "new" / "scaling.csv"
    scaling_report.write_csv(path, timings, {"machine": "a, b"})
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["speed_up"] for row in rows] == ["1", "1.5", "1", "1.75"]
    assert {row["machine"] for row in rows} == {"a, b"}
    scaling_report.draw_figure(tmp_path / "scaling.png", timings, "title")
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


def test_a_scaling_worker_that_fails_is_explained() -> None:
    options = scaling.parse(["--cpu", "--rows", "32"])
    options.rows = "nonsense"
    with pytest.raises(scaling.WorkerError, match=r"vmap: its process has ended: .*'nonsense'"):
        scaling.Worker(scaling.Setting(0, "vmap"), options)


class Stored:
    """A search that draws or stores a little; its scores are its learning rates."""

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        cv: int,
        refit: bool,
        random_state: int,
        verbose: int = 0,
        checkpoint_dir: Any = None,
        checkpoint_every: float = 60,
    ) -> None:
        self.scores = list(param_grid["learning_rate"])
        self.verbose, self.folder, self.every = verbose, checkpoint_dir, checkpoint_every

    def fit(self, x: Any, y: Any) -> Stored:
        if self.verbose:
            assert sys.stdout.isatty()
            print("12345")
        if self.folder is not None:
            assert not list(Path(self.folder).iterdir())
            (Path(self.folder) / "lanes").mkdir()
            (Path(self.folder) / "lanes" / "0").write_bytes(b"123")
            if self.every == 7:
                self.scores[0] += 1e-12
            if self.every == 8:
                raise OSError("disk full")
        self.cv_results_ = {"mean_test_score": self.scores}
        return self


def test_durability_variants(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = durability.variants(Stored, None, None, None, [60, 7, 8], tmp_path)
    found = durability.measure(made, 3)
    printed = capsys.readouterr().out
    assert "checkpoint-7 is left out: its scores are not the plain search's" in printed
    assert "checkpoint-8 is left out: OSError: disk full" in printed
    assert {name: [run.written for run in runs] for name, runs in found.items()} == {
        "plain": [0, 0, 0],
        "progress": [7, 7, 7],  # a terminal's line ends with two characters
        "checkpoint-60": [3, 3, 3],
    }
    assert not list(tmp_path.iterdir())


def test_durability_of_a_search_without_checkpoints(capsys: pytest.CaptureFixture[str]) -> None:
    class Plain:
        def __init__(self, estimator: Any, param_grid: Any, **settings: Any) -> None:
            self.cv_results_ = {"mean_test_score": [0.5, np.nan]}

        def fit(self, x: Any, y: Any) -> None:
            pass

    found = durability.measure(durability.variants(Plain, None, None, None, [60], None), 1)
    assert list(found) == ["plain", "progress"]
    assert "this jaxlstm's GridSearch has no checkpoint_dir" in capsys.readouterr().out


def test_durability_tables(tmp_path: Path) -> None:
    none = np.zeros(1)
    found = {
        "plain": [durability.Run(seconds, none) for seconds in (10.0, 20.0, 40.0)],
        "checkpoint-60": [durability.Run(seconds, none, 5000) for seconds in (11.0, 21.0, 40.0)],
    }
    assert durability.overhead(found["checkpoint-60"], found["plain"]) == pytest.approx(
        (2.5, 5, 7.5)
    )
    assert words(durability.table(found))[1:] == [
        "plain 20.00 15.00 - 30.00 0.0",
        "checkpoint-60 21.00 16.00 - 30.50 +5.00 (+2.50 to +7.50) 5.0",
    ]
    durability.write_csv(tmp_path / "new" / "durability.csv", found, {"machine": "a, b"})
    with (tmp_path / "new" / "durability.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["overhead_percent"] for row in rows] == ["0", "5"]
    assert rows[1]["written_bytes"] == "5000"
    assert durability.epochs_for(75, 1.6) == 47
    assert durability.epochs_for(1, 3) == 1


def test_a_durability_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    durability.main(["--rounds", "1", "--rows", "12", "--epochs", "1", "--out", str(tmp_path)])
    assert "1 epochs a lane" in capsys.readouterr().out
    with (tmp_path / "durability.csv").open(newline="") as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    assert set(rows) >= {"plain", "progress"}
    assert int(rows["progress"]["written_bytes"]) > 0
