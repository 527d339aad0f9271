"""What people did to alerts: who acted first, what it cost, what came of it.

Enters: a history. Leaves: frames with one row an alert (its row in ``history.alerts``). Layer: metrics, its ground floor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from tocsin.calendars import MINUTE
from tocsin.lifecycle.words import ACTIVITIES

if TYPE_CHECKING:
    from tocsin.lifecycle import History
    from tocsin.metrics.scope import Scope

ACTED: Final = tuple(sorted(set(ACTIVITIES) - {"commented", "enriched", "peak", "retracted", "unassigned"}))
"""Activities by which a person acts on an alert; `ACTED_WORDS` says it."""
ACTED_WORDS: Final = "any activity of a person but a comment"
WORK: Final = ("work_started", "work_ended")
"""Activities that begin and end a stretch of work."""
PEOPLE: Final = ~pl.col("actor_kind").is_in(["automation", "system"]).fill_null(value=False)
"""Rows of people, and of those of whom nobody said what they are."""


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


def stretches(events: pl.DataFrame) -> pl.DataFrame:
    """Return each stretch of a person's work on an alert: ``alert``, ``minutes``.

    Its minutes are those that ``work_ended`` names, else the time since the same person's start on this alert. Work that nobody
    ended is not recorded: an alert may lie open for days. ``events`` are in order of alert and time.
    """
    # Null is a person too: whose name is not told. Rows of one alert and person follow each other in time; the sort is stable.
    person = pl.col("actor").fill_null("").cast(pl.Categorical).to_physical()
    mine = events.filter(pl.col("type").is_in(WORK) & PEOPLE)
    mine = mine.select("alert", "at", "type", "number", person.alias("person")).sort(
        "alert", "person", maintain_order=True
    )
    same = (pl.col("alert") == pl.col("alert").shift()) & (pl.col("person") == pl.col("person").shift())
    begun = same & (pl.col("type").shift() == "work_started")
    since = (pl.col("at") - pl.col("at").shift()).dt.total_microseconds() / MINUTE
    told = (pl.col("type") == "work_ended") & pl.col("number").is_finite()
    minutes = pl.when(told).then(pl.col("number")).when(begun).then(since)
    found = mine.select("alert", "type", minutes=minutes).filter(
        pl.col("type") != "work_started", pl.col("minutes") >= 0
    )
    return found.drop("type")


def work(history: History) -> pl.DataFrame:
    """Return ``alert`` and ``minutes`` of work on it, of the alerts of which any is recorded; see `stretches`."""
    return stretches(history.events).group_by("alert").agg(pl.col("minutes").sum())
