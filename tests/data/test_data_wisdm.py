"""WISDM's raw text against a reference that reads it character by character, and bad files."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zipfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlstm.data import wisdm, wisdm_rows
from jaxlstm.data.wisdm import ACTIVITIES, load_wisdm, read_wisdm

LETTERS = {"A": "Walking", "B": "Jogging", "C": "Stairs", "D": "Sitting", "E": "Standing"} | {
    "F": "Typing", "G": "Teeth", "H": "Soup", "I": "Chips", "J": "Pasta", "K": "Drinking",
    "L": "Sandwich", "M": "Kicking", "O": "Catch", "P": "Dribbling", "Q": "Writing",
    "R": "Clapping", "S": "Folding",
}  # fmt: skip

Row = tuple[int, str, int, float, float, float]


def rows_of(content: bytes) -> tuple[list[Row], Counter[str]]:
    rows, dropped = [], Counter()
    for record in re.split(b"[;\r\n]", content):
        row = row_of(record)
        if isinstance(row, str):
            dropped[row] += 1
        elif row:
            rows.append(row)
    return rows, dropped


def row_of(record: bytes) -> Row | str | None:
    try:
        fields = [field.strip() for field in record.decode("utf-8").split(",")]
    except UnicodeDecodeError:
        return "not UTF-8"
    if fields == [""]:
        return None
    while len(fields) > 6 and fields[-1] == "":
        fields = fields[:-1]
    if len(fields) > 6:
        return "more than six fields"
    if len(fields) < 6 or "" in fields:
        return "missing value"
    values = [number(field) for field in fields[3:]]
    if any(
        value is not None and not np.isfinite(value) and re.search("[a-zA-Z]{3}", field)
        for value, field in zip(values, fields[3:], strict=True)
    ):
        return "not finite"
    user, time = integer(fields[0]), integer(fields[2])
    if None in (user, time, *values):
        return "not a number"
    activity = LETTERS.get(fields[1], fields[1].capitalize())
    if activity not in ACTIVITIES:
        return "unknown activity"
    if any(abs(value) > 3.4028235e38 for value in values):
        return "not finite"
    return user, activity, time, *values


def number(text: str) -> float | None:
    if not text.isascii() or "_" in text:
        return None
    try:
        return float(text)
    except ValueError:
        return None


def integer(text: str) -> int | None:
    if not text.isascii() or "_" in text:
        return None
    try:
        return value if abs(value := int(text)) < 2**63 else None
    except ValueError:
        return None


def agree(path: Path, content: bytes) -> None:
    rows, dropped = rows_of(content)
    if not rows:
        with pytest.raises(ValueError, match="has no row that reads user,activity"):
            read_wisdm(path)
        return
    table, counted = read_wisdm(path)
    assert counted == dict(dropped)
    assert list(zip(table["user"], table["activity"], table["timestamp"], strict=True)) == [
        row[:3] for row in rows
    ]
    xyz = table[["x", "y", "z"]].to_numpy()
    assert xyz.dtype == np.float32
    np.testing.assert_allclose(xyz, np.array([row[3:] for row in rows]), rtol=1e-6, atol=1e-37)


ODD = [
    "3,Walking,10,1,2,;", "3,Walking,10,1,2,3,;", "3,Walking,10,1,2,3,,;", "3,Walking,10,1,2,,;",
    "3,E,10,1E-4,.5e-3,-2.e-1", "3,G,10,1,2,3e-",
    "3,Walking,10,1e-99,2,3", "e-,E,10,1,2,3", "3,3e-,10,1,2,3", "3,Teeth,1e-1,1,2,3", "e",
    "3,Walking,10,1,2",
    "", " ", ";", ",,,,,", "3,Walking,10,nan,2,3", "3,Walking,10,1,-inf,3", "3,Walking,10,1,2,1e39",
    "3,Walking,10,1,2,1" + "0" * 60, "3,Crawling,10,1,2,3", "3,Walking2,10,1,2,3", "3,Walk ing,1,1,2,3",
    "3,Wal1ing,10,x,2,3", "3,Walking,10,1.2.3,2,3", "3,Walking,10,-,2,3", "3,Walking,10,.,2,3",
    "3,Walking,10,1-2,2,3", "3,Walking,10,--1,2,3", "3,Walking,1.5,1,2,3", "3.0,Walking,10,1,2,3",
    "3,Walking,99999999999999999999,1,2,3", "9223372036854775807,Jogging,-9223372036854775807,1,2,3",
    "3,Walking,0,0,0,0", "3,walking,10,+1,.5,-2.", " 3 , Walking , 10 , 1 , 2 , 3 ", "3,A,10,1,2,3",
    "3,N,10,1,2,3", "3,S,10,-4.08E-4,2e-3,1E+2", '3,"Walking",10,1,2,3', "3,Walking,10,1,2,3,4",
    "3,Walking,10,1,2,3,3,Walking,11,4,5,6", "3,Wälking,10,1,2,3", "3,Walking,１０,1,2,3",
    "3,Walking,10,1_0,2,3", "3,Walking,10,0x1,2,3", "3,Walking,10,1,2,3\x00", "\ufeff3,Walking,1,1,2,3",
    "3,Walking,10,NA,2,3", "#3,Walking,10,1,2,3", "3,e,10,1,2,3", "3,E,10,1,2,3", "-,E,10,1,2,3",
]  # fmt: skip
SEPARATORS = [";\n", ";\n", ";\n", "\n", ";", ";\r\n", ";\n\n", " ;\n", ";;", "\r"]


@st.composite
def contents(draw: Any) -> bytes:
    records = draw(
        st.lists(
            st.one_of(
                st.builds(
                    "{},{},{},{},{},{}".format,
                    st.integers(1, 36),
                    st.sampled_from([*ACTIVITIES, *LETTERS]),
                    st.integers(0, 2**62),
                    *[st.floats(-200, 200, width=32) for _ in range(3)],
                ),
                st.sampled_from(ODD),
            ),
            max_size=30,
        )
    )
    text = "".join(record + draw(st.sampled_from(SEPARATORS)) for record in records).encode()
    damaged = bytearray(text)
    if text and draw(st.booleans()):
        for _ in range(draw(st.integers(1, 4))):
            damaged[draw(st.integers(0, len(text) - 1))] = draw(
                st.one_of(st.integers(0, 255), st.sampled_from(list(b",.;\n-1eN")))
            )
    return bytes(damaged)


@settings(max_examples=150)
@given(content=contents(), block=st.sampled_from([1, 100, 1 << 23]))
def test_rows_equal_the_reference(content: bytes, block: int, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed_wisdm.txt"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wisdm_rows, "_BLOCK", block)
        agree(path, content)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("separator", [";\n", "\n", ";"])
def test_odd_record_among_clean_ones(odd: str, separator: str, tmp_path: Path) -> None:
    """The odd one is counted or kept, whatever it is; its neighbours come through."""
    clean = "1,Jogging,5,0.25,-1.5,9.75", "2,Upstairs,6,1.25,2.5,-3.5"
    content = separator.join([clean[0], odd, clean[1], ""]).encode()
    path = tmp_path / "wisdm.txt"
    path.write_bytes(content)
    agree(path, content)
    table, dropped = read_wisdm(path)
    lines = [line for line in re.split("[;\n]", odd) if line.strip()]
    assert len(table) + sum(dropped.values()) == 2 + len(lines)
    assert [*table["user"]][:: len(table) - 1] == [1, 2]


def recordings(seed: int, people: int = 4) -> dict[int, list[str]]:
    """Lines of each person: runs of activities at about 50 ms, with jumps, returns and repeats."""
    random = np.random.default_rng(seed)
    lines: dict[int, list[str]] = {}
    for user in range(1, people + 1):
        time = int(random.integers(10**9, 10**14))
        lines[user] = []
        for _ in range(random.integers(1, 6)):
            activity = str(random.choice(ACTIVITIES[:3]))
            for _ in range(random.integers(1, 30)):
                time += int(random.normal(50e6, 5e6))
                place = random.random()
                if place < 0.03:
                    time += 3 * 10**9
                elif place < 0.06:
                    time -= 5 * 10**9
                x, y, z = random.normal(size=3).astype(np.float32)
                lines[user].append(f"{user},{activity},{time},{x},{y},{z}")
                if place > 0.97:
                    lines[user].append(lines[user][-1])
                elif place > 0.94:
                    lines[user].append(f"{user},{activity},0,{x},{y},{z}")
                elif place > 0.92:
                    lines[user].append(f"{user},{activity},{time},{y},{x},{z}")
    return lines


def interleaved(lines: dict[int, list[str]], random: np.random.Generator) -> list[str]:
    """One file of all people's lines; each person's stay in order."""
    turns = random.permutation(np.repeat(list(lines), [len(of) for of in lines.values()]))
    waiting = {user: iter(of) for user, of in lines.items()}
    return [next(waiting[user]) for user in turns]


def reference_windows(
    rows: list[Row], window: int, stride: int, label: str, across: bool
) -> tuple[list[tuple[int, str, list[Any]]], Counter[str]]:
    left_out: Counter[str] = Counter()
    of_user: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        if row[2] == 0:
            left_out["timestamp of 0"] += 1
        elif row in of_user[row[0]]:
            left_out["copy of an earlier row"] += 1
        else:
            of_user[row[0]].append(row)
    found = []
    for user in sorted(of_user):
        runs: list[list[Row]] = []
        for row in of_user[user]:
            last = runs[-1][-1] if runs else row
            goes_on = 0 <= row[2] - last[2] <= 10**9 and (across or row[1] == last[1])
            if runs and goes_on:
                runs[-1].append(row)
            else:
                runs.append([row])
        for run in runs:
            used = set()
            for begin in range(0, len(run) - window + 1, stride):
                rows = run[begin : begin + window]
                used.update(range(begin, begin + window))
                names = [row[1] for row in rows]
                most = max(map(names.count, names))
                name = min((n for n in names if names.count(n) == most), key=ACTIVITIES.index)
                found.append((user, names[-1] if label == "last" else name, rows))
            left_out["in no window"] += len(run) - len(used)
    return found, +left_out


@settings(max_examples=50)
@given(
    seed=st.integers(0, 10**6),
    window=st.integers(1, 12),
    stride=st.integers(1, 15),
    label=st.sampled_from(["majority", "last"]),
    across=st.booleans(),
)
def test_windows_equal_the_reference(
    seed: int, window: int, stride: int, label: Any, across: bool, tmp_path_factory: Any
) -> None:
    random = np.random.default_rng(seed)
    lines = interleaved(recordings(seed), random)
    for place in random.integers(len(lines), size=3):
        lines.insert(place, str(random.choice([odd for odd in ODD if "\x00" not in odd])))
    content = "".join(line + str(random.choice(SEPARATORS)) for line in lines).encode()
    path = tmp_path_factory.getbasetemp() / "dirty_wisdm.txt"
    path.write_bytes(content)
    rows, dropped = rows_of(content)
    wanted, left_out = reference_windows(rows, window, stride, label, across)
    options: dict[str, Any] = {
        "window": window,
        "stride": stride,
        "label": label,
        "across_activities": across,
    }
    if not wanted:
        with pytest.raises(ValueError, match=f"no recording of one person is {window} rows long"):
            load_wisdm(path, **options)
        return
    data = load_wisdm(path, **options)
    assert [*data.groups] == [user for user, _, _ in wanted]
    assert [*data.labels] == [name for _, name, _ in wanted]
    np.testing.assert_allclose(
        data.x,
        np.array([[row[3:] for row in rows] for _, _, rows in wanted]),
        rtol=1e-6,
        atol=1e-37,
    )
    assert data.dropped == dict(dropped + left_out)
    assert data.x.dtype == np.float32


def of_person(path: Path, users: list[int]) -> list[tuple[Any, ...]]:
    data = load_wisdm(path, window=5, stride=2)
    rows = np.isin(data.groups, users)
    return [
        (x.tobytes(), name, group)
        for x, name, group in zip(data.x[rows], data.labels[rows], data.groups[rows], strict=True)
    ]


GARBAGE = [
    b"",
    b"\xff\xfe\x00",
    b"3,Walking",
    b"3,Walking,0,0,0,0",
    b"4,Jogging,1,nan,1,1",
    b",,,,,",
]


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6))
def test_people_do_not_touch_each_other(seed: int, tmp_path_factory: Any) -> None:
    """Lines of 3 and 4 are corrupted, lost, moved and repeated: 1 and 2 stay as they were."""
    random = np.random.default_rng(seed)
    lines = recordings(seed)
    for user in (1, 2):
        lines[user] += [f"{user},Sitting,{50_000_000 * step},1,2,{step}" for step in range(1, 8)]
    path = tmp_path_factory.getbasetemp() / "people_wisdm.txt"
    path.write_text("".join(line + ";\n" for line in interleaved(lines, random)))
    before = of_person(path, [1, 2])
    assert before
    for user in (3, 4):
        lines[user] = [str(line) for line in random.permutation(lines[user])]
    mixed = [line.encode() for line in interleaved(lines, random)]
    for place, line in enumerate(mixed):
        if line[:1] in b"34" and random.random() < 0.5:
            bad = GARBAGE[random.integers(len(GARBAGE))]
            half = line[: random.integers(2, len(line))]  # "3," at least: it stays theirs
            mixed[place] = bad if random.random() < 0.5 else half
    path.write_bytes(b"".join(line + b";\n" for line in mixed))
    assert of_person(path, [1, 2]) == before


TEXT = "".join(
    f"{user},{'AB'[user % 2]},{10**9 + step * 50_000_000},{np.sin(step):.4f},{step},{user}.5;\n"
    for user in (1600, 1601, 1602)
    for step in range(7)
).encode()


def zipped(files: dict[str, bytes]) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return memory.getvalue()


def tarred(files: dict[str, bytes], mode: str) -> bytes:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return memory.getvalue()


def release_2019() -> dict[str, bytes]:
    lines = TEXT.splitlines(keepends=True)
    files = {
        f"wisdm-dataset/raw/{device}/{sensor}/data_{user}_{sensor}_{device}.txt": b"".join(
            line.replace(b".5;", b".%d;" % (5 + place))
            for line in lines
            if line.startswith(b"%d," % user)
        )
        for place, (device, sensor) in enumerate(
            (device, sensor) for device in ("phone", "watch") for sensor in ("accel", "gyro")
        )
        for user in (1602, 1600, 1601)
    }
    files["wisdm-dataset/activity_key.txt"] = b"walking = A\n"
    files["__MACOSX/wisdm-dataset/raw/phone/accel/._data_1600_accel_phone.txt"] = b"\x00\x05"
    return files


@pytest.mark.parametrize("form", ["txt", "gz", "tar.gz", "tar", "zip", "folder", "gz in folder"])
def test_forms_of_release_1_1(form: str, tmp_path: Path) -> None:
    name = "WISDM_ar_v1.1_raw.txt"
    files = {
        "WISDM_ar_v1.1/readme.txt": b"read me",
        "WISDM_ar_v1.1/WISDM_ar_v1.1_raw_about.txt": b"about",
        f"WISDM_ar_v1.1/{name}": TEXT,
    }
    path = tmp_path / f"file.{form}"
    if form == "txt":
        path.write_bytes(TEXT)
    elif form == "gz":
        path.write_bytes(gzip.compress(TEXT, mtime=0))
    elif form == "zip":
        path.write_bytes(zipped(files))
    elif form.startswith("tar"):
        path.write_bytes(tarred(files, "w:gz" if form == "tar.gz" else "w"))
    else:
        path.mkdir()
        if form == "folder":
            (path / name).write_bytes(TEXT)
        else:
            (path / f"{name}.gz").write_bytes(gzip.compress(TEXT, mtime=0))
        (path / "notes.txt").write_text("mine")
    data = load_wisdm(str(path), window=3, stride=3)
    assert data.x.shape == (6, 3, 3)
    assert [*data.groups] == [1600, 1600, 1601, 1601, 1602, 1602]
    assert data.classes == ("Walking", "Jogging")
    assert [*data.labels[::2]] == ["Walking", "Jogging", "Walking"]
    assert data.dropped == {"in no window": 3}
    assert (data.rate, data.source) == (20.0, str(path))
    assert data.feature_names == ("x (m/s2)", "y (m/s2)", "z (m/s2)")
    np.testing.assert_array_equal(data.x[2, :, 1:], [[0, 1601.5], [1, 1601.5], [2, 1601.5]])


@pytest.mark.parametrize("form", ["folder", "zip", "zip in zip", "tar.gz"])
@pytest.mark.parametrize("device", ["phone", "watch"])
@pytest.mark.parametrize("sensor", ["accel", "gyro"])
def test_forms_of_release_2019(form: str, device: Any, sensor: Any, tmp_path: Path) -> None:
    files = release_2019()
    path = tmp_path / "release"
    if form == "folder":
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    elif form == "tar.gz":
        path.write_bytes(tarred(files, "w:gz"))
    else:
        path.write_bytes(zipped(files))
        if form == "zip in zip":
            path.write_bytes(zipped({"about.pdf": b"", "wisdm-dataset.zip": path.read_bytes()}))
    data = load_wisdm(path, window=7, stride=1, device=device, sensor=sensor)
    assert [*data.groups] == [1600, 1601, 1602]
    place = 2 * (device == "watch") + (sensor == "gyro")
    np.testing.assert_allclose(data.x[:, 0, 2] % 1, (5 + place) / 10, rtol=1e-3)
    assert data.feature_names[0] == {"accel": "x (m/s2)", "gyro": "x (rad/s)"}[sensor]


def test_letters_of_the_2019_release() -> None:
    assert wisdm_rows.LETTERS == LETTERS
    assert set(LETTERS.values()) < set(ACTIVITIES)


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none is not there"):
        load_wisdm(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"holds neither WISDM_ar_v1\.1_raw\.txt nor files"):
        load_wisdm(tmp_path)
    path = tmp_path / "wisdm.txt"
    for content, dropped in (
        (b"", "none, it is empty"),
        (b"\n;\n", "none, it is empty"),
        (b"\x00" * 5000, "1 missing value"),
        (b"a,b,c\n1,2,3\n", "2 missing value"),
        (np.random.default_rng(0).bytes(5000), "not UTF-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"wisdm\.txt has no row .* dropped: .*{dropped}"):
            load_wisdm(path)
    path.write_bytes(TEXT)
    with pytest.raises(
        ValueError, match=r"no recording of one person is 8 rows.*: 21 in no window"
    ):
        load_wisdm(path, window=8)
    for name in ("WISDM_ar_v1.1_raw.txt", "WISDM_at_v2.0_raw.txt"):
        (tmp_path / name).write_bytes(TEXT)
    with pytest.raises(ValueError, match="give the path of one of them"):
        load_wisdm(tmp_path)


def test_damaged_archives(tmp_path: Path) -> None:
    """Cut anywhere, or any byte flipped: all rows as they were, or one sentence with the path."""
    path = tmp_path / "damaged"
    files = {"WISDM_ar_v1.1_raw.txt": TEXT * 50}
    path.write_bytes(TEXT * 50)
    wanted, _ = read_wisdm(path)
    for whole in (
        gzip.compress(TEXT * 50, mtime=0),
        tarred(files, "w:gz"),
        zipped(files),
        zipped({"wisdm-dataset.zip": zipped(files)}),
    ):
        cuts = [whole[:cut] for cut in np.linspace(1, len(whole) - 1, 40).astype(int)]
        flips = [
            whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
            for place in range(0, len(whole), max(1, len(whole) // 60))
        ]
        for content in cuts + flips:
            path.write_bytes(content)
            said = ""
            try:
                table, _ = read_wisdm(path)
            except (ValueError, FileNotFoundError) as error:
                said = str(error)
            if said:
                assert str(path) in said
                assert "\n" not in said
            else:
                pd.testing.assert_frame_equal(table, wanted)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "options",
    [{"device": "ring"}, {"sensor": "heart"}, {"label": "first"}, {"window": 0}, {"stride": 0}],
)
def test_options(options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "wisdm.txt"
    path.write_bytes(TEXT)
    with pytest.raises(ValueError, match=next(iter(options))):
        load_wisdm(path, **options)


def test_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def fetch(name: str, url: str, known_hash: str | None, **options: Any) -> Path:
        asked.append((name, url, known_hash, options["folder"]))
        path = tmp_path / name
        path.write_bytes(zipped(release_2019()) if "2019" in name else TEXT)
        if "check" in options:
            options["check"](path)
            (tmp_path / "half").write_bytes(path.read_bytes()[:-30])
            with pytest.raises(ValueError, match="not a whole zip"):
                options["check"](tmp_path / "half")
        return path

    monkeypatch.setattr(wisdm, "fetch", fetch)
    for release in ("1.1", "2019"):
        data = load_wisdm(window=3, release=release, folder=tmp_path)
        assert data.source == str(tmp_path / asked[-1][0])
    assert [ask[0] for ask in asked] == ["WISDM_ar_latest.tar.gz", "wisdm_2019.zip"]
    assert all(ask[1].startswith("https://") and ask[3] == tmp_path for ask in asked)
    with pytest.raises(ValueError, match=r"release must be '1\.1' or '2019', got '3'"):
        load_wisdm(release="3")  # type: ignore[arg-type]


def test_real_file(shared_data: Path) -> None:
    """Every row of it is in a window, as an independent count of its lines says."""
    path = shared_data / "wisdm_2019" / "WISDM_2019_watch_raw.txt.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with gzip.open(path, "rt") as lines:
        people = Counter(line.split(",", 1)[0] for line in lines if line.strip())
    assert sum(people.values()) == 729_600
    assert len(people) == 51
    table, dropped = read_wisdm(path)
    assert len(table) == 729_600
    assert dropped == {}
    data = load_wisdm(path)
    assert data.dropped == {}
    assert data.x.shape == (33_744, 200, 3)
    assert data.classes == ("Walking", "Jogging", "Sitting", "Standing", "Stairs", "Kicking")
    assert [*np.unique(data.groups)] == sorted(map(int, people))
    # 120 s of an activity are 2,400 rows and (2,400 - 200) / 20 + 1 = 111 windows.
    assert set(Counter(zip(data.groups, data.y, strict=True)).values()) == {111}
