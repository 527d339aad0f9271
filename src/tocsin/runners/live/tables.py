"""Fitted tables, published where windows end, and what late data changed in those published before.

Enters: outcomes, batch by batch. Leaves: closed windows in their store; at each boundary the tables that hold from there on,
as files that no later one replaces, each with a note. Layer: runners.

``tables/TABLE/BEGIN-DIGEST.parquet`` is a table, ``BEGIN`` the instant from which it holds; the note beside it
(``.json``) says what it was made of. The next version has the late events in it that came meanwhile. Where they concern windows
that the version before had used, its note tells what that one would have said had it known: the correction.

All of it follows from the windows and the batch alone, so a batch that is applied again publishes the same.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tocsin.calendars import DAY, instant_us, moment
from tocsin.durable import sync_folder, write_durably
from tocsin.engine.batchfit import fit_tables, own_part
from tocsin.errors import StateError, TocsinError
from tocsin.runners.live.folder import StateFolder
from tocsin.runners.live.windows import WindowStore
from tocsin.tables import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from tocsin.engine import Engine
    from tocsin.engine.batchfit import Asked, KeptMeasure
    from tocsin.runners.live.machine import Outcome

FORMAT_VERSION = 1
QUICKLY = 3
"""How hard published tables are packed: they are many, and each is written while events wait."""


class LiveTables:
    """Keeps closed windows and publishes tables; used by one thread.

    windows, tables: folders. keep_days: how long both are kept. trouble: told in words what could not be published.
    """

    def __init__(self, windows: Path, tables: Path, keep_days: int, trouble: Callable[[str], None]) -> None:
        self.store, self._folder, self._keep_days, self._trouble = WindowStore(windows), tables, keep_days, trouble
        self._engine: Engine | None = None
        self._measures: dict[str, KeptMeasure] = {}
        for folder in (windows, tables):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def take(self, outcome: Outcome) -> None:
        """Keep what a batch told of windows, and publish what it makes known. Of boundaries in one batch the last is published."""
        engine = outcome.work.engine
        if engine is None:
            return
        if engine is not self._engine:
            self._engine, self._measures = engine, self.store.describe(engine)
        kept = outcome.kept
        if not kept.boundaries:
            return
        self.store.take(kept, outcome.work.number, self._measures)
        for key, boundary in kept.boundaries.items():
            if key in self._measures:
                self._publish(self._measures[key], boundary)

    def _publish(self, measure: KeptMeasure, boundary: int) -> None:
        try:
            past = self.store.read(measure, boundary)
            if past.known.is_empty():
                return
            tables = fit_tables(measure, past, boundary)
            for asked in measure.asked:
                self._write(measure, asked, tables[asked.id], boundary)
            self.store.forget(measure, self._keep_days)
        except TocsinError as error:
            self._trouble(f"tables of {', '.join(a.id for a in measure.asked)}: {error}")

    def _write(self, measure: KeptMeasure, asked: Asked, table: Table, boundary: int) -> None:
        folder = self._folder / asked.id
        folder.mkdir(mode=0o700, exist_ok=True)
        assert table.valid_from is not None
        name = f"{table.valid_from:%Y%m%dT%H%M%SZ}-{table.digest[:16]}"
        before = self._before(asked, boundary)
        since = boundary if before is None else int(before["boundary"])
        late = self.store.corrections(measure.key, since - measure.reach)
        note = {
            "format": FORMAT_VERSION, "table": asked.id, "detection": asked.detection, "version": asked.version, "digest": table.digest,
            "valid_from": table.valid_from.isoformat(), "boundary": boundary, "windows": _reach(measure, asked, boundary),
            "rows": table.frame.height, "corrections": _used(late, asked, boundary).height,
            "correction": before and self._correction(measure, asked, boundary, late, before), "file": f"{name}.parquet",
        }  # fmt: skip
        table.save(folder / f"{name}.parquet", level=QUICKLY)
        write_durably(folder / f"{name}.json", json.dumps(note, sort_keys=True).encode())
        self._forget(folder, table.valid_from)

    def _forget(self, folder: Path, newest: datetime) -> None:
        """Remove versions that were followed so long ago that the windows they were made of may be gone."""
        before = instant_us(newest) - self._keep_days * DAY
        old = [p for p in folder.glob("*.*") if p.name < f"{moment(before):%Y%m%dT%H%M%SZ}"]
        for path in old:
            path.unlink(missing_ok=True)
        if old:
            sync_folder(folder)

    def _before(self, asked: Asked, boundary: int) -> dict[str, Any] | None:
        """Return the note of the version before, where it was of the same rule."""
        paths = sorted((self._folder / asked.id).glob("*.json"), reverse=True)
        note = next((n for p in paths if (n := _note(p))["boundary"] < boundary), None)
        return note if note and note["version"] == asked.version else None

    def _correction(
        self, measure: KeptMeasure, asked: Asked, boundary: int, late: pl.DataFrame, before: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Return what the version before would have said had it known of the late events that count from now on."""
        then = before["boundary"]
        new = _used(late, asked, then, boundary).filter(pl.col("visible") > then)
        if new.is_empty():
            return None
        kept = self.store.boundary(measure.key)
        if kept and kept.oldest is not None and then - measure.reach < kept.oldest:
            return None  # what it was made of is gone
        said = Table.load(self._folder / asked.id / before["file"])
        right = fit_tables(measure, self.store.read(measure, then, as_known_at=boundary), then)[asked.id]
        return {
            "of": {"valid_from": before["valid_from"], "digest": before["digest"]},
            "late": new.height, "late_entities": new["entity"].n_unique(),
            "windows": [t.isoformat() for t in (new["begin"].min(), new["begin"].max())],  # type: ignore[union-attr]
            **difference(said, right),
        }  # fmt: skip


def fit_kept(state: Path, at: datetime | None, gaps: Sequence[tuple[datetime, datetime]] = ()) -> dict[str, Table]:
    """Return the tables that hold at a time, by default the newest, from the closed windows in a state folder.

    Nothing is locked or written: the engine may run meanwhile. gaps: times in which the sources were not covered.

    Raises:
        StateError: The folder keeps no closed windows, or not those of that time.
    """
    store = WindowStore(StateFolder(state).windows)
    tables: dict[str, Table] = {}
    measures = [m for m in store.measures() if m.asked]
    if not measures:
        raise StateError(
            f"{state}: it keeps no closed windows. Let the engine keep them: [tables] publish = true in its settings."
        )
    for measure in measures:
        boundary = _boundary(store, measure, at)
        if boundary is None:
            continue
        missing = [w for a, b in gaps for w in measure.calendar.touched(instant_us(a), instant_us(b))]
        tables |= fit_tables(measure, store.read(measure, boundary), boundary, missing)
    return dict(sorted(tables.items()))


def _boundary(store: WindowStore, measure: KeptMeasure, at: datetime | None) -> int | None:
    newest = store.boundary(measure.key)
    if newest is None or at is None:
        return None if newest is None else newest.next
    window = int(measure.calendar.number(np.array([instant_us(at)], np.int64))[0])
    if window > newest.next:
        begin = moment(measure.calendar.begin(newest.next))
        raise StateError(
            f"{store.folder}: of {measure.asked[0].id}, no window after {begin:%Y-%m-%d %H:%M} UTC has begun yet. Ask for an earlier time."
        )
    return window


def _reach(measure: KeptMeasure, asked: Asked, boundary: int) -> list[str]:
    """Return the begin of the first window that a table is made of, and the end of the last."""
    own = own_part(asked.fit)
    first, last = (boundary - own.span, boundary - own.skip * own.stride) if own else (boundary - 1, boundary)
    return [moment(measure.calendar.begin(w)).isoformat() for w in (first, last)]


def _used(late: pl.DataFrame, asked: Asked, boundary: int, known_at: int | None = None) -> pl.DataFrame:
    """Return the corrections that matter to the table of a boundary, as known at that one or another."""
    own = own_part(asked.fit)
    first = boundary - max(own.span if own else 1, 1)
    seen = pl.col("visible") <= (boundary if known_at is None else known_at)
    return late.filter(seen, pl.col("window").is_between(first, boundary - 1))


def difference(before: Table, after: Table) -> dict[str, Any]:
    """Return how two tables of one kind differ: how many rows, and in each column how many and the largest change.

    A row that only one of them has differs, but has no change.
    """
    key = list(before.key)
    both = before.frame.join(after.frame, on=key, how="full", coalesce=True, suffix="@after")
    pairs = {c: (pl.col(c), pl.col(f"{c}@after")) for c in before.values}
    differs = pl.any_horizontal(a.ne_missing(b) for a, b in pairs.values())
    columns = {}
    for name, (a, b) in pairs.items():
        changed = both.filter(a.ne_missing(b))
        if changed.is_empty():
            continue
        sized = changed.with_columns(size=(b - a).abs()).filter(pl.col("size").is_not_null())
        largest = None
        if sized.height:
            row = sized.sort("size", *key, descending=[True, *(False for _ in key)]).row(0, named=True)
            largest = {"entity": row[key[0]], "before": row[name], "after": row[f"{name}@after"]}
        columns[name] = {"rows": changed.height, "largest": largest}
    return {"rows": both.filter(differs).height, "columns": columns}


def notes(folder: Path, table: str = "*") -> Iterator[dict[str, Any]]:
    """Yield the notes of published tables, those of a table in the order of time."""
    for path in sorted(folder.glob(f"{table}/*.json")):
        yield _note(path)


def _note(path: Path) -> dict[str, Any]:
    note: dict[str, Any] = json.loads(path.read_bytes())
    return note
