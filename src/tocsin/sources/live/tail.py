"""A growing file of JSON lines, followed through rotation, truncation and restarts.

Enters: the path of a log. Leaves: pieces of whole lines, numbered as `tocsin.read` numbers them in each file. Layer: sources.

What is called a generation here is one file that stood at the path: the first is generation 0, and each that follows
it, after a rotation or after the file was cut short and written anew, is one more. Files without content count for none.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from tocsin.errors import SourceError
from tocsin.sources.counting import count_byte, count_records, line_ends
from tocsin.sources.files import MAX_LINE_BYTES
from tocsin.sources.live.pieces import LostError, Piece, Position, Span
from tocsin.sources.live.tail_files import HEAD_BYTES, LogFile, find, successor

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

KEPT_BYTES: Final = 64 << 10
_BLOCK_BYTES: Final = 1 << 20
_MOST_PASSED_BYTES: Final = 64 << 20
_QUIET_POLLS: Final = 2
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where reading goes on: before the line `line`, or within the line before it, whose rest is passed over."""

    generation: int = 0
    offset: int = 0
    line: int = 1
    passing: bool = False


class FileTail:
    """A `LiveSource` over one growing file; its only partition is "".

    Lines are read once their newline is there. When another file stands at the path, the old one is read on until it
    has not grown for a few polls and the new one has content; the end of a file ends its last line. Several
    rotations between two polls are followed by inode, first bytes and the usual names (``log.1``, ``log-20240131.gz``).
    A file that was copied and cut is read to its end in the copy where that lies beside it; else `told` says what is lost.

    Args:
        name: Of the source. An event without an id is called ``name:line``, in later generations ``name~G:line``.
        path: Of the file; it need not be there yet.
        start: Where to begin without a saved position; "end" means after the last whole line.
        follow: Whether to wait for more; else the source ends at the end of the file.
        max_line_bytes: A longer line becomes a fault, of which the first 64 KB are kept.

    Raises:
        SourceError: The file is packed, so it does not grow.
    """

    def __init__(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        start: Literal["beginning", "end"] = "beginning",
        follow: bool = True,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        self.name, self._path = name, Path(path)
        if self._path.suffix == ".gz":
            raise SourceError(f"{path}: a packed file does not grow. Read it as a source of the kind folder instead.")
        self._start, self._follow, self._max_line = start, follow, max_line_bytes
        self.warnings: list[str] = []
        self._said = ""
        self._file: LogFile | None = None
        self._place = _Place()
        self._head = b""
        self._stopped: Position | None = None
        """Where the piece before stopped."""
        self._searched = 0
        """Up to here no newline follows the place."""
        self._line_bytes = 512.0
        self._at_end = self._ended = False
        self._quiet_polls = self._modified_ns = 0
        self._idle: tuple[int, int, int] | None = None
        """What the file at the path looked like when nothing was left in it."""
        self._taken: LogFile | None = None

    def open(self, positions: Mapping[str, Position]) -> None:
        """Go on after the saved position; where its file is gone, with the next one, and `told` says so.

        Raises:
            SourceError: It is not to be followed, and there is none; or it cannot be read.
        """
        self._stopped = positions.get("")
        if not self._follow and not self._path.exists():
            raise SourceError(f"no file {self._path}. Name one that is there, or follow it (follow = true).")
        if not self._begin() and self.warnings:
            raise SourceError(self.warnings[-1])
        self._start = "beginning"  # a file that comes later is new from its first line

    def told(self) -> list[str]:
        """Return what happened since the last call that somebody should know."""
        warnings, self.warnings = self.warnings, []
        return warnings

    def poll(self, most_rows: int, most_bytes: int) -> list[Piece]:
        """Return the whole lines that have come; while nothing comes this costs one look at the path."""
        file = self._file
        if file is None:
            return self.poll(most_rows, most_bytes) if self._begin() else []
        seen = _look(self._path)
        if seen is not None and seen == self._idle:
            return []
        here, before, stopped = seen is not None and seen[0] == file.inode, self._place, self._stopped
        pieces = self._read(file, most_rows, most_bytes)
        if self._was_cut(file):
            self._place, self._stopped = before, stopped  # what was read may be of either file
            self._follow_cut(file, here=here)
            return []
        if pieces or not self._at_end:
            self._quiet_polls = 0
        elif not here:
            self._quiet_polls += 1
            if self._quiet_polls > _QUIET_POLLS or not self._follow:
                return self._leave(file, most_rows, most_bytes)
        elif self._follow:
            self._idle = seen
        else:
            pieces = self._read(file, most_rows, most_bytes, final=True)
            self._ended = not pieces
        return pieces

    def take(self, span: Span) -> Piece:
        """Return the lines of a span again, also from a file that was rotated or packed since.

        Raises:
            LostError: The file is gone or was written anew.
        """
        stop = span.stop
        for file in (self._taken, self._file):
            if file is not None and file.holds(stop):
                return self._piece(span.start, stop, file.read_at(stop["since"], stop["kept"]))
        if self._taken is not None:
            self._taken.close()
        self._taken = file = find(self._path, stop)
        if file is None:
            raise LostError(
                f"{self._path}: the lines up to {stop['line'] - 1:,} of the generation {stop['generation']} are neither in it nor"
                f" in a file beside it. Put the file that held them back into {self._path.parent}, under any name, plain or .gz."
            )
        return self._piece(span.start, stop, file.read_at(stop["since"], stop["kept"]))

    def release(self, positions: Mapping[str, Position]) -> None:
        """Do nothing: the files are their writer's."""

    @property
    def ended(self) -> bool:
        """Whether a file that is not followed was read to its end."""
        return self._ended

    def behind(self) -> Mapping[str, int]:
        """Return how many bytes are there that have not been polled, of the file being read and of that at the path."""
        seen = _look(self._path)
        if self._file is None:
            return {"": seen[1] if seen is not None and self._stopped is None else 0}
        left = max(self._file.facts().st_size - self._place.offset, 0)
        return {"": left if seen is None or seen[0] == self._file.inode else left + seen[1]}

    def close(self) -> None:
        """Let the files go."""
        for file in {self._file, self._taken} - {None}:
            file.close()  # type: ignore[union-attr]
        self._file = self._taken = None

    def _begin(self) -> bool:
        """Open the file that holds the saved position, or that to begin with; return whether there is one."""
        saved = self._stopped
        if saved is not None:
            place = _Place(saved["generation"], saved["offset"], saved["line"], saved["passing"])
            file = find(self._path, saved)
            if file is None:
                return self._go_on_without(place, None, saved["modified"])
            self._enter(file, place)
            return True
        file = self._opened(self._path)
        if file is None:
            return False
        self._enter(file, _Place())
        if self._start == "end":
            self._place = self._after_last_line(file)
            self._stopped = self._position(file, self._place.offset, b"")
        return True

    def _opened(self, path: Path) -> LogFile | None:
        try:
            return LogFile(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(
                f"{path} cannot be read ({error.strerror}). Give this user the right to; until then nothing comes."
            )
            return None

    def _warn(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self.warnings.append(text)

    def _enter(self, file: LogFile, place: _Place) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._place, self._head = file, place, file.read_at(0, HEAD_BYTES)
        self._modified_ns = file.facts().st_mtime_ns
        self._searched = self._quiet_polls = 0
        self._idle = None

    def _go_on_without(self, place: _Place, last: LogFile | None, modified_ns: int) -> bool:
        """Go to the next generation, though the end of this one was not seen; return whether there is one yet."""
        if not self._go_on(place, last, modified_ns):
            return False
        self._warn(
            f"{self._path}: the file that was read up to line {place.line - 1:,} was cut or is gone, and no copy of it lies beside"
            f" it: lines that came after may be lost. Reading goes on in {self._file and self._file.path.name} as"
            f" {self._prefix(self._place.generation)}. Rotate by renaming, and keep one old file, so that none can be."
        )
        return True

    def _go_on(self, place: _Place, last: LogFile | None, modified_ns: int) -> bool:
        following = successor(self._path, last, modified_ns)
        file = None if following is None else self._opened(following)
        if file is None:
            return False
        # Nothing was ever read of a file without content: the next one has its place, whoever looked when.
        self._enter(file, _Place(place.generation + (place.offset > 0)))
        return True

    def _leave(self, file: LogFile, most_rows: int, most_bytes: int) -> list[Piece]:
        """Finish a file that is no longer at the path, and go on in the next one as soon as that has content."""
        written_ns = file.facts().st_mtime_ns
        following = successor(self._path, file, written_ns)
        if following is None and self._follow:
            return []
        if pieces := self._read(file, most_rows, most_bytes, final=True):
            return pieces
        self._ended = following is None
        return self.poll(most_rows, most_bytes) if self._go_on(self._place, file, written_ns) else []

    def _was_cut(self, file: LogFile) -> bool:
        """Return whether the file was cut short or written anew, and learn more of its first bytes while it is short."""
        if file.packed:
            return False
        head, facts = file.read_at(0, HEAD_BYTES), file.facts()
        if facts.st_size < self._place.offset or not head.startswith(self._head):
            return True
        self._head, self._modified_ns = head, facts.st_mtime_ns
        return False

    def _follow_cut(self, file: LogFile, *, here: bool) -> None:
        """Go on in the copy that was made before a file was cut; else in what came after."""
        place, position = self._place, self._position(file, self._place.offset, b"")
        if self._stopped is not None and self._stopped["generation"] == place.generation:
            position = {**self._stopped, "offset": place.offset}
        if (copy := find(self._path, position)) is not None:
            self._enter(copy, place)
        elif not self._go_on_without(place, None if here else file, self._modified_ns):
            self._idle = _look(self._path)  # nothing stands in it yet

    def _read(self, file: LogFile, most_rows: int, most_bytes: int, *, final: bool = False) -> list[Piece]:
        pieces: list[Piece] = []
        rows = size = 0
        self._at_end = False
        while rows < most_rows and size < most_bytes:
            piece = self._next(file, most_rows - rows, most_bytes - size, alone=not pieces, final=final)
            if piece is None:
                break
            pieces.append(piece)
            rows, size = rows + piece.rows, size + len(piece.data)
        return pieces

    def _next(self, file: LogFile, rows: int, size: int, *, alone: bool, final: bool) -> Piece | None:
        """Return the next piece, and move behind it."""
        if self._place.passing and not self._pass_over(file):
            return None
        place, start = self._place, self._stopped
        raw = self._lines(file, rows, size, alone=alone, final=final)
        if raw is None:
            return None
        if len(raw) > self._max_line and b"\n" not in raw:
            self._place = replace(place, offset=place.offset + len(raw), line=place.line + 1, passing=True)
            raw = raw[: min(KEPT_BYTES, self._max_line)]
            stop = self._position(file, place.offset, raw)
        else:
            whole = raw.endswith(b"\n")
            lines = count_byte(raw, b"\n") + (not whole)
            self._place = replace(place, offset=place.offset + len(raw), line=place.line + lines, passing=not whole)
            self._line_bytes = len(raw) / lines
            stop = self._position(file, place.offset, raw)
        self._searched = 0
        self._stopped = stop
        return self._piece(start, stop, raw)

    def _pass_over(self, file: LogFile) -> bool:
        """Move behind the end of a line whose beginning is dealt with; return whether it was found."""
        for _ in range(_MOST_PASSED_BYTES // _BLOCK_BYTES):
            block = file.read_at(self._place.offset, _BLOCK_BYTES)
            end = block.find(b"\n")
            self._place = replace(self._place, offset=self._place.offset + (end + 1 or len(block)), passing=end < 0)
            if end >= 0:
                return True
            if len(block) < _BLOCK_BYTES:
                self._at_end = True
                return False
        return False

    def _lines(self, file: LogFile, rows: int, size: int, *, alone: bool, final: bool) -> bytes | None:
        """Return whole lines within the bounds, or one line; as much of an over-long one as shows that it is."""
        offset = self._place.offset
        wanted = min(size, self._max_line + 1, int(rows * self._line_bytes * 1.25) + KEPT_BYTES)
        block = file.read_at(offset, wanted)
        cut = block.rfind(b"\n") + 1
        if cut:
            ends = line_ends(block[:cut])
            return block[: int(ends[rows - 1]) + 1] if len(ends) > rows else block[:cut]
        end = self._line_end(file, offset, len(block))
        if end is None:
            self._at_end = True
            return (file.read_at(offset, self._max_line + 1) or None) if final else None
        return file.read_at(offset, end - offset) if alone or end - offset <= size else None

    def _line_end(self, file: LogFile, offset: int, searched: int) -> int | None:
        """Return where the line at an offset ends, or where it has become over-long; None where its end has not come."""
        limit = offset + self._max_line + 1
        at = max(offset + searched, self._searched)
        while at < limit:
            block = file.read_at(at, min(_BLOCK_BYTES, limit - at))
            if (end := block.find(b"\n")) >= 0:
                return at + end + 1
            at += len(block)
            if not block:
                self._searched = at
                return None
        return limit

    def _after_last_line(self, file: LogFile) -> _Place:
        """Return the place after the last newline, with the number of the line that begins there."""
        at, place = 0, _Place()
        while block := file.read_at(at, _BLOCK_BYTES):
            if lines := count_byte(block, b"\n"):
                place = _Place(0, at + block.rfind(b"\n") + 1, place.line + lines)
            at += len(block)
        return place

    def _position(self, file: LogFile, since: int, kept: bytes) -> Position:
        """Return the place as a position; what was read just before it proves later that a file is the same."""
        if len(self._head) < HEAD_BYTES and (head := file.read_at(0, HEAD_BYTES)).startswith(self._head):
            self._head = head
        return {
            "generation": self._place.generation,
            "inode": file.inode,
            "head": [len(self._head), hashlib.sha256(self._head).hexdigest()],
            "offset": self._place.offset,
            "line": self._place.line,
            "passing": self._place.passing,
            "since": since,
            "kept": len(kept),
            "sum": zlib.crc32(kept),
            "modified": file.facts().st_mtime_ns,
        }

    def _piece(self, start: Position | None, stop: Position, raw: bytes) -> Piece:
        span, prefix = Span(self.name, "", start, stop), self._prefix(stop["generation"])
        if stop["since"] + stop["kept"] < stop["offset"]:
            fault = (stop["line"] - 1, raw, f"line is longer than {self._max_line:,} bytes")
            return Piece(span, prefix=prefix, first_line=stop["line"] - 1, faults=(fault,), rows=1)
        data = raw if raw.endswith(b"\n") else raw + b"\n"
        first = stop["line"] - count_byte(data, b"\n")
        if stop["since"] == 0:
            data = data.removeprefix(_BOM)
        return Piece(span, data, prefix, first_line=first, rows=count_records(data))

    def _prefix(self, generation: int) -> str:
        return f"{self.name}~{generation}" if generation else self.name


def _look(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
