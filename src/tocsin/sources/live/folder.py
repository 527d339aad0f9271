"""A folder into which whole files are dropped: each is read once, in the order of their times of change.

Enters: a folder and its clock. Leaves: `DropFolder`, a `LiveSource`. Layer: sources.

A file is who it is by name, size and the bytes at both its ends. The position says how far the file being read is read,
and which files are done: the latest by digest, those before them by a mark, so that it does not grow with the folder.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tocsin.errors import SourceError
from tocsin.sources import files
from tocsin.sources.live.dropped import Lying, Part, Reading
from tocsin.sources.live.pieces import LostError, Piece, Position, Span
from tocsin.sources.mapping import Mapping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from collections.abc import Mapping as AnyMapping

PARTITION: Final = "files"
_LEFT_OUT: Final = (".part", ".tmp")
_END_BYTES: Final = 1024
_REMEMBERED: Final = 1_000
_DIGEST_BYTES: Final = 6
_IDENTITY: Final = ("file", "size", "fingerprint", "prefix")
_TICK_NS: Final = 1_000_000_000
"""Times of files are this exact at worst."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A file in the folder as it was seen."""

    name: str
    path: Path
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @property
    def key(self) -> tuple[int, str]:
        """The order in which files are read."""
        return self.mtime_ns, self.name


@dataclass(frozen=True, slots=True)
class _Who:
    """Who a file is: its name, and digests of the name and of all it is known by."""

    name: str
    size: int
    fingerprint: str

    @property
    def entry(self) -> bytes:
        """The file in the list of those that are done."""
        return _digest(self.name) + _digest(f"{self.name}\0{self.size}\0{self.fingerprint}")


class _Ledger:
    """Which files are done: the latest one by one, those before them by a mark.

    A file that is not among the latest was done if it comes no later in the order than the mark says and has not been
    touched since: what arrives later with an older time of change has a younger time of arrival.
    """

    def __init__(self, position: Position | None = None) -> None:
        packed = base64.b64decode(position["done"]) if position else b""
        width = 2 * _DIGEST_BYTES
        self._entries = dict.fromkeys(packed[at : at + width] for at in range(0, len(packed), width))
        self._names = Counter(entry[:_DIGEST_BYTES] for entry in self._entries)
        mtime_ns, name, ctime_ns = position["mark"] if position else (0, "", 0)
        self._mark, self._mark_ctime_ns = (mtime_ns, name), ctime_ns
        self._packed: str | None = None

    def has(self, found: _Found, who: _Who) -> bool:
        """Tell whether a file is done."""
        return who.entry in self._entries or (found.key <= self._mark and found.ctime_ns <= self._mark_ctime_ns)

    def knows_name(self, name: str) -> bool:
        """Tell whether a file of this name is done, whatever was in it."""
        return self._names[_digest(name)] > 0

    def add(self, who: _Who) -> None:
        """Note that a file is done."""
        self._entries[who.entry] = None
        self._names[who.entry[:_DIGEST_BYTES]] += 1
        self._packed = None

    def shrink(self, present: dict[str, tuple[_Found, _Who]], unread: Iterable[_Found]) -> None:
        """Put what was done long ago under the mark, where nothing unread could get there with it."""
        if len(self._entries) < _REMEMBERED * 11 // 10:
            return
        floor = min((f.key for f in unread), default=None)
        if floor is not None and floor <= self._mark:
            return
        known = {who.entry: found for found, who in present.values()}
        settled_ns = max((f.ctime_ns for f in known.values()), default=0) - _TICK_NS
        for entry in list(self._entries)[: len(self._entries) - _REMEMBERED]:
            found = known.get(entry)
            if found is not None:
                if found.ctime_ns > settled_ns or (floor is not None and found.key >= floor):
                    continue
                self._mark, self._mark_ctime_ns = max(self._mark, found.key), max(self._mark_ctime_ns, settled_ns)
            del self._entries[entry]
            self._names[entry[:_DIGEST_BYTES]] -= 1
        self._names = +self._names
        self._packed = None

    def to_json(self) -> dict[str, Any]:
        """Return what a position keeps of it."""
        if self._packed is None:
            self._packed = base64.b64encode(b"".join(self._entries)).decode()
        return {"done": self._packed, "mark": [*self._mark, self._mark_ctime_ns]}


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=_DIGEST_BYTES).digest()


class DropFolder:
    """Follows a folder of whole files (JSON lines, CSV, Parquet, log lines; packed or not).

    Hidden files and those that end in .part or .tmp are not looked at; by default only names that say they hold events
    are, with a pattern all that fit it. A file replaced by another under the same name is read as a file of its own: its
    ids have a prefix of their own.

    Args:
        name: The source's name.
        path: The folder; files in folders below it are read too.
        clock: The time now, in seconds since 1970.
        pattern: Of the names that are read.
        settle_seconds: A file counts as whole once it has not changed for so long.
        follow: Whether more files may come; if not, all that are there are whole.
        mapping: For the patterns of log lines and the separator of CSV.
        prefix: What ids begin with, by default the name. An id is ``prefix/file:number``, and ``prefix:number`` for the
            only file of a folder that is not followed, as `tocsin.read` makes them.
        scan_seconds: How often the folder is looked through when there is nothing left to read.

    Raises:
        SourceError: There is no such folder.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        clock: Callable[[], float],
        pattern: str = "*",
        settle_seconds: float = 2.0,
        follow: bool = True,
        mapping: Mapping | None = None,
        prefix: str | None = None,
        scan_seconds: float = 0.25,
    ) -> None:
        self.name, self._path, self._clock, self._pattern = name, path, clock, pattern
        self._settle_seconds, self._follow, self._scan_seconds = settle_seconds, follow, scan_seconds
        self._mapping, self._prefix = mapping or Mapping(), prefix or name
        self._ledger = _Ledger()
        self._present: dict[str, tuple[_Found, _Who]] = {}
        self._queue: list[_Found] = []
        self._waiting: list[_Found] = []
        self._first_seen: dict[str, tuple[_Found, float]] = {}
        self._looked: float | None = None
        self._alone = False
        self._lying = Lying()
        self._position: Position | None = None
        self._current: _Found | None = None
        self._reading: tuple[str, Reading] | None = None
        if not path.is_dir():
            raise SourceError(f"{path}: no such folder. Make it, or name another one for the source {name!r}.")

    def open(self, positions: AnyMapping[str, Position]) -> None:
        """Go on after a position: in the middle of a file, or with the next one.

        Raises:
            LostError: The file in whose middle it is has gone or is another one now.
        """
        self._position = position = positions.get(PARTITION)
        self._ledger, self._current, self._looked = _Ledger(position), None, None
        self._queue, self._present = [], {}
        if position is not None and not position["ended"]:
            self._current = self._same(position)

    def poll(self, most_rows: int, most_bytes: int) -> list[Piece]:
        """Return what has come since: a piece for each file, bounded together."""
        pieces: list[Piece] = []
        rows = size = 0
        while rows < most_rows and size < most_bytes and (self._current is not None or self._begin()):
            piece = self._next(most_rows - rows, most_bytes - size)
            if piece is not None:
                pieces.append(piece)
                rows, size = rows + piece.rows, size + len(piece.data)
        return pieces

    def take(self, span: Span) -> Piece:
        """Return the records of a span again.

        Raises:
            LostError: The file is gone, or is another one now.
        """
        stop, start = span.stop, span.start
        within = start is not None and all(start[key] == stop[key] for key in _IDENTITY)
        at = start["row"] if start is not None and within else 0
        found = self._same(stop)
        reading = self._read(found, stop["fingerprint"], at)
        parts: list[Part] = []
        while reading.at < stop["row"] and (not parts or parts[-1].rows or parts[-1].data):
            parts.append(reading.part(stop["row"] - reading.at, 1 << 62, until=stop["row"]))
        if reading.at != stop["row"]:
            raise LostError(f"{self.name}: {stop['file']} has no row {stop['row']:,} any more")
        return self._piece(span, parts, at + 1, reading.source.format)

    def release(self, positions: AnyMapping[str, Position]) -> None:
        """Do nothing: the files are their owner's."""

    @property
    def ended(self) -> bool:
        """Whether all files are read and no more are waited for."""
        return not self._follow and self._looked is not None and self._current is None and not self._queue

    def told(self) -> list[str]:
        """Return what is new to know."""
        return self._lying.take()

    def behind(self) -> AnyMapping[str, int]:
        """Return how many bytes the files have that are not read; of packed ones, of the pack."""
        self._scan()
        rest = self._current.size if self._current is not None else 0
        return {PARTITION: rest + sum(f.size for f in (*self._queue, *self._waiting))}

    def close(self) -> None:
        """Let the file being read go."""
        self._reading = None

    def _next(self, most_rows: int, most_bytes: int) -> Piece | None:
        """Give the next records of the current file; None where it had none."""
        found = self._current
        assert found is not None
        position = self._position
        going_on = position is not None and not position["ended"]
        at = position["row"] if position is not None and going_on else 0
        prefix = position["prefix"] if position is not None and going_on else self._prefix_of(found)
        who = self._present[found.name][1]
        gone = self._changed(found)
        if gone:
            part, ended, at, form = Part(at + 1, faults=((at + 1, b"", gone),), rows=1), True, at + 1, "jsonl"
        else:
            reading = self._read(found, who.fingerprint, at)
            part, form = reading.part(most_rows, most_bytes), reading.source.format
            ended, at = reading.ended, reading.at
        if ended:
            self._ledger.add(who)
            self._ledger.shrink(self._present, (*self._queue, *self._waiting))
            self._current = self._reading = None
        if not part.rows and not part.data and not part.parsed:
            return None
        stop = {
            "file": found.name, "size": who.size, "fingerprint": who.fingerprint, "prefix": prefix, "row": at, "ended": ended,
            **self._ledger.to_json(),
        }  # fmt: skip
        self._position = stop
        return self._piece(Span(self.name, PARTITION, position, stop), [part], part.first, form)

    @staticmethod
    def _piece(span: Span, parts: list[Part], first: int, form: str) -> Piece:
        parsed = tuple(p for part in parts for p in part.parsed or ())
        return Piece(
            span=span,
            data=b"".join(part.data for part in parts),
            prefix=span.stop["prefix"],
            first_line=first,
            parsed=parsed if form != "jsonl" else None,
            format=form,
            faults=tuple(f for part in parts for f in part.faults),
            rows=sum(part.rows for part in parts),
        )

    def _prefix_of(self, found: _Found) -> str:
        prefix = self._prefix if self._alone else f"{self._prefix}/{found.name}"
        again = self._ledger.knows_name(found.name)
        return f"{prefix}@{self._present[found.name][1].fingerprint[:8]}" if again else prefix

    def _read(self, found: _Found, fingerprint: str, at: int) -> Reading:
        """Return the reading of a file from a row on: the one at hand, where it stands there."""
        key = f"{found.name}\0{found.size}\0{fingerprint}"
        if self._reading is None or self._reading[0] != key or self._reading[1].at != at:
            try:
                source = files.input_of(found.path, self._mapping.format, found.name)
            except OSError as error:
                raise LostError(f"{self.name}: {found.name}: {error.strerror}") from None
            self._reading = (key, Reading(source, self._mapping, at))
        return self._reading[1]

    def _same(self, position: Position) -> _Found:
        """Return the file that a position speaks of."""
        path = self._path / position["file"]
        try:
            found = _look_at(path, position["file"])
            who, what = _who(found), "is another file now"
        except OSError:
            who, what = None, "is gone"
        if who != _Who(position["file"], position["size"], position["fingerprint"]):
            raise LostError(
                f"{self.name}: {path} {what}; it was read up to row {position['row']:,}. Put it back, or go on without it."
            )
        self._present[found.name] = (found, who)
        return found

    @staticmethod
    def _changed(found: _Found) -> str:
        try:
            now = _look_at(found.path, found.name)
        except OSError:
            return "the file was taken away while it was read"
        same = (now.size, now.mtime_ns, now.inode) == (found.size, found.mtime_ns, found.inode)
        return "" if same else "the file changed while it was read; as it is now it is read as another file"

    def _begin(self) -> bool:
        """Make the next file the current one."""
        if not self._queue:
            self._scan()
        while self._queue:
            found = self._queue.pop(0)
            if not self._changed(found):
                self._current = found
                return True
            self._looked = None if self._follow else self._looked
        return False

    def _scan(self) -> None:
        """Look through the folder, unless that was done a moment ago."""
        now = self._clock()
        if self._looked is not None and (not self._follow or 0 <= now - self._looked < self._scan_seconds):
            return
        self._looked = now
        present: dict[str, tuple[_Found, _Who]] = {}
        unread: list[_Found] = []
        for found in self._list():
            known = self._present.get(found.name)
            try:
                who = known[1] if known is not None and known[0] == found else _who(found)
            except OSError:
                continue  # it may not be read, or has gone again
            present[found.name] = (found, who)
            if not self._ledger.has(found, who) and found != self._current:
                unread.append(found)
        if self._current is not None:
            present.setdefault(self._current.name, self._present[self._current.name])
        self._present, self._alone = present, not self._follow and len(present) == 1
        whole = [f for f in unread if self._settled(f, now)]
        self._first_seen = {f.name: self._first_seen[f.name] for f in unread if f.name in self._first_seen}
        self._queue = sorted(whole, key=lambda f: f.key)
        self._waiting = [f for f in unread if f not in set(whole)]

    def _settled(self, found: _Found, now: float) -> bool:
        before = self._first_seen.get(found.name)
        if before is None or before[0] != found:
            self._first_seen[found.name] = before = (found, now)
        unchanged_seconds = max(now - found.mtime_ns / 1e9, now - before[1])
        return not self._follow or unchanged_seconds >= self._settle_seconds

    def _list(self) -> Iterator[_Found]:
        for path in self._path.rglob(self._pattern):
            name = str(path.relative_to(self._path))
            hidden = any(part.startswith(".") for part in Path(name).parts)
            if hidden or path.suffix.lower() in _LEFT_OUT:
                continue
            if self._pattern == "*" and not files.known(path):
                self._lying.note(path, name)
                continue
            try:
                if path.is_file() and (found := _look_at(path, name)).size:
                    yield found
            except OSError:
                continue  # it has gone again


def _look_at(path: Path, name: str) -> _Found:
    facts = path.stat()
    return _Found(name, path, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)


def _who(found: _Found) -> _Who:
    with found.path.open("rb") as file:
        ends = file.read(_END_BYTES)
        if found.size > _END_BYTES:
            file.seek(max(found.size - _END_BYTES, _END_BYTES))
            ends += file.read(_END_BYTES)
    return _Who(found.name, found.size, hashlib.blake2b(ends, digest_size=12).hexdigest())
