"""From an audit log, one row an update, to alerts and activities: what changed between one update and the next.

Enters: a cleaned `Sheet` of shape "updates". Leaves: the sheet of each alert's first row, and what happened. Layer: sources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from tocsin.lifecycle.frames import ACTIVITY
from tocsin.lifecycle.words import STATES
from tocsin.sources.histories.alerts import ACTIVITY_COLUMNS, kind_of, no_activities, told_activities
from tocsin.sources.histories.sheet import ROW, Sheet, field_cell

if TYPE_CHECKING:
    from tocsin.sources.histories.mapping import ChangeRule

_CHANGES_AN_UPDATE: Final = 1_000
_MOVES: Final = {
    ("new", "in_progress"): ("work_started",),
    ("on_hold", "in_progress"): ("resumed",),
    ("on_hold", "new"): ("resumed",),
    ("closed", "in_progress"): ("reopened",),
    ("closed", "new"): ("reopened",),
    ("closed", "on_hold"): ("reopened", "held"),
    ("new", "on_hold"): ("held",),
    ("in_progress", "on_hold"): ("held",),
    ("on_hold", "on_hold"): ("resumed", "held"),  # it waits for somebody else now
    ("new", "closed"): ("closed",),
    ("in_progress", "closed"): ("closed",),
    ("on_hold", "closed"): ("closed",),
    ("new", "suppressed"): ("suppressed",),
    ("suppressed", "new"): ("unsuppressed",),
    ("suppressed", "in_progress"): ("unsuppressed", "work_started"),
    ("suppressed", "closed"): ("unsuppressed", "closed"),
}
"""(state before, state after) -> the activities that lead from one to the other, each allowed by `lifecycle.TRANSITIONS`."""


def split_updates(sheet: Sheet) -> pl.DataFrame:
    """Leave each alert's first row in the sheet, and return what happened, with ``@row`` that of the alert's first row."""
    assert sheet.mapping.at is not None
    frame = sheet.frame.with_columns(sheet.time(sheet.mapping.at).alias("@at"))
    sheet.drop("bad-update-time", frame["@at"].is_null())
    frame = frame.filter(pl.col("@at").is_not_null()).sort("@at", ROW)
    first = pl.col(ROW).first().over("@id").alias("@first")
    frame = frame.with_columns(first).sort("@first", maintain_order=True)
    parts = [no_activities(), *_state_moves(sheet, frame)]
    parts += [part for n, rule in enumerate(sheet.mapping.changes) for part in _changes(sheet, frame, rule, n)]
    sheet.frame = frame.filter(pl.col(ROW) == pl.col("@first")).sort("@created", ROW)
    parts.append(told_activities(sheet))
    return pl.concat(parts)


def _before(name: str) -> pl.Expr:
    """The value in the update before of the same alert; null in the first."""
    return pl.when(pl.col("@first") == pl.col("@first").shift(1)).then(pl.col(name).shift(1))


def _state_moves(sheet: Sheet, frame: pl.DataFrame) -> list[pl.DataFrame]:
    cell = sheet.mapping.status
    if cell is None:
        return []
    raw = sheet.expr(cell)
    strange = frame.select(raw.alias("state")).filter(pl.col("state").is_not_null() & ~pl.col("state").is_in(STATES))
    for word, count in strange["state"].value_counts().iter_rows():
        sheet.unknown[f"status {word!r}"] += count
    # A word nobody knows leaves the alert in the state it was in. The text behind a state tells two waits apart.
    named = pl.coalesce([sheet.expr(field_cell(field, "text")) for field in cell.fields])
    known = raw.is_in(STATES).fill_null(value=False)
    told = frame.with_columns(
        pl.when(known).then(raw).forward_fill().over("@first").fill_null("new").alias("@state"),
        pl.when(known).then(named).forward_fill().over("@first").alias("@named"),
    )
    told = told.with_columns(_before("@state").fill_null("new").alias("@was"), _before("@named").alias("@was_named"))
    told = told.filter(
        (pl.col("@state") != pl.col("@was"))
        | ((pl.col("@state") == "on_hold") & (pl.col("@named") != pl.col("@was_named")).fill_null(value=False))
    )
    reason = pl.lit(None, pl.String) if sheet.mapping.closed_value is None else sheet.expr(sheet.mapping.closed_value)
    parts = []
    for step in (0, 1):
        moves = {f"{a}>{b}": names[step] for (a, b), names in _MOVES.items() if len(names) > step}
        kind = (pl.col("@was") + ">" + pl.col("@state")).replace_strict(moves, default=None, return_dtype=pl.String)
        value = pl.when(kind == "held").then(pl.col("@named")).when(kind == "closed").then(reason)
        parts.append(_rows(sheet, told.filter(kind.is_not_null()), step, kind, value))
    return parts


def _changes(sheet: Sheet, frame: pl.DataFrame, rule: ChangeRule, n: int) -> list[pl.DataFrame]:
    told = frame.with_columns(sheet.expr(rule.value).alias("@value")).with_columns(_before("@value").alias("@was"))
    begins = pl.col("@first") != pl.col("@first").shift(1)
    begins = begins.fill_null(value=True)
    if rule.when == "increases":
        became = pl.col("@value") > pl.col("@was").fill_null(0 if rule.first else float("inf"))
    else:
        became = pl.col("@value").ne_missing(pl.col("@was")) & pl.col("@value").is_not_null()
        became = became if rule.first else became & ~begins
    parts = [_rows(sheet, told.filter(became), 2 + 2 * n, pl.lit(rule.type), pl.col("@value"))]
    if rule.empty is not None:
        ended = pl.col("@value").is_null() & pl.col("@was").is_not_null()
        parts.append(_rows(sheet, told.filter(ended), 3 + 2 * n, pl.lit(rule.empty), pl.lit(None, pl.String)))
    return parts


def _rows(sheet: Sheet, frame: pl.DataFrame, order: int, kind: pl.Expr, value: pl.Expr) -> pl.DataFrame:
    actor = pl.lit(None, pl.String) if sheet.mapping.actor is None else sheet.expr(sheet.mapping.actor)
    made = {
        "at": pl.col("@at"), "type": kind, "actor": actor, "actor_kind": kind_of(sheet, actor, "human", "human"), "value": value,
        "number": pl.lit(None), "until": pl.lit(None), "payload": pl.lit(None),
    }  # fmt: skip
    columns = [made[name].cast(ACTIVITY[name]).alias(name) for name in ACTIVITY_COLUMNS]
    place = pl.col(ROW) * _CHANGES_AN_UPDATE + order  # one update after the other, also within one second
    return frame.select(pl.col("@first").alias(ROW), place.alias("@order"), *columns)
