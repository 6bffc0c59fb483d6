"""The processes that `benchmarks.layer` measures: started, asked, ended."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# Which Python runs a peer: "ours" this one, "peers" the one of --peers.
PEERS = {
    "flax": "ours",
    "keras-jax": "peers",
    "keras-tf": "peers",
    "torch": "peers",
    "cudnn": "ours",
}


class PeerError(Exception):
    """An implementation can't be measured; says why."""


class Worker:
    """A process that serves one implementation."""

    def __init__(self, name: str, python: str, options: argparse.Namespace) -> None:
        self.name = name
        self._timeout = options.timeout
        self._buffer = b""
        peer, _, backend = name.partition("[")
        command = [python, "-m", "benchmarks.layer_worker", "--peer", peer]
        command += ["--backend", backend.rstrip("]") or options.backend[0]]
        command += ["--cores", str(options.cores)] + (["--tf32"] if options.tf32 else [])
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            # Several processes share one GPU: none may take all of its memory.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        }
        if options.keep_heap:
            environment.update(
                MALLOC_ARENA_MAX="1", MALLOC_MMAP_MAX_="0", MALLOC_TRIM_THRESHOLD_=str(1 << 40)
            )
        if options.cpu:
            environment.update(JAX_PLATFORMS="cpu", CUDA_VISIBLE_DEVICES="")
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, closed in close()
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self.versions: dict[str, str] = {}
        self.device = ""
        self.idle: list[float] = []  # processor seconds that it took between two turns

    def start(self) -> None:
        """Waits until the implementation is imported."""
        hello = self._answer()
        self.versions, self.device = hello["versions"], hello["device"]

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Sends a request and returns its answer; raises `PeerError`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise PeerError(f"its process has ended: {self._last_words()}") from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        deadline = time.monotonic() + self._timeout
        stdout = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            left = max(deadline - time.monotonic(), 0)
            if not select.select([stdout], [], [], left)[0]:
                self._process.kill()
                raise PeerError(f"no answer within {self._timeout:g} s (--timeout)")
            received = os.read(stdout, 1 << 16)
            if not received:
                self._process.wait()
                raise PeerError(f"its process has ended: {self._last_words()}")
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines() or ["no message"]
        return f"exit status {self._process.poll()}, {lines[-1][:300]}"

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(OSError):
            self._process.communicate(timeout=5)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._log.close()


def say(message: str) -> None:
    """Prints at once, so that a long run can be followed."""
    print(message, flush=True)


@contextlib.contextmanager
def workers(names: Sequence[str], options: argparse.Namespace) -> Iterator[list[Worker]]:
    """Starts implementations, ours first; those that can't start or use another device are left out.

    Raises:
      PeerError: the first can't start.
    """
    started: list[Worker] = []
    try:
        for name in names:
            python = options.peers if PEERS.get(name) == "peers" else sys.executable
            started.append(Worker(name, python, options))
        ready: list[Worker] = []
        for worker in started:
            try:
                worker.start()
            except PeerError as error:
                if not ready:
                    raise PeerError(f"{worker.name} can't run: {error}") from None
                say(f"{worker.name} is left out: {error}")
                continue
            if ready and worker.device != ready[0].device:
                say(f"{worker.name} is left out: runs on {worker.device}, not {ready[0].device}")
                continue
            ready.append(worker)
        yield ready
    finally:
        for worker in started:
            worker.close()
