"""A process that serves one implementation of `layer_peers` to `benchmarks.layer`.

One implementation a process, because Keras has one backend a process and TensorFlow, PyTorch and JAX
need not share an environment. It answers requests, one JSON object a line on stdin, with one JSON
object a line on stdout, and between them blocks on stdin, idle:

    {"do": "prepare", "case": {...}, "save": FOLDER}     builds, runs once, saves the results
    {"do": "time", "setting": S, "mode": M, "calls": N}  one call to warm up, then N timed calls
    {"do": "memory", "case": {...}}                      what one forward+backward call takes

An answer with "error" says what went wrong. The first line, unasked, tells versions and device.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.layer_case import MODES, Case
from benchmarks.layer_peers import PEERS, Options, Peer, Run


class _Peak:
    """The most memory this process has had resident since this was made, in bytes."""

    def __init__(self) -> None:
        # The peak becomes what is resident now. Where that fails, an earlier peak hides growth.
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        self._before = self._read()

    def _read(self) -> int:
        try:
            status = Path("/proc/self/status").read_text()
            return int(status.split("VmHWM:")[1].split()[0]) * 1024
        except (OSError, IndexError):
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return peak if sys.platform == "darwin" else peak * 1024

    def growth(self) -> int:
        return self._read() - self._before


def _explain(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"


class Server:
    """Answers requests about one implementation."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._runs: dict[str, dict[str, Run]] = {}
        self._processor_time = time.process_time()  # of all threads, at the end of the last turn

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answers one request; what fails raises."""
        requests: dict[str, Any] = {
            "prepare": self._prepare,
            "time": self._time,
            "memory": self._memory,
        }
        do = request.pop("do")
        if do not in requests:
            raise ValueError(f"do must be one of {', '.join(requests)}, got {do!r}")
        answer = requests[do](**request)
        self._processor_time = time.process_time()
        return answer

    def _prepare(self, case: dict[str, int], save: str) -> dict[str, Any]:
        """Builds every setting, runs it, saves its arrays and estimates its time."""
        self._runs.clear()
        shape = Case(**case)
        prepared: dict[str, Any] = {"settings": {}, "failed": {}}
        for number, (setting, build) in enumerate(self._peer.build(shape, False).items()):
            try:
                runs = build()
                arrays: dict[str, Any] = {}
                estimates = {}
                for mode, run in runs.items():
                    result = run.call()
                    for lane in {0, max(shape.lanes, 1) - 1}:
                        for name, array in run.read(result, lane).items():
                            arrays[f"{name} of lane {lane}" if shape.lanes else name] = array
                    del result
                    seconds = [self._seconds(run, 1) for _ in range(2)]
                    while sum(seconds) < 0.2 and len(seconds) < 20:
                        seconds.append(self._seconds(run, 1))
                    estimates[mode] = min(seconds)
                path = Path(save) / f"{number}.npz"
                np.savez(path, **arrays)
            except Exception as error:
                prepared["failed"][setting] = _explain(error)
                continue
            self._runs[setting] = runs
            prepared["settings"][setting] = {"estimates": estimates, "arrays": str(path)}
        return prepared

    @staticmethod
    def _seconds(run: Run, calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            run.call()
        return (time.perf_counter() - start) / calls

    def _time(self, setting: str, mode: str, calls: int) -> dict[str, Any]:
        idle = time.process_time() - self._processor_time
        run = self._runs[setting][mode]
        run.call()
        before = resource.getrusage(resource.RUSAGE_SELF)
        seconds = self._seconds(run, calls)
        after = resource.getrusage(resource.RUSAGE_SELF)
        system = after.ru_stime - before.ru_stime
        busy = system + after.ru_utime - before.ru_utime
        return {"seconds": seconds, "idle": idle, "kernel": system / busy if busy else 0.0}

    def _memory(self, case: dict[str, int]) -> dict[str, Any]:
        """Memory that the first forward+backward call takes; the libraries are warmed up before."""
        for build in self._peer.build(Case(2, 3, 2, 4, 1), True).values():
            build()[MODES[1]].call()
            break
        setting, build = next(iter(self._peer.build(Case(**case), True).items()))
        run = build()[MODES[1]]
        peak = _Peak()
        run.call()
        answer: dict[str, Any] = {"setting": setting, "resident": peak.growth()}
        if self._peer.device != "cpu" and self._peer.device_peak:
            answer["device"] = self._peer.device_peak()
        if run.compiled is not None:
            analysis = run.compiled.memory_analysis()
            answer["program"] = analysis.temp_size_in_bytes + analysis.output_size_in_bytes
        return answer


def main() -> None:
    """Serves one implementation until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peer", choices=list(PEERS), required=True)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--cores", type=int, default=0)
    parser.add_argument("--tf32", action="store_true")
    arguments = parser.parse_args()
    if arguments.cores:  # before the imports, which make the thread pools
        os.environ["OMP_NUM_THREADS"] = str(arguments.cores)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not be taken for a reply

    def reply(answer: dict[str, Any]) -> None:
        replies.write(json.dumps(answer) + "\n")
        replies.flush()

    try:
        peer = PEERS[arguments.peer](Options(arguments.backend, arguments.cores, arguments.tf32))
    except Exception as error:
        reply({"error": _explain(error)})
        return
    reply({"versions": peer.versions, "device": peer.device})
    server = Server(peer)
    for line in sys.stdin:
        try:
            answer = server.answer(json.loads(line))
        except Exception as error:
            answer = {"error": _explain(error)}
        reply(answer)


if __name__ == "__main__":
    main()
