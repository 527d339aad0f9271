"""Watch: one rule over a history, every event of interest with its score, its measure and what it was compared with.

Enters: a detection, events, reference data, and which events are of interest. Leaves: frames, a step at a time. The
numbers are the engine's own: nothing here counts, fits or scores. Layer: questions.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tocsin.calendars import instant_us
from tocsin.detection import ref_name
from tocsin.engine import End, Engine
from tocsin.engine.arrive import in_order
from tocsin.engine.findings import sign
from tocsin.errors import RuleError, did_you_mean
from tocsin.expressions import evaluate
from tocsin.fits import STATS, OwnHistory, Population
from tocsin.measures import Count, Distinct, Spanned, Sum

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from tocsin.calendars import Calendar
    from tocsin.detection import Detection
    from tocsin.fits import Fit
    from tocsin.references import References
    from tocsin.sources import Events

BATCH_ROWS = 250_000
BAND = 2.0
"""Half the height of a band, in standard deviations (a MAD counts as 1/1.4826 of one)."""
MAD_TO_SD = 1.4826


def shipped(rule: Detection | str) -> Detection:
    """Return a detection; text is the id of one that ships."""
    if not isinstance(rule, str):
        return rule
    from tocsin.rules import ALL

    known = {d.id: d for d in ALL}
    if rule not in known:
        raise RuleError(f'No rule "{rule}" ships.{did_you_mean(rule, known)} There are: {", ".join(known)}.')
    return known[rule]


def with_band(detection: Detection) -> Detection:
    """Return the detection with fits that also tell centre and spread; score and condition are the same."""
    wider = {name: _wider(fit) for name, fit in detection.fits.items()}
    if not wider:
        return detection
    return dataclasses.replace(detection, against=wider.get("", wider))


def _wider(fit: Fit) -> Fit:
    if not isinstance(fit, OwnHistory | Population):
        return fit
    wanted = {*fit.stats} | ({"median", "mad"} if "median" in fit.stats and "mean" not in fit.stats else {"mean", "sd"})
    return dataclasses.replace(fit, stats=tuple(s for s in STATS if s in wanted))


def centre_of(detection: Detection) -> str:
    """Return the column of the rule's first fit that its values lie around: `@ref.mean`, or "" where it has none."""
    for name, fit in detection.fits.items():
        for column in ("mean", "median", "limit"):
            if column in fit.columns:
                return ref_name(name, column)
    return ""


class Watch:
    """One pass of one detection. Iterate over it once; afterwards `names` are the entities it met."""

    def __init__(
        self,
        detection: Detection,
        events: Events,
        refs: References | None,
        where: pl.Expr,
        *,
        until: datetime | None = None,
        gaps: Sequence[tuple[datetime, datetime]] = (),
    ) -> None:
        """``where`` chooses the events to hand out, over `timestamp`, the entity and what the rule reads or shows."""
        self.detection, self._events, self._where, self._until = detection, events, where, until
        self._engine = Engine(
            [detection], events.columns, refs, lateness=events.lateness,
            gaps=[(instant_us(a), instant_us(b)) for a, b in gaps], trace=True, keep_scores=True,
        )  # fmt: skip
        if why := self._engine.skipped.get(detection.id):
            raise RuleError(f"{detection.id} cannot be run on {events.name}: {why}")
        self._state = self._engine.new_state()

    @property
    def names(self) -> list[str]:
        """The entities met so far."""
        names: list[str] = self._state.slots[self.detection.entity].names.to_list()
        return names

    def __iter__(self) -> Iterator[pl.DataFrame]:
        """Yield the chosen events that take part, as the step releases them, in order of time.

        Columns: what the rule reads and shows, `@score` (null: unscored), `@fired`, `@value` and the other columns that
        measure and fit made. Of a rule asked when windows close, yield the closes, each at the last instant of its window.
        """
        if self.detection.closes:
            yield from self._closes()
            return
        waiting = pl.DataFrame()
        for batch in self._events.batches(self._engine.columns, BATCH_ROWS, until=self._until):
            prepared = self._engine.prepare(in_order(batch, "timestamp"))
            shown = [c for c in prepared.columns if not c.startswith("@")]
            chosen = prepared.select(shown).filter(self._where)
            waiting = pl.concat([waiting, chosen]) if waiting.width else chosen
            waiting = waiting.unique("event_id", keep="first", maintain_order=True)
            piece, waiting = self._step(prepared, waiting)
            yield piece
        piece, _ = self._step(End(), waiting)
        yield piece

    def _closes(self) -> Iterator[pl.DataFrame]:
        for batch in self._events.batches(self._engine.columns, BATCH_ROWS, until=self._until):
            yield self._closed(self._engine.prepare(in_order(batch, "timestamp")))
        yield self._closed(End())

    def _closed(self, batch: Any) -> pl.DataFrame:
        self._state, output = self._engine.step(self._state, batch)
        scores = output.scores.get(self.detection.id)
        if scores is None or output.trace is None:
            return pl.DataFrame()
        mine = self.detection.id
        made = output.trace.filter(pl.col("@closed").is_not_null())
        made = made.rename({c: c.removeprefix(mine) for c in made.columns if c.startswith(mine)})
        made = made.with_columns(timestamp=pl.col("@closed") - pl.duration(microseconds=1)).drop("@closed")
        done = scores.select("event_id", pl.col("score").alias("@score"), pl.col("fired").alias("@fired"))
        return done.join(made.rename({"@entity": self.detection.entity}), on="event_id", maintain_order="left").filter(
            self._where
        )

    def _step(self, batch: Any, waiting: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        self._state, output = self._engine.step(self._state, batch)
        scores = output.scores.get(self.detection.id)
        if scores is None or not waiting.width:
            return pl.DataFrame(), waiting if output.trace is None else _without(waiting, output.trace)
        done = scores.select("event_id", pl.col("score").alias("@score"), pl.col("fired").alias("@fired"))
        if output.trace is not None:
            mine = self.detection.id
            made = output.trace.rename({c: c.removeprefix(mine) for c in output.trace.columns if c != "event_id"})
            done = done.join(made, on="event_id", how="left", maintain_order="left")
        piece = done.join(waiting, on="event_id", how="inner", maintain_order="left")
        if not self.detection.stateful:  # scored on arrival: nothing waits
            return piece, waiting.clear()
        return piece, waiting if output.trace is None else _without(waiting, output.trace)

    def collect(self) -> pl.DataFrame:
        """Return all chosen events at once."""
        pieces = [p for p in self if p.width]
        return pl.concat(pieces, how="diagonal") if pieces else pl.DataFrame()

    def by_window(self, *keys: str) -> pl.DataFrame:
        """Return one row a window (and key): its last value, most extreme score, whether and when it fired.

        Memory holds windows, not events.
        """
        parts = [self.windows_of(piece, self.detection, *keys) for piece in self if piece.width]
        return _merged(pl.concat(parts, how="diagonal"), keys, self.detection) if parts else pl.DataFrame()

    @staticmethod
    def windows_of(piece: pl.DataFrame, detection: Detection, *keys: str) -> pl.DataFrame:
        """Return the same of events that were handed out."""
        number = calendar_of(detection).number(piece["timestamp"].dt.epoch("us").to_numpy())
        rows = piece.with_columns(
            pl.Series("@window", number, dtype=pl.Int64), events=pl.lit(1 - detection.closes, pl.Int64),
            fired_at=pl.when("@fired").then("timestamp"),
        )  # fmt: skip
        return _merged(rows, keys, detection)


def _without(waiting: pl.DataFrame, trace: pl.DataFrame) -> pl.DataFrame:
    return waiting.join(trace.select("event_id"), on="event_id", how="anti") if waiting.width else waiting


def _merged(rows: pl.DataFrame, keys: Sequence[str], detection: Detection) -> pl.DataFrame:
    refs = [c for c in rows.columns if c.startswith("@ref.")]
    extreme = pl.col("@score").max() if sign(detection) > 0 else pl.col("@score").min()
    return rows.group_by("@window", *keys, maintain_order=True).agg(
        pl.col("events").sum(), pl.col("@value").last(), extreme, pl.col("@fired").any(), pl.col("fired_at").min(),
        *(pl.col(c).last() for c in refs),
    )  # fmt: skip


def calendar_of(detection: Detection) -> Calendar:
    """Return the windows of a detection.

    Raises:
        RuleError: It has none.
    """
    if not detection.windowed or not isinstance(detection.measure, Spanned):
        raise RuleError(
            f'{detection.id} does not count over calendar windows (per="1d"); this question is about windows.'
        )
    return detection.measure.calendar


def with_times(rows: pl.DataFrame, calendar: Calendar) -> pl.DataFrame:
    """Add `start` and `end` of each `@window`."""
    numbers = rows["@window"].to_list()
    known = {n: (calendar.begin(n), calendar.begin(n + 1)) for n in set(numbers)}
    times = {
        name: pl.Series(name, [known[n][i] for n in numbers], dtype=pl.Int64).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        for i, name in enumerate(("start", "end"))
    }  # fmt: skip
    return rows.with_columns(times["start"], times["end"])


def fires_at(detection: Detection, rows: pl.DataFrame) -> pl.Series:
    """Return the value at which the rule would fire in each row: its own score expression, solved for the value.

    Null where the score is no straight line in the value, or needs more than the columns at hand.
    """
    nothing = pl.Series("limit", [None] * rows.height, dtype=pl.Float64)
    threshold = detection.when.threshold
    needed = {*detection.score.meta.root_names(), *threshold.meta.root_names()} - {"@value"}
    if detection.measure is None or not rows.height or needed - set(rows.columns):
        return nothing
    at = [
        evaluate(rows.with_columns(pl.lit(x).alias("@value")), detection.score).cast(pl.Float64).to_numpy()
        for x in (0.0, 1.0, 2.0)
    ]
    limit = evaluate(rows, threshold).cast(pl.Float64).to_numpy()
    with np.errstate(all="ignore"):
        slope = at[1] - at[0]
        straight = np.abs((at[2] - at[1]) - slope) <= 1e-9 * np.abs(slope)
        value = np.where(straight & (slope != 0), (limit - at[0]) / slope, np.nan)
    return pl.Series("limit", np.where(np.isfinite(value), value, np.nan)).fill_nan(None)


def band(detection: Detection, rows: pl.DataFrame) -> pl.DataFrame:
    """Add `baseline`, `low` and `high`: centre and spread of what the rows were compared with, null where unknown."""
    centre, scale = centre_of(detection), BAND
    spread = centre.replace("mean", "sd")
    if centre.endswith("median"):
        spread, scale = centre.replace("median", "mad"), BAND * MAD_TO_SD
    nothing = pl.lit(None, pl.Float64)
    middle = pl.col(centre) if centre in rows.columns else nothing
    half = pl.col(spread) * scale if spread in rows.columns and spread != centre else nothing
    low = middle - half
    if isinstance(detection.measure, Count | Sum | Distinct):
        low = pl.when(low < 0).then(0.0).otherwise(low)
    return rows.with_columns(baseline=middle, low=low, high=middle + half)
