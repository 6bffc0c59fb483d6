"""A search's folder, against plain Python kept beside it, through kills, full disks and damage."""

from __future__ import annotations

import errno
import gc
import itertools
import json
import logging
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from orbax.checkpoint import v1 as ocp

from jaxlstm.grid import saves
from jaxlstm.grid.journal import Journal, unsealed
from jaxlstm.grid.store import Store

OURS = {"data": "a" * 64, "search": "b" * 64, "code": "jaxlstm 1"}
ROOT = Path(__file__).parents[2]


def exactly(value: Any) -> Any:
    """The value with its types, floats by their bits (any nan counts as nan)."""
    if isinstance(value, float):
        return "nan" if value != value else struct.pack("<d", value)
    if isinstance(value, dict):
        return {name: exactly(item) for name, item in value.items()}
    if isinstance(value, list):
        return [exactly(item) for item in value]
    return type(value).__name__, value


def bits(tree: Any) -> Any:
    def leaf_bits(leaf: Any) -> Any:
        if jnp.issubdtype(getattr(leaf, "dtype", np.dtype("O")), jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        return array.dtype, array.shape, array.tobytes()

    leaves, treedef = jax.tree.flatten(tree)
    return [leaf_bits(leaf) for leaf in leaves], treedef


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([float("nan"), float("inf"), -float("inf"), -0.0, 5e-324, 0.1 + 0.2, 1.0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.dictionaries(st.text(), PLAIN, max_size=4)


class Moments(NamedTuple):
    mu: Any
    nu: Any


def random_tree(seed: int) -> Any:
    """A tree with every type that a trial's state may have, values of all bits."""
    rng = np.random.default_rng(seed)

    def anything(dtype: Any, *shape: int) -> np.ndarray:
        words = np.dtype(dtype).itemsize * int(np.prod(shape))
        return np.frombuffer(rng.bytes(words), dtype).reshape(shape)

    return {
        "params": Moments(
            jnp.asarray(rng.normal(size=(3, 5)), jnp.float32), [anything("f4", 2, 3)]
        ),
        "wide": anything("f8", 4),
        "half": jnp.asarray(rng.normal(size=7), jnp.bfloat16),
        "small": anything(ml_dtypes.bfloat16, 3),
        "count": (jnp.asarray(seed, jnp.int32), anything("u4", 2), np.int64(2**60 + seed)),
        "flags": {"stopped": jnp.asarray(rng.normal(size=3) > 0), "first": np.bool_(seed % 2)},
        "key": jax.random.key(seed),
        "keys": jax.random.split(jax.random.key(seed, impl="rbg"), 3),
        "zeros": np.full(3, -0.0, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "no keys": jax.random.split(jax.random.key(seed), 3)[:0],
        "numbers": (seed, seed / 7, seed % 3 == 0),
        "none": None,
    }


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)  # kills do not need it; power cuts do


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store", OURS, every=0) as opened:
        yield opened


@given(records=st.dictionaries(st.text(), RECORDS, max_size=4))
def test_records_come_back_exactly(records: dict[str, dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with Store(folder, OURS) as store:
            store.note("layout", "loop")
            for trial, record in records.items():
                store.add(trial, record)
            here = store.finished()
        with Store(folder, OURS) as store:
            there = store.finished()
    expected = {trial: exactly(record) for trial, record in records.items()}
    assert {trial: exactly(record) for trial, record in here.items()} == expected
    assert {trial: exactly(record) for trial, record in there.items()} == expected


def test_numpy_becomes_python(tmp_path: Path) -> None:
    record = {
        "loss": np.float32(0.1),
        "epochs": np.int32(3),
        "good": np.bool_(True),
        "curve": np.array([1.5, np.nan, -0.0]),
        "shape": (2, np.int64(3)),
    }
    expected = {
        "loss": struct.unpack("f", struct.pack("f", 0.1))[0],
        "epochs": 3,
        "good": True,
        "curve": [1.5, float("nan"), -0.0],
        "shape": [2, 3],
    }
    with Store(tmp_path / "s", OURS) as store:
        store.add("4", record)
        store.note("layout", "loop")
    with Store(tmp_path / "s", OURS) as store:
        assert exactly(store.finished()["4"]) == exactly(expected)
        with pytest.raises(TypeError, match=r"record of trial 5, 'model': cannot keep .*object"):
            store.add("5", {"model": object()})
        with pytest.raises(TypeError, match="cannot keep"):
            store.add("5", {"by epoch": {1: 0.5}})
        assert list(store.finished()) == ["4"]


def test_the_first_record_of_a_trial_stays(tmp_path: Path) -> None:
    with Store(tmp_path / "s", OURS) as store:
        store.note("layout", "loop")
        store.add("1", {"score": 0.25})
        store.add("1", {"score": 0.75})
        assert store.finished() == {"1": {"score": 0.25}}
    journal = tmp_path / "s" / "finished.jsonl"
    journal.write_bytes(journal.read_bytes() * 2)
    with Store(tmp_path / "s", OURS) as store:
        assert store.finished() == {"1": {"score": 0.25}}


def test_a_journal_torn_anywhere_keeps_its_whole_lines(tmp_path: Path) -> None:
    records = [{"score": 0.1 * n, "name": "é\n" * n} for n in range(4)]
    with Store(tmp_path / "s", OURS) as store:
        store.note("layout", "loop")
        for trial, record in enumerate(records):
            store.add(str(trial), record)
    journal = tmp_path / "s" / "finished.jsonl"
    content = journal.read_bytes()
    lines = content.splitlines(keepends=True)
    assert len(lines) == 4
    for length in range(len(content) + 1):
        journal.write_bytes(content[:length])
        whole = sum(1 for end in itertools.accumulate(map(len, lines)) if end <= length)
        kept = {str(trial): record for trial, record in enumerate(records[:whole])}
        with Store(tmp_path / "s", OURS) as store:
            assert store.finished() == kept
            assert journal.read_bytes() == b"".join(lines[:whole])
            store.add("9", {"after": length})
        with Store(tmp_path / "s", OURS) as store:
            assert store.finished() == {**kept, "9": {"after": length}}


@pytest.mark.parametrize("broken", [b"{", b"\0\0\0", b"[1]", b'{"trial":"x","record":{}}', b"\xff"])
def test_a_broken_line_is_left_out_aloud(tmp_path: Path, broken: bytes) -> None:
    with Store(tmp_path / "s", OURS) as store:
        store.note("layout", "loop")
        for trial in range(3):
            store.add(str(trial), {"score": trial / 7})
    journal = tmp_path / "s" / "finished.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    for left, place in (([0, 2], 2), ([0, 1], 3)):
        kept = [lines[number] for number in left]
        journal.write_bytes(b"".join([*kept[: place - 1], broken + b"\n", *kept[place - 1 :]]))
        with (
            pytest.warns(RuntimeWarning, match=rf"line {place} of its finished.jsonl is damaged"),
            Store(tmp_path / "s", OURS) as store,
        ):
            assert list(store.finished()) == [str(number) for number in left]
        assert journal.read_bytes() == b"".join(kept)
        Store(tmp_path / "s", OURS).close()  # which says it once


def test_no_bit_of_a_journal_is_believed_but_the_right_ones(tmp_path: Path) -> None:
    """Whatever a bit is flipped to, a record is the one that was written, or there is none."""
    records = {str(trial): {"curves": {"train_loss": [trial / 7, 1e-3]}} for trial in range(2)}
    seals = "one", "other"
    path = tmp_path / "finished.jsonl"
    journal = Journal(path, seals[0])
    for trial, record in records.items():
        journal.append(trial, record)
    journal.close()
    content, lost = path.read_bytes(), 0
    bits = random.Random(0)
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << bits.randrange(8)
        path.write_bytes(flipped)
        found = Journal(path, seals[0])
        found.close()
        assert found.records.items() <= records.items()
        lost += len(records) - len(found.records)
    assert lost > 0.8 * len(content)  # a last digit may be another and the number the same
    path.write_bytes(content)
    other = Journal(path, seals[1])
    other.close()
    assert (other.records, other.rejected) == ({}, [1, 2])


def test_damaged_notes_are_left_out_aloud(tmp_path: Path) -> None:
    with Store(tmp_path / "s", OURS) as store:
        store.note("layout", "vmap")
        store.add("1", {})
    path = tmp_path / "s" / "notes.json"
    content = path.read_bytes()
    other = (tmp_path / "s" / "search.json").read_bytes()  # whole, but another file's
    changed = content.replace(b"vmap", b"loop")
    for damaged in (b"", b"[]", b"{}", b"\xff", changed, content[:-9], other):
        path.write_bytes(damaged)
        with (
            pytest.warns(RuntimeWarning, match="its notes.json is damaged and left out"),
            Store(tmp_path / "s", OURS) as store,
        ):
            assert store.notes == {}
    path.unlink()
    with pytest.warns(RuntimeWarning, match="its notes.json is missing"):
        Store(tmp_path / "s", OURS).close()


# -- whose folder


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data": "c" * 64}, "holds another search: the data differ. Choose another folder"),
        ({"search": "c" * 64}, "holds another search: the search differs. Choose"),
        (
            {"code": "jaxlstm 2"},
            r"the code differs \(code: jaxlstm 1 there, jaxlstm 2 here\). Choose",
        ),
        ({"data": "", "search": ""}, "the data and the search differ. .*, or delete that one."),
        ({"seed": "3"}, "the seed differs. Choose"),
    ],
)
def test_another_search_is_refused(tmp_path: Path, changes: Any, sentence: str) -> None:
    with Store(tmp_path / "s", OURS) as store:
        store.note("layout", "loop")
        store.add("1", {"score": 1.0})
    before = (tmp_path / "s" / "search.json").read_bytes()
    with pytest.raises(ValueError, match=rf"checkpoint_dir '.*/s' .*{sentence}"):
        Store(tmp_path / "s", {**OURS, **changes})
    assert (tmp_path / "s" / "search.json").read_bytes() == before
    with Store(str(tmp_path / "s"), dict(reversed(OURS.items()))) as store:
        assert list(store.finished()) == ["1"]


def test_a_folder_with_other_things_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("chapter 1")
    with pytest.raises(ValueError, match=r"other files in it, such as 'thesis.tex'. Choose"):
        Store(tmp_path, OURS)
    assert os.listdir(tmp_path) == ["thesis.tex"]
    with pytest.raises(ValueError, match=r"thesis.tex' is a file"):
        Store(tmp_path / "thesis.tex", OURS)
    with pytest.raises(OSError, match=r"^checkpoint_dir .* cannot be written: .*thesis.tex"):
        Store(tmp_path / "thesis.tex" / "s", OURS)
    assert (tmp_path / "thesis.tex").read_text() == "chapter 1"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"fingerprint": 3}', b"\xff\xfe"])
def test_a_damaged_search_json_is_an_error(tmp_path: Path, content: bytes) -> None:
    Store(tmp_path / "s", OURS).close()
    (tmp_path / "s" / "search.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"search.json is damaged.*Choose another folder"):
        Store(tmp_path / "s", OURS)
    (tmp_path / "s" / "search.json").unlink()
    with pytest.raises(ValueError, match=r"search.json is missing.*Choose another folder"):
        Store(tmp_path / "s", OURS)


@pytest.mark.parametrize("name", ["lock", "finished.jsonl", "notes.json.new", "states", "states/a"])
def test_a_link_in_the_folder_is_not_followed(tmp_path: Path, name: str) -> None:
    """It may lead to any file or folder, which would be emptied or cleaned."""
    with Store(tmp_path / "s", OURS) as store:
        store.add("1", {})
    (tmp_path / "own" / "work" / "draft").mkdir(parents=True)
    (tmp_path / "letter").write_text("Dear all")
    link = tmp_path / "s" / name
    link.unlink(missing_ok=True)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path / ("own" if "states" in name else "letter"))
    with pytest.raises(ValueError, match=f"'{name}' in it is a link, .* Remove it"):
        Store(tmp_path / "s", OURS)
    assert (tmp_path / "letter").read_text() == "Dear all"
    assert (tmp_path / "own" / "work" / "draft").is_dir()


def test_a_folder_of_another_form_is_refused(tmp_path: Path) -> None:
    Store(tmp_path / "s", OURS).close()
    (tmp_path / "s" / "search.json").write_text(json.dumps({"fingerprint": OURS}, indent=1))
    with pytest.raises(ValueError, match=r"written by an earlier version of jaxlstm.*Choose"):
        Store(tmp_path / "s", OURS)


def test_a_kill_before_search_json_was_written_leaves_a_usable_folder(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(b"")
    (tmp_path / "search.json.new").write_bytes(b'{"finger')
    with Store(tmp_path, OURS) as store:
        store.add("1", {})
    assert unsealed("search", (tmp_path / "search.json").read_bytes()) == {"fingerprint": OURS}


def test_a_live_store_keeps_others_out(store: Store) -> None:
    with pytest.raises(
        ValueError, match=rf"another search that is running \(process {os.getpid()}\)"
    ):
        Store(store.folder, OURS)
    store.close()
    Store(store.folder, OURS).close()
    store.add("1", {})  # late workers of a closed search change nothing
    store.save("a", {"x": np.ones(2)})
    store.close()
    with Store(store.folder, OURS) as again:
        assert again.finished() == {}
        assert again.load("a", {"x": np.ones(2)}) is None


@pytest.mark.parametrize("every", [-1, float("nan"), "60"])
def test_every_must_be_seconds(tmp_path: Path, every: float) -> None:
    with pytest.raises(ValueError, match="checkpoint_every must be seconds, 0 or more, got"):
        Store(tmp_path / "s", OURS, every=every)
    assert not (tmp_path / "s").exists()


def test_the_folder_must_be_a_path() -> None:
    with pytest.raises(
        TypeError, match="checkpoint_dir must be the path of a folder or None, got 3"
    ):
        Store(3, OURS)  # type: ignore[arg-type]


# -- states


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31 - 1), key=st.text(min_size=1, max_size=300), meta=RECORDS)
def test_states_come_back_bit_for_bit(seed: int, key: str, meta: dict[str, Any]) -> None:
    tree = random_tree(seed)
    like = random_tree(seed + 1)
    with tempfile.TemporaryDirectory() as folder:
        with Store(folder, OURS) as store:
            store.save(key, tree, meta)
            assert store.broken is None
        with Store(folder, OURS) as store:
            loaded = store.load(key, like)
            assert store.load(key + "'", like) is None
    assert loaded is not None
    assert bits(loaded[0]) == bits(tree)
    assert [type(leaf) for leaf in jax.tree.leaves(loaded[0])] == [
        type(leaf) for leaf in jax.tree.leaves(tree)
    ]
    drawn = jax.random.normal(loaded[0]["keys"][1], (3,))
    assert bits(drawn) == bits(jax.random.normal(tree["keys"][1], (3,)))
    assert exactly(loaded[1]) == exactly(meta)


def test_abstract_leaves_give_numpy_arrays_and_keys(store: Store) -> None:
    tree = {"w": jnp.arange(6.0).reshape(2, 3), "key": jax.random.key(5, impl="rbg")}
    store.save("a", tree)
    loaded = store.load("a", jax.eval_shape(lambda: tree))
    assert loaded is not None
    assert bits(loaded[0]) == bits(tree)
    assert type(loaded[0]["w"]) is np.ndarray


W = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    "like",
    [
        {"w": W},
        {"w": W, "b": np.ones(3, np.float32), "c": W},
        {"w": W, "b": np.ones(4, np.float32)},
        {"w": W, "b": np.ones(3, np.float64)},
        {"w": W, "c": np.ones(3, np.float32)},
        [W, np.ones(3, np.float32)],
        {"w": W, "b": jax.random.key(0)},
    ],
)
def test_another_structure_is_an_error(store: Store, like: Any) -> None:
    store.save("chunk", {"w": W, "b": np.arange(3, dtype=np.float32)})
    with pytest.raises(ValueError, match=r"holds another state of 'chunk': .*wanted"):
        store.load("chunk", like)


def test_what_cannot_be_saved_is_an_error(store: Store) -> None:
    with pytest.raises(TypeError, match=r"cannot save \['name'\] of type str"):
        store.save("a", {"name": "adam"})
    with pytest.raises(TypeError, match="meta, 'f': cannot keep"):
        store.save("a", {"w": W}, {"f": len})
    assert store.broken is None


def test_a_newer_state_replaces_the_older(store: Store) -> None:
    for epoch in range(4):
        store.save("a", {"w": W * epoch}, {"epoch": epoch})
    store.save("b", {"w": W * 9})
    assert len(os.listdir(store.folder / "states" / "a")) == 1
    loaded = store.load("a", {"w": W})
    assert loaded is not None
    assert bits(loaded[0]) == bits({"w": W * 3})
    assert loaded[1] == {"epoch": 3}
    store.drop("a")
    store.drop("never saved")
    assert store.load("a", {"w": W}) is None
    assert os.listdir(store.folder / "states") == ["b"]


# Orbax forgets coroutines when it meets a damaged save.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("sealed", [True, False])
def test_damaged_saves_are_never_returned(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    sealed: bool,
) -> None:
    """Also where a kill came between a save and the digest of its files."""
    older, newer = {"w": np.arange(999.0), "b": W}, {"w": np.arange(999.0) ** 2, "b": -W}
    store.save("a", older, {"epoch": 1})
    with monkeypatch.context() as patch:
        patch.setattr(saves, "_remove", lambda path: None)  # killed before it could
        store.save("a", newer, {"epoch": 2})
    newest = store.folder / "states" / "a" / "1"
    if not sealed:
        (newest / "files.sha256").unlink()
    kept = store.folder.parent / "kept"
    shutil.copytree(newest, kept)
    fallen = 0
    for file in sorted(path for path in kept.rglob("*") if path.is_file()):
        content = file.read_bytes()
        flipped = bytearray(content)
        if content:
            flipped[len(content) // 2] ^= 0x10
        for damaged in (None, content[: len(content) // 2], bytes(flipped), b"\0" * len(content)):
            there = newest / file.relative_to(kept)
            there.unlink() if damaged is None else there.write_bytes(damaged)
            caplog.clear()
            loaded = store.load("a", older)
            there.write_bytes(content)
            assert loaded is not None
            assert bits(loaded[0]) == bits(newer if loaded[1] == {"epoch": 2} else older)
            if loaded[1] == {"epoch": 1}:
                fallen += 1
                assert "the saved state a/1 is damaged and is left out" in caplog.text
    assert fallen >= 4
    if sealed:  # damage that the digest of the files tells, Orbax's threads do not print of
        assert "Traceback" not in capfd.readouterr().err
    shutil.rmtree(store.folder / "states" / "a" / "0" / "state")
    shutil.rmtree(newest / "state")
    assert store.load("a", older) is None
    store.save("a", older)  # and it goes on
    assert os.listdir(store.folder / "states" / "a") == ["2"]
    gc.collect()


def test_what_a_kill_leaves_is_removed(tmp_path: Path) -> None:
    with Store(tmp_path / "s", OURS) as store:
        store.save("a", {"w": W})
        folder = store.folder / "states" / "a"
        shutil.copytree(folder / "0", folder / "1.orbax-checkpoint-tmp")
        shutil.copytree(folder / "0", folder / "7.gone")
        loaded = store.load("a", {"w": W})
        assert loaded is not None
    with Store(tmp_path / "s", OURS) as store:
        assert os.listdir(folder) == ["0"]


def test_saves_are_due_every_so_many_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    with Store(tmp_path / "s", OURS, every=60) as store, monkeypatch.context() as patch:
        patch.setattr("jaxlstm.grid.store.time.monotonic", lambda: now)
        store.begin("a")
        now += 59
        assert not store.is_due("a")
        assert not store.is_due("b")  # begins here
        now += 1
        assert store.is_due("a")
        store.save("a", {"w": W})
        assert not store.is_due("a")
        now += 59
        assert not store.is_due("a")
        assert store.is_due("b")


def test_orbax_is_quiet(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for number in range(2):
            store.save("a", {"w": W * number})
        store.load("a", {"w": W})
    assert [record for record in caplog.records if record.name == "absl"] == []


def test_threads_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[BaseException] = []
    save, inside, most = ocp.save, [0], [0]

    def counted(*args: Any) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        save(*args)
        inside[0] -= 1

    monkeypatch.setattr(ocp, "save", counted)

    def work(store: Store, worker: int) -> None:
        try:
            for step in range(4):
                store.save(f"chunk {worker}", {"w": W * worker, "n": step}, {"step": step})
                for trial in range(50):
                    number = 1000 * worker + 50 * step + trial
                    store.add(str(number), {"score": worker + trial / 7})
                loaded = store.load(f"chunk {worker}", {"w": W, "n": 0})
                assert loaded is not None
                assert loaded[1] == {"step": step}
        except BaseException as error:
            errors.append(error)

    with Store(tmp_path / "s", OURS) as store:
        store.note("layout", "loop")
        threads = [threading.Thread(target=work, args=(store, n)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert store.broken is None
        assert most == [1]  # Orbax has not said that it may be more
    with Store(tmp_path / "s", OURS) as store:
        assert store.finished() == {
            str(1000 * worker + n): {"score": worker + n % 50 / 7}
            for worker in range(6)
            for n in range(200)
        }
        for worker in range(6):
            loaded = store.load(f"chunk {worker}", {"w": W, "n": 0})
            assert loaded is not None
            assert bits(loaded[0]) == bits({"w": W * worker, "n": 3})


# -- kills and full disks

CHILD = """
import os, resource, signal, sys, time
import numpy as np
import jax
from orbax.checkpoint import v1
from jaxlstm.grid.store import Store

def tree(n):
    return {"w": np.random.default_rng(n).normal(size=2000), "n": np.asarray(n)}

def work(folder, acks):
    log = os.open(acks, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with Store(folder, {"data": "x"}) as store:
        store.note("layout", "loop")
        first = len(store.finished())
        print("ready", os.getpid(), flush=True)
        for n in range(first, 10**9):
            store.add(str(n), {"score": n / 7, "text": "x" * (n % 300)})
            os.write(log, b"add %d\\n" % n)
            if n % 8 == 0:
                store.save("a", tree(n), {"n": n})
                os.write(log, b"save %d\\n" % n)

def full(folder):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
    store = Store(folder, {"data": "x"})
    store.note("layout", "loop")
    store.save("a", tree(1), {"n": 1})
    for n in range(400):
        store.add(str(n), {"score": n / 7})
    print(len(store.finished()), store.is_due("a"), store.broken, flush=True)
    store.close()

for line in sys.stdin:
    what, *arguments = line.split()
    pid = os.fork()
    if pid == 0:
        {"work": work, "full": full}[what](*arguments)
        os._exit(0)
    os.waitpid(pid, 0)
    print("over", flush=True)
"""


@pytest.fixture(scope="module")
def child() -> Iterator[subprocess.Popen[str]]:
    """A program that has imported everything and forks, since imports take longer than the tests."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    with process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def child_tree(n: int) -> Any:
    return {"w": np.random.default_rng(n).normal(size=2000), "n": np.asarray(n)}


def test_killed_at_any_moment(child: subprocess.Popen[str], tmp_path: Path) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    folder, acks = tmp_path / "s", tmp_path / "acks"
    moments = random.Random(3)
    torn, saved = 0, None
    for _ in range(12):
        child.stdin.write(f"work {folder} {acks}\n")
        child.stdin.flush()
        ready, pid = child.stdout.readline().split()
        assert ready == "ready"
        time.sleep(moments.uniform(0, 0.35))
        os.kill(int(pid), signal.SIGKILL)
        assert child.stdout.readline() == "over\n"

        said = [line.split() for line in acks.read_text().splitlines() if " " in line]
        adds = [int(n) for what, n in said if what == "add"]
        last = max((int(n) for what, n in said if what == "save"), default=None)
        torn += any((folder / "states").glob("*/*[!0-9]*"))
        with Store(folder, {"data": "x"}) as store:
            finished = {int(trial): record for trial, record in store.finished().items()}
            assert set(adds) <= set(finished)
            assert len(finished) - len(set(adds)) <= 12  # at most one a kill unacknowledged
            assert set(finished) == set(range(len(finished)))
            assert all(
                record == {"score": n / 7, "text": "x" * (n % 300)}
                for n, record in finished.items()
            )
            loaded = store.load("a", child_tree(0))
            if last is not None:
                assert loaded is not None
                saved = int(loaded[1]["n"])
                assert saved >= last
                assert bits(loaded[0]) == bits(child_tree(saved))
            assert not list((folder / "states").glob("*/*[!0-9]*"))
    assert saved is not None
    assert len(finished) > 12
    print(f"{torn} of 12 kills left half a save; {len(finished)} trials")


def test_a_full_disk_stops_the_saving_only(child: subprocess.Popen[str], tmp_path: Path) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(f"full {tmp_path / 's'}\n")
    child.stdin.flush()
    count, due, broken = child.stdout.readline().split(" ", 2)
    assert child.stdout.readline() == "over\n"
    assert (count, due) == ("400", "False")
    assert "saving networks in training failed (File too large)" in broken
    assert "saving finished trials failed ([Errno 27] File too large)" in broken
    with Store(tmp_path / "s", {"data": "x"}) as store:
        finished = {int(trial): record for trial, record in store.finished().items()}
        assert 0 < len(finished) < 400
        assert finished == {n: {"score": n / 7} for n in range(len(finished))}
        assert store.load("a", child_tree(1)) is None
        assert not list((store.folder / "states").glob("*/*"))


def test_half_a_line_written_when_the_disk_is_full(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = os.write
    room = 0

    def full(file: int, content: bytes) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(file, content[:room])
        room -= written
        return written

    store.note("layout", "loop")
    room = 250
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        for trial in range(10):
            store.add(str(trial), {"score": trial / 7})
    assert len(store.finished()) == 10
    assert store.broken is not None
    assert re.search(r"finished trials failed \(.*No space left on device\)", store.broken)
    assert [record.name for record in caplog.records] == ["jaxlstm"]
    store.close()
    with Store(store.folder, OURS) as again:
        kept = len(again.finished())
        assert again.finished() == {str(n): {"score": n / 7} for n in range(kept)}
        assert 0 < kept < 10
        again.add("3", {"again": True})
    with Store(store.folder, OURS) as again:
        assert "3" in again.finished()


def test_a_deleted_folder_stops_the_saving_only(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.save("a", {"w": W})
    shutil.rmtree(store.folder)
    for trial in range(3):
        store.add(str(trial), {"score": 1.0})
        store.save("a", {"w": W})
        assert not store.is_due("a")
    assert store.load("a", {"w": W}) is None
    store.drop("a")
    assert len(store.finished()) == 3
    assert [record.name for record in caplog.records] == ["jaxlstm"] * 2  # records and states, once
    assert store.broken is not None
    assert "was deleted" in store.broken
    store.close()
    assert not store.folder.exists()


def test_an_unwritable_folder_is_an_error_before_the_search(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.require(1000)
    assert sorted(os.listdir(store.folder)) == ["finished.jsonl", "lock", "search.json"]
    with pytest.raises(
        OSError, match=r"'.*/store' has too little space: .* 1000.0 TB, .* are free"
    ):
        store.require(10**15)
    with monkeypatch.context() as patch:

        def denied(*_: Any) -> int:
            raise PermissionError(errno.EACCES, "Permission denied")

        patch.setattr(Path, "write_bytes", denied)
        with pytest.raises(
            OSError, match=r"checkpoint_dir '.*' cannot be written: .*Permission denied"
        ):
            store.require(0)
        patch.setattr(os, "open", denied)
        with pytest.raises(
            OSError, match=r"checkpoint_dir '.*' cannot be written: .*Permission denied"
        ):
            Store(store.folder.parent / "other", OURS)


def test_opening_a_folder_imports_neither_jax_nor_orbax(tmp_path: Path) -> None:
    script = (
        "import sys; from jaxlstm.grid.store import Store, digest;"
        f"s = Store({str(tmp_path / 's')!r}, {{}});"
        "s.add('1', {}); s.begin('a'); digest([1]); s.close();"
        "assert not {'jax', 'orbax', 'sklearn', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_keys_and_notes_survive(store: Store) -> None:
    assert store.saved() == []
    assert store.notes == {}
    for key in ("chunk-0-3-2", "with/slash and ünicode", "."):
        store.save(key, {"w": np.arange(3.0)})
    store.note("layout", "vmap")
    store.note("other", [1, None])
    store.drop(".")
    store.close()
    with Store(store.folder, OURS) as again:
        assert again.saved() == ["chunk-0-3-2", "with/slash and ünicode"]
        assert again.notes == {"layout": "vmap", "other": [1, None]}
        assert again.load("with/slash and ünicode", {"w": np.zeros(3)}) is not None
