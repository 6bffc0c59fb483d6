"""The searches that `benchmarks.grid` compares: study 3's LSTM grid, written for each library.

All train the same network with the same optimizer settings (Keras's) on batches of 32 in shuffled
order, on the same folds, take a fold's accuracy and train the best cell again on all rows. A library
is imported when its function is called, before the function's clock starts.
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Any

import numpy as np

WIDTHS, DROPOUTS, OPTIMIZERS = (50, 100, 150), (0.1, 0.2, 0.3), ("adam", "rmsprop")
CLASSES, BATCH, FOLDS = 62, 32, 3
SCORING_BATCH = 512  # rows scored at a time by the peers: faster than their default of 32


def images(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images ``[N, 28, 28]`` in [0, 1] and labels, every class equally often."""
    x = np.random.default_rng(0).random((rows, 28, 28), np.float32)
    return x, np.arange(rows) % CLASSES


def run_jaxlstm(rows: int, epochs: int, curves: bool) -> dict[str, Any]:
    """Times our search, validating after each epoch (``curves``) or only after the last."""
    import jax
    from sklearn.model_selection import StratifiedKFold

    from jaxlstm import GridSearch, LSTMClassifier
    from jaxlstm.grid import program_cache

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
    search = GridSearch(
        LSTMClassifier(epochs=epochs, batch_size=BATCH),
        grid,
        cv=StratifiedKFold(FOLDS),
        random_state=0,
        validation_freq=1 if curves else epochs,
    )
    start = time.perf_counter()
    search.fit(x, y)
    return {
        "seconds": time.perf_counter() - start,
        "refit": search.refit_time_,
        "compile": program_cache.compile_seconds(),
        "fits": len(search.results_),
        "device": jax.devices()[0].device_kind,
    }


def _timed(search: Any, x: np.ndarray, y: np.ndarray, device: str) -> dict[str, Any]:
    """Times a scikit-learn search."""
    start = time.perf_counter()
    search.fit(x, y)
    return {
        "seconds": time.perf_counter() - start,
        "refit": search.refit_time_,
        "fits": len(search.cv_results_["params"]) * search.n_splits_,
        "device": device,
    }


def _keras_network(n: int, dropout: float) -> Any:
    import keras

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


def run_keras(rows: int, epochs: int, jobs: int | None = None) -> dict[str, Any]:
    """Times scikit-learn's search around scikeras; ``jobs`` is GridSearchCV's ``n_jobs``."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import warnings

    import tensorflow
    from scikeras.wrappers import KerasClassifier
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    warnings.filterwarnings("ignore")
    x, y = images(rows)
    # No random_state: it would turn on TensorFlow's slower, deterministic kernels.
    classifier = KerasClassifier(
        _keras_network,
        n=50,
        dropout=0.1,
        optimizer="adam",
        loss="sparse_categorical_crossentropy",
        epochs=epochs,
        batch_size=BATCH,
        predict__batch_size=SCORING_BATCH,
        verbose=0,
    )
    grid = {"n": list(WIDTHS), "dropout": list(DROPOUTS), "optimizer": list(OPTIMIZERS)}
    search = GridSearchCV(
        classifier, grid, cv=StratifiedKFold(FOLDS), n_jobs=jobs, error_score="raise"
    )
    device = "gpu" if tensorflow.config.list_physical_devices("GPU") else "cpu"
    return _timed(search, x, y, device)


def run_skorch(rows: int, epochs: int, jobs: int | None = None) -> dict[str, Any]:
    """Times scikit-learn's search around skorch; ``jobs`` is GridSearchCV's ``n_jobs``.

    PyTorch keeps its own number of threads.
    """
    import torch
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from skorch import NeuralNetClassifier

    from benchmarks.grid_torch import Network

    x, y = images(rows)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    classifier = NeuralNetClassifier(
        Network,
        criterion=torch.nn.CrossEntropyLoss,
        max_epochs=epochs,
        lr=0.001,
        batch_size=BATCH,
        iterator_train__shuffle=True,
        iterator_valid__batch_size=SCORING_BATCH,
        train_split=None,
        device=device,
        verbose=0,
    )
    networks = {"module__n": list(WIDTHS), "module__dropout": list(DROPOUTS)}
    grid = [
        {**networks, "optimizer": [torch.optim.Adam], "optimizer__eps": [1e-7]},
        {
            **networks,
            "optimizer": [torch.optim.RMSprop],
            "optimizer__alpha": [0.9],
            "optimizer__eps": [1e-7],
        },
    ]
    search = GridSearchCV(
        classifier, grid, cv=StratifiedKFold(FOLDS), n_jobs=jobs, error_score="raise"
    )
    return _timed(search, x, y.astype(np.int64), device)


def run_flax(rows: int, epochs: int) -> dict[str, Any]:
    """Times a plain loop over cells and folds of jitted Flax fits.

    The loop is written as somebody would who knows JAX and has no library for it:

    - The data set goes to the device once; an epoch is one call, a `lax.scan` over the batches' row
      numbers, with the parameters and the optimizer's state donated. An incomplete last batch is left
      out, as in Flax's own examples, so that all batches have one shape: with 6,000 rows no fold has
      one, and the refit skips 16 rows.
    - Dropout rate and optimizer are Python values, as `nn.Dropout` and optax take them. So each of the
      18 (width, dropout, optimizer) is a training program, compiled once and used for all epochs and
      the 3 folds; the refit, whose number of batches is another one, compiles its program again.
    - Initial weights and the accuracy depend on the width alone and are 3 programs each. Drawing
      weights is jitted because `module.init` outside of jit takes longer than a fold's epoch.
    - Nothing is read back during a fit, so that the host runs ahead.
    """
    from collections.abc import Callable

    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import optax
    from sklearn.model_selection import StratifiedKFold

    class Network(nn.Module):
        n: int
        dropout: float = 0.0

        @nn.compact
        def __call__(self, x: Any, train: bool = False) -> Any:
            x = nn.RNN(nn.OptimizedLSTMCell(self.n))(x)
            x = nn.Dropout(self.dropout)(x, deterministic=not train)
            x = nn.RNN(nn.OptimizedLSTMCell(self.n // 2))(x)[:, -1]
            x = nn.relu(nn.Dense(self.n // 2)(x))
            return nn.Dense(CLASSES)(x)

    rules: dict[str, Callable[[], Any]] = {
        "adam": lambda: optax.adam(0.001, eps=1e-7),
        "rmsprop": lambda: optax.rmsprop(0.001, decay=0.9, eps=1e-7),
    }

    @partial(jax.jit, static_argnums=0)
    def init(n: int, key: Any) -> Any:
        return Network(n).init(key, jnp.zeros((1, 28, 28)))["params"]

    @partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
    def train_epoch(
        n: int, dropout: float, optimizer: str, state: Any, key: Any, x: Any, y: Any, batches: Any
    ) -> Any:
        network, rule = Network(n, dropout), rules[optimizer]()

        def step(state: Any, inputs: Any) -> Any:
            params, slots = state
            batch, key = inputs  # [B], key

            def loss(params: Any) -> Any:
                rngs = {"dropout": key}
                logits = network.apply({"params": params}, x[batch], train=True, rngs=rngs)
                return optax.softmax_cross_entropy_with_integer_labels(logits, y[batch]).mean()

            value, grads = jax.value_and_grad(loss)(params)
            updates, slots = rule.update(grads, slots, params)
            return (optax.apply_updates(params, updates), slots), value

        state, losses = jax.lax.scan(step, state, (batches, jax.random.split(key, len(batches))))
        return state, losses.mean()

    @partial(jax.jit, static_argnums=0)
    def accuracy(n: int, params: Any, x: Any, y: Any) -> Any:
        return jnp.mean(Network(n).apply({"params": params}, x).argmax(-1) == y)

    def fit(cell: tuple[int, float, str], x: Any, y: Any, rows: np.ndarray, seed: int) -> Any:
        n, dropout, optimizer = cell
        rng, key = np.random.default_rng(seed), jax.random.key(seed)
        key, subkey = jax.random.split(key)
        params = init(n, subkey)
        state = params, rules[optimizer]().init(params)
        for _ in range(epochs):
            full = len(rows) // BATCH * BATCH
            batches = rng.permutation(rows)[:full].reshape(-1, BATCH).astype(np.int32)
            key, subkey = jax.random.split(key)
            state, _ = train_epoch(n, dropout, optimizer, state, subkey, x, y, batches)
        return state[0]

    host_x, host_y = images(rows)
    start = time.perf_counter()
    x, y = jax.device_put((host_x, host_y.astype(np.int32)))
    scores: dict[tuple[int, float, str], list[Any]] = {}
    for n in WIDTHS:
        for dropout in DROPOUTS:
            for optimizer in OPTIMIZERS:
                for fold, (train, test) in enumerate(StratifiedKFold(FOLDS).split(host_x, host_y)):
                    cell = n, dropout, optimizer
                    params = fit(cell, x, y, train, fold)
                    score = accuracy(n, params, x[test], y[test])
                    scores.setdefault(cell, []).append(score)
    best = max(scores, key=lambda cell: float(np.mean(scores[cell])))
    refit = time.perf_counter()
    jax.block_until_ready(fit(best, x, y, np.arange(rows), FOLDS))
    end = time.perf_counter()
    return {
        "seconds": end - start,
        "refit": end - refit,
        "fits": sum(map(len, scores.values())),
        "device": jax.devices()[0].device_kind,
    }


# By name: which Python runs it ("ours" this one, "peers" the one of --peers), the packages whose
# versions matter, and the function.
RUNS: dict[str, tuple[str, tuple[str, ...], Any]] = {
    "jaxlstm": ("ours", ("jaxlstm", "jax", "flax"), partial(run_jaxlstm, curves=True)),
    "jaxlstm-last": ("ours", ("jaxlstm", "jax", "flax"), partial(run_jaxlstm, curves=False)),
    "flax": ("ours", ("jax", "flax", "optax"), run_flax),
    "skorch": ("peers", ("skorch", "torch", "scikit-learn"), run_skorch),
    "skorch-jobs": ("peers", ("skorch", "torch", "joblib"), partial(run_skorch, jobs=-1)),
    "keras": ("peers", ("scikeras", "keras", "tensorflow", "scikit-learn"), run_keras),
    "keras-jobs": ("peers", ("scikeras", "keras", "tensorflow"), partial(run_keras, jobs=-1)),
}
