"""The truth about a simulation, as a document and as objects: what is compared with a detector's answers.

Enters: ``truth.json`` or the document in memory. Leaves: a ``Truth`` that says which users, days and events are which
story, and which are innocent. Layer: sources.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from tocsin.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT = 2
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Label:
    """One planted story or innocent trap.

    ``days`` are the UTC dates on which it shows, ``first`` and ``last`` the times of its first and last labelled
    event, ``details`` the parameters of its kind (see docs/simulate.md).
    """

    story_id: str
    kind: str
    users: tuple[str, ...]
    days: tuple[date, ...]
    first: datetime | None
    last: datetime | None
    event_ids: tuple[str, ...]
    details: dict[str, Any]
    note: str

    @classmethod
    def of(cls, entry: Document) -> Label:
        """Make one from its entry in the document."""
        first, last = (entry[end] and datetime.fromisoformat(entry[end]) for end in ("first", "last"))
        return cls(
            entry["story_id"],
            entry["kind"],
            tuple(entry["users"]),
            tuple(date.fromisoformat(day) for day in entry["days"]),
            first,
            last,
            tuple(entry["event_ids"]),
            entry["details"],
            entry["note"],
        )


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true about a simulation.

    ``split`` is the middle of the run, where "before" and "after" meet; ``challenges`` are the answers to the
    workshop's challenges by their names.
    """

    nr_users: int
    nr_days: int
    seed: int
    start: datetime
    split: datetime
    drift: float
    recipients: dict[str, Any]
    stories: tuple[Label, ...]
    traps: tuple[Label, ...]
    never_outside_us: frozenset[str]
    challenges: dict[str, Any]

    @classmethod
    def of(cls, document: Document) -> Truth:
        """Make it from the document, as ``Simulation.truth`` holds it; raises ``SourceError`` for another format."""
        found = document.get("format")
        if found != FORMAT:
            msg = f"truth: format {found!r} is not {FORMAT}. Try simulating again."
            raise SourceError(msg)
        return cls(
            document["users"],
            document["days"],
            document["seed"],
            datetime.fromisoformat(document["start"]),
            datetime.fromisoformat(document["split"]),
            document["drift"],
            document["recipients"],
            tuple(Label.of(entry) for entry in document["stories"]),
            tuple(Label.of(entry) for entry in document["innocents"]),
            frozenset(document["never_outside_us"]),
            document["challenges"],
        )

    @classmethod
    def read(cls, path: str | Path) -> Truth:
        """Read ``truth.json``, or the one in a folder."""
        file = Path(path)
        file = file / "truth.json" if file.is_dir() else file
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            return cls.of(document if isinstance(document, dict) else {})
        except (OSError, ValueError, KeyError) as error:
            msg = f"truth: {file} is no truth of a simulation: {error}. Try `tocsin simulate`."
            raise SourceError(msg) from error

    def labels(self, *kinds: str) -> tuple[Label, ...]:
        """Return the stories and traps of these kinds, of all if none is named."""
        return tuple(label for label in (*self.stories, *self.traps) if not kinds or label.kind in kinds)

    def users(self, *kinds: str) -> frozenset[str]:
        """Return the users with a part in these kinds of stories or traps; in any story if none is named."""
        labels = self.labels(*kinds) if kinds else self.stories
        return frozenset(user for label in labels for user in label.users)

    def innocents(self) -> frozenset[str]:
        """Return the users of any trap: whoever flags one for it is wrong."""
        return frozenset(user for label in self.traps for user in label.users)

    def event_ids(self, *kinds: str) -> frozenset[str]:
        """Return the ids of the events that are these kinds of stories or traps; any story if none is named."""
        labels = self.labels(*kinds) if kinds else self.stories
        return frozenset(event for label in labels for event in label.event_ids)

    def user_days(self, labels: Iterable[Label] | None = None) -> pl.DataFrame:
        """Return ``kind, user_id, day``: one row for each user and UTC date of the labels, all stories if not given."""
        rows = [
            (label.kind, user, day)
            for label in (self.stories if labels is None else labels)
            for user in label.users
            for day in label.days
        ]
        return pl.DataFrame(rows, schema={"kind": pl.String, "user_id": pl.String, "day": pl.Date}, orient="row")
