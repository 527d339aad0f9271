"""Standard input, line by line into a spool, before anything else happens to it.

Enters: a stream of bytes. Leaves: its lines in a `Spool`. Layer: sources.
"""

from __future__ import annotations

import threading
from typing import IO, TYPE_CHECKING, Any, Final

from tocsin.errors import SourceError
from tocsin.sources.files import MAX_LINE_BYTES
from tocsin.sources.live.spool import SpoolFullError
from tocsin.sources.live.tail import KEPT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from tocsin.sources.live.spool import Spool

_READ_BYTES: Final = 1 << 18
_WAIT_SECONDS: Final = 0.05
_BOM: Final = b"\xef\xbb\xbf"


class StdinSpooler:
    """A thread that copies the lines of a stream to a spool, and waits where the spool is full.

    The lines that are there together become one frame. Blank lines are kept, so that numbers are those of lines. A last
    line needs no newline. What `SpoolSource` takes for ``finished`` is the property of that name here.

    Args:
        stream: Any binary stream.
        spool: Where the lines go.
        clock: Says when a line was received.
        max_line_bytes: A longer line becomes a fault, of which the first 64 KB are kept.
    """

    def __init__(
        self, stream: IO[bytes], spool: Spool, clock: Callable[[], datetime], *, max_line_bytes: int = MAX_LINE_BYTES
    ) -> None:
        self._read: Callable[[int], Any] = getattr(stream, "read1", stream.read)
        self._spool, self._clock = spool, clock
        self._max_line = max(min(max_line_bytes, spool.max_bytes // 16), 1)
        self._read_bytes = max(min(_READ_BYTES, spool.max_bytes // 16), 1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="tocsin-stdin", daemon=True)
        self.error: SourceError | None = None
        """What ended the copying before the stream ended."""

    def start(self) -> None:
        """Begin to copy."""
        self._thread.start()

    @property
    def finished(self) -> bool:
        """Whether the stream has ended and every line of it is in the spool; or `error` says why not."""
        return self._thread.ident is not None and not self._thread.is_alive()

    def stop(self) -> None:
        """Copy no more; a read that waits for the stream is left behind."""
        self._stop.set()

    def _work(self) -> None:
        try:
            self._copy()
        except SourceError as error:
            self.error = error
        except OSError as error:
            self.error = SourceError(
                f"standard input cannot be read: {error.strerror}. Start again with another stream."
            )

    def _copy(self) -> None:
        held, first, passing = b"", True, False
        while not self._stop.is_set() and (block := self._read(self._read_bytes)):
            if passing:
                _, newline, block = block.partition(b"\n")
                passing = not newline
            held += block
            if first and len(held) >= len(_BOM):
                held, first = held.removeprefix(_BOM), False
            lines, newline, held = held.rpartition(b"\n")
            if newline:
                self._keep(lines.split(b"\n"))
            if len(held) > self._max_line:
                self._keep([held])
                held, passing = b"", True
        if held and not self._stop.is_set():
            self._keep([held.removeprefix(_BOM) if first else held])

    def _keep(self, lines: list[bytes]) -> None:
        """Put lines into the spool in their order, over-long ones as faults."""
        start = 0
        for n, line in enumerate(lines):
            if len(line) > self._max_line:
                self._append(lines[start:n], None)
                self._append([line[: min(KEPT_BYTES, self._max_line)]], f"line is longer than {self._max_line:,} bytes")
                start = n + 1
        self._append(lines[start:], None)

    def _append(self, records: list[bytes], fault: str | None) -> None:
        while records and not self._stop.is_set():
            try:
                self._spool.append(records, self._clock(), fault=fault)
            except SpoolFullError:
                self._stop.wait(_WAIT_SECONDS)
            else:
                return
