"""What each user did in the end, counted from the finished events; and the truth written from plan and counts.

Enters: days of finished events, a plan. Leaves: the population's frame with counts, and the truth as a document.
Layer: sources.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tocsin.sources.simulate.casting import INNOCENT_KINDS
from tocsin.sources.simulate.cities import CITIES
from tocsin.sources.simulate.days import EPOCH
from tocsin.sources.simulate.population import LEAST_RECIPIENTS, MEAN_RECIPIENTS, Floats, Ints
from tocsin.sources.simulate.truth import FORMAT, Document

if TYPE_CHECKING:
    from tocsin.sources.simulate.plan import Plan, Story

COUNTS = ("mails", "logins", "failed_logins", "attachments_before", "attachments_after")


@dataclass(slots=True)
class Tally:
    """Counts by user, and the events of each story, as days of finished events pass by."""

    made: Plan
    counts: dict[str, Ints] = field(init=False)
    event_ids: dict[int, list[str]] = field(default_factory=dict)
    spans: dict[int, tuple[datetime, datetime]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.counts = {name: np.zeros(len(self.made.people), np.int64) for name in COUNTS}

    def add(self, day: pl.DataFrame, number: int) -> None:
        """Count the events of one UTC day (with ``@user`` and ``@story``)."""
        is_mail = pl.col("kind") == "mail"
        per_user = day.group_by("@user").agg(
            mails=is_mail.sum(),
            logins=(~is_mail).sum(),
            failed_logins=(~is_mail & (pl.col("outcome") == "failure")).sum(),
            files=pl.col("nr_attachments").sum(),
        )
        user, files = per_user["@user"].to_numpy(), per_user["files"].to_numpy()
        for name in COUNTS[:3]:
            self.counts[name][user] += per_user[name].to_numpy()
        self.counts["attachments_before" if number < self.made.days // 2 else "attachments_after"][user] += files
        marked = day.filter(pl.col("@story").is_not_null()).select("@story", "event_id", "timestamp")
        for story, event_id, time in marked.iter_rows():
            self.event_ids.setdefault(story, []).append(event_id)
            self.spans[story] = (self.spans.get(story, (time,))[0], time)

    def population(self) -> pl.DataFrame:
        """Return each user's parameters and what became of them, one row a user."""
        before, after = self._attachments_per_day()
        return self.made.people.frame().with_columns(
            *(pl.Series(name, self.counts[name]) for name in COUNTS[:3]),
            pl.Series("attachments_per_day_before", before),
            pl.Series("attachments_per_day_after", after),
            pl.Series("outside_us", self._outside_us()),
        )

    def document(self, *, seed: int, drift: float) -> Document:
        """Return the truth; complete once all days have passed."""
        made, ids = self.made, self.made.people.user_ids
        at_home = ~self._outside_us() & (self.counts["mails"] + self.counts["logins"] > 0)
        told: dict[bool, list[Document]] = {False: [], True: []}
        for number, story in enumerate(made.stories):
            told[story.kind in INNOCENT_KINDS].append(self._label(number, story))
        return {
            "format": FORMAT,
            "users": len(ids),
            "days": made.days,
            "seed": seed,
            "start": _iso(made.start_us),
            "split": _iso(made.split_us),
            "drift": drift,
            "recipients": {
                "prior": "poisson",
                "parameter": MEAN_RECIPIENTS,
                "least": LEAST_RECIPIENTS,
                "per_mail": "1 + Poisson(mean_recipients - 1)",
            },
            "never_outside_us": [ids[user] for user in np.flatnonzero(at_home)],
            "challenges": self._challenges(),
            "stories": told[False],
            "innocents": told[True],
        }

    def _label(self, number: int, story: Story) -> Document:
        ids = self.made.people.user_ids
        first, last = self.spans.get(number, (None, None))
        details = dict(story.details)
        if story.kind == "attachment_growth":
            before, after = self._attachments_per_day()
            details["per_day_before"], details["per_day_after"] = (float(x[story.users[0]]) for x in (before, after))
        return {
            "story_id": f"{story.kind}-{story.key[1] + 1}",
            "kind": story.kind,
            "users": [ids[user] for user in story.users],
            "days": [self.made.date(day) for day in story.days],
            "first": first and first.isoformat(),
            "last": last and last.isoformat(),
            "event_ids": self.event_ids.get(number, []),
            "details": details,
            "note": story.note,
        }

    def _challenges(self) -> dict[str, Any]:
        """Return the answers to the workshop's challenges that hold exactly (docs/simulate.md says under what reading)."""
        ids, outside = self.made.people.user_ids, self._outside_us()
        before, after = self._attachments_per_day()
        grown = np.lexsort((np.array(ids), before - after))[:3]
        moved = [
            (story.details["plane_speed_kmh"], ids[story.users[0]])
            for story in self.made.stories
            if story.kind == "takeover_travel" and not outside[story.users[0]]
        ]
        speed, fastest = max(moved, default=(None, None))
        return {
            "1": self._users("exe_spray"),
            "2": self._users("threat_login", "threat_mail"),
            "3": {"users": [ids[u] for u in grown], "increase_per_day": [float(after[u] - before[u]) for u in grown]},
            "4": {"user": fastest, "speed_kmh": speed},
            "B1": MEAN_RECIPIENTS,
            "B2": self._users("hours_shift"),
        }

    def _users(self, *kinds: str) -> list[str]:
        ids = self.made.people.user_ids
        return sorted(ids[user] for story in self.made.stories if story.kind in kinds for user in story.users)

    def _attachments_per_day(self) -> tuple[Floats, Floats]:
        days, split = self.made.days, self.made.days // 2
        before, after = self.counts["attachments_before"], self.counts["attachments_after"]
        return before / max(1, split), after / (days - split)

    def _outside_us(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Return who was seen outside the US by any event that is no failed login."""
        abroad = np.array([city.country_iso_code != "US" for city in CITIES])
        outside = abroad[self.made.people.city]
        for user, cities in self.made.visited.items():
            outside[user] |= abroad[list(cities)].any()
        return outside


def _iso(time_us: int) -> str:
    return (EPOCH + timedelta(microseconds=time_us)).isoformat()
