"""The layer benchmark: its processes, its check of results, its tables and files; no times."""

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

from benchmarks import layer, layer_worker
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
