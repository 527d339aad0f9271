"""What people did to alerts: who acted first, what it cost, what came of it.

Enters: a history. Leaves: frames with one row an alert (its row in ``history.alerts``). Layer: metrics, its ground floor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from tocsin.lifecycle.words import ACTIVITIES

if TYPE_CHECKING:
    from tocsin.lifecycle import History
    from tocsin.metrics.scope import Scope

ACTED: Final = tuple(sorted(set(ACTIVITIES) - {"commented", "enriched", "peak", "retracted", "unassigned"}))
"""Activities by which a person acts on an alert; `ACTED_WORDS` says it."""
ACTED_WORDS: Final = "any activity of a person but a comment"
MINUTE_US: Final = 60_000_000


def said(column: str = "value") -> pl.Expr:
    """Return a text as somebody said it: blank is nothing."""
    text = pl.col(column).str.strip_chars()
    return pl.when(text != "").then(text)


def deeds(history: History, *kinds: str) -> pl.DataFrame:
    """Return the activities of these types, each once: ``alert``, ``at``, ``type``, ``value`` (blank is null)."""
    rows = history.events.filter(pl.col("type").is_in(kinds)).unique("key", keep="first", maintain_order=True)
    return rows.select("alert", "at", "type", said())


def within(rows: pl.DataFrame, scope: Scope | None) -> pl.DataFrame:
    """Return the rows of the alerts that a scope counts; none without a scope."""
    if scope is None:
        return rows.clear()
    return rows.join(scope.alerts.select("alert"), on="alert", how="semi", maintain_order="left")


def first_acts(history: History) -> pl.DataFrame:
    """Return ``alert`` and ``acted_at``, when a person first acted on it; alerts nobody acted on have no row."""
    human = history.events.lazy().filter(pl.col("actor_kind") == "human", pl.col("type").is_in(ACTED))
    return human.group_by("alert").agg(pl.col("at").min().alias("acted_at")).sort("alert").collect()


def work(history: History) -> pl.DataFrame:
    """Return ``alert`` and ``minutes`` of work on it; null where nobody recorded any.

    The minutes of a stretch are those that its end names, else the time since the same person's last start.
    """
    rows = history.events.filter(pl.col("type").is_in(["work_started", "work_ended"]))
    rows = rows.select("alert", "at", "type", "actor", "number")
    begun, ended = pl.col("type") == "work_started", pl.col("type") == "work_ended"
    mine = ["alert", "actor"]
    since = pl.when(begun.shift(1).over(mine)).then(pl.col("at").shift(1).over(mine))
    between = (pl.col("at") - since).dt.total_microseconds() / MINUTE_US
    measured = pl.when(pl.col("number") >= 0, pl.col("number").is_finite()).then(pl.col("number"))
    unmeasured = rows.filter(ended, measured.is_null()).height
    minutes = pl.coalesce(measured, between) if unmeasured else measured
    made = rows.with_columns(pl.when(ended).then(minutes).alias("minutes"))
    counted = made.group_by("alert").agg(pl.col("minutes").sum(), pl.col("minutes").count().alias("ends"))
    return counted.select("alert", pl.when(pl.col("ends") > 0).then(pl.col("minutes")).alias("minutes"))
