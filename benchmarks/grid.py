"""Study 3's LSTM grid by scikit-learn GridSearchCV + Keras, and by jaxlstm, in one run.

    python -m benchmarks.grid --peers PEERS/bin/python     (or: make bench)

18 cells (n 50, 100, 150 x dropout 0.1, 0.2, 0.3 x adam, rmsprop) x 3 folds = 54 fits and the refit of
the winner, batch 32, on 6,000 images of 28x28 pixels and 62 classes. The images are random: time does
not depend on what they show. Each search runs in a fresh process without any compilation cache; the
clock starts after the imports, so compilation and tracing count. Ours runs before and after its peer
and the median is compared, because machines drift.

Ours is measured twice: as it comes, validating after each epoch for the learning curves, and with
``validation_freq=epochs``, validating once at the end, which is the work that GridSearchCV does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WIDTHS, DROPOUTS, OPTIMIZERS = (50, 100, 150), (0.1, 0.2, 0.3), ("adam", "rmsprop")
CLASSES = 62


def images(rows: int) -> tuple[Any, Any]:
    """Random images ``[N, 28, 28]`` in [0, 1] and labels, every class equally often."""
    import numpy as np

    x = np.random.default_rng(0).random((rows, 28, 28), np.float32)
    return x, np.arange(rows) % CLASSES


def run_jaxlstm(rows: int, epochs: int, curves: bool) -> dict[str, Any]:
    """Times our search."""
    from jaxlstm import GridSearch, LSTMClassifier
    from jaxlstm.grid import programs

    x, y = images(rows)
    grid = [
        {
            "units": [(n, n // 2)],
            "dense": [(n // 2,)],
            "dropout": list(DROPOUTS),
            "optimizer": list(OPTIMIZERS),
        }
        for n in WIDTHS
    ]
    freq = 1 if curves else epochs
    classifier = LSTMClassifier(epochs=epochs, batch_size=32)
    search = GridSearch(classifier, grid, cv=3, random_state=0, validation_freq=freq)
    start = time.perf_counter()
    search.fit(x, y)
    return {
        "seconds": time.perf_counter() - start,
        "refit": search.refit_time_,
        "compile": programs.compile_seconds(),
        "fits": len(search.results_),
    }


def run_keras(rows: int, epochs: int) -> dict[str, Any]:
    """Times scikit-learn's search around the Keras wrapper."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import warnings

    import keras
    from scikeras.wrappers import KerasClassifier
    from sklearn.model_selection import GridSearchCV

    warnings.filterwarnings("ignore")

    def build(n: int, dropout: float) -> Any:
        return keras.Sequential(
            [
                keras.layers.Input((28, 28)),
                keras.layers.LSTM(n, return_sequences=True),
                keras.layers.Dropout(dropout),
                keras.layers.LSTM(n // 2),
                keras.layers.Dense(n // 2, activation="relu"),
                keras.layers.Dense(CLASSES, activation="softmax"),
            ]
        )

    x, y = images(rows)
    # No random_state: it would turn on TensorFlow's slower, deterministic kernels.
    classifier = KerasClassifier(
        build,
        n=50,
        dropout=0.1,
        optimizer="adam",
        loss="sparse_categorical_crossentropy",
        epochs=epochs,
        batch_size=32,
        verbose=0,
    )
    grid = {"n": list(WIDTHS), "dropout": list(DROPOUTS), "optimizer": list(OPTIMIZERS)}
    search = GridSearchCV(classifier, grid, cv=3)
    start = time.perf_counter()
    search.fit(x, y)
    return {
        "seconds": time.perf_counter() - start,
        "refit": search.refit_time_,
        "fits": len(search.cv_results_["params"]) * 3,
    }


def measure(python: str, run: str, rows: int, epochs: int) -> dict[str, Any]:
    """Runs one search in a fresh process and returns what it printed."""
    command = [python, __file__, "--run", run, "--rows", str(rows), "--epochs", str(epochs)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{run} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Compares, prints a table and writes benchmarks/results/grid.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peers", help="Python of the peers' environment")
    parser.add_argument("--rows", type=int, default=6000, help="images")
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 5], help="epochs of a fit")
    parser.add_argument("--repeats", type=int, default=2, help="our runs on each side of a peer's")
    parser.add_argument("--run", choices=["jaxlstm", "jaxlstm-last", "keras"], help="one search")
    options = parser.parse_args()
    if options.run:
        (epochs,) = options.epochs
        if options.run == "keras":
            print(json.dumps(run_keras(options.rows, epochs)))
        else:
            print(json.dumps(run_jaxlstm(options.rows, epochs, options.run == "jaxlstm")))
        return
    if not options.peers:
        parser.error("--peers is needed: the Python of an environment with requirements.txt")

    table = []
    for epochs in options.epochs:
        ours: dict[str, list[float]] = {"jaxlstm": [], "jaxlstm-last": []}

        def run_ours(epochs: int = epochs, ours: dict[str, list[float]] = ours) -> None:
            for run, seconds in ours.items():
                seconds.append(measure(sys.executable, run, options.rows, epochs)["seconds"])
                print(f"{epochs} epochs, {run}: {seconds[-1]:.1f} s", flush=True)

        for _ in range(options.repeats // 2):
            run_ours()
        peer = measure(options.peers, "keras", options.rows, epochs)
        print(f"{epochs} epochs, GridSearchCV + Keras: {peer['seconds']:.1f} s", flush=True)
        for _ in range(options.repeats - options.repeats // 2):
            run_ours()
        for run, seconds in ours.items():
            median = statistics.median(seconds)
            table.append(
                {
                    "epochs": epochs,
                    "validation": "every epoch" if run == "jaxlstm" else "at the end",
                    "keras_seconds": peer["seconds"],
                    "jaxlstm_seconds": seconds,
                    "ratio": peer["seconds"] / median,
                }
            )

    print(f"\n{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    print("epochs  validation   GridSearchCV + Keras  jaxlstm             times faster")
    for row in table:
        spread = " ".join(f"{s:.1f}" for s in row["jaxlstm_seconds"])
        print(
            f"{row['epochs']:>6}  {row['validation']:<11}  {row['keras_seconds']:>18.1f} s"
            f"  {spread:>16} s  {row['ratio']:>12.1f}"
        )
    path = Path(__file__).with_name("results") / "grid.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"cores": os.cpu_count(), "table": table}, indent=2) + "\n")


if __name__ == "__main__":
    main()
