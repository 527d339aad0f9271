"""The machine: batch-log entries folded into engine state. What runs live, what recovers and what proves are this one fold.

Enters: entries of the batch log, each with its records. Leaves: `Work`, an entry made ready (records decoded, look-ups
attached); `Outcome`, what applying it gave. Layer: runners. Nothing here reads a clock: two folds over the same entries
and records give the same scores.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tocsin.calendars import moment
from tocsin.durable import write_durably
from tocsin.engine import End, Engine, Expect, Idle
from tocsin.engine.kept import NOTHING
from tocsin.errors import SettingsError, StateError
from tocsin.runners.live.batchlog import Batch, Entry, Expected, Finish, Silent, Version
from tocsin.sources.live.decode import Decoder, letter_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from tocsin.detection import Detection
    from tocsin.engine import Output, State
    from tocsin.engine.kept import Kept
    from tocsin.references import References
    from tocsin.runners.live.settings import Settings
    from tocsin.runners.live.versions import Versions
    from tocsin.sources.live import Letter, Piece
    from tocsin.sources.live.decode import Decoded

REFUSED = {
    "future": "its time lies further in the future than the clock's error explains",
    "conflict": "its id was seen before, with other content",
}


@dataclass
class Work:
    """An entry made ready to be applied. ``origin``: piece and number of each row of the frame, to find its record again."""

    number: int
    entry: Entry
    engine: Engine | None
    frame: pl.DataFrame | None = None
    letters: list[Letter] = field(default_factory=list)
    read: int = 0
    rejected: int = 0
    origin: list[tuple[Decoder, Piece, pl.Series]] = field(default_factory=list)
    begun: float = 0.0


@dataclass
class Outcome:
    """What applying an entry gave; ``counts`` are the fates of this entry's events."""

    work: Work
    findings: list[pl.DataFrame] = field(default_factory=list)
    peaks: list[pl.DataFrame] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    late: pl.DataFrame | None = None
    scores: list[tuple[str, pl.DataFrame]] = field(default_factory=list)
    counts: Mapping[str, int] = field(default_factory=dict)
    kept: Kept = NOTHING

    def add(self, output: Output) -> None:
        """Add what a step gave."""
        if output.findings.height:
            self.findings.append(output.findings)
        if output.peaks.height:
            self.peaks.append(output.peaks)
        self.scores += output.scores.items()
        self.kept = self.kept.then(output.kept)


class Preparer:
    """Makes entries ready, in their order: it knows how each source is read and which rules hold.

    It runs ahead of the state, in another thread.
    """

    def __init__(self, settings: Settings, versions: Versions, folder: Path, key: bytes) -> None:
        self._settings, self._versions, self._key = settings, versions, key
        self._folder = folder
        self.scope = len(settings.sources) > 1
        """Whether ids are told apart by source, and rules see a column ``source``: as it was when the state began."""
        self.decoders: dict[str, Decoder] = {}
        self.version = Version("", {})
        self.engine: Engine | None = None
        self._rules: tuple[Sequence[Detection], References | None] = ((), None)

    def wanted(self) -> set[str]:
        """The columns that the rules read."""
        return {c for d in self._rules[0] for c in (*d.reads, *d.evidence)}

    def outdated(self) -> list[str]:
        """Forget how those sources are read whose settings say something else by now; return their names.

        What was read stays as it was read: the batch log names the way of each batch. What comes is learnt anew.
        """
        found = []
        for asked in self._settings.sources:
            decoder = self.decoders.get(asked.name)
            if decoder is not None and not decoder.answers(asked.mapping, asked.zone, asked.year):
                del self.decoders[asked.name]
                found.append(asked.name)
        return found

    def learn(self, source: str, pieces: Sequence[Piece]) -> Version:
        """Learn from a source's first records how it is read; return the version that says so.

        Raises:
            MappingError, SourceError: They do not tell; the message says what is missing.
        """
        asked = next(s for s in self._settings.sources if s.name == source)
        decoder = Decoder.learn(
            source, pieces, mapping=asked.mapping, zone=asked.zone, year=asked.year, wanted=self.wanted()
        )
        return Version(self.version.rules, {**self.version.decoders, source: self._keep(decoder)})

    def _keep(self, decoder: Decoder) -> str:
        body = json.dumps(decoder.to_json(), sort_keys=True).encode()
        digest = hashlib.sha256(body).hexdigest()[:32]
        if not self._path(digest).exists():
            write_durably(self._path(digest), body)
        return digest

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.json"

    def _take(self, version: Version) -> None:
        """Let other rules, or other ways to read, hold from here on."""
        if version.rules != self.version.rules:
            self._rules = self._versions.open(version.rules)
        for source, digest in version.decoders.items():
            if self.version.decoders.get(source) != digest:
                try:
                    self.decoders[source] = Decoder.from_json(json.loads(self._path(digest).read_bytes()))
                except (OSError, ValueError) as error:
                    raise StateError(
                        f"{self._path(digest)}: how {source} is read cannot be known any more ({error})."
                    ) from None
        self.version = version
        self.engine = self._engine() if self.decoders and version.rules else None

    def resume(self, version: Version) -> Engine | None:
        """Start from a version that was saved; return its engine."""
        self._take(version)
        return self.engine

    def _engine(self) -> Engine:
        return self.compile(*self._rules)

    def compile(self, detections: Sequence[Detection], references: References | None) -> Engine:
        """Return the engine for these rules, with the settings of the run and the columns that its sources have by now."""
        times = self._settings.times
        return Engine(
            detections, self.columns(), references, lateness=times.lateness, dedup_horizon=times.dedup_horizon,
            future_skew=times.future_skew, key=self._key, keep_scores=self._settings.keep_scores,
            keep_windows=self._settings.tables.publish,
        )  # fmt: skip

    def columns(self) -> dict[str, Any]:
        """Return the columns of a batch: those of all sources.

        Raises:
            SettingsError: Two sources disagree about the type of a column.
        """
        found: dict[str, Any] = {"event_id": pl.String, "timestamp": pl.Datetime("us", "UTC")}
        said: dict[str, str] = {}
        for source, decoder in sorted(self.decoders.items()):
            for name, dtype in decoder.columns.items():
                if found.setdefault(name, dtype) != dtype:
                    raise SettingsError(
                        f"{source}: its column {name!r} is {dtype}, that of {said.get(name, 'the engine')} is {found[name]}."
                        f" Say in the mappings what it is: [columns.{name}] kind = ..."
                    )
                said.setdefault(name, source)
        return found | ({"source": pl.String} if self.scope else {})

    def ready(self, number: int, entry: Entry, pieces: Sequence[Piece] = (), begun: float = 0.0) -> Work:
        """Return an entry with all that can be done for it before the state is at hand."""
        if isinstance(entry, Version):
            self._take(entry)
        work = Work(number, entry, self.engine, begun=begun)
        if isinstance(entry, Batch):
            self._decode(work, pieces, entry.received_at)
        return work

    def _decode(self, work: Work, pieces: Iterable[Piece], received_at: int) -> None:
        frames = []
        for piece in pieces:
            decoder = self.decoders.get(piece.owner)
            if decoder is None:
                self._return(work, piece)
                continue
            done: Decoded = decoder.decode(piece, moment(received_at), scope=self.scope)
            work.letters += done.letters
            work.read += done.read
            work.rejected += done.rejected
            if done.frame.height:
                frames.append(done.frame)
                work.origin.append((decoder, piece, done.rows_of))
        if frames and self.engine is not None:
            work.frame = self.engine.prepare(pl.concat(frames, how="diagonal") if len(frames) > 1 else frames[0])

    @staticmethod
    def _return(work: Work, piece: Piece) -> None:
        """Make dead letters of records whose source is not in the settings any more."""
        why = f"the settings have no source {piece.owner}"
        for at, record in enumerate(piece.data.split(b"\n")[: piece.rows]):
            work.letters.append(letter_of(piece, piece.first_line + at, record, "", why))
        work.read += piece.rows
        work.rejected += piece.rows


class Machine:
    """The state, and how far it has come: ``number`` of the last entry, ``positions`` by source and partition."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.state: State | None = None
        self.number = 0
        self.version = Version("", {})
        self.positions: dict[str, dict[str, Any]] = {}
        self.finished = False
        self.read = self.rejected = 0
        self._before: list[str] = []  # what was expected before there was an engine: nothing had been read

    def expected(self) -> list[str]:
        """Return the partitions, as the engine names them, that hold the others back and were not heard yet."""
        return list(self._before) if self.state is None else self.state.arrival.expected()

    def clocked(self) -> list[str]:
        """Return the partitions, as the engine names them, that hold the others back."""
        arrival = None if self.state is None else self.state.arrival
        return [] if arrival is None else [name for name, i in arrival.partitions.items() if not arrival.idle[i]]

    def facts(self) -> dict[str, Any]:
        """Return what a snapshot has to say beside the state."""
        return {
            "version": {"rules": self.version.rules, "decoders": dict(self.version.decoders)},
            "positions": self.positions, "finished": self.finished, "read": self.read, "rejected": self.rejected,
        }  # fmt: skip

    def resume(self, engine: Engine | None, state: State | None, number: int, facts: Mapping[str, Any]) -> None:
        """Go on from a snapshot."""
        self.engine, self.state, self.number = engine, state, number
        self.version = Version(**facts["version"])
        self.positions = {s: dict(p) for s, p in facts["positions"].items()}
        self.finished, self.read, self.rejected = facts["finished"], facts["read"], facts["rejected"]

    def apply(self, work: Work) -> Outcome:
        """Fold one entry into the state."""
        if self.finished:
            raise StateError(
                "the input of this state folder was finished; nothing can follow. Start anew with another one."
            )
        if work.number != self.number + 1:
            raise StateError(f"entry {work.number} does not follow entry {self.number}: the batch log is damaged.")
        outcome = Outcome(work, letters=list(work.letters))
        entry = work.entry
        if isinstance(entry, Version):
            self._adopt(work, entry)
        elif isinstance(entry, Batch):
            self._batch(work, entry, outcome)
        elif isinstance(entry, Silent):
            self._silence(entry.partition, outcome)
        elif isinstance(entry, Expected):
            self._expect(entry.partition, outcome)
        elif isinstance(entry, Finish):
            self._step(End(), outcome)
            self.finished = True
        self.number = work.number
        self.read += work.read
        self.rejected += work.rejected
        return outcome

    def _adopt(self, work: Work, version: Version) -> None:
        if work.engine is not None and work.engine is not self.engine:
            if self.engine is None or self.state is None:
                self.state = work.engine.new_state()
                for partition in self._before:
                    self.state, _ = work.engine.step(self.state, Expect(partition))
            else:
                self.state = work.engine.adopt(self.engine, self.state)
            self.engine = work.engine
        self.version = version

    def _batch(self, work: Work, entry: Batch, outcome: Outcome) -> None:
        for span in entry.spans:
            self.positions.setdefault(span.source, {})[span.partition] = span.stop
        if work.frame is not None:
            self._step(work.frame, outcome)
            self._heard(work.frame, outcome)

    def _heard(self, frame: pl.DataFrame, outcome: Outcome) -> None:
        """Expect no longer what has spoken under names that its records give themselves."""
        if expected := self.expected():
            spoken = frame["partition"].unique().to_list()
            for name in expected:
                if any(n.startswith(f"{name}/") for n in spoken):
                    self._step(Idle(name), outcome)

    def _expect(self, partition: str, outcome: Outcome) -> None:
        if self.state is None:
            self._before.append(partition)
        else:
            self._step(Expect(partition), outcome)

    def _silence(self, partition: str, outcome: Outcome) -> None:
        """Let a partition, and those that its records name themselves within it, hold the others back no longer."""
        self._before = [name for name in self._before if name != partition]
        known = [] if self.state is None else sorted(self.state.arrival.partitions)
        for name in known:
            if name == partition or name.startswith(f"{partition}/"):
                self._step(Idle(name), outcome)

    def _step(self, batch: Any, outcome: Outcome) -> None:
        if self.engine is None or self.state is None:
            return
        before = dict(self.state.counts)
        self.state, output = self.engine.step(self.state, batch)
        outcome.counts = {f: outcome.counts.get(f, 0) + n - before[f] for f, n in self.state.counts.items()}
        outcome.add(output)
        if output.aside is not None:
            self._set_aside(output.aside, batch, outcome)

    def _set_aside(self, aside: pl.DataFrame, frame: pl.DataFrame, outcome: Outcome) -> None:
        """Make dead letters of events that were refused, and a list of those that came late."""
        refused = aside.filter(pl.col("fate").is_in(list(REFUSED)))
        ends = np.cumsum([len(rows) for _, _, rows in outcome.work.origin])
        for row, fate in refused.select("row", "fate").iter_rows():
            place = int(np.searchsorted(ends, row, "right"))
            decoder, piece, numbers = outcome.work.origin[place]
            number = numbers[row - (int(ends[place - 1]) if place else 0)]
            column = "timestamp" if fate == "future" else "event_id"
            outcome.letters.append(letter_of(piece, number, decoder.record_of(piece, number), column, REFUSED[fate]))
        late = aside.filter(pl.col("fate") == "late")
        if late.height:
            shown = [c for c in ("source", "partition", "timestamp", "received_at") if c in frame.columns]
            outcome.late = pl.concat([late.select("event_id"), frame.select(shown)[late["row"]]], how="horizontal")
