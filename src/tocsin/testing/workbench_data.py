"""Alerts for the stand-in of the Workbench, as plain values: the same seed gives the same alerts.

Enters: how many, and a seed. Leaves: a list of dicts, each with what one alert is in the three places where the service
shows it: its row of the metrics export, its attributes, and what hangs on it. Layer: testing (standard library only).

An alert is ``{"id", "csv": {column: text}, "attributes": {...}, "evidence": [{"evidence_type", "evidence"}],
"vendor_alerts": [{...attributes}]}``. Tests may write their own; whatever is left out is empty.
"""

from __future__ import annotations

import datetime as dt
import random
import uuid
from typing import Any

Alert = dict[str, Any]

CSV_COLUMNS = (
    "Expel Alert ID", "Expel Alert Name", "Severity", "Alert Status", "Close Reason", "Expel Vendor Tech Name", "Vendor Alert Count",
    "Insert At (T3)", "First Assigned To User At (T4)", "First Assigned User (T4 Assignee)", "First Assigned User Name (T4 Assignee)",
    "First Assigned To Org At", "First Investigated At", "Time First Investigative Action (T5a)", "Time First Remediation Action (T5b)",
    "Time Promoted To Incident", "Investigation ID", "Investigation Type", "Time First Closed (T60)", "Time Last Closed (T6)",
)  # fmt: skip
"""The columns that the metrics notebook reads, and three beside them; the order is ours."""

SEVERITIES = ("CRITICAL", "HIGH", "MEDIUM", "LOW", "TESTING", "TUNING")
_SEVERITY_WEIGHTS = (2, 12, 40, 40, 4, 2)
_NAMES = (
    ("Password spray from one network", "okta"), ("Mail rule that forwards everything", "office365"),
    ("Encoded shell command", "crowdstrike"), ("Login from a listed address", "okta"),
    ("New service on a server", "sentinelone"), ("Bucket made public", "aws"),
)  # fmt: skip
_SYSTEMS = ("Windows 11", "Windows Server 2022", "macOS 15", "Debian 13")
_REASONS = ("FALSE_POSITIVE", "BENIGN", "TRUE_POSITIVE", "POLICY_VIOLATION", "PHISHING_SIMULATION", "TESTING")
START = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)


def timestamp(moment: dt.datetime | None) -> str:
    """Return a time as the service writes it, UTC with milliseconds; no time is the empty string.

    >>> timestamp(START), timestamp(None)
    ('2026-10-01T00:00:00.000Z', '')
    """
    if moment is None:
        return ""
    return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def example_alerts(n: int, seed: int, *, start: dt.datetime = START, days: int = 14) -> list[Alert]:
    """Return `n` alerts spread over `days` from `start`, in order of time.

    Among them are untouched ones (NEW), some closed by automation, reopened, investigated and promoted, severities
    TESTING and TUNING, phishing simulations, alerts without evidence, and vendor alerts without a summary.

    >>> alerts = example_alerts(3, seed=1)
    >>> alerts == example_alerts(3, seed=1), sorted(alerts[0])
    (True, ['attributes', 'csv', 'evidence', 'id', 'vendor_alerts'])
    """
    draw = random.Random(seed)  # noqa: S311 - example data, no secret
    cases = [str(uuid.UUID(int=draw.getrandbits(128), version=4)) for _ in range(1 + n // 12)]
    moments = sorted(start + dt.timedelta(milliseconds=draw.randrange(days * 86_400_000)) for _ in range(n))
    return [_alert(draw, created, cases) for created in moments]


def _alert(draw: random.Random, created: dt.datetime, cases: list[str]) -> Alert:
    alert_id = str(uuid.UUID(int=draw.getrandbits(128), version=4))
    name, vendor = draw.choice(_NAMES)
    severity = draw.choices(SEVERITIES, _SEVERITY_WEIGHTS)[0]
    course = _course(draw, created, cases)
    vendor_alerts = [_vendor_alert(draw, created, name) for _ in range(draw.choice((1, 1, 1, 2)))]
    row = {
        "Expel Alert ID": alert_id,
        "Expel Alert Name": name,
        "Severity": severity,
        "Expel Vendor Tech Name": vendor,
        "Vendor Alert Count": str(len(vendor_alerts)),
        "Insert At (T3)": timestamp(created),
        **course,
    }
    status, reason = course["Alert Status"], course["Close Reason"] or None
    attributes = {
        "activity_first_at": timestamp(created - dt.timedelta(seconds=draw.randrange(30, 900))),
        "activity_last_at": timestamp(created),
        "alert_type": "ENDPOINT" if vendor in {"crowdstrike", "sentinelone"} else "CLOUD",
        "close_comment": None if reason is None else "closed by the simulation",
        "close_reason": reason,
        "created_at": timestamp(created),
        "expel_alert_time": timestamp(created),
        "expel_message": f"{name} ({vendor})",
        "expel_name": name,
        "expel_severity": severity,
        "expel_signature_id": f"sim-{vendor}-{len(name)}",
        "expel_version": "1",
        "git_rule_url": f"https://rules.example/{vendor}",
        "status": "OPEN" if status == "NEW" else status,
        "status_updated_at": course["Time Last Closed (T6)"] or timestamp(created),
        "updated_at": course["Time Last Closed (T6)"] or timestamp(created),
        "vendor_alert_count": len(vendor_alerts),
    }
    return {
        "id": alert_id,
        "csv": {column: row.get(column, "") for column in CSV_COLUMNS},
        "attributes": attributes,
        "evidence": _evidence(draw),
        "vendor_alerts": vendor_alerts,
    }


def _course(draw: random.Random, created: dt.datetime, cases: list[str]) -> dict[str, str]:
    """Return what became of an alert, as cells of the export."""
    kind = draw.choices(
        ("new", "in progress", "automation", "closed", "reopened", "investigation", "incident"),
        (8, 6, 16, 44, 6, 12, 8),
    )[0]
    if kind == "new":
        return dict.fromkeys(CSV_COLUMNS[8:], "") | {"Alert Status": "NEW", "Close Reason": ""}

    def later(since: dt.datetime, minutes: float) -> dt.datetime:
        return since + dt.timedelta(milliseconds=round(draw.lognormvariate(0, 0.8) * minutes * 60_000))

    human, investigated = kind != "automation", kind in {"investigation", "incident"}
    analyst = draw.randrange(1, 7)
    assigned = later(created, 8) if human else None
    acted = later(assigned or created, 5) if human else None
    remediated = later(acted, 30) if acted and kind == "incident" else None
    closed = None if kind == "in progress" else later(remediated or acted or created, 20 if human else 1)
    last = later(closed, 240) if closed and kind == "reopened" else closed
    return {
        "Alert Status": "IN_PROGRESS" if closed is None else "CLOSED",
        "Close Reason": "" if closed is None else draw.choices(_REASONS, (40, 30, 16, 6, 5, 3))[0],
        "First Assigned To User At (T4)": timestamp(assigned),
        "First Assigned User (T4 Assignee)": f"user-{analyst:02}" if human else "",
        "First Assigned User Name (T4 Assignee)": f"analyst-{analyst:02}" if human else "",
        "First Assigned To Org At": timestamp(later(acted, 10)) if acted and investigated else "",
        "First Investigated At": timestamp(acted) if investigated else "",
        "Time First Investigative Action (T5a)": timestamp(acted) if investigated else "",
        "Time First Remediation Action (T5b)": timestamp(remediated),
        "Time Promoted To Incident": timestamp(later(acted, 15)) if acted and kind == "incident" else "",
        "Investigation ID": draw.choice(cases) if investigated else "",
        "Investigation Type": kind.capitalize() if investigated else "",
        "Time First Closed (T60)": timestamp(closed),
        "Time Last Closed (T6)": timestamp(last),
    }


def _evidence(draw: random.Random) -> list[dict[str, str]]:
    if draw.random() < 0.1:
        return []
    host, user = draw.randrange(1, 30), draw.randrange(1, 40)
    kinds = {
        "HOSTNAME": draw.choice((f"host-{host:02}", f"HOST-{host:02}.corp.example")),
        "USERNAME": f"user{user:02}",
        "SRC_USERNAME": f"corp\\user{user:02}",
        "SRC_IP": f"192.0.2.{draw.randrange(1, 255)}",
        "DST_IP": f"198.51.100.{draw.randrange(1, 40)}",
        "URL": f"https://files.example/{draw.randrange(1000)}",
    }
    shown = draw.sample(sorted(kinds), draw.randrange(1, len(kinds) + 1))
    found = [{"evidence_type": kind, "evidence": kinds[kind]} for kind in sorted(shown)]
    return [*found, found[0]] if draw.random() < 0.2 else found  # the service repeats itself, once per vendor alert


def _vendor_alert(draw: random.Random, created: dt.datetime, name: str) -> Alert:
    system = {"device": {"os": {"name": draw.choice(_SYSTEMS), "family": "any"}}, "score": draw.randrange(100)}
    return {
        "created_at": timestamp(created - dt.timedelta(seconds=draw.randrange(1, 30))),
        "description": name,
        "evidence_summary": None if draw.random() < 0.15 else [system],
        "first_seen": timestamp(created - dt.timedelta(seconds=draw.randrange(30, 600))),
        "original_alert_id": f"v-{draw.randrange(10**9)}",
        "status": "NORMAL",
        "vendor_message": name,
        "vendor_severity": draw.choice(SEVERITIES[:4]),
        "vendor_sig_name": name.lower().replace(" ", "-"),
    }
