"""Events for the examples that rules carry.

Enters: who does what, when. Leaves: rows as mappings. Layer: rules, below the detections.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
Row = dict[str, object]


def at(day: int = 0, hour: float = 0, minute: float = 0) -> datetime:
    """Return a time after the Monday at 09:00 UTC on which examples begin."""
    return MONDAY + timedelta(days=day, hours=hour, minutes=minute)


def mails(user: str, day: int, n: int, hour: float = 0, **columns: object) -> list[Row]:
    """Return ``n`` mails of one user on one day, half a minute apart, to one recipient each unless ``columns`` says else.

    >>> [row["timestamp"].isoformat() for row in mails("ann", 1, 2)]
    ['2026-03-03T09:00:00+00:00', '2026-03-03T09:00:30+00:00']
    """
    plain: Row = {"kind": "mail", "user_id": user, "nr_recipients": 1}
    return [{"timestamp": at(day, hour, i / 2)} | plain | columns for i in range(n)]


def login(minute: float, **columns: object) -> Row:
    """Return one login of ann, so many minutes after the beginning."""
    return {"timestamp": at(minute=minute), "kind": "login", "user_id": "ann", "src_ip": "198.51.100.7"} | columns


def failed(minute: float, **columns: object) -> Row:
    """Return one login of ann that failed."""
    return login(minute, outcome="failure") | columns
