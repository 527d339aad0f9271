"""The reader: what has come in becomes batches, each written to the batch log before anything else happens to it.

Enters: live sources, the batch log, a clock. Leaves: `Work` in the order of the log: first what a restart has to do again,
then what comes. Layer: runners. Here, and nowhere else in the fold, is the wall clock read; what it decides is in the log.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tocsin.calendars import duration_us, instant_us
from tocsin.errors import MappingError, SourceError
from tocsin.runners.live.batchlog import Batch, Expected, Finish, Silent, Version
from tocsin.runners.live.patience import patiently
from tocsin.sources.live import LostError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from tocsin.runners.live.batchlog import BatchLog, Entry
    from tocsin.runners.live.machine import Machine, Preparer, Work
    from tocsin.runners.live.settings import Settings
    from tocsin.sources.live import LiveSource, Piece, Span

PAUSE_SECONDS = 0.004
"""How long the reader rests where nothing came. A stateless alert waits for it, and for ``linger_ms``, at most."""
MANY_ROWS = 1000
"""Where a source gives so many records at once it has more: it is asked again without a rest."""
HOLD_SECONDS, BUSY_SECONDS = 0.1, 0.001
"""How long the next batch waits for those before it, at most, while batches are not full, and how often that is looked at. Each
stage is quick by itself; threads of one interpreter that take turns within a few milliseconds are not."""
LOOK_SECONDS = 1.0
"""How often the reader looks which partitions have been silent for too long."""
LEARN_ROWS = 1000
"""A source whose first records do not tell how they are read is given so many more before that is an error."""


@dataclass
class _Followed:
    """A source, and what the reader knows of it."""

    source: LiveSource
    heard: dict[str, float] = field(default_factory=dict)
    """When each partition was last heard of, by the monotonic clock."""
    silent: set[str] = field(default_factory=set)
    empty_since: float | None = None
    """Since when it has given nothing although it was asked."""
    untold: list[Piece] = field(default_factory=list)
    """Pieces of a source of which it is not known yet how it is read."""
    open: bool = False


class Reader:
    """Reads in one thread.

    clock: the wall clock. stop: set when no further batch shall be begun. changed: returns the digest of other rules once there
    are some, else None. held_back: names the sources not to be read now, since what they gave waits for others.
    trouble: told, in words, what does not go as it should. busy: whether earlier batches are still under way.
    """

    def __init__(
        self,
        settings: Settings,
        sources: Sequence[LiveSource],
        log: BatchLog,
        preparer: Preparer,
        *,
        clock: Callable[[], datetime],
        stop: threading.Event,
        changed: Callable[[], str | None],
        held_back: Callable[[], set[str]],
        trouble: Callable[[str], None],
        busy: Callable[[], bool] = lambda: False,
        accept_loss: bool = False,
    ) -> None:
        self._busy = busy
        self._settings, self._log, self._preparer = settings, log, preparer
        self._followed = [_Followed(s) for s in sources]
        self._clock, self._stop, self._changed, self._held_back = clock, stop, changed, held_back
        self._trouble, self._accept_loss = trouble, accept_loss
        self._idle_seconds = duration_us(settings.times.idle_after) / 1e6
        self._names = {s.name for s in settings.sources}
        self._turn, self._look_at = 0, 0.0
        # Whether the last batch was full: then there is more than can be done, and all stages work side by side.
        self._full = False
        self._new = True  # whether partitions were heard that had not been heard before
        self._behind: dict[tuple[str, str], int] = {}
        self._releasing: Mapping[str, Mapping[str, Any]] | None = None

    # What a restart has to do again

    def replay(self, after: int) -> Iterator[Work]:
        """Yield the entries after a number again, with the records they name.

        Raises:
            LostError: Records are no longer there, and that is not accepted.
        """
        by_name = {f.source.name: f.source for f in self._followed}
        for number, entry in self._log.entries(after):
            pieces = [p for s in entry.spans if (p := self._again(by_name, s))] if isinstance(entry, Batch) else []
            yield self._preparer.ready(number, entry, pieces, time.monotonic())

    def _again(self, sources: Mapping[str, LiveSource], span: Span) -> Piece | None:
        try:
            return _named(sources, span.source).take(span)
        except LostError as error:
            if not self._accept_loss:
                raise LostError(
                    f"{_sentence(error)} These records were read before but are in no snapshot: --accept-loss goes on without them."
                ) from None
            self._trouble(f"went on without lost records: {error}")
            return None

    # What comes

    def follow(self, machine: Machine, rules: str) -> Iterator[Work]:
        """Yield what comes, from where a machine stands and by these rules, until `stop` is set or every source has ended."""
        positions, expected, clocked = machine.positions, machine.expected(), machine.clocked()
        self._open(positions)
        for source in self._preparer.outdated():
            self._trouble(
                f"{source}: the settings read it otherwise than before; what comes from now on is read as they say"
            )
        if rules != self._preparer.version.rules:
            yield self._written(Version(rules, self._preparer.version.decoders))
        now = time.monotonic()
        for followed in self._followed:
            prefix = f"{followed.source.name}/"
            waited_for = [name.removeprefix(prefix) for name in expected if name.startswith(prefix)]
            followed.heard = dict.fromkeys([*positions.get(followed.source.name, {}), *waited_for], now)
        self._look_at = now
        for name in clocked:
            if name.partition("/")[0] not in self._names:
                yield self._written(Silent(name))  # its source is in the settings no longer: nothing of it can come
        while not self._stop.is_set():
            if digest := self._changed():
                yield self._written(Version(digest, self._preparer.version.decoders))
            begun = time.monotonic()
            if begun >= self._look_at:
                yield from self._silences(begun)
                self.look()
            pieces = self._gather(begun)
            yield from self._expectations()
            for version in self._learn():
                yield self._written(version)
            told = [p for f in self._followed for p in self._told(f)] + pieces
            if told:
                received_at = instant_us(self._clock())
                yield self._written(Batch(received_at, tuple(p.span for p in told)), told, begun)
            elif all(f.source.ended and not f.untold for f in self._followed):
                break
            else:
                self._stop.wait(PAUSE_SECONDS)

    def release(self, positions: Mapping[str, Mapping[str, Any]]) -> None:
        """Let the sources forget what is before these positions, by source and partition, when the reader comes to it."""
        self._releasing = positions

    def _settle(self) -> None:
        positions, self._releasing = self._releasing, None
        for followed in self._followed if positions else ():
            if here := (positions or {}).get(followed.source.name):
                try:
                    followed.source.release(here)
                except (SourceError, OSError) as error:
                    self._trouble(f"{followed.source.name}: {error}")

    def look(self) -> None:
        """See to what was asked of the sources, and how much each has left; called by whoever reads."""
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._settle()
        behind: dict[tuple[str, str], int] = {}
        for followed in self._followed:
            try:
                behind |= {(followed.source.name, p): n for p, n in followed.source.behind().items()}
            except (SourceError, OSError) as error:
                self._trouble(f"{followed.source.name}: {error}")
        self._behind = behind

    def wait(self) -> None:
        """Go on looking while nothing can be read, since those after the reader are slower; called by its thread."""
        for followed in self._followed:
            followed.empty_since = None
        if time.monotonic() >= self._look_at:
            self.look()

    def behind(self) -> Mapping[tuple[str, str], int]:
        """Return how much each partition has that was not read, by source and partition, as of a second ago."""
        return self._behind

    def finish(self) -> Work:
        """Say that nothing follows."""
        return self._written(Finish())

    def _open(self, positions: Mapping[str, Mapping[str, Any]]) -> None:
        for followed in self._followed:
            source = followed.source
            here = dict(positions.get(source.name, {}))
            try:
                source.open(here)
            except LostError as error:
                if not self._accept_loss:
                    raise LostError(f"{_sentence(error)} --accept-loss goes on without them.") from None
                self._trouble(f"went on without lost records: {error}")
                source.open({})

    def _written(self, entry: Entry, pieces: Sequence[Piece] = (), begun: float = 0.0) -> Work:
        number = patiently(lambda: self._log.append(entry), self._trouble, self._stop, "the batch log")
        return self._preparer.ready(number, entry, pieces, begun)

    def _gather(self, begun: float) -> list[Piece]:
        """Return what has come: until a batch is full, or its first event has waited long enough for others."""
        batches = self._settings.batches
        rows, size, pieces = batches.rows, batches.bytes, []
        if not self._full:
            self._rest(begun)
        while True:
            got = self._poll(rows, size)
            pieces += got
            rows -= (got_rows := sum(p.rows for p in got))
            size -= sum(len(p.data) for p in got)
            self._full = rows <= 0 or size <= 0
            linger_until = begun + batches.linger_ms / 1000 if pieces else begun
            if self._full or time.monotonic() >= linger_until or self._stop.is_set():
                return pieces
            if got_rows < MANY_ROWS:
                self._rest(linger_until)

    def _rest(self, until: float) -> None:
        """Wait until a time, and on until what was cut before is done with: reading meanwhile would only slow that down."""
        at_last = max(until, time.monotonic()) + HOLD_SECONDS
        while not self._stop.is_set():
            now = time.monotonic()
            if now >= until and (now >= at_last or not self._busy()):
                return
            self._stop.wait(until - now if now < until else BUSY_SECONDS)

    def _poll(self, rows: int, size: int) -> list[Piece]:
        """Ask every source in turn, each for its share of what there is room for."""
        found: list[Piece] = []
        held_back = self._held_back()
        asked = [f for f in self._followed if f.source.name not in held_back] or self._followed
        self._turn += 1
        for i in range(len(asked)):
            followed = asked[(i + self._turn) % len(asked)]
            share = len(asked) - i
            pieces = self._polled(followed, max(rows // share, 1), max(size // share, 1))
            rows -= sum(p.rows for p in pieces)
            size -= sum(len(p.data) for p in pieces)
            found += pieces
            if rows <= 0 or size <= 0:
                break
        return found

    def _polled(self, followed: _Followed, rows: int, size: int) -> list[Piece]:
        source = followed.source
        try:
            pieces = source.poll(rows, size)
        except LostError:
            raise
        except (SourceError, OSError) as error:
            self._trouble(f"{source.name}: {error}")
            return []
        for told in getattr(source, "told", list)():
            self._trouble(f"{source.name}: {told}")
        now = time.monotonic()
        if pieces:
            followed.empty_since = None
        elif followed.empty_since is None:
            followed.empty_since = now
        self._new |= any(p.span.partition not in followed.heard for p in pieces)
        for piece in pieces:
            followed.heard[piece.span.partition] = now
            followed.silent.discard(piece.span.partition)
        followed.untold += [p for p in pieces if self._untold(p)]
        return [p for p in pieces if not self._untold(p)]

    def _untold(self, piece: Piece) -> bool:
        """Tell whether it is not known yet how a piece is read, and will be."""
        return piece.owner in self._names and piece.owner not in self._preparer.decoders

    def _learn(self) -> Iterator[Version]:
        """Yield the versions that say how sources are read whose first records have come."""
        for followed in self._followed:
            source = followed.source
            own = [p for p in followed.untold if p.owner == source.name]
            if not own or source.name in self._preparer.decoders:
                continue
            try:
                yield self._preparer.learn(source.name, own)
            except (MappingError, SourceError) as error:
                if sum(p.rows for p in own) >= LEARN_ROWS or source.ended:
                    raise
                self._trouble(f"{source.name}: its first records do not tell how it is read, waiting for more: {error}")

    def _told(self, followed: _Followed) -> list[Piece]:
        """Return pieces that waited until it was known how they are read."""
        told = [p for p in followed.untold if not self._untold(p)]
        followed.untold = [p for p in followed.untold if self._untold(p)]
        return told

    def _expectations(self) -> Iterator[Work]:
        """Yield a record for each partition that has something to read and was never heard: the others' clocks wait for it.

        Before the first events of any partition are applied, all are looked at: else what an older backlog holds would be late.
        """
        if self._new:
            self.look()
        self._new = False
        for followed in self._followed:
            name = followed.source.name
            unheard = {p for (s, p), n in self._behind.items() if s == name and n} - followed.heard.keys()
            for partition in sorted(unheard if name in self._names else ()):
                followed.heard[partition] = time.monotonic()
                yield self._written(Expected(f"{name}/{partition}"))

    def _silences(self, now: float) -> Iterator[Work]:
        """Yield a record for each partition that has been silent too long, and has nothing more to read or does not give it."""
        for followed in self._followed:
            name = followed.source.name
            behind = {p: n for (s, p), n in self._behind.items() if s == name}
            gone = set(getattr(followed.source, "revoked", list)())
            quiet = {p for p, at in followed.heard.items() if now - at >= self._idle_seconds} - followed.silent
            if followed.empty_since is None or now - followed.empty_since < self._idle_seconds:
                quiet = {p for p in quiet if not behind.get(p)}
            for partition in sorted((gone | quiet) - followed.silent):
                followed.silent.add(partition)
                yield self._written(Silent(f"{name}/{partition}"))


def _sentence(error: Exception) -> str:
    """Return what an error says, with one full stop."""
    return str(error).rstrip(". ") + "."


def _named(sources: Mapping[str, LiveSource], name: str) -> LiveSource:
    if name not in sources:
        raise LostError(f"{name}: no source of this name is in the settings any more")
    return sources[name]


class Held:
    """Which sources wait for others: where much waits for release, only the sources that hold the watermark are read."""

    def __init__(self, most_rows: int) -> None:
        self._most_rows = most_rows
        self._names: set[str] = set()

    def __call__(self) -> set[str]:
        """Return the names of the sources not to be read now."""
        return self._names

    def look(self, arrival: Any) -> None:
        """Look at the engine's clocks; called after each batch, by the thread that has the state."""
        waiting = arrival.waiting_rows
        if waiting < self._most_rows or len(arrival.partitions) < 2:
            self._names = set()
            return
        clocks = {name: int(arrival.clock[i]) for name, i in arrival.partitions.items() if not arrival.idle[i]}
        if not clocks:
            self._names = set()
            return
        low = min(clocks.values())
        slow = {name.partition("/")[0] for name, clock in clocks.items() if clock == low}
        self._names = {name.partition("/")[0] for name in clocks} - slow
