"""Dead letters: the records that were set aside, kept until somebody mends them, and the list of events that came late.

Enters: letters and late events of a run. Leaves: an SQLite file that the run and the command line share. Layer: runners.

A record is there once, however often it is read again. The file is bounded by number, bytes and age: the oldest go first,
and how many went is counted.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

import polars as pl

from tocsin.errors import StateError
from tocsin.schema import TIME
from tocsin.sources import jsonl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tocsin.sources.live.pieces import Letter

MAX_LETTERS: Final = 1_000_000
MAX_BYTES: Final = 1 << 30
WAITING, RESENT, DROPPED = "waiting", "resent", "dropped"
STATES: Final = (WAITING, RESENT, DROPPED)
_FORMAT: Final = 1
_BUSY_SECONDS: Final = 30.0
_PAGE_ROWS: Final = 500
_SCHEMA: Final = """
CREATE TABLE letters (
    number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, source TEXT NOT NULL, partition TEXT NOT NULL,
    record BLOB NOT NULL, whole INTEGER NOT NULL, field TEXT NOT NULL, reason TEXT NOT NULL,
    noted_us INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', changed_us INTEGER);
CREATE INDEX letters_state ON letters (state, number);
CREATE INDEX letters_noted ON letters (noted_us);
CREATE TABLE late (
    number INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL, source TEXT NOT NULL, partition TEXT NOT NULL,
    timestamp_us INTEGER NOT NULL, late_by_seconds REAL, noted_us INTEGER NOT NULL, UNIQUE (source, event_id));
CREATE INDEX late_noted ON late (noted_us);
CREATE TABLE sums (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO sums VALUES ('letters', 0), ('bytes', 0), ('waiting', 0), ('late', 0), ('letters_gone', 0), ('late_gone', 0);
CREATE TRIGGER letter_in AFTER INSERT ON letters BEGIN
    UPDATE sums SET value = value + CASE name WHEN 'bytes' THEN length(NEW.record) ELSE 1 END
    WHERE name IN ('letters', 'bytes', 'waiting'); END;
CREATE TRIGGER letter_out AFTER DELETE ON letters BEGIN
    UPDATE sums SET value = value - CASE name WHEN 'bytes' THEN length(OLD.record) WHEN 'letters' THEN 1
        ELSE OLD.state = 'waiting' END WHERE name IN ('letters', 'bytes', 'waiting');
    UPDATE sums SET value = value + 1 WHERE name = 'letters_gone'; END;
CREATE TRIGGER letter_changed AFTER UPDATE OF state ON letters BEGIN
    UPDATE sums SET value = value + (NEW.state = 'waiting') - (OLD.state = 'waiting') WHERE name = 'waiting'; END;
CREATE TRIGGER late_in AFTER INSERT ON late BEGIN UPDATE sums SET value = value + 1 WHERE name = 'late'; END;
CREATE TRIGGER late_out AFTER DELETE ON late BEGIN
    UPDATE sums SET value = value - 1 WHERE name = 'late'; UPDATE sums SET value = value + 1 WHERE name = 'late_gone'; END;
PRAGMA user_version = 1;
"""
_COLUMNS: Final = "key, source, partition, record, whole, field, reason, noted_us, state, changed_us"


class Appendable(Protocol):
    """Where records are sent again: a spool that the run follows."""

    def append(
        self, records: Sequence[bytes], received_at: datetime, *, partition: str = "", source: str | None = None
    ) -> int:
        """Keep records durably, in order."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A letter as it lies here: what `Letter` says, when it was noted, and what became of it."""

    key: str
    source: str
    partition: str
    record: bytes
    whole: bool
    column: str
    reason: str
    noted_at: datetime
    state: str
    changed_at: datetime | None

    @property
    def trouble(self) -> str:
        """Why it cannot be sent again as it is, or the empty string."""
        if not self.whole:
            return "only its beginning was kept"
        found = jsonl.parse_line(self.record.strip())
        return found if isinstance(found, str) else ""


class DeadLetters:
    """The letters of a state folder. Its methods may be called from any thread.

    Args:
        path: The file; it is made, for its owner alone, where there is none and `create` is true.
        keep_days: How long letters and late events are kept.
        clock: The time now.
        create: Whether the file may be made.
        max_letters: The most letters, and the most late events.
        max_bytes: The most bytes of records.

    Raises:
        StateError: It cannot be opened or written, or is no such file; the message says which and why.
    """

    def __init__(
        self,
        path: Path,
        *,
        keep_days: int,
        clock: Callable[[], datetime],
        create: bool = True,
        max_letters: int = MAX_LETTERS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.path, self._clock, self._keep = path, clock, timedelta(days=keep_days)
        self._max_letters, self._max_bytes = max_letters, max_bytes
        self._lock = threading.Lock()
        if not path.exists():
            if not create:
                raise StateError(f"{path}: there are no dead letters. Is this the state folder of a run?")
            try:
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            except OSError as error:
                raise StateError(f"{path}: the dead letters cannot be kept ({error.strerror}).") from None
        self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None)
        try:
            self._prepare()
        except StateError:
            self.close()
            raise

    def _prepare(self) -> None:
        with self._told():
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
        with self._changing() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if not version:
                for statement in _statements():
                    connection.execute(statement)
            elif version != _FORMAT:
                raise StateError(f"{self.path}: written in format {version}; this version of tocsin reads {_FORMAT}.")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def add(self, letters: Sequence[Letter]) -> None:
        """Keep letters, all or none; one that is here stays as it is."""
        now = _us(self._clock())
        rows = [(x.key, x.source, x.partition, x.record, x.whole, x.column, x.reason, now) for x in letters]
        with self._changing() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO letters (key, source, partition, record, whole, field, reason, noted_us)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [tuple(v.encode(errors="replace").decode() if isinstance(v, str) else v for v in row) for row in rows],
            )
            self._bound(connection, "letters", now)

    def add_late(self, events: pl.DataFrame) -> None:
        """Keep a list of events that came late: event_id, timestamp, partition; source, received_at, late_by_seconds where known."""
        now = _us(self._clock())
        have = events.columns
        source = pl.col("source") if "source" in have else pl.col("partition").str.split("/").list.first()
        late = (
            pl.col("late_by_seconds")
            if "late_by_seconds" in have
            else (pl.col("received_at") - pl.col("timestamp")).dt.total_microseconds() / 1e6
            if "received_at" in have
            else pl.lit(None, pl.Float64)
        )
        rows = events.select(
            "event_id", source.fill_null("").alias("of"), pl.col("partition").fill_null(""), pl.col("timestamp").dt.epoch("us"),
            late.alias("late"), pl.lit(now).alias("now"),
        ).rows()  # fmt: skip
        with self._changing() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO late (event_id, source, partition, timestamp_us, late_by_seconds, noted_us)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                rows,
            )
            self._bound(connection, "late", now)

    def _bound(self, connection: sqlite3.Connection, table: str, now: int) -> None:
        """Let the oldest go."""
        cutoff = now - self._keep // timedelta(microseconds=1)
        connection.execute(f"DELETE FROM {table} WHERE noted_us < ?", (cutoff,))  # noqa: S608 - one of two names
        excess = self._sum(connection, table) - self._max_letters
        if excess > 0:
            connection.execute(
                f"DELETE FROM {table} WHERE number IN (SELECT number FROM {table} ORDER BY number LIMIT ?)",  # noqa: S608
                (excess,),
            )
        while table == "letters" and self._sum(connection, "bytes") > self._max_bytes:
            connection.execute(
                "DELETE FROM letters WHERE number IN (SELECT number FROM letters ORDER BY number LIMIT 100)"
            )

    def open_count(self) -> int:
        """Return how many letters wait to be mended."""
        return self.counts()["waiting"]

    def counts(self) -> dict[str, int]:
        """Return how many letters and late events are here, how many bytes, and how many went for want of room or by age."""
        with self._reading() as connection:
            return dict(connection.execute("SELECT name, value FROM sums ORDER BY name").fetchall())

    def reasons(self, *, state: str | None = WAITING) -> list[tuple[str, str, int]]:
        """Return (source, reason, letters), the commonest first."""
        where, values = _where(state=state)
        asked = f"SELECT source, reason, count(*) FROM letters{where} GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"  # noqa: S608
        with self._reading() as connection:
            return connection.execute(asked, values).fetchall()

    def letters(
        self,
        *,
        state: str | None = WAITING,
        source: str | None = None,
        reason: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Kept]:
        """Yield letters, the latest first; `reason` is any part of the words."""
        tests, values = _where(state=state, source=source, reason=reason)
        asked = (
            f"SELECT {_COLUMNS}, number FROM letters{tests or ' WHERE 1'} AND number < ? ORDER BY number DESC LIMIT ?"  # noqa: S608
        )
        last, left = 1 << 62, 1 << 62 if limit is None else limit
        while left > 0:  # page by page: whoever reads them may change them
            with self._reading() as connection:
                rows = connection.execute(asked, (*values, last, min(left, _PAGE_ROWS))).fetchall()
            if not rows:
                return
            last, left = rows[-1][-1], left - len(rows)
            yield from (_kept(row[:-1]) for row in rows)

    def get(self, key: str) -> Kept:
        """Return a letter by its key, or by as much of its beginning as is unique.

        Raises:
            StateError: There is none, or more than one.
        """
        asked = f"SELECT {_COLUMNS} FROM letters WHERE key = ? OR substr(key, 1, ?) = ? ORDER BY key = ? DESC LIMIT 2"  # noqa: S608
        with self._reading() as connection:
            rows = connection.execute(asked, (key, len(key), key, key)).fetchall()
        if not rows:
            raise StateError(f"{self.path}: there is no letter {key!r}. `tocsin dead-letters list` shows them.")
        if len(rows) > 1 and rows[0][0] != key:
            raise StateError(f"{self.path}: more than one letter begins with {key!r}. Write more of it.")
        return _kept(rows[0])

    def late(self, *, limit: int | None = None) -> pl.DataFrame:
        """Return the events that came late, the latest first."""
        asked = "SELECT event_id, source, partition, timestamp_us, late_by_seconds, noted_us FROM late ORDER BY number DESC LIMIT ?"
        with self._reading() as connection:
            rows = connection.execute(asked, (-1 if limit is None else limit,)).fetchall()
        schema = dict.fromkeys(("event_id", "source", "partition"), pl.String) | {
            "timestamp": pl.Int64, "late_by_seconds": pl.Float64, "noted_at": pl.Int64,
        }  # fmt: skip
        frame = pl.DataFrame(rows, schema=schema, orient="row")
        return frame.with_columns(
            pl.from_epoch(pl.col("timestamp", "noted_at"), time_unit="us").dt.replace_time_zone("UTC").cast(TIME)
        )

    def drop(self, keys: Sequence[str]) -> int:
        """Say of letters that nothing will be done about them; return of how many that was new."""
        return self._mark(keys, DROPPED)

    def resend(self, letters: Sequence[Kept], spool: Appendable, *, record: bytes | None = None) -> list[Kept]:
        """Send letters again, as they are or as the mended record; return those that cannot be sent.

        They are durable in the spool before they are marked: a crash in between may send them twice, never not at all.

        Args:
            letters: Which.
            spool: Where they go, for the source and partition that each is of.
            record: What is sent in place of the only letter.

        Raises:
            StateError: The mended record is no JSON object either.
        """
        now = self._clock()
        refused: list[Kept] = []
        together: dict[tuple[str, str], list[tuple[str, bytes]]] = {}
        for letter in letters:
            if record is None and letter.trouble:
                refused.append(letter)
                continue
            mended = _one_line(letter.record if record is None else record)
            together.setdefault((letter.source, letter.partition), []).append((letter.key, mended))
        for (source, partition), sent in together.items():
            spool.append([r for _, r in sent], now, partition=partition, source=source)
            self._mark([key for key, _ in sent], RESENT)
        return refused

    def _mark(self, keys: Sequence[str], state: str) -> int:
        now = _us(self._clock())
        with self._changing() as connection:
            found = connection.executemany(
                "UPDATE letters SET state = ?, changed_us = ? WHERE key = ? AND state <> ?",
                [(state, now, key, state) for key in keys],
            )
            return found.rowcount

    @staticmethod
    def _sum(connection: sqlite3.Connection, name: str) -> int:
        return int(connection.execute("SELECT value FROM sums WHERE name = ?", (name,)).fetchone()[0])

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._told():
            yield self._connection

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._told():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StateError(f"{self.path}: the dead letters cannot be kept or read ({error}).") from None


def _statements() -> Iterator[str]:
    """Yield the statements of the schema; those of a trigger stay together."""
    held = ""
    for line in _SCHEMA.strip().splitlines():
        held += line + "\n"
        if sqlite3.complete_statement(held):
            yield held
            held = ""


def _where(**wanted: str | None) -> tuple[str, tuple[str, ...]]:
    asked = {name: value for name, value in wanted.items() if value is not None}
    tests = ["instr(reason, ?) > 0" if name == "reason" else f"{name} = ?" for name in asked]
    return (f" WHERE {' AND '.join(tests)}" if tests else ""), tuple(asked.values())


def _kept(row: tuple[Any, ...]) -> Kept:
    key, source, partition, record, whole, column, reason, noted_us, state, changed_us = row
    changed = None if changed_us is None else _moment(changed_us)
    return Kept(key, source, partition, record, bool(whole), column, reason, _moment(noted_us), state, changed)


def _one_line(record: bytes) -> bytes:
    """Return a JSON object on one line, byte for byte where it is on one already."""
    found = jsonl.parse_line(record.strip())
    if isinstance(found, str):
        raise StateError(f"the mended record cannot be sent: {found}.")
    line = record.strip()
    return line.replace(b"\r", b" ").replace(b"\n", b" ")


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _moment(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
