"""Overview: the five numbers of a span, and the way from events to incidents.

Enters: a scope. Leaves: `Answer`s. Layer: metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from tocsin.answers import Answer
from tocsin.calendars import instant_us, load_zone
from tocsin.lifecycle.frames import TIME
from tocsin.lifecycle.words import WAITING
from tocsin.metrics.coverage import BEFORE_UNKNOWN, known_before
from tocsin.metrics.deeds import ACTED_WORDS, deeds, first_acts, within
from tocsin.views import Chart

if TYPE_CHECKING:
    from tocsin.metrics.scope import Scope

HANDED_ON = ("escalated", "promoted", "notified", "remediated")
MEASURES = {
    "alerts": ("alerts", "alerts raised in the span"),
    "needed no action": (
        "alerts",
        "closed, and neither part of an investigation or incident, nor told to anybody outside, nor remediated",
    ),
    "undecided": ("alerts", f"none of these either, but still {' or '.join(WAITING)}: they may need something yet"),
    "suppressed": ("alerts", "none of these either, and kept from triage by a suppression that is in force"),
    "needed action": ("alerts", "part of an investigation or incident, told to somebody outside, or remediated"),
    "investigations": ("ids", "distinct ids that alerts were escalated to, without those that became an incident"),
    "incidents": ("ids", "distinct ids of incidents that alerts were promoted to"),
    "notifications": ("notifications", "times that somebody outside was told"),
    "alerts notified": ("alerts", "alerts of which somebody outside was told at least once"),
}
"""Each number of the overview: its unit, and what it counts. The first, second and fourth add up with the others to all."""


def overview(scope: Scope, *, notebook: bool = False) -> Answer:
    """Count alerts, those that needed nothing, investigations, incidents and notifications, beside the span before.

    An id that is blank is none: alerts escalated without naming an investigation are counted in the notes instead.
    ``notebook`` adds what the SOC manager's notebook would print for the same alerts, and why that differs.

    >>> from datetime import UTC, datetime
    >>> from tocsin.lifecycle import History
    >>> from tocsin.metrics import Scope
    >>> alerts = pl.DataFrame({"alert_id": ["a", "b"], "created_at": [datetime(2026, 1, 5, h, tzinfo=UTC) for h in (9, 10)]})
    >>> closed = pl.DataFrame({"alert_id": ["a"], "at": [datetime(2026, 1, 5, 11, tzinfo=UTC)], "type": ["closed"]})
    >>> overview(Scope(History.of(alerts, closed)), notebook=True).table.select("measure", "count", "notebook").head(3).rows()
    [('alerts', 2, 2), ('needed no action', 1, 2), ('undecided', 1, None)]
    """
    title = "What came in, and what became of it?"
    handed = deeds(scope.history, *HANDED_ON)
    earlier = known_before(scope)
    now = _counts(scope, handed)
    before = _counts(earlier, handed) if earlier is not None else {}
    total = now["alerts"]
    rows = [
        {
            "measure": name, "count": now[name], "before": before.get(name),
            "change": now[name] - before[name] if before else None,
            "share_of_alerts": now[name] / total if unit == "alerts" and total else None, "unit": unit, "definition": words,
        }
        for name, (unit, words) in MEASURES.items()
    ]  # fmt: skip
    schema = {
        "measure": pl.String, "count": pl.Int64, "before": pl.Int64, "change": pl.Int64, "share_of_alerts": pl.Float64,
        "unit": pl.String, "definition": pl.String,
    }  # fmt: skip
    table = pl.DataFrame(rows, schema=schema)
    notes = [BEFORE_UNKNOWN] if earlier is None else []
    if now["nameless"]:
        notes.append(
            f"{now['nameless']:,} alerts were escalated or promoted without an id; they count as such, their ids do not."
        )
    if notebook and scope.span is not None:
        table = table.join(_notebook(scope, handed, now), on="measure", how="left", maintain_order="left")
        notes.append(_days_of_the_notebook(scope))
    shown = ("alerts", "needed no action", "undecided", "needed action", "investigations", "incidents", "notifications")
    data = table.filter(pl.col("measure").is_in(shown)).select(label="measure", count="count")
    definition = (
        "Alerts are distinct; each is one of: needed action, needed no action, undecided, suppressed. Each number's own "
        f"definition stands beside it. Before: the span of the same length just before, seen at the same time. {scope.words()}"
    )
    facts = {name: now[name] for name in MEASURES} | {"excluded": dict(scope.excluded)}
    return Answer(
        title, definition, table.clear() if not total else table, tuple(notes), chart=Chart("bars", title, data, x="number"),
        empty="" if total else "No alert was raised in this span.", facts=facts, n=total, as_of=scope.as_of,
    )  # fmt: skip


def _counts(scope: Scope, handed: pl.DataFrame) -> dict[str, int]:
    alerts, mine = scope.alerts, within(handed, scope)
    action = alerts.select("alert", "state").join(mine.select("alert").unique(), on="alert", how="anti")
    kinds = {kind: mine.filter(pl.col("type") == kind) for kind in HANDED_ON}
    incidents = kinds["promoted"]["value"].drop_nulls().unique()
    cases = kinds["escalated"]["value"].drop_nulls().unique()
    named = pl.concat([kinds["escalated"], kinds["promoted"]])
    return {
        "alerts": alerts.height,
        "needed no action": action.filter(pl.col("state") == "closed").height,
        "undecided": action.filter(pl.col("state").is_in(WAITING)).height,
        "suppressed": action.filter(pl.col("state") == "suppressed").height,
        "needed action": alerts.height - action.height,
        "investigations": cases.filter(~cases.is_in(incidents.implode())).len(),
        "incidents": incidents.len(),
        "notifications": kinds["notified"].height,
        "alerts notified": kinds["notified"]["alert"].n_unique(),
        "nameless": named.group_by("alert").agg(pl.col("value").count()).filter(pl.col("value") == 0).height,
    }


def _notebook(scope: Scope, handed: pl.DataFrame, now: dict[str, int]) -> pl.DataFrame:
    """Return what the notebook's Overview cell prints for the alerts of this span, and why it differs."""
    rows = _rows_of_the_notebook(scope)
    mine = handed.join(rows, on="alert", how="semi")
    each = mine.group_by("alert").agg(
        pl.col("value").filter(pl.col("type") == "promoted").last().alias("incident"),
        (pl.col("type") == "promoted").any().alias("promoted"),
        pl.col("value").filter(pl.col("type") == "escalated").last().alias("case"),
        (pl.col("type") == "escalated").any().alias("escalated"),
        (pl.col("type") == "notified").any().alias("told"),
    )
    each = rows.join(each, on="alert", how="left").with_columns(
        pl.coalesce("incident", "case").fill_null("").alias("id"), pl.col("promoted", "escalated", "told").fill_null(value=False)
    )  # fmt: skip
    cases = each.filter("escalated", ~pl.col("promoted"))
    blank = (pl.col("id") == "") & ~pl.col("told")
    ours = each.filter(blank).join(scope.alerts.select("alert", "state"), on="alert")
    nameless = ours.filter(pl.col("escalated") | pl.col("promoted")).height
    untouched = ours.filter(pl.col("state") != "closed").height
    extra = rows.height - now["alerts"]
    became = cases.filter(pl.col("id") != "").join(each.filter("promoted"), on="id", how="semi")["id"].n_unique()
    told = {
        "alerts": (rows.height, f"{extra} rows of alerts that were merged into others" if extra else "the same"),
        "needed no action": (
            each.filter(blank).height,
            f"blank investigation and notification, whatever the state: {untouched} of these are not closed, {nameless} part of a case "
            f"without an id" + (f"; {extra} merged rows" if extra else ""),
        ),
        "investigations": (cases["id"].n_unique(), _id_words(cases, became)),
        "incidents": (each.filter("promoted")["id"].n_unique(), _id_words(each.filter("promoted"), 0)),
        "notifications": (each.filter("told").height, "counts alerts with a notification, not notifications"),
    }
    return pl.DataFrame(
        [(name, *what) for name, what in told.items()],
        schema={"measure": pl.String, "notebook": pl.Int64, "why": pl.String},
        orient="row",
    )


def _id_words(rows: pl.DataFrame, became: int) -> str:
    blank = rows.filter(pl.col("id") == "").height
    said = [f"{blank} rows with a blank id count as one more"] if blank else []
    said += [f"{became} ids count here and, for other alerts of theirs, as incidents"] if became else []
    return "; ".join(said) or "the same"


def _rows_of_the_notebook(scope: Scope) -> pl.DataFrame:
    rows = scope.history.current.filter(~pl.col("is_test"))
    if scope.span is None:
        return rows.clear().select("alert")
    since, until = (pl.lit(t, TIME) for t in scope.span)
    return rows.filter(pl.col("created_at") >= since, pl.col("created_at") < until).select("alert")


def _days_of_the_notebook(scope: Scope) -> str:
    """Say what the notebook's dates would have asked for: local dates, labelled UTC, the last day left out."""
    assert scope.span is not None
    zone = load_zone(scope.zone)
    low, high = (t.astimezone(zone).date() for t in scope.span)
    rows = scope.history.current.filter(~pl.col("is_test"))["created_at"]
    since, until = (pl.lit(day).cast(TIME) for day in (low, high))
    asked = int(rows.to_frame().select(((pl.col("created_at") >= since) & (pl.col("created_at") < until)).sum()).item())
    return (
        f"Its numbers are given for this span; its own dates ({low} to {high}, labelled UTC, the last not included) would have asked "
        f"for {asked:,} rows."
    )


def funnel(scope: Scope) -> Answer:
    """Follow the span from events over findings and alerts to investigations and incidents, each beside the stage before.

    What nobody recorded is not recorded, never zero.
    """
    title = "How many of the events become incidents?"
    marks = deeds(scope.history, "escalated", "promoted")
    acts = first_acts(scope.history)
    earlier = known_before(scope)
    now = _stages(scope, marks, acts)
    before = _stages(earlier, marks, acts) if earlier is not None else {}
    rows = [
        {"stage": name, "count": now[name], "before": before.get(name), "definition": words} for name, words in STAGES.items()
    ]  # fmt: skip
    schema = {"stage": pl.String, "count": pl.Int64, "before": pl.Int64, "definition": pl.String}
    of_stage = pl.col("count") / pl.col("count").shift(1)
    table = pl.DataFrame(rows, schema=schema).with_columns(
        pl.when(of_stage.is_finite()).then(of_stage).alias("share_of_stage_before"),
        pl.when(pl.col("stage").is_in(["triaged", "investigated", "incident"]))
        .then(pl.col("count") / max(now["alerts"] or 0, 1))
        .alias("share_of_alerts"),
    )
    unknown = [name for name, count in now.items() if count is None]
    notes = [f"Not recorded: {', '.join(unknown)}."] if unknown else []
    notes += [BEFORE_UNKNOWN] if earlier is None else []
    chart = Chart("funnel", title, table.select(label="stage", count="count"), x="number (log scale)")
    definition = (
        "Each stage from triaged on holds alerts, and is part of the one before it. Its definition stands beside it. "
        f"{scope.words()}"
    )
    total = now["alerts"] or 0
    return Answer(
        title, definition, table if total else table.clear(), tuple(notes), chart=chart,
        empty="" if total else "No alert was raised in this span.", facts={**now}, n=total, as_of=scope.as_of,
    )  # fmt: skip


STAGES = {
    "events": "events that feeds brought: `events` rows of the journal that lie inside the span",
    "findings": "findings that belong to the alerts",
    "alerts": "alerts raised in the span",
    "triaged": f"alerts on which a person acted ({ACTED_WORDS}), or that are part of an investigation or incident",
    "investigated": "alerts that became part of an investigation or incident",
    "incident": "alerts that became part of an incident",
}


def _stages(scope: Scope, marks: pl.DataFrame, acts: pl.DataFrame) -> dict[str, int | None]:
    mine = within(marks, scope)
    touched = within(pl.concat([acts.select("alert"), mine.select("alert")]), scope)
    return {
        "events": _events(scope),
        "findings": int(scope.alerts["findings"].sum()) if scope.history.findings.height else None,
        "alerts": scope.alerts.height,
        "triaged": touched["alert"].n_unique(),
        "investigated": mine["alert"].n_unique(),
        "incident": mine.filter(pl.col("type") == "promoted")["alert"].n_unique(),
    }


def _events(scope: Scope) -> int | None:
    if scope.span is None:
        return None
    since, until = (instant_us(t) for t in scope.span)
    rows = scope.history.journal.filter(pl.col("kind") == "events", pl.col("number").is_not_null()).with_columns(
        pl.col("at", "until").dt.epoch("us")
    )
    inside = rows.filter(pl.col("at") >= since, pl.col("until") <= until)
    return int(inside["number"].sum()) if inside.height else None
