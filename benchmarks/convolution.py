"""Times a CNN's training steps inside a loop: our convolution and pooling, and JAX's own.

    python -m benchmarks.convolution [--batch 64 128] [--rounds 5] [--out FOLDER]

A trial's steps are the body of a `lax.fori_loop`; XLA's CPU backend computes the gradients that JAX
derives for a convolution and for a max-pool far slower there than in a program of their own. The
network is the faces study's: 32, 64, 128 channels, 3x3, "same", pooled by 2, on 32x32 images. Variants
are interleaved; a figure is the median over the rounds of the milliseconds of one step.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from benchmarks import machine
from jaxlstm.nn import CNN, convolutions
from jaxlstm.nn.convolve import convolve, max_pool

STEPS = 3


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs it from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args(arguments)
    table = pd.DataFrame([row for batch in options.batch for row in measure(batch, options.rounds)])
    table["rounds"] = options.rounds
    table["command"] = machine.command("benchmarks.convolution", arguments)
    table["machine"] = f"{machine.cores()} cores, {machine.processor()}"
    table["jax"] = jax.__version__
    table["date"] = machine.today()
    print(table[["batch", "gradients", "where", "ms", "q25", "q75"]].to_string(index=False))
    options.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out / "convolution.csv", index=False)


def measure(batch: int, rounds: int) -> list[dict[str, Any]]:
    """A row a variant: median and quartiles of a step in milliseconds."""
    programs = {
        (name, place): program(batch, functions, place == "in a loop")
        for name, functions in (("jax", (None, nn.max_pool)), ("ours", (convolve, max_pool)))
        for place in ("alone", "in a loop")
    }
    seconds: dict[Any, list[float]] = {key: [] for key in programs}
    for _ in range(rounds):
        for key, call in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds[key].append((time.perf_counter() - start) / STEPS)
    rows = []
    for (name, place), spent in seconds.items():
        low, median, high = (1000 * value for value in machine.quartiles(spent))
        rows.append(
            {
                "batch": batch,
                "gradients": name,
                "where": place,
                "ms": median,
                "q25": low,
                "q75": high,
            }
        )
    return rows


def program(batch: int, functions: tuple[Any, Any], in_loop: bool) -> Any:
    """A compiled call of `STEPS` gradient steps, in one loop or one program a step."""
    convolution, pooling = functions
    module = CNN(7, channels=(32, 64, 128), padding="same", dense=(128,))
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(batch, 32, 32)), jnp.float32)
    y = jnp.asarray(rng.integers(0, 7, batch))

    def loss(params: Any) -> Any:
        logits = module.apply(params, x)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean()

    def step(_: Any, params: Any) -> Any:
        return jax.tree.map(lambda p, g: p - 0.01 * g, params, jax.grad(loss)(params))

    kept = convolutions.convolve, convolutions.max_pool
    convolutions.convolve = convolution
    convolutions.max_pool = (
        pooling if pooling is max_pool else lambda x, pool: pooling(x, pool, pool)
    )
    try:
        params = module.init(jax.random.key(0), x)
        if in_loop:
            compiled = (
                jax.jit(lambda p: jax.lax.fori_loop(0, STEPS, step, p)).lower(params).compile()
            )
            return lambda: compiled(params)
        one = jax.jit(lambda p: step(0, p)).lower(params).compile()
    finally:
        convolutions.convolve, convolutions.max_pool = kept

    def run() -> Any:
        now = params
        for _ in range(STEPS):
            now = one(now)
        return now

    return run


if __name__ == "__main__":
    main()
