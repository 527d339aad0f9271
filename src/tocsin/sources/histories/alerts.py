"""From rows to the frames of a history: the alerts, and what each row says happened to them.

Enters: a cleaned `Sheet`. Leaves: alert and activity frames as `lifecycle.frames` has them. All of it is column
expressions. Layer: sources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from tocsin.lifecycle.frames import ACTIVITY, TIME, digest, fit_frame
from tocsin.lifecycle.words import SEVERITIES, STATES, TRANSITIONS, VERDICTS
from tocsin.sources.histories.sheet import ROW, Sheet, field_cell

if TYPE_CHECKING:
    from collections import Counter
    from datetime import datetime

    from tocsin.sources.histories.mapping import ActivityRule, Cell

ACTIVITY_COLUMNS: Final = ("at", "type", "actor", "actor_kind", "value", "number", "until", "payload")
_SETTLES: Final = {"in_progress": "work_started", "on_hold": "held", "closed": "closed", "suppressed": "suppressed"}
"""The activity that brings an alert to a state of which the file says only that it was reached."""

_SINCE_UNKNOWN: Final = '{"time":"unknown"}'
_BY_STATUS: Final = '{"from":"status"}'


def alert_frame(sheet: Sheet, *, as_of: datetime | None) -> pl.DataFrame:
    """Return one row for each row of the sheet, in its order."""
    mapping = sheet.mapping
    source = mapping.source or mapping.name
    made = {
        "external_id": pl.col("@id"), "created_at": pl.col("@created"), "recorded_at": pl.lit(as_of, TIME), "source": pl.lit(source),
        "history": pl.lit(mapping.history), "is_test": pl.col("@test"), "observables": _observables(sheet),
    }  # fmt: skip
    for name, cell in mapping.alert:
        if name not in made:
            made[name] = sheet.time(cell) if cell.rules[0].kind == "time" else sheet.expr(cell)
    rows = sheet.frame.select(**made)
    rows = rows.with_columns(digest([pl.col("source"), pl.col("external_id")], rows).alias("alert_id"))
    return fit_frame(known_severity(rows, sheet.unknown), "alert")


def known_severity(rows: pl.DataFrame, unknown: Counter[str]) -> pl.DataFrame:
    """Return alerts whose severity is one of the known words, counting the others."""
    if "severity" not in rows.columns:
        return rows
    told = pl.col("severity").str.strip_chars().str.to_lowercase()
    strange = rows.filter(~told.is_in(SEVERITIES))["severity"]
    for word, count in strange.value_counts().iter_rows():
        unknown[f"severity {word!r}"] += count
    return rows.with_columns(pl.when(told.is_in(SEVERITIES)).then(told).otherwise(pl.lit("unknown")).alias("severity"))


def _observables(sheet: Sheet) -> pl.Expr:
    """Return the JSON list of what the rows name."""
    seen = [
        sheet.expr(rule.value).list.eval(
            pl.struct(
                kind=pl.lit(rule.kind), role=pl.lit(rule.role, pl.String), value=pl.element().str.strip_chars()
            ).filter(pl.element().str.strip_chars() != "")
        )
        for rule in sheet.mapping.observables
    ]
    if not seen:
        return pl.lit("[]")
    empty = pl.lit([], dtype=pl.List(pl.Struct({"kind": pl.String, "role": pl.String, "value": pl.String})))
    whole = pl.concat_list([pl.coalesce(one, empty) for one in seen])
    # A struct is written as JSON, a list is not: take what stands between {"l": and }.
    return pl.struct(l=whole).struct.json_encode().str.strip_prefix('{"l":').str.strip_suffix("}")


def told_activities(sheet: Sheet) -> pl.DataFrame:
    """Return what the rows say happened: ``@row``, ``@order`` and the activity columns, one row an activity with a time."""
    rules = list(enumerate(sheet.mapping.activities))
    frame = sheet.frame.with_columns(
        pl.when(*_conditions(sheet, rule)).then(sheet.time(rule.at)).alias(f"@at{n}") for n, rule in rules if rule.at
    )
    known = [f"@at{n}" for n, rule in rules if rule.at]
    frame = frame.with_columns(
        _between(sheet, rule.between, known).alias(f"@at{n}") for n, rule in rules if rule.between
    )
    parts = [
        frame.filter(pl.col(f"@at{n}").is_not_null()).select(
            ROW, pl.lit(n, pl.Int64).alias("@order"), pl.col(f"@at{n}").alias("at"), *_particulars(sheet, rule)
        )
        for n, rule in rules
    ]
    return pl.concat([no_activities(), *parts])


def no_activities() -> pl.DataFrame:
    """Return the frame of `told_activities` without rows; ``@order`` tells which of several at one time came first."""
    return pl.DataFrame(schema={ROW: pl.Int64, "@order": pl.Int64, **{c: ACTIVITY[c] for c in ACTIVITY_COLUMNS}})


def _conditions(sheet: Sheet, rule: ActivityRule) -> list[pl.Expr]:
    held = [pl.lit(value=True)]
    if rule.needs_value and rule.value is not None:
        held.append(sheet.expr(rule.value).is_not_null())
    if rule.unless is not None:
        held.append(sheet.expr(field_cell(rule.unless, "text")).is_null())
    if rule.differs_from is not None and rule.at is not None:
        held.append(sheet.time(rule.at).ne_missing(sheet.time(field_cell(rule.differs_from, "time"))))
    if rule.where is not None:
        told = sheet.expr(field_cell(rule.where.field, "text")).str.strip_chars().str.to_lowercase()
        words = [word.casefold() for word in rule.where.among or rule.where.not_among]
        among = told.is_in(words).fill_null(value=False)
        held.append(among if rule.where.among else ~among)
    return held


def _between(sheet: Sheet, span: tuple[str, str], known: list[str]) -> pl.Expr:
    first, last = (sheet.time(field_cell(name, "time")) for name in span)
    later = [pl.when(pl.col(name) > first, pl.col(name) <= last).then(pl.col(name)) for name in known]
    return pl.when(first < last).then(pl.min_horizontal(*later, last))


def _particulars(sheet: Sheet, rule: ActivityRule) -> list[pl.Expr]:
    def told(cell: Cell | None, name: str) -> pl.Expr:
        return (pl.lit(None) if cell is None else sheet.time(cell) if name == "until" else sheet.expr(cell)).cast(
            ACTIVITY[name]
        )

    payload = pl.lit(None, pl.String)
    if rule.payload:
        cells = [sheet.expr(cell).alias(name) for name, cell in rule.payload]
        payload = pl.when(pl.any_horizontal(c.is_not_null() for c in cells)).then(
            pl.struct(*cells).struct.json_encode()
        )
    judged = rule.judged_by or rule.actor
    kind = pl.lit(rule.actor_kind)
    if judged is not None:
        kind = kind_of(sheet, sheet.expr(judged), rule.actor_kind, rule.actor_kind_if_nobody or rule.actor_kind)
    made = {
        "type": pl.lit(rule.type), "actor": told(rule.actor, "actor"), "actor_kind": kind, "value": told(rule.value, "value"),
        "number": told(rule.number, "number"), "until": told(rule.until, "until"), "payload": payload,
    }  # fmt: skip
    return [expr.alias(name) for name, expr in made.items()]


def kind_of(sheet: Sheet, name: pl.Expr, kind: str, nobody: str) -> pl.Expr:
    """Return who acts: automation where the mapping's pattern matches the name, `nobody` where there is none."""
    told: Any = pl.when(name.is_null()).then(pl.lit(nobody))
    if sheet.mapping.automation is not None:
        told = told.when(name.str.contains(sheet.mapping.automation)).then(pl.lit("automation"))
    found: pl.Expr = told.otherwise(pl.lit(kind))
    return found


def settled(sheet: Sheet, told: pl.DataFrame, seen_at: datetime | None) -> pl.DataFrame:
    """Return the activities that the status asks for beyond those that have a time; their actor kind is ``import``.

    An alert that is closed, nobody knows since when, is closed at `seen_at`. Any other state is reached with the last thing
    that is known of the alert; so is being closed, where it was closed before and work on it is said to have begun later.
    """
    cell = sheet.mapping.status
    if cell is None or not sheet.frame.height:
        return no_activities()
    stated = sheet.frame.select(ROW, "@created", sheet.expr(cell).alias("stated"))
    strange = stated.filter(stated["stated"].is_not_null() & ~stated["stated"].is_in(STATES))
    for word, count in strange["stated"].value_counts().iter_rows():
        sheet.unknown[f"status {word!r}"] += count
    states = {name: after for name, (_, after) in TRANSITIONS.items()}
    moved = (
        told.sort("at", "@order", maintain_order=True)
        .group_by(ROW)
        .agg(
            pl.col("at").max().alias("@last"),
            (pl.col("type") == "closed").any().alias("@closed"),
            pl.col("type")
            .filter(pl.col("type").is_in(list(states)))
            .last()
            .replace_strict(states, default="new", return_dtype=pl.String)
            .alias("@state"),
        )
    )
    rows = stated.join(moved, on=ROW, how="left", maintain_order="left").with_columns(pl.col("@state").fill_null("new"))
    open_again = pl.col("stated").is_in(["in_progress", "reopened"]) & (pl.col("@state") == "closed")
    same = (pl.col("stated") == pl.col("@state")) | (
        (pl.col("stated") == "in_progress") & (pl.col("@state") == "reopened")
    )
    wanted = (
        pl.when(same)
        .then(None)
        .when(open_again)
        .then(pl.lit("reopened"))
        .otherwise(pl.col("stated").replace_strict(_SETTLES, default=None, return_dtype=pl.String))
    )
    rows = rows.with_columns(wanted.alias("type")).drop_nulls("type")
    closing = (pl.col("type") == "closed") & ~pl.col("@closed").fill_null(value=False)
    sheet.count("closed-time-unknown", int(rows.select(closing.sum()).item()))
    last = pl.max_horizontal("@created", "@last")
    at = pl.when(closing).then(pl.max_horizontal(pl.lit(seen_at, TIME), last)).otherwise(last)
    why = pl.when(closing).then(pl.lit(_SINCE_UNKNOWN)).otherwise(pl.lit(_BY_STATUS))
    made = {"at": at, "type": pl.col("type"), "actor_kind": pl.lit("import"), "payload": why}
    cells = [made.get(name, pl.lit(None)).cast(ACTIVITY[name]).alias(name) for name in ACTIVITY_COLUMNS]
    return rows.select(ROW, pl.lit(len(sheet.mapping.activities), pl.Int64).alias("@order"), *cells)


def activity_frame(sheet: Sheet, told: pl.DataFrame, alerts: pl.DataFrame, *, as_of: datetime | None) -> pl.DataFrame:
    """Return the activities of some rows as the log has them, in order of time; counts those before their alert.

    The key of one that the status alone asks for does not depend on its time, so that a later export says the same again.
    """
    ids = pl.DataFrame([sheet.frame[ROW], alerts["alert_id"], alerts["created_at"]])
    rows = told.join(ids, on=ROW, how="inner").sort("at", ROW, "@order", maintain_order=True)
    sheet.count("clock-skew", int((rows["at"] < rows["created_at"]).sum()))
    said = rows.select("alert_id", *ACTIVITY_COLUMNS, pl.lit(as_of, TIME).alias("recorded_at"), _keys_of_states(rows))
    frame = fit_frame(said, "activity")
    known = _checked_verdicts(frame, sheet)
    if sheet.mapping.shape == "updates" and known["key"].is_duplicated().any():
        # Within one minute an alert can go to somebody, away, and back: that is two activities that say the same.
        times = pl.col("key").cum_count().over("key")
        other = digest([pl.col("key"), times], known).alias("@other")
        return known.with_columns(pl.when(times > 1).then(other).otherwise("key").alias("key"))
    # In one row an alert's second of two equal ones says nothing new.
    return known.filter(pl.col("key").is_first_distinct())


def _keys_of_states(rows: pl.DataFrame) -> pl.Series:
    """Return the keys of what the status alone asks for, null for all else."""
    asked = (rows["actor_kind"] == "import") & rows["payload"].is_in([_SINCE_UNKNOWN, _BY_STATUS]).fill_null(
        value=False
    )
    keys = pl.Series("key", [None], dtype=pl.String).new_from_index(0, rows.height)
    told = digest([pl.col("alert_id"), pl.col("type"), pl.lit("by its status")], rows.filter(asked))
    return keys.scatter(asked.arg_true(), told) if len(told) else keys


def _checked_verdicts(frame: pl.DataFrame, sheet: Sheet) -> pl.DataFrame:
    strange = (pl.col("type") == "verdict") & ~pl.col("value").is_in(VERDICTS).fill_null(value=False)
    for word, count in frame.filter(strange)["value"].value_counts().iter_rows():
        sheet.unknown[f"verdict {word!r}"] += count
    severity = (pl.col("type") == "severity_changed") & ~pl.col("value").is_in(SEVERITIES).fill_null(value=False)
    return frame.filter(~strange & ~severity)
