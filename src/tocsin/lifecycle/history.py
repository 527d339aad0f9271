"""History: the alert log as a value, at a time.

Enters: the four frames. Leaves: the same cut at a time, and one row an alert as it stood then: state, verdict, assignee,
first and last finding. Layer: lifecycle.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from tocsin.lifecycle.frames import TIME, empty_history, fit_frame
from tocsin.lifecycle.words import ACTIVITIES, ACTOR_KINDS, TRANSITIONS, LifecycleError

if TYPE_CHECKING:
    from collections.abc import Mapping

HAPPENED = {"alerts": "created_at", "activities": "at", "findings": "time", "journal": "at"}
"""The column of each frame that says when it happened."""
AT_ONCE = 1 << 16
TYPE, ACTOR_KIND = pl.Enum(list(ACTIVITIES)), pl.Enum(ACTOR_KINDS)
OBSERVABLE = pl.List(pl.Struct({"kind": pl.String, "role": pl.String, "value": pl.String}))


@dataclass(frozen=True, eq=False)
class History:
    """Alerts, what happened to them, and what was true around them.

    alerts, activities, findings, journal: frames as in `lifecycle.frames`; activities in the order they were learnt.
    at: the time at which it is looked at; what happens later is not in the frames. None: the latest time in them.
    caveats: what a careful reader must know of where it came from, shown beside every number.
    """

    alerts: pl.DataFrame
    activities: pl.DataFrame = field(default_factory=lambda: empty_history()["activity"])
    findings: pl.DataFrame = field(default_factory=lambda: empty_history()["finding"])
    journal: pl.DataFrame = field(default_factory=lambda: empty_history()["journal"])
    at: datetime | None = None
    caveats: tuple[str, ...] = ()

    @classmethod
    def of(cls, alerts: pl.DataFrame, activities: pl.DataFrame | None = None, **more: Any) -> History:
        """Return the history of frames that have only some of the columns.

        >>> from datetime import UTC, datetime
        >>> when = datetime(2026, 1, 5, 9, tzinfo=UTC)
        >>> History.of(pl.DataFrame({"alert_id": ["a"], "created_at": [when]})).current["state"].to_list()
        ['new']
        """
        nothing = empty_history()
        return cls(
            fit_frame(alerts, "alert"),
            nothing["activity"] if activities is None else fit_frame(activities, "activity"),
            fit_frame(more.pop("findings", nothing["finding"]), "finding"),
            fit_frame(more.pop("journal", nothing["journal"]), "journal"),
            **more,
        )

    def frames(self) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        """Return alerts, activities, findings and journal."""
        return self.alerts, self.activities, self.findings, self.journal

    @cached_property
    def seen_at(self) -> datetime | None:
        """The time it is looked at: ``at``, else the latest time that any row names; None where there are no rows."""
        if self.at is not None:
            return self.at
        times = [getattr(self, frame)[column].max() for frame, column in HAPPENED.items()]
        times.append(self.journal.filter(pl.col("kind") == "covered")["until"].max())
        return max((t for t in times if t is not None), default=None)

    def as_of(self, when: datetime) -> History:
        """Return the history as it truly was at a time: what happened until then, whenever it was learnt."""
        check_time(when)
        kept = {frame: getattr(self, frame).filter(pl.col(column) <= when) for frame, column in HAPPENED.items()}
        return self._cut(when, kept)

    def as_known_at(self, when: datetime) -> History:
        """Return the history as it was known at a time: what had happened and had been recorded by then."""
        check_time(when)
        kept = {
            frame: getattr(self, frame).filter(
                (pl.col(column) <= when) & (pl.col("recorded_at").fill_null(pl.col(column)) <= when)
            )
            for frame, column in HAPPENED.items()
        }
        return self._cut(when, kept)

    def _cut(self, when: datetime, kept: Mapping[str, pl.DataFrame]) -> History:
        ended = kept["journal"].with_columns(
            pl.when(pl.col("until") > when).then(pl.lit(when, TIME)).otherwise(pl.col("until")).alias("until")
        )
        return History(kept["alerts"], kept["activities"], kept["findings"], ended, when, self.caveats)

    @cached_property
    def events(self) -> pl.DataFrame:
        """The activities that hold (none retracted) of alerts that are here, in order of alert, time and learning.

        ``alert`` (UInt32) is the alert's row in ``alerts``; ``created_at`` is its own. ``type`` and ``actor_kind`` are Enums: metrics
        compare them millions of times.
        """
        kept = self.activities.with_columns(pl.col("type").cast(TYPE), pl.col("actor_kind").cast(ACTOR_KIND))
        retracted = kept.filter(pl.col("type") == "retracted")
        if retracted.height:
            kept = kept.filter(
                ~pl.col("key").is_in(retracted["value"].drop_nulls().implode()), pl.col("type") != "retracted"
            )
        numbered = self.alerts.select("alert_id").with_row_index("alert")
        alert = kept.select("alert_id").join(numbered, on="alert_id", how="left", maintain_order="left")["alert"]
        if alert.null_count():
            kept, alert = kept.filter(alert.is_not_null()), alert.drop_nulls()
        # Stable, so that what happened in one moment stays in the order of learning; and the wide rows move only once.
        order = pl.DataFrame([alert, kept["at"]]).select(pl.arg_sort_by("alert", "at", maintain_order=True)).to_series()
        alert = alert[order]
        return kept.drop("alert_id")[order].with_columns(alert, self.alerts["created_at"].gather(alert))

    @cached_property
    def current(self) -> pl.DataFrame:
        """One row an alert, in the order of ``alerts``: its facts, and how it stands at ``seen_at``.

        Adds ``state``, ``state_since``, ``verdict``, ``assignee``, ``severity_now``, ``reopened`` (how often), ``merged_into``,
        ``findings`` (how many), ``first_finding_at``, ``last_finding_at``, ``peak_score``.
        """
        rows = self.alerts.with_row_index("alert").with_columns(pl.col("alert").cast(pl.UInt32))
        for part in (self._states(), self._values(), self._counted()):
            rows = rows.join(part, on="alert", how="left", maintain_order="left")
        return rows.with_columns(
            pl.col("state").fill_null("new"),
            pl.col("state_since").fill_null(pl.col("created_at")),
            pl.col("verdict").fill_null("unjudged"),
            pl.col("severity_now").fill_null(pl.col("severity")),
            pl.col("reopened", "findings").fill_null(0),
        )

    def _states(self) -> pl.DataFrame:
        moving = self.events.filter(pl.col("type").is_in(list(TRANSITIONS)))
        over = (pl.col("type") == "suppressed") & (pl.col("until") <= pl.lit(self.seen_at, TIME))
        moving = moving.filter(~over.fill_null(value=False))
        states = {name: after for name, (_, after) in TRANSITIONS.items()}
        return moving.group_by("alert", maintain_order=True).agg(
            pl.col("type").last().replace_strict(states, return_dtype=pl.String).alias("state"),
            pl.col("at").last().alias("state_since"),
            (pl.col("type") == "reopened").sum().alias("reopened"),
            pl.col("value").filter(pl.col("type") == "merged").last().alias("merged_into"),
        )

    def _values(self) -> pl.DataFrame:
        told = self.events.filter(pl.col("type").is_in(["assigned", "unassigned", "verdict", "severity_changed"]))
        who = pl.col("type").is_in(["assigned", "unassigned"])
        return told.group_by("alert", maintain_order=True).agg(
            pl.col("value").filter(pl.col("type") == "verdict").last().alias("verdict"),
            pl.when(pl.col("type").filter(who).last() == "assigned")
            .then(pl.col("value").filter(who).last())
            .alias("assignee"),
            pl.col("value").filter(pl.col("type") == "severity_changed").last().alias("severity_now"),
        )

    def _counted(self) -> pl.DataFrame:
        numbered = self.alerts.select("alert_id").with_row_index("alert")
        found = self.findings.join(numbered, on="alert_id", how="inner")
        later = self.events.filter(pl.col("type") == "peak").select(finding_id="value", later="number")
        farthest = (pl.col("later") - pl.col("score")).abs()  # programs may report peaks in any order
        raised = (
            later.join(found.select("finding_id", "score"), on="finding_id", how="inner")
            .group_by("finding_id")
            .agg(pl.col("later").sort_by(farthest).last())
        )
        found = found.join(raised, on="finding_id", how="left")
        peak = pl.coalesce("later", "peak_score")
        # A rule fires above its threshold or below it: the peak is the farthest from it on the side where it fired.
        beyond = (peak - pl.col("threshold").fill_null(0)) * (pl.col("score") - pl.col("threshold")).sign().fill_null(1)
        return found.group_by("alert").agg(
            pl.len().cast(pl.Int64).alias("findings"),
            pl.col("time").min().alias("first_finding_at"),
            pl.col("time").max().alias("last_finding_at"),
            peak.sort_by(beyond, nulls_last=False).last().alias("peak_score"),
        )

    @cached_property
    def mentions(self) -> pl.DataFrame:
        """Each observable of each alert as often as it is told: ``alert``, ``kind``, ``role``, ``value``; later ones last."""
        said, found = pl.col("observables"), pl.Struct({"observables": OBSERVABLE})
        own = self.alerts.select("observables").with_row_index("alert")
        # Each part is decoded beside the others.
        parts = [own.slice(at, AT_ONCE).lazy() for at in range(0, max(own.height, 1), AT_ONCE)]
        told = [_each(part.with_columns(said.str.json_decode(OBSERVABLE))) for part in parts]
        enriched = self.events.lazy().filter(pl.col("type") == "enriched")
        later = _each(enriched.select("alert", pl.col("payload").str.json_decode(found).struct.field("observables")))
        return pl.concat(pl.collect_all([*told, later]))

    @cached_property
    def observables(self) -> pl.DataFrame:
        """The `mentions`, each once an alert."""
        return self.mentions.unique(maintain_order=True)


def check_time(when: object) -> None:
    """Refuse what is no time with a zone.

    >>> check_time("2026-05-01")
    Traceback (most recent call last):
    ...
    tocsin.lifecycle.words.LifecycleError: '2026-05-01' is no time with a zone; write datetime(2026, 5, 1, tzinfo=UTC).
    """
    if not isinstance(when, datetime) or when.tzinfo is None:
        told = when.isoformat() if isinstance(when, datetime) else repr(when)
        raise LifecycleError(f"{told} is no time with a zone; write datetime(2026, 5, 1, tzinfo=UTC).")


def _each(told: pl.LazyFrame) -> pl.LazyFrame:
    """Return one row for each observable that an alert tells."""
    rows = told.explode("observables").drop_nulls("observables").unnest("observables")
    return rows.filter(pl.col("value").is_not_null())
