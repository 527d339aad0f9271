"""A growing file is read whole, once and in order, whatever is done to it, and any piece of it can be read again."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import tocsin as tc
from tocsin.errors import SourceError
from tocsin.sources.live.pieces import LostError, Piece, Position
from tocsin.sources.live.tail import KEPT_BYTES, FileTail

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS, BYTES = 10_000, 16 << 20
QUIET = 12


def drain(tail: FileTail, rows: int = ROWS, size: int = BYTES) -> list[Piece]:
    """Poll until nothing has come for longer than a rotation takes to be believed."""
    pieces: list[Piece] = []
    quiet = 0
    while quiet < QUIET:
        found = tail.poll(rows, size)
        quiet = 0 if found else quiet + 1
        pieces += found
    return pieces


def lines(pieces: list[Piece]) -> list[tuple[str, bytes]]:
    """What a slow reader would write down: each line's id and bytes, faults among them; blank lines are no records."""
    found = []
    for piece in pieces:
        assert piece.data.endswith(b"\n") or not piece.data
        own = [
            (number, line) for number, line in enumerate(piece.data.split(b"\n")[:-1], piece.first_line) if line.strip()
        ]
        own += [(number, b"!" + why.encode()) for number, _, why in piece.faults]
        assert piece.rows == len(own)
        found += [(f"{piece.prefix}:{number}", line) for number, line in own]
    return found


def expected(content: bytes, prefix: str) -> list[tuple[str, bytes]]:
    """The slow oracle: the numbered lines of one file."""
    return [(f"{prefix}:{n}", line) for n, line in enumerate(content.split(b"\n"), 1) if line.strip()]


OPEN: list[FileTail] = []


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def opened(path: Path, position: Position | None = None, **options: object) -> FileTail:
    tail = FileTail("mail", path, **options)  # type: ignore[arg-type]
    OPEN.append(tail)
    tail.open({} if position is None else {"": position})
    return tail


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


def add(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_a_line_waits_until_its_newline_is_there(log: Path) -> None:
    log.write_bytes(b'{"a":1}\n{"b"')
    tail = opened(log)
    assert lines(drain(tail)) == [("mail:1", b'{"a":1}')]
    add(log, b":2}\n")
    assert lines(drain(tail)) == [("mail:2", b'{"b":2}')]
    assert not tail.ended


def test_the_end_of_a_file_that_is_not_followed_ends_its_last_line_and_the_source(log: Path) -> None:
    log.write_bytes(b"one\ntwo")
    tail = opened(log, follow=False)
    pieces = drain(tail)
    assert lines(pieces) == [("mail:1", b"one"), ("mail:2", b"two")]
    assert tail.ended
    add(log, b"\nthree\n")
    assert lines(drain(opened(log, pieces[-1].span.stop, follow=False))) == [("mail:3", b"three")]


def test_what_a_file_holds_is_read_as_the_file_itself_is_read(log: Path) -> None:
    record = '{"timestamp":"2025-01-02T03:04:0%d+00:00","user_id":"u"}'
    content = (
        b"\xef\xbb\xbf" + (record % 1).encode() + b"\r\n\n \t\n\0\0\0\n" + (record % 2).encode() + b"\nbroken\n\r\n"
    )
    content += (record % 3).encode()
    log.write_bytes(content)
    path = log.with_name("mail.jsonl")
    path.write_bytes(content)
    events = tc.read(path, name="mail", progress=False)
    tail = opened(log, follow=False)
    found = lines(drain(tail, rows=2))
    assert [i for i, line in found if b"user_id" in line] == events.frame().collect()["event_id"].to_list()
    assert [i for i, line in found if b"user_id" not in line] == [
        f"mail:{n}" for n in events.rejected["line"].to_list()
    ]
    assert found[0][1].startswith(b"{")


def test_a_file_that_is_not_there_yet_is_waited_for_and_read_from_its_first_line(log: Path) -> None:
    tail = opened(log, start="end")
    assert drain(tail) == []
    log.write_bytes(b"one\n")
    assert lines(drain(tail)) == [("mail:1", b"one")]
    with pytest.raises(SourceError, match="no file"):
        opened(log.with_name("other"), follow=False)


def test_beginning_at_the_end_keeps_the_numbers_of_the_lines_and_an_unfinished_line(log: Path) -> None:
    log.write_bytes(b"one\ntwo\nthr")
    tail = opened(log, start="end")
    add(log, b"ee\nfour\n")
    pieces = drain(tail)
    assert lines(pieces) == [("mail:3", b"three"), ("mail:4", b"four")]
    assert [tail.take(p.span) for p in pieces] == pieces


def test_a_renamed_file_is_read_to_its_end_before_the_new_one(log: Path) -> None:
    log.write_bytes(b"one\n")
    tail = opened(log)
    drain(tail)
    add(log, b"two\nthr")
    log.rename(log.with_name("app.log.1"))
    log.write_bytes(b"")
    assert lines(drain(tail)) == [("mail:2", b"two")]
    add(log.with_name("app.log.1"), b"ee\nend")  # the writer has not noticed yet
    assert lines(drain(tail)) == [("mail:3", b"three")]
    add(log, b"new\n")
    assert lines(drain(tail)) == [("mail:4", b"end"), ("mail~1:1", b"new")]
    assert tail.told() == []


@pytest.mark.parametrize(
    "names", [[".1"], ["-20250101"], [".2025-01-01_00-00-00"], [".3", ".2", ".1"], ["-20250102", "-20250103"]]
)
def test_several_rotations_between_two_polls_are_followed_in_their_order(log: Path, names: list[str]) -> None:
    log.write_bytes(b"old 1\n")
    tail = opened(log)
    pieces = drain(tail)
    wanted = []
    for number, name in enumerate(names):
        add(log, b"last of %d" % number)
        rotated = log.with_name("app.log" + name)
        log.rename(rotated)
        os.utime(rotated, ns=(0, 10**18 + number))
        wanted += expected(rotated.read_bytes(), f"mail~{number}" if number else "mail")
        log.write_bytes(b"first of %d\n" % (number + 1))
    wanted += expected(log.read_bytes(), f"mail~{len(names)}")
    assert lines(pieces) + lines(drain(tail)) == wanted
    assert lines(pieces) + lines(drain(opened(log, pieces[-1].span.stop))) == wanted


def test_files_beside_it_that_are_not_rotated_ones_are_left_alone(log: Path) -> None:
    log.write_bytes(b"one\n")
    tail = opened(log)
    drain(tail)
    log.rename(log.with_name("app.log.1"))
    for name in ("app.log.offset", "app.log.bak", "app.logs", "application.log.1", "app.log.1.gz", "app.log.2"):
        log.with_name(name).write_bytes(b"stranger\n")
    log.write_bytes(b"two\n")
    assert lines(drain(tail)) == [("mail~1:1", b"two")]


def test_a_file_that_was_cut_is_begun_anew_and_that_is_told(log: Path) -> None:
    log.write_bytes(b"one\ntwo\n")
    tail = opened(log)
    drain(tail)
    log.write_bytes(b"")
    assert drain(tail) == []
    add(log, b"new\n")
    assert lines(drain(tail)) == [("mail~1:1", b"new")]
    [said] = tail.told()
    assert "line 2" in said
    assert tail.told() == []


def test_a_file_cut_to_a_part_of_itself_is_begun_anew_too(log: Path) -> None:
    log.write_bytes(b"".join(b"%049d\n" % n for n in range(40)))
    tail = opened(log)
    drain(tail)
    os.truncate(log, 1500)  # all of the first bytes that are kept for comparison
    assert lines(drain(tail)) == expected(log.read_bytes(), "mail~1")
    assert tail.told()


def test_a_file_written_anew_and_longer_than_before_is_known_by_its_first_bytes(log: Path) -> None:
    log.write_bytes(b"one\n")
    tail = opened(log)
    pieces = drain(tail)
    log.write_bytes(b"another one\nand more\n")
    assert lines(drain(tail)) == [("mail~1:1", b"another one"), ("mail~1:2", b"and more")]
    assert tail.told()
    again = opened(log, pieces[-1].span.stop)
    assert lines(drain(again)) == [("mail~1:1", b"another one"), ("mail~1:2", b"and more")]
    assert again.told()


def test_what_was_written_before_a_file_was_copied_and_cut_is_read_from_the_copy(log: Path) -> None:
    log.write_bytes(b"one\n")
    tail = opened(log)
    pieces = drain(tail)
    add(log, b"two\nthree")
    shutil.copyfile(log, log.with_name("app.log.1"))
    log.write_bytes(b"new\n")
    rest = drain(tail)
    assert lines(rest) == [("mail:2", b"two"), ("mail:3", b"three"), ("mail~1:1", b"new")]
    assert tail.told() == []
    assert [tail.take(p.span) for p in pieces + rest] == pieces + rest
    assert lines(drain(opened(log, pieces[-1].span.stop))) == lines(rest)


def test_an_inode_that_is_given_out_again_is_not_mistaken_for_the_old_file(log: Path) -> None:
    log.write_bytes(b"one\n")
    stop = drain(opened(log))[-1].span.stop
    log.write_bytes(b"two\nmore\n")  # the same inode
    tail = opened(log, stop)
    assert lines(drain(tail)) == [("mail~1:1", b"two"), ("mail~1:2", b"more")]
    with pytest.raises(LostError, match=r"app\.log.*Put the file"):
        tail.take(next(iter(drain(opened(log)))).span.__class__("mail", "", None, stop))


def test_spans_of_rotated_and_packed_files_are_read_again_byte_for_byte_or_are_lost_by_name(log: Path) -> None:
    log.write_bytes(b"one\n" * 5)
    tail = opened(log)
    pieces = drain(tail, rows=2)
    log.rename(log.with_name("app.log.1"))
    log.write_bytes(b"two\n" * 5)
    pieces += drain(tail, rows=2)
    with log.with_name("app.log.1").open("rb") as plain, gzip.open(log.with_name("kept.gz"), "wb") as packed:
        shutil.copyfileobj(plain, packed)
    log.with_name("app.log.1").unlink()
    fresh = opened(log, pieces[-1].span.stop)
    assert [fresh.take(p.span) for p in pieces] == pieces
    assert [fresh.take(p.span) for p in reversed(pieces)] == pieces[::-1]
    assert lines(drain(opened(log, pieces[0].span.stop))) == lines(pieces[1:])
    damaged = bytearray(log.with_name("kept.gz").read_bytes())
    log.with_name("kept.gz").write_bytes(damaged[:-12])
    with pytest.raises(LostError, match=r"app\.log: the lines up to"):
        opened(log, pieces[-1].span.stop).take(pieces[2].span)


def test_a_line_that_is_too_long_is_one_fault_and_the_lines_around_it_are_read(log: Path) -> None:
    log.write_bytes(b"one\n" + b"x" * 200 + b"\n" + b"y" * 100 + b"\n" + b"z" * 101)
    for size in (1, 50, 1000):
        tail = opened(log, max_line_bytes=100)
        pieces = drain(tail, size=size)
        why = b"!line is longer than 100 bytes"
        wanted = [("mail:1", b"one"), ("mail:2", why), ("mail:3", b"y" * 100), ("mail:4", why)]
        assert lines(pieces) == wanted
        assert [tail.take(p.span) for p in pieces] == pieces
        for n, piece in enumerate(pieces[:-1]):
            again = opened(log, piece.span.stop, max_line_bytes=100)
            assert lines(drain(again, size=size)) == lines(pieces[n + 1 :])
    add(log, b"z" * 300 + b"\nfive\n")
    rest = drain(tail)
    assert lines(rest) == [("mail:5", b"five")]
    assert [tail.take(p.span) for p in rest] == rest
    assert lines(drain(opened(log, pieces[-1].span.stop, max_line_bytes=100))) == [("mail:5", b"five")]


def test_a_line_of_100_mb_is_passed_over_in_bounded_memory(log: Path) -> None:
    with log.open("wb") as file:
        for _ in range(100):
            file.write(b"x" * (1 << 20))
        file.write(b"\nlast\n")
    program = (
        "import resource, sys; from tocsin.sources.live.tail import FileTail\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "tail = FileTail('mail', sys.argv[1], max_line_bytes=1 << 20); tail.open({})\n"
        "found = [p for _ in range(9) for p in tail.poll(10, 1 << 20)]\n"
        "print([(p.first_line, len(p.data), [len(f[1]) for f in p.faults]) for p in found],\n"
        "      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, log], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"[(1, 0, [{KEPT_BYTES}]), (2, 5, [])] True"


def test_a_poll_in_which_nothing_came_looks_once_at_the_path(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write_bytes(b"one\npart")
    tail = opened(log)
    drain(tail)
    looks: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", lambda *_: looks.append("read"))
        patch.setattr(os, "fstat", lambda *_: looks.append("facts"))
        patch.setattr(os, "listdir", lambda *_: looks.append("list"))
        found = tail.poll(ROWS, BYTES)
    assert (found, looks) == ([], [])


def test_bounds_are_kept_and_a_larger_line_comes_alone(log: Path) -> None:
    log.write_bytes(b"".join(b"%d\n" % (10**n) for n in range(12)) * 50)
    tail = opened(log)
    seen = []
    generator = random.Random(7)
    while True:
        rows, size = generator.randrange(1, 9), generator.randrange(1, 40)
        pieces = tail.poll(rows, size)
        if not pieces:
            break
        assert sum(p.rows for p in pieces) <= rows
        assert sum(len(p.data) for p in pieces) <= size or len(lines(pieces)) == 1
        seen += pieces
    assert lines(seen) == expected(log.read_bytes(), "mail")
    assert tail.behind() == {"": 0}


def test_what_is_behind_is_told_in_bytes_also_across_a_rotation(log: Path) -> None:
    log.write_bytes(b"one\ntwo\n")
    tail = opened(log)
    assert tail.behind() == {"": 8}
    tail.poll(1, BYTES)
    assert tail.behind() == {"": 4}
    log.rename(log.with_name("app.log.1"))
    log.write_bytes(b"123456\n")
    assert tail.behind() == {"": 11}


def test_what_cannot_be_followed_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not grow"):
        FileTail("mail", tmp_path / "app.log.gz")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="plain file"):
        opened(tmp_path / "pipe")


class Followed(RuleBasedStateMachine):
    """A writer does what writers do, a reader polls and restarts where it likes; the oracle is a list of files' contents."""

    @initialize(tmp=st.uuids())
    def begin(self, tmp: object) -> None:
        import tempfile

        self.folder = Path(tempfile.mkdtemp(prefix="tail-"))
        self.log = self.folder / "app.log"
        self.log.touch()
        self.files: list[bytearray] = [bytearray()]  # every file that ever stood at the path and had content
        self.count = 0
        self.rotations = 0
        self.pieces: list[Piece] = []
        self.kept = (
            0  # pieces before this one cannot be restarted from or read again: their file was cut without a copy
        )
        self.tail = opened(self.log, max_line_bytes=64)

    def write(self, data: bytes) -> None:
        add(self.log, data)
        self.files[-1] += data

    @rule(sizes=st.lists(st.integers(0, 90), min_size=1, max_size=6), end=st.sampled_from([b"\n", b"\r\n", b""]))
    def append(self, sizes: list[int], end: bytes) -> None:
        for size in sizes:
            self.count += 1
            self.write((b"%06d." % self.count + b"x" * size if size else b"") + b"\n")
        self.count += 1
        self.write(b"%06d;" % self.count + end)

    @rule(end=st.booleans())
    def append_a_part(self, end: bool) -> None:
        self.count += 1
        self.write(b"%06d..." % self.count + b"\n" * end)

    def shift(self) -> Path:
        for n in range(self.rotations, 0, -1):
            for kind in ("", ".gz"):
                if (old := self.folder / f"app.log.{n}{kind}").exists():
                    old.rename(self.folder / f"app.log.{n + 1}{kind}")
        self.rotations += 1
        return self.folder / "app.log.1"

    @rule()
    def rotate(self) -> None:
        self.log.rename(self.shift())
        self.log.touch()
        self.new_file()

    @precondition(lambda self: self.files[-1])
    @rule()
    def copy_and_cut(self) -> None:
        self.poll(ROWS, BYTES)  # what was never looked at has no fingerprint
        shutil.copyfile(self.log, self.shift())
        os.truncate(self.log, 0)
        self.new_file()

    @precondition(lambda self: self.files[-1])
    @rule()
    def cut(self) -> None:
        self.catch_up()
        os.truncate(self.log, 0)
        whole = bytes(self.files[-1])
        del self.files[-1][whole.rfind(b"\n") + 1 :]  # a part of a line is lost
        self.kept = len(self.pieces)
        self.new_file()
        self.append([5], b"\n")
        self.catch_up()

    @precondition(lambda self: self.rotations)
    @rule(which=st.integers(1, 4))
    def pack(self, which: int) -> None:
        plain = self.folder / f"app.log.{which}"
        if plain.exists():
            facts = plain.stat()
            packed = plain.with_name(plain.name + ".gz")
            packed.write_bytes(gzip.compress(plain.read_bytes()))
            os.utime(packed, ns=(facts.st_atime_ns, facts.st_mtime_ns))
            plain.unlink()

    def new_file(self) -> None:
        if self.files[-1]:
            self.files.append(bytearray())

    @rule(rows=st.integers(1, 5), size=st.integers(1, 200))
    def poll(self, rows: int, size: int) -> None:
        self.pieces += self.tail.poll(rows, size)

    @rule()
    def catch_up(self) -> None:
        self.pieces += drain(self.tail)

    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(self.kept, len(self.pieces)))
        if self.kept == 0 and at == 0:
            at = min(1, len(self.pieces))
        if at:
            self.tail.close()
            del self.pieces[at:]
            stop = json.loads(json.dumps(self.pieces[-1].span.stop))
            self.tail = opened(self.log, stop, max_line_bytes=64)

    @precondition(lambda self: len(self.pieces) > self.kept)
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        piece = data.draw(st.sampled_from(self.pieces[self.kept :]))
        assert self.tail.take(piece.span) == piece

    @invariant()
    def pieces_follow_each_other(self) -> None:
        for before, after in zip(self.pieces, self.pieces[1:], strict=False):
            assert after.span.start == before.span.stop

    def teardown(self) -> None:
        if hasattr(self, "files"):
            self.append([3], b"\n")
            self.catch_up()
            wanted = []
            for number, content in enumerate(self.files):
                own = expected(bytes(content), f"mail~{number}" if number else "mail")
                wanted += [(i, b"!line is longer than 64 bytes" if len(x) > 64 else x) for i, x in own]
            assert lines(self.pieces) == wanted
            self.tail.close()
            shutil.rmtree(self.folder)


Followed.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestFollowed = Followed.TestCase
