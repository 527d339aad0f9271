"""Damaged files, full disks and records without end: a real engine says what is wrong, loses nothing, and never gives another result.

Layer: tests.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.live_process import (
    SOAK,
    append,
    assert_same,
    engine,
    few_rules,
    letters_of,
    log_of,
    replay,
    settings,
    write_log,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UNREADABLE = 3
EVENTS = 3_950  # with those that come twice more than 4,000


# ---- damage between two starts


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


DAMAGES = [
    (cut, "parts.arrow"),
    (empty, "parts.arrow"),
    (flip, "parts.arrow"),
    (flip, "manifest.json"),
    (os.unlink, "manifest.json"),
]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an engine that was killed in the middle, with several snapshots; copied by each test."""
    folder = tmp_path_factory.mktemp("killed")
    events = log_of(EVENTS)
    path = write_log(folder / "mail.jsonl", events[:1_000])
    asked = settings(folder, more=few_rules(folder), rows=100)
    with engine(folder, asked) as running:
        for part in range(1, 4):
            running.until(lambda s, n=part: s["events"]["read"] >= 1_000 * n and _saved(s, folder) >= n, "saving")
            append(path, events[1_000 * part : 1_000 * (part + 1)])
        running.until(lambda s: s["events"]["read"] >= 4_000, "reading all")
        running.kill()
    return folder


def _saved(status: dict[str, Any], folder: Path) -> int:
    return len(snapshots(folder)) if status["snapshot"] else 0


@pytest.fixture
def folder(killed: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "engine"
    shutil.copytree(killed, copy)
    return copy


def snapshots(folder: Path) -> list[Path]:
    return sorted((folder / "state" / "snapshots").iterdir())


@pytest.mark.parametrize(("damage", "file"), DAMAGES if SOAK else DAMAGES[2:3])
def test_a_damaged_snapshot_is_passed_over_for_the_one_before_and_said_and_the_result_is_the_same(
    folder: Path, damage: Callable[[Path], None], file: str
):
    before, newest = snapshots(folder)[-2:]
    damage(newest / file)
    with engine(folder, "soc.toml", "--finish") as running:
        assert running.wait() == 0, running.tail()
    (recovered,) = [e for e in running.log() if e["event"] == "recovered"][1:]
    assert recovered["snapshot"] == int(before.name.split("-")[0])
    assert any(newest.name in e["what"] for e in running.log() if e["event"] == "trouble")
    assert_same(folder, replay(folder / "mail.jsonl", folder / "few.py"))


def test_of_damages_of_every_kind_each_is_said_and_the_last_whole_snapshot_counts(folder: Path):
    found = snapshots(folder)
    bad = found[-min(len(found) - 1, len(DAMAGES)) :]
    for (damage, file), snapshot in zip(DAMAGES, bad, strict=False):
        damage(snapshot / file)
    with engine(folder, "soc.toml", "--finish") as running:
        assert running.wait() == 0, running.tail()
    said = " ".join(e["what"] for e in running.log() if e["event"] == "trouble")
    assert all(snapshot.name in said for snapshot in bad)
    assert_same(folder, replay(folder / "mail.jsonl", folder / "few.py"))


def test_without_any_snapshot_all_is_done_again_as_long_as_the_log_has_all(folder: Path):
    shutil.rmtree(folder / "state" / "snapshots")
    with engine(folder, "soc.toml", "--finish") as running:
        assert running.wait() == 0, running.tail()
    assert_same(folder, replay(folder / "mail.jsonl", folder / "few.py"))


def test_a_damaged_batch_log_is_refused_with_its_file_and_line_and_what_to_do(folder: Path):
    log = max((folder / "state" / "batches").glob("*.log"))
    lines = log.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b'"n":5', b'"n":6')
    log.write_bytes(b"".join(lines))
    with engine(folder, "soc.toml") as running:
        assert running.wait() == UNREADABLE
    said = running.words()
    assert f"{log.name}:5: the batch log is damaged" in said
    assert "Restore the folder from a copy, or start anew" in said
    assert "Traceback" not in said


# ---- no room


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A disk of its own of a few megabytes."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tocsin-test", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def remount(path: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", path], check=True)


def fill(path: Path) -> None:
    """Leave no byte free."""
    with (path / "ballast").open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


@pytest.mark.needs("root", "mounts")
@pytest.mark.parametrize("full", ["the state folder", "the alert log"])
def test_a_full_disk_is_reported_and_loses_nothing_and_with_more_room_the_engine_goes_on(tmp_path: Path, full: str):
    events = log_of(EVENTS)
    path = write_log(tmp_path / "mail.jsonl", events[:1_000])
    with small_disk(tmp_path / "disk", "24m") as disk:
        state, log = ("disk/state", "soc.db") if full == "the state folder" else ("state", "disk/soc.db")
        asked = settings(tmp_path, state=state, log=f'"{log}"', more=few_rules(tmp_path), rows=100)
        with engine(tmp_path, asked) as running:
            running.state = tmp_path / state
            running.until(lambda s: s["events"]["read"] >= 1_000, "reading")
            fill(disk)
            append(path, events[1_000:])
            running.until_log(lambda e: e["event"] == "trouble" and _no_room(e["what"]), "saying that there is no room")
            assert running.process.poll() is None
            remount(disk, "size=64m")
            running.until(lambda s: s["events"]["read"] == len(events), "going on")
            running.stop()
        with engine(tmp_path, asked, "--finish") as last:
            assert last.wait() == 0, last.tail()
        if state != "state":
            (tmp_path / "state").symlink_to(tmp_path / state)
        assert_same(tmp_path, replay(path, tmp_path / "few.py"), log)


def _no_room(what: str) -> bool:
    return "No space left" in what or "full" in what


def test_a_limit_on_the_size_of_files_is_reported_and_loses_nothing_and_when_it_is_lifted_the_engine_goes_on(
    tmp_path: Path,
):
    events = log_of(2_000)
    path = write_log(tmp_path / "mail.jsonl", events[:1_000])
    asked = settings(tmp_path, more=few_rules(tmp_path), rows=100)
    with engine(tmp_path, asked) as running:
        running.until(lambda s: s["events"]["read"] >= 1_000, "reading")
        pid, log = running.process.pid, tmp_path / "state" / "batches" / f"{1:020}.log"
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (log.stat().st_size + 100, resource.RLIM_INFINITY))
        append(path, events[1_000:])
        running.until_log(lambda e: e["event"] == "trouble" and "File too large" in e["what"], "saying so")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        running.until(lambda s: s["events"]["read"] == len(events), "going on")
        running.kill()
    with engine(tmp_path, asked, "--finish") as last:
        assert last.wait() == 0, last.tail()
    assert_same(tmp_path, replay(path, tmp_path / "few.py"))


@pytest.mark.needs("root", "mounts")
def test_a_state_folder_that_cannot_be_written_is_refused_by_name_with_what_to_try(tmp_path: Path):
    write_log(tmp_path / "mail.jsonl", log_of(100))
    with small_disk(tmp_path / "disk", "1m") as disk:
        remount(disk, "ro")
        with engine(tmp_path, settings(tmp_path, state="disk/state", more=few_rules(tmp_path))) as running:
            assert running.wait() == UNREADABLE
    assert "disk/state: the state folder cannot be written" in running.words()
    assert "Give the engine a folder of its own with --state" in running.words()
    assert "Traceback" not in running.words()


# ---- a record without end


def peak_bytes(pid: int) -> int:
    """The most memory that a process ever had."""
    with Path(f"/proc/{pid}/status").open() as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))


def test_a_record_of_100_mb_is_one_dead_letter_in_bounded_memory_and_the_rest_goes_on(tmp_path: Path):
    events = log_of(2_000)
    path = write_log(tmp_path / "mail.jsonl", events[:1_000])
    asked = settings(tmp_path, more=few_rules(tmp_path))
    with engine(tmp_path, asked) as running:
        running.until(lambda s: s["events"]["read"] >= len(events[:1_000]), "reading")
        before = peak_bytes(running.process.pid)
        append(path, b'{"event_id": "huge", "subject": "')
        for _ in range(100):
            append(path, b"x" * 1_000_000)
        running.until(lambda s: s["events"]["read"] == 1_001, "giving up on the record")  # its end has not come
        append(path, b'"}\n')
        append(path, events[1_000:])
        running.until(lambda s: s["events"]["read"] == len(events) + 1, "reading the rest")
        assert peak_bytes(running.process.pid) - before < 150 << 20
        running.kill()
    with engine(tmp_path, asked, "--finish") as last:
        assert last.wait() == 0, last.tail()
    (letter,) = letters_of(tmp_path)
    assert letter.record.startswith(b'{"event_id": "huge", "subject": "xxx')
    assert not letter.whole
    assert_same(tmp_path, replay(path, tmp_path / "few.py"))
