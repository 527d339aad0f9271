"""Slow readings of alert files, row by row in plain Python, that the fast ones must agree with."""

from __future__ import annotations

from datetime import UTC, datetime

ID, CREATED, STATUS = "Expel Alert ID", "Insert At (T3)", "Alert Status"
T4, WHO, NAME = (
    "First Assigned To User At (T4)",
    "First Assigned User (T4 Assignee)",
    "First Assigned User Name (T4 Assignee)",
)
SEEN, T5A, T5B = "First Investigated At", "Time First Investigative Action (T5a)", "Time First Remediation Action (T5b)"
PROMOTED, CASE, TYPE, ORG = (
    "Time Promoted To Incident",
    "Investigation ID",
    "Investigation Type",
    "First Assigned To Org At",
)
T60, T6, REASON = "Time First Closed (T60)", "Time Last Closed (T6)", "Close Reason"
EXPEL_COLUMNS = (
    ID,
    "Severity",
    STATUS,
    REASON,
    CREATED,
    T4,
    WHO,
    NAME,
    SEEN,
    T5A,
    T5B,
    PROMOTED,
    CASE,
    TYPE,
    ORG,
    T60,
    T6,
)
VERDICTS = {
    "TRUE_POSITIVE": "true_positive", "BENIGN": "benign_true_positive", "FALSE_POSITIVE": "false_positive",
    "TESTING": "test", "PHISHING_SIMULATION": "test",
}  # fmt: skip


def instant(text: str) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def expel_activities(row: dict[str, str]) -> list[tuple]:
    """Return (at, type, value, actor kind) of one row of the metrics export, in order of time, as told in docs/histories.md."""
    created = instant(row[CREATED])
    t = {name: instant(row[name]) for name in (T4, SEEN, T5A, T5B, PROMOTED, ORG, T60, T6)}
    who = row[NAME] or row[WHO] or None
    judged = "automation" if who and "bot" in who.lower() else "human"
    closer = judged if who else "automation"
    told: list[tuple] = []
    if t[T4]:
        told.append((t[T4], "assigned", who, judged))
    if t[SEEN]:
        told.append((t[SEEN], "work_started", None, judged))
    if t[T5A]:
        told.append((t[T5A], "investigative_action", None, judged))
    case, incident = row[CASE] or None, row[TYPE].lower() == "incident"
    if case and not incident:
        at = t[SEEN] or t[T5A] or t[T4] or t[T60] or created
        told.append((at, "escalated", case, "human"))
    if incident:
        told.append((t[PROMOTED] or t[SEEN] or t[T5A] or t[T60] or created, "promoted", case, "human"))
    elif t[PROMOTED]:
        told.append((t[PROMOTED], "promoted", case, "human"))
    if t[ORG]:
        told.append((t[ORG], "notified", "customer", "human"))
    if t[T5B]:
        told.append((t[T5B], "remediated", None, "human"))
    first = len(told)
    if t[T60]:
        told.append((t[T60], "closed", row[REASON] or None, closer))
    if t[T6] and t[T6] != t[T60]:
        told.append((t[T6], "closed", row[REASON] or None, closer))
    judged_at = t[T6] or t[T60]
    if judged_at and row[REASON]:
        told.append((judged_at, "verdict", VERDICTS.get(row[REASON], "inconclusive"), closer))
    if t[T60] and t[T6] and t[T60] < t[T6]:
        at = min(a for a, *_ in told if t[T60] < a <= t[T6])
        told.insert(first + 1, (at, "reopened", None, judged))
    told.sort(key=lambda a: a[0])
    moves = [kind for _, kind, *_ in told if kind in ("work_started", "closed", "reopened")]
    if row[STATUS] == "CLOSED" and "closed" in moves and moves[-1] != "closed":
        told.append((max(created, told[-1][0]), "closed", None, "import"))
    return told


UCI_STATES = {
    "New": "new", "Active": "in_progress", "Awaiting User Info": "on_hold", "Awaiting Vendor": "on_hold",
    "Awaiting Problem": "on_hold", "Awaiting Evidence": "on_hold", "Resolved": "closed", "Closed": "closed",
}  # fmt: skip
UCI_SEVERITY = {"1": "critical", "2": "high", "3": "medium", "4": "low"}


def uci_history(rows: list[dict[str, str]]) -> dict[str, dict]:
    """Return id -> created, severity, state, activities ((at, type, value) in order) of the helpdesk's log, row by row."""
    seen: set[tuple] = set()
    updates: dict[str, list[tuple[datetime, int, dict[str, str]]]] = {}
    for n, row in enumerate(rows):
        if (whole := tuple(row.values())) in seen:
            continue
        seen.add(whole)
        updates.setdefault(row["number"], []).append((_utc(row["sys_updated_at"]), n, row))
    return {
        number: _uci_alert([(at, row) for at, _, row in sorted(told, key=lambda u: u[:2])])
        for number, told in updates.items()
    }


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _uci_alert(updates: list[tuple[datetime, dict[str, str]]]) -> dict:
    state, wait, holder, severity = "new", None, None, UCI_SEVERITY[updates[0][1]["priority"]]
    told: list[tuple] = []
    for at, row in updates:
        named = row["incident_state"]
        after = UCI_STATES.get(named, state)
        if named not in UCI_STATES:
            named = wait
        reason = f"code {row['closed_code']}" if row["closed_code"] != "?" else None
        if (state, after) == ("new", "in_progress"):
            told.append((at, "work_started", None))
        elif state == "closed" and after != "closed":
            told.append((at, "reopened", None))
        elif state == "on_hold" and (after in ("new", "in_progress") or (after == "on_hold" and named != wait)):
            told.append((at, "resumed", None))
        if after == "on_hold" and (state != "on_hold" or named != wait):
            told.append((at, "held", named))
        if after == "closed" and state != "closed":
            told.append((at, "closed", reason))
        state, wait = after, named
        person, group = row["assigned_to"], row["assignment_group"]
        holds = f"person {person}" if person != "?" else f"group {group}" if group != "?" else None
        if holds != holder:
            told.append((at, "assigned" if holds else "unassigned", holds))
        holder = holds
        if UCI_SEVERITY[row["priority"]] != severity:
            severity = UCI_SEVERITY[row["priority"]]
            told.append((at, "severity_changed", severity))
    first = updates[0][1]
    return {
        "created": _utc(first["opened_at"]),
        "severity": UCI_SEVERITY[first["priority"]],
        "state": state,
        "activities": told,
    }
