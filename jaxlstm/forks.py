"""Forked processes, in which JAX hangs: they are told so instead."""

from __future__ import annotations

import os
import sys

_jax_had_run = False


def _note() -> None:
    """Runs in the child: its copy of JAX, if it had started, has lost its threads."""
    global _jax_had_run
    bridge = sys.modules.get("jax._src.xla_bridge")
    # Not by `backends_are_initialized`, whose lock another thread may have held.
    _jax_had_run |= bool(getattr(bridge, "_backends", None))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note)


def check() -> None:
    """Makes sure that JAX can run in this process.

    Raises:
      RuntimeError: it was forked from one in which JAX had run.
    """
    if _jax_had_run:
        raise RuntimeError(
            "this process was forked from one in which JAX had already run, and JAX hangs in such a"
            " copy: start processes with multiprocessing.get_context('spawn') or joblib's backend"
            " 'loky' instead."
        )
