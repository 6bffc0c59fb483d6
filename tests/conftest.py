"""Settings of all tests, made before JAX or Keras is imported, and fixtures shared by folders."""

from __future__ import annotations

import gc
import importlib.metadata
import os
from collections.abc import Iterator
from pathlib import Path

CACHE = Path(__file__).parents[1] / ".cache"

# As environment variables they reach the programs that tests start, too.
os.environ.update(
    KERAS_BACKEND="jax",
    KERAS_HOME=str(CACHE / "keras"),  # not the user's keras.json
    TF_CPP_MIN_LOG_LEVEL="3",
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES="-1",
)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE / "jax"))
# A third of the time to compile. `make test-all` compiles as users do.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if importlib.metadata.version("jaxlib").startswith("0.9."):  # others stop at an unknown flag
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

# No clocks; the same examples every time, so that their programs are found in the cache.
hypothesis.settings.register_profile(
    "jaxlstm", deadline=None, derandomize=True, database=None, max_examples=20
)
hypothesis.settings.load_profile("jaxlstm")


def pytest_configure(config: pytest.Config) -> None:
    for ignored in (
        # A run that was killed or runs beside this one may leave half an entry; JAX then compiles.
        "ignore:Error (reading|writing) persistent compilation cache:UserWarning",
        # Keras 3.15's own variables under NumPy 2.
        r"ignore:__array__ implementation doesn't accept a copy:DeprecationWarning:keras\..*",
    ):
        config.addinivalue_line("filterwarnings", ignored)


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Lets all programs go after a file that leaves memory's map half full, see `MOST_MAPPED`."""
    if nextitem is None or nextitem.path != item.path:
        from jaxlstm.grid import program_cache

        if program_cache._mapped() > 0.4:
            program_cache.clear()
            jax.clear_caches()
            gc.collect()


@pytest.fixture(scope="module")
def optimised() -> Iterator[None]:
    """Programs compiled as users have them: without optimisations other shapes give other bits."""
    from jaxlstm.grid import program_cache

    before = os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1"
    jax.config.update("jax_disable_most_optimizations", False)
    program_cache.clear()
    yield
    jax.config.update("jax_disable_most_optimizations", before)
    program_cache.clear()


@pytest.fixture
def x64() -> Iterator[None]:
    """Float64 for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def strict_ranks() -> Iterator[None]:
    """No silent broadcasting of one rank to another."""
    with jax.numpy_rank_promotion("raise"):
        yield
