"""Closed windows on disk: what each held when it closed, what late events added afterwards, who was known.

Enters: what the engine told of windows, batch by batch. Leaves: the same again as of any boundary. Layer: runners.

A folder for each measure holds

- ``about.json``: what is measured, and which tables are fitted to it;
- ``closed.WINDOW.BEGIN.parquet``: what a window held when it closed; nothing where nobody had an event in it;
- ``late.WINDOW.BATCH.parquet``: what late events added to windows before, counting from ``WINDOW`` on; told by that batch;
- ``known.WINDOW.parquet``: every entity with its first window, as of the begin of ``WINDOW``: older files are not needed for it;
- ``boundary.json``: which window closes next, and the first one that is kept.

A window closes in one batch, and a batch that is applied again after a crash tells the same; so every file has one content,
and writing it twice changes nothing. Readers need no lock: a file appears whole, and is removed only when it is old.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tocsin.calendars import DAY, moment
from tocsin.durable import sync_folder, write_durably
from tocsin.engine.batchfit import History, KeptMeasure, history, kept_measures
from tocsin.engine.kept import CLOSED, CORRECTIONS
from tocsin.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tocsin.engine import Engine
    from tocsin.engine.kept import Kept

ABOUT, BOUNDARY = "about.json", "boundary.json"
KNOWN = {"entity": pl.String, "first": pl.Int64}
KNOWN_EVERY = 64
"""After so many windows everybody known is written down again, so that who is known is read from few files."""


@dataclass(frozen=True)
class Boundary:
    """How far a measure has come: the window that closes next, and the first of those that are kept (None: all)."""

    next: int
    oldest: int | None = None


class WindowStore:
    """The closed windows of all measures in a folder; one process writes, any may read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # Writing

    def describe(self, engine: Engine) -> dict[str, KeptMeasure]:
        """Say which tables these rules fit; measures that they do not fit are kept, with nothing asked of them."""
        measures = kept_measures(engine.plan)
        for measure in self.measures():
            if measure.key not in measures and measure.asked:
                self._write_json(measure.key, ABOUT, replace(measure, asked=()).to_json())
        for key, measure in measures.items():
            (self.folder / key).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._write_json(key, ABOUT, measure.to_json())
        return measures

    def take(self, kept: Kept, batch: int, measures: Iterable[str]) -> None:
        """Write what a batch told of these measures, by the number of its entry."""
        wanted = set(measures)
        for frame, names in (
            (kept.closed, _closed_name),
            (kept.corrections, lambda g: f"late.{g['visible'][0]}.{batch}"),
        ):
            by = ["measure", "window" if frame is kept.closed else "visible"]
            groups = [] if frame is None else frame.partition_by(by, maintain_order=True)
            for group in (g for g in groups if g["measure"][0] in wanted):
                self._write(self.folder / group["measure"][0] / f"{names(group)}.parquet", group.drop("measure"))
        for key, window in kept.boundaries.items():
            if key in wanted:
                before = self.boundary(key)
                if before is None or before.next < window:  # done again after a crash, it may have come further
                    self._write_json(key, BOUNDARY, vars(Boundary(window, before.oldest if before else None)))
                    self._write_known(key, window)

    def forget(self, measure: KeptMeasure, keep_days: int) -> None:
        """Remove the windows that ended so many days before the newest, but none that the newest tables look at, or those before."""
        boundary = self.boundary(measure.key)
        if boundary is None:
            return
        until = measure.calendar.begin(boundary.next) - keep_days * DAY
        oldest = min(int(measure.calendar.number(np.array([until]))[0]), boundary.next - 2 * measure.reach)
        names = self._names(measure.key)
        old = [p for kind in ("closed", "late", "known") for w, p in names[kind] if w < oldest]
        if 16 * sum(w < oldest for w, _ in names["closed"]) < len(names["closed"]):
            return  # a few at a time would cost a list of everybody each
        self._write(self.folder / measure.key / f"known.{oldest}.parquet", self.read(measure, oldest, reach=0).known)
        self._write_json(measure.key, BOUNDARY, vars(Boundary(boundary.next, oldest)))
        for path in old:
            path.unlink(missing_ok=True)
        sync_folder(self.folder / measure.key)

    def _write_known(self, key: str, window: int) -> None:
        names = self._names(key)
        since = max((w for w, _ in names["known"]), default=None)
        first = min((w for w, _ in names["closed"]), default=window)
        if window - (first if since is None else since) >= KNOWN_EVERY:
            known = self.read(self.measure(key), window, reach=0).known
            self._write(self.folder / key / f"known.{window}.parquet", known)

    @staticmethod
    def _write(path: Path, frame: pl.DataFrame) -> None:
        data = io.BytesIO()
        frame.write_parquet(data, compression="zstd", statistics=False)
        write_durably(path, data.getvalue())

    def _write_json(self, key: str, name: str, said: dict[str, Any]) -> None:
        path, data = self.folder / key / name, json.dumps(said, sort_keys=True).encode()
        if not path.exists() or path.read_bytes() != data:
            write_durably(path, data)

    # Reading

    def measures(self) -> list[KeptMeasure]:
        """Return all measures whose windows are kept."""
        return [self.measure(p.parent.name) for p in sorted(self.folder.glob(f"*/{ABOUT}"))]

    def measure(self, key: str) -> KeptMeasure:
        """Return what is known of a measure.

        Raises:
            StateError: Its description is damaged.
        """
        path = self.folder / key / ABOUT
        try:
            return KeptMeasure.from_json(json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StateError(
                f"{path}: cannot be read ({error}). The running engine writes it anew when it starts."
            ) from None

    def boundary(self, key: str) -> Boundary | None:
        """Return how far a measure has come, or None where no window of it has closed."""
        path = self.folder / key / BOUNDARY
        return Boundary(**json.loads(path.read_bytes())) if path.exists() else None

    def read(
        self, measure: KeptMeasure, until: int, *, as_known_at: int | None = None, reach: int | None = None
    ) -> History:
        """Return the windows before ``until`` that the measure's fits look at, and everybody known by then.

        Late events are in where they count from ``as_known_at`` (by default ``until``) or before. reach: other than the fits',
        in windows.

        Raises:
            StateError: Windows that are needed are not kept any more.
        """
        seen_at = until if as_known_at is None else as_known_at
        low = until - (measure.reach if reach is None else reach)
        names, boundary = self._names(measure.key), self.boundary(measure.key)
        if boundary and boundary.oldest is not None and low < boundary.oldest:
            kept = moment(measure.calendar.begin(boundary.oldest))
            raise StateError(
                f"{self.folder / measure.key}: windows before {kept:%Y-%m-%d %H:%M} UTC are not kept any more. Ask for a later time."
            )
        base = max((w for w, _ in names["known"] if w <= until), default=None)
        known = [pl.read_parquet(p) for w, p in names["known"] if w == base]
        since = low if base is None else min(base, low)
        everything = base is None
        closed = [p for w, p in names["closed"] if w < until and (everything or w >= since)]
        # what counts from a window on was added to windows before that one
        late = [p for w, p in names["late"] if w <= seen_at and (everything or w > since)]
        rows = pl.concat([_empty(CLOSED), *(_read(p, CLOSED) for p in closed)])
        added = [_read(p, CORRECTIONS).filter(pl.col("window") < until) for p in late]
        before = pl.concat([pl.DataFrame(schema=KNOWN), *known])
        whole = history(measure.op, rows, pl.concat([_empty(CORRECTIONS), *added]), before)
        return History(whole.rows.filter(pl.col("window") >= low), whole.known)

    def closed_values(self, key: str, until: int) -> pl.DataFrame:
        """Return every kept window before ``until`` of a measure, with the corrections that count from ``until`` or before."""
        measure, boundary = self.measure(key), self.boundary(key)
        first = min((w for w, _ in self._names(key)["closed"]), default=until)
        oldest = boundary.oldest if boundary and boundary.oldest is not None else first
        return self.read(measure, until, reach=max(until - min(first, oldest), 0)).rows.sort("window", "entity")

    def corrections(self, key: str, since: int | None = None) -> pl.DataFrame:
        """Return the corrections of a measure, with the ``batch`` that told each: those that count from after window ``since``."""
        frames = [
            _read(p, CORRECTIONS).with_columns(batch=pl.lit(int(p.name.split(".")[2]), pl.Int64))
            for w, p in self._names(key)["late"]
            if since is None or w > since
        ]
        return pl.concat([_empty(CORRECTIONS).with_columns(batch=pl.lit(0, pl.Int64)), *frames])

    def _names(self, key: str) -> dict[str, list[tuple[int, Path]]]:
        """Return the files of a measure by kind, each with its window, in the order of these."""
        found: dict[str, list[tuple[int, Path]]] = {"closed": [], "late": [], "known": []}
        for path in (self.folder / key).glob("*.*.parquet"):
            kind, window = path.name.split(".")[:2]
            found[kind].append((int(window), path))
        return {kind: sorted(files) for kind, files in found.items()}


def _closed_name(group: pl.DataFrame) -> str:
    return f"closed.{group['window'][0]}.{group['begin'][0]:%Y%m%dT%H%M%SZ}"


def _empty(schema: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(schema=schema).drop("measure")


def _read(path: Path, schema: dict[str, Any]) -> pl.DataFrame:
    return pl.read_parquet(path).select([c for c in schema if c != "measure"])
