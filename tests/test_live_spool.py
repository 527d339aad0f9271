"""What a spool acknowledges stays, in order and byte for byte; what it did not is there whole or not at all."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tocsin.errors import SourceError
from tocsin.sources.live.pieces import LostError, Piece, Position
from tocsin.sources.live.spool import Spool, SpoolDamagedError, SpoolFullError
from tocsin.sources.live.spooled import SpoolSource
from tocsin.sources.live.stdin import StdinSpooler

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
ROWS, BYTES = 10_000, 16 << 20
OPEN: list[Spool | SpoolSource] = []


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def opened(folder: Path, **options: int) -> Spool:
    OPEN.append(spool := Spool(folder, **options))
    return spool


def reading(spool: Spool, positions: dict[str, Position] | None = None) -> SpoolSource:
    OPEN.append(source := SpoolSource("http", spool))
    source.open(positions or {})
    return source


def drain(source: SpoolSource, rows: int = ROWS, size: int = BYTES) -> list[Piece]:
    return [p for pieces in iter(lambda: source.poll(rows, size), []) for p in pieces]


def records(pieces: list[Piece]) -> list[tuple[int, str, str | None, bytes]]:
    """Each record as a slow reader would write it down: number, partition, source, bytes."""
    found = []
    for piece in pieces:
        assert piece.prefix == piece.span.source == "http"
        own = piece.data.split(b"\n")[:-1]
        numbers = piece.numbers or range(piece.first_line, piece.first_line + len(own))
        taken = [*zip(numbers, own, strict=True), *((n, b"!" + r) for n, r, _ in piece.faults)]
        assert piece.rows == sum(1 for _, r in taken if r.strip())
        found += [(n, piece.span.partition, piece.source, r) for n, r in sorted(taken)]
    return found


def plain(pieces: list[Piece]) -> list[tuple[int, bytes]]:
    return [(n, r) for n, _, _, r in records(pieces)]


def test_records_come_back_in_order_with_numbers_partition_source_and_time(folder: Path) -> None:
    spool = opened(folder)
    assert spool.append([b'{"a":1}', b'{"a":2}'], NOW) == 2
    assert spool.append([b'{"a":3}'], NOW + timedelta(seconds=1), partition="3", source="kafka") == 3
    assert spool.append([b"torn"], NOW, fault="not JSON") == 4
    assert spool.append([], NOW) == 4
    source = reading(spool)
    pieces = drain(source)
    assert records(pieces) == [
        (1, "", None, b'{"a":1}'), (2, "", None, b'{"a":2}'), (3, "3", "kafka", b'{"a":3}'), (4, "", None, b"!torn"),
    ]  # fmt: skip
    assert [p.received_at for p in pieces] == [NOW, NOW + timedelta(seconds=1), NOW]
    assert pieces[2].span.start == pieces[0].span.stop
    assert [source.take(p.span) for p in pieces] == pieces
    assert json.loads(json.dumps(pieces[1].span.stop)) == pieces[1].span.stop
    assert source.behind() == {"": 0}


def test_records_received_together_make_one_piece_and_others_do_not(folder: Path) -> None:
    spool = opened(folder)
    for n in (0, 50, 100, 101, 300):
        spool.append([b"%d" % n], NOW + timedelta(milliseconds=n))
    pieces = drain(reading(spool))
    assert [p.data for p in pieces] == [b"0\n50\n100\n", b"101\n", b"300\n"]
    assert [p.received_at for p in pieces] == [NOW + timedelta(milliseconds=n) for n in (0, 101, 300)]


def test_a_record_with_a_line_break_is_a_fault_and_the_others_keep_their_numbers(folder: Path) -> None:
    spool = opened(folder)
    spool.append([b"1", b"two\nlines", b"3"], NOW)
    [piece] = drain(reading(spool))
    assert (piece.numbers, piece.data, piece.rows) == ((1, 3), b"1\n3\n", 3)
    assert [(n, r) for n, r, _ in piece.faults] == [(2, b"two\nlines")]


def test_bounds_are_kept_also_within_a_frame_and_a_larger_record_comes_alone(folder: Path) -> None:
    spool = opened(folder)
    wanted = []
    generator = random.Random(3)
    for _ in range(30):
        own = [b"x" * generator.randrange(30) for _ in range(generator.randrange(1, 20))]
        spool.append(own, NOW)
        wanted += own
    source = reading(spool)
    seen: list[Piece] = []
    while True:
        rows, size = generator.randrange(1, 9), generator.randrange(1, 40)
        pieces = source.poll(rows, size)
        if not pieces:
            break
        assert len(records(pieces)) <= rows
        assert sum(len(p.data) for p in pieces) <= size or len(records(pieces)) == 1
        seen += pieces
    assert plain(seen) == list(enumerate(wanted, 1))
    for n, piece in enumerate(seen):
        assert source.take(piece.span) == piece
        assert plain(drain(reading(spool, {"": piece.span.stop}))) == plain(seen[n + 1 :])


def test_segments_that_nobody_needs_go_and_numbers_go_on(folder: Path) -> None:
    spool = opened(folder, segment_bytes=200)
    for n in range(30):
        spool.append([b"%d" % n * 10], NOW)
    source = reading(spool)
    pieces = drain(source, rows=1)
    before = spool.size_bytes
    source.release({"": pieces[19].span.stop})
    assert spool.size_bytes < before
    assert spool.size_bytes == sum(p.stat().st_size for p in folder.glob("*.spool"))
    assert [source.take(p.span) for p in pieces[20:]] == pieces[20:]
    with pytest.raises(LostError, match="Put back"):
        reading(spool).take(pieces[0].span)
    with pytest.raises(LostError, match="the records from 2 to"):
        reading(spool, {"": pieces[0].span.stop})
    source.release({"": pieces[-1].span.stop})
    spool.close()
    OPEN.remove(spool)
    assert opened(folder).append([b"next"], NOW) == 31


def test_a_full_spool_takes_nothing_until_something_is_released(folder: Path) -> None:
    spool = opened(folder, max_bytes=2000)
    kept = 0
    while spool.size_bytes + 250 < 2000:
        kept = spool.append([b"x" * 100], NOW)
    with pytest.raises(SpoolFullError, match=r"full \(2,000 bytes\)"):
        spool.append([b"x" * 1000], NOW)
    source = reading(spool)
    pieces = drain(source)
    assert [n for n, _ in plain(pieces)] == list(range(1, kept + 1))
    source.release({"": pieces[-1].span.stop})
    assert spool.append([b"x" * 100], NOW) == kept + 1


@pytest.mark.parametrize("failing", ["pwrite", "fdatasync"])
def test_a_full_disk_leaves_nothing_of_the_records_and_later_appends_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    spool = opened(folder)
    spool.append([b"one"], NOW)
    size = spool.size_bytes
    write = os.pwrite

    def half(fd: int, data: bytes, offset: int) -> int:
        if len(data) < 40:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[: len(data) // 2], offset)

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, half if failing == "pwrite" else fail)
        with pytest.raises(SpoolFullError, match=r"No space left.*Make room"):
            spool.append([b"two" * 100], NOW)
    assert spool.path(1).stat().st_size == size == spool.size_bytes
    assert spool.append([b"three"], NOW) == 2
    assert plain(drain(reading(opened(folder)))) == [(1, b"one"), (2, b"three")]


def test_readers_see_nothing_that_is_not_on_the_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = opened(folder)
    source = reading(spool)
    seen: list[list[Piece]] = []
    monkeypatch.setattr(os, "fdatasync", lambda _: seen.append(source.poll(ROWS, BYTES)))
    spool.append([b"one"], NOW)
    assert seen == [[]]
    assert plain(drain(source)) == [(1, b"one")]


def test_writers_that_wait_together_share_a_sync(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = opened(folder)
    syncs: list[int] = []
    waiting = threading.Event()

    def slow(fd: int) -> None:
        syncs.append(fd)
        if len(syncs) == 1:
            waiting.wait(10)

    monkeypatch.setattr(os, "fdatasync", slow)
    numbers: list[int] = []
    threads = [threading.Thread(target=lambda: numbers.append(spool.append([b"a", b"b"], NOW))) for _ in range(32)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    while len(spool._pending) < 31 and time.monotonic() < deadline:
        time.sleep(0.001)
    waiting.set()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(2, 65, 2))
    assert len(syncs) == 2
    assert len(plain(drain(reading(spool)))) == 64


def sample_segment(folder: Path) -> tuple[list[bytes], Path]:
    spool = opened(folder)
    for own in ([b'{"a":1}', b""], [b'{"bb":22}'], [b"x" * 40, b"y"]):
        spool.append(own, NOW)
    return [r for _, r in plain(drain(reading(spool)))], spool.path(1)


def test_a_segment_cut_at_any_byte_gives_the_frames_before_it_and_takes_more(folder: Path) -> None:
    wanted, path = sample_segment(folder)
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        spool = Spool(folder)
        found = [r for _, r in plain(drain(reading(spool)))]
        assert found == wanted[: len(found)]
        assert len(found) in {0, 2, 3, 5}
        assert (len(found) == 5) == (size == len(whole))
        assert spool.append([b"more"], NOW) == len(found) + 1
        assert plain(drain(reading(spool)))[len(found) :] == [(len(found) + 1, b"more")]
        spool.close()


def read_into(got: list[bytes], folder: Path) -> None:
    spool = Spool(folder)
    OPEN.append(spool)
    source = reading(spool)
    while pieces := source.poll(1, BYTES):
        got += [r for _, r in plain(pieces)]


@pytest.mark.parametrize("closed", [False, True])
def test_a_segment_with_any_byte_flipped_is_named_as_damaged_and_never_read_wrongly(folder: Path, closed: bool) -> None:
    wanted, path = sample_segment(folder)
    if closed:
        opened(folder, segment_bytes=1).append([b"later"], NOW)
    whole = path.read_bytes()
    for at in range(len(whole)):
        for mask in (0x10,):
            damaged = bytearray(whole)
            damaged[at] ^= mask
            path.write_bytes(damaged)
            got: list[bytes] = []
            with pytest.raises(SpoolDamagedError, match=rf"{path.name} is damaged at byte \d+"):
                read_into(got, folder)
            assert got == wanted[: len(got)]


def test_zeros_that_a_power_cut_left_at_the_end_are_cut_and_not_taken_for_damage(folder: Path) -> None:
    spool = opened(folder)
    spool.append([b"one"], NOW)
    spool.append([b"two" * 1000], NOW)
    path = spool.path(1)
    whole = path.read_bytes()
    for tail in (
        whole + bytes(5000),
        whole[:2048] + bytes(len(whole) - 2048),
        whole[:1024] + bytes(512) + whole[1536:],
    ):
        path.write_bytes(tail)
        assert plain(drain(reading(opened(folder))))[0] == (1, b"one")
        assert path.stat().st_size in {len(whole), whole.index(b"TSF1", 4)}


def test_a_missing_segment_is_named_once_and_reading_goes_on_behind_it(folder: Path) -> None:
    spool = opened(folder, segment_bytes=1)
    for n in range(4):
        spool.append([b"%d" % n], NOW)
    spool.path(2).unlink()
    source = reading(spool)
    assert plain(source.poll(ROWS, BYTES)) == [(1, b"0")]
    with pytest.raises(LostError, match="the records from 2 to 2 are gone"):
        source.poll(ROWS, BYTES)
    assert plain(drain(source)) == [(3, b"2"), (4, b"3")]


def test_a_number_is_never_given_twice_even_if_the_spool_lost_its_end(folder: Path) -> None:
    spool = opened(folder)
    spool.append([b"one", b"two"], NOW)
    stop = drain(reading(spool))[-1].span.stop
    spool.path(1).write_bytes(b"")
    fresh = opened(folder)
    source = reading(fresh, {"": stop})
    assert "begin at 3" in source.told()[0]
    assert fresh.append([b"three"], NOW) == 3
    assert plain(drain(source)) == [(3, b"three")]
    with pytest.raises(LostError):
        source.take(drain(reading(opened(folder)))[0].span.__class__("http", "", None, stop))


WRITER = """
import sys, threading, datetime, pathlib, itertools
from tocsin.sources.live.spool import Spool
spool, name, most = Spool(pathlib.Path(sys.argv[1]), segment_bytes=5000), sys.argv[2], int(sys.argv[3])
now, said = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC), threading.Lock()
def work(thread):
    for n in range(most):
        own = [f"{name}.{thread}.{n}.{k}".encode() * (1 + n % 50) for k in range(1 + n % 3)]
        last = spool.append(own, now)
        with said:
            print(thread, n, last, flush=True)
threads = [threading.Thread(target=work, args=(t,)) for t in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
"""


def written(thread: str, n: int, name: str) -> list[bytes]:
    return [f"{name}.{thread}.{n}.{k}".encode() * (1 + n % 50) for k in range(1 + n % 3)]


def check_acknowledged(found: list[tuple[int, bytes]], said: str, name: str) -> None:
    """Every acknowledged append is there under its number; every record is one that was written, and none is there twice."""
    by_number = dict(found)
    assert [n for n, _ in found] == list(range(1, len(found) + 1))
    assert len(set(by_number.values())) == len(found)
    for line in said.splitlines():
        thread, n, last = line.split()
        own = written(thread, int(n), name)
        assert [by_number[int(last) - len(own) + 1 + k] for k in range(len(own))] == own


def test_a_process_killed_while_it_appends_loses_nothing_that_it_acknowledged(folder: Path) -> None:
    generator = random.Random(11)
    for _ in range(4):
        shutil.rmtree(folder, ignore_errors=True)
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, folder, "a", "100000"], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            said = [process.stdout.readline() for _ in range(generator.randrange(1, 400))]
            os.kill(process.pid, signal.SIGKILL)
            rest = process.stdout.read()
        whole = "".join(said) + rest[: rest.rfind("\n") + 1]
        spool = opened(folder)
        found = plain(drain(reading(spool)))
        check_acknowledged(found, whole, "a")
        possible = {r for t in range(4) for n in range(2000) for r in written(str(t), n, "a")}
        assert {r for _, r in found} <= possible
        assert spool.append([b"after"], NOW) == len(found) + 1


def test_two_processes_append_to_one_spool_while_a_third_reads_it(folder: Path) -> None:
    source = reading(opened(folder))
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, folder, name, "25"], stdout=subprocess.PIPE, text=True)
        for name in "ab"
    ]
    found: list[Piece] = []
    while any(p.poll() is None for p in processes):
        found += source.poll(7, BYTES)
        source.release({"": found[len(found) // 2].span.stop} if found else {})
    found += drain(source)
    taken = plain(found)
    assert [n for n, _ in taken] == list(range(1, len(taken) + 1))
    for name, process in zip("ab", processes, strict=True):
        said, _ = process.communicate()
        assert process.returncode == 0
        assert len(said.splitlines()) == 100
        by_number = dict(taken)
        for line in said.splitlines():
            thread, n, last = line.split()
            assert by_number[int(last)] == written(thread, int(n), name)[-1]


class Spooled(RuleBasedStateMachine):
    """Two writers, a reader that polls and restarts where it likes, and releases; the oracle is a list of records."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="spool-"))
        self.writers = [Spool(self.folder, segment_bytes=150) for _ in range(2)]
        self.records: list[tuple[int, str, str | None, bytes]] = []
        self.pieces: list[Piece] = []
        self.released = 0
        self.restart_at(0)

    def restart_at(self, at: int) -> None:
        del self.pieces[at:]
        self.positions: dict[str, Position] = {}
        for piece in self.pieces:
            self.positions[piece.span.partition] = piece.span.stop
        self.source = SpoolSource("http", self.writers[0])
        self.source.open(self.positions)

    @rule(
        writer=st.integers(0, 1),
        sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5),
        partition=st.sampled_from(["", "", "1"]),
        origin=st.sampled_from([None, None, "mail"]),
        fault=st.sampled_from([None, None, None, "broken"]),
        later_ms=st.sampled_from([0, 10, 1000]),
    )
    def append(
        self, writer: int, sizes: list[int], partition: str, origin: str | None, fault: str | None, later_ms: int
    ) -> None:
        self.now = getattr(self, "now", NOW) + timedelta(milliseconds=later_ms)
        first = len(self.records) + 1
        own = [b"%d." % n + b"x" * size for n, size in enumerate(sizes, first)]
        last = self.writers[writer].append(own, self.now, partition=partition, source=origin, fault=fault)
        self.records += [(n, partition, origin, (b"!" if fault else b"") + r) for n, r in enumerate(own, first)]
        assert last == len(self.records)

    @rule(writer=st.integers(0, 1))
    def reopen(self, writer: int) -> None:
        self.writers[writer].close()
        self.writers[writer] = Spool(self.folder, segment_bytes=150)
        if writer == 0:
            self.source.close()
            self.restart_at(len(self.pieces))

    @rule(rows=st.integers(1, 8), size=st.integers(1, 200))
    def poll(self, rows: int, size: int) -> None:
        found = self.source.poll(rows, size)
        for piece in found:
            assert piece.span.start == self.positions.get(piece.span.partition)
            self.positions[piece.span.partition] = piece.span.stop
        self.pieces += found

    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        self.source.close()
        self.restart_at(data.draw(st.integers(self.released, len(self.pieces))))

    @precondition(lambda self: len(self.pieces) > self.released)
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        piece = data.draw(st.sampled_from(self.pieces[self.released :]))
        assert self.source.take(piece.span) == piece

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.released = data.draw(st.integers(self.released, len(self.pieces)))
        last: dict[str, Position] = defaultdict(dict)
        for piece in self.pieces[: self.released]:
            last[piece.span.partition] = piece.span.stop
        self.source.release(last)

    def teardown(self) -> None:
        if hasattr(self, "source"):
            self.pieces += drain(self.source)
            assert records(self.pieces) == self.records
            self.source.close()
            for writer in self.writers:
                writer.close()
            shutil.rmtree(self.folder)


Spooled.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestSpooled = Spooled.TestCase


def spooled(stream: io.BufferedIOBase, spool: Spool, **options: int) -> list[Piece]:
    """Copy a stream whole, reading and releasing meanwhile; return what came."""
    spooler = StdinSpooler(stream, spool, lambda: NOW, **options)  # type: ignore[arg-type]
    OPEN.append(source := SpoolSource("http", spool, finished=lambda: spooler.finished))
    source.open({})
    assert not source.ended
    spooler.start()
    pieces: list[Piece] = []
    deadline = time.monotonic() + 30
    while not source.ended and time.monotonic() < deadline:
        pieces += source.poll(ROWS, BYTES)
        if pieces:
            source.release({"": pieces[-1].span.stop})
    assert source.ended
    assert spooler.error is None
    return pieces


def test_stdin_is_read_line_by_line_to_its_end_with_the_numbers_of_its_lines(folder: Path) -> None:
    text = b"\xef\xbb\xbfone\r\n\n" + b"\n".join(b"%d" % n for n in range(1000)) + b"\nlast"
    found = plain(spooled(io.BytesIO(text), opened(folder)))
    assert found == list(enumerate(text.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1))
    assert plain(spooled(io.BytesIO(b""), opened(folder.with_name("empty")))) == []
    assert plain(spooled(io.BytesIO(b"\xef\xbb\xbfx"), opened(folder.with_name("short")))) == [(1, b"x")]


def test_a_line_of_stdin_that_is_too_long_is_one_fault(folder: Path) -> None:
    text = b"one\n" + b"x" * 1_000_000 + b"\n" + b"y" * 100 + b"\n" + b"z" * 101 + b"\nlast\n" + b"w" * 500_000
    pieces = spooled(io.BytesIO(text), opened(folder), max_line_bytes=100)
    assert plain(pieces) == [
        (1, b"one"), (2, b"!" + b"x" * 100), (3, b"y" * 100), (4, b"!" + b"z" * 100), (5, b"last"), (6, b"!" + b"w" * 100),
    ]  # fmt: skip
    assert pieces[1].faults[0][2] == "line is longer than 100 bytes"


def test_stdin_waits_while_the_spool_is_full_and_loses_nothing(folder: Path) -> None:
    text = b"".join(b"%d" % n * 20 + b"\n" for n in range(3000))
    spool = opened(folder, max_bytes=20_000)
    assert plain(spooled(io.BytesIO(text), spool)) == list(enumerate(text.split(b"\n")[:-1], 1))
    assert spool.size_bytes <= 20_000


def test_what_breaks_while_stdin_is_copied_is_kept_as_an_error(folder: Path) -> None:
    class Broken(io.RawIOBase):
        def read(self, _: int = -1) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    spooler = StdinSpooler(Broken(), opened(folder), lambda: NOW)  # type: ignore[arg-type]
    spooler.start()
    deadline = time.monotonic() + 10
    while not spooler.finished and time.monotonic() < deadline:
        time.sleep(0.001)
    assert isinstance(spooler.error, SourceError)
