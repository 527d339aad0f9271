"""What the tests of the Workbench share: the alerts of its stand-in, the range asked for, and what lies in it."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from pathlib import Path

from tocsin.sources.workbench import Login
from tocsin.testing.workbench import StandIn, example_alerts

NOW = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)
ALERTS = example_alerts(40, seed=5)
SINCE, UNTIL, ZONE = "2026-10-03", "2026-10-13", "America/Denver"


def created(alert: dict) -> dt.datetime:
    return dt.datetime.fromisoformat(alert["attributes"]["created_at"])


INSIDE = [
    a
    for a in ALERTS
    if dt.date(2026, 10, 3) <= created(a).astimezone(zoneinfo.ZoneInfo(ZONE)).date() < dt.date(2026, 10, 13)
]
IDS = [a["id"] for a in INSIDE]


def person(server: StandIn, **wrong: str) -> Login:
    return Login(**({"user": server.user, "password": server.password, "code": server.otp} | wrong))


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
