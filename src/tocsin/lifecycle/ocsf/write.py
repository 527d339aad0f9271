"""From a history to OCSF records.

Enters: a `History`. Leaves: a Detection Finding for each alert and an Incident Finding for each incident. Layer: lifecycle.
"""

from __future__ import annotations

import ipaddress
import json
from collections import defaultdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from tocsin.lifecycle.frames import ACTIVITY, ALERT
from tocsin.lifecycle.ocsf.words import BY_TYPE, EPOCH, EXACT, OBSERVABLE, PRODUCT, SEVERITY, STATUS, VERDICT, VERSIONS
from tocsin.lifecycle.words import SEVERITIES, check_word

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.lifecycle.history import History

_MS: Final = timedelta(milliseconds=1)
_AT_ONCE: Final = 10_000
_ACTIVITY_NAMES: Final = {1: "Create", 2: "Update", 3: "Close"}


def to_ocsf(history: History, *, version: str = VERSIONS[-1], vendor: str = PRODUCT) -> Iterator[dict[str, Any]]:
    """Yield the history as OCSF: a Detection Finding for each alert, then an Incident Finding for each incident.

    Args:
        history: Already cut at the time asked for.
        version: One of `VERSIONS`.
        vendor: The ``vendor_name`` of the product that says so.

    Raises:
        LifecycleError: Another version.

    >>> from datetime import UTC
    >>> from tocsin.lifecycle.history import History
    >>> when = datetime(2026, 1, 5, 9, tzinfo=UTC)
    >>> record = next(to_ocsf(History.of(pl.DataFrame({"alert_id": ["a"], "created_at": [when], "severity": ["high"]}))))
    >>> record["type_uid"], record["severity"], record["status"], record["finding_info"]["uid"]
    (200401, 'High', 'New', 'a')
    """
    check_word(version, VERSIONS, "version of OCSF that is written")
    product = {"name": PRODUCT, "vendor_name": vendor}
    incidents: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in _rows(history):
        record = _detection(row, version, product)
        promoted = [a["value"] for a in row["@activities"] if a["type"] == "promoted" and a["value"]]
        for incident in dict.fromkeys(promoted):
            at = min(a["at"] for a in row["@activities"] if a["type"] == "promoted" and a["value"] == incident)
            incidents[incident].append({"at": at, "row": row, "info": record["finding_info"]})
        yield record
    for incident, parts in incidents.items():
        yield _incident(incident, parts, version, product)


def _rows(history: History) -> Iterator[dict[str, Any]]:
    """Yield each alert as it stands, with what happened to it, what it names, and its findings' evidence."""
    current = history.current
    numbered = current.select("alert_id", "alert")
    told = [c for c in ACTIVITY if c != "alert_id"]
    gathered = {
        "@activities": history.activities.join(numbered, on="alert_id", how="inner", maintain_order="left").select(
            "alert", pl.struct(told).alias("@activities")
        ),
        "@seen": history.observables.select("alert", pl.struct("kind", "role", "value").alias("@seen")),
        "@evidence": history.findings.join(numbered, on="alert_id", how="inner", maintain_order="left")
        .sort("time", maintain_order=True)
        .select("alert", pl.struct("finding_id", "detection_id", "score", "evidence").alias("@evidence")),
    }
    for name, frame in gathered.items():
        lists = frame.group_by("alert", maintain_order=True).agg(pl.col(name))
        current = current.join(lists, on="alert", how="left", maintain_order="left")
    for part in current.iter_slices(_AT_ONCE):
        for row in part.iter_rows(named=True):
            yield row | {name: row[name] or [] for name in gathered}


def _detection(row: dict[str, Any], version: str, product: dict[str, Any]) -> dict[str, Any]:
    closed = row["state"] in ("closed", "merged")
    activity = 3 if closed else 2 if row["@activities"] else 1
    times = [row["created_at"], *(a["at"] for a in row["@activities"])]
    status, named = STATUS[row["state"]]
    verdict, judged = VERDICT[row["verdict"]]
    return _told(
        {
            **_class(2004, "Detection Finding", activity),
            "time": _ms(max(times)),
            "start_time": _ms(row["first_activity_at"] or row["first_finding_at"]),
            "end_time": _ms(row["last_activity_at"] or row["last_finding_at"]),
            "severity_id": SEVERITY[row["severity_now"]],
            "severity": row["severity_now"].capitalize(),
            "status_id": status,
            "status": named,
            "status_detail": row["state"],
            "message": row["title"],
            "is_alert": row["source"] != "backtest",
            "count": row["findings"] or None,
            "assignee": {"name": row["assignee"]} if row["assignee"] else None,
            "verdict_id": verdict,
            "verdict": judged,
            "finding_info": _finding_info(row, times),
            "metadata": _metadata(row, version, product),
            "observables": [_observable(seen) for seen in row["@seen"]],
            "evidences": _evidences(row),
            "unmapped": _unmapped(row),
        }
    )


def _class(uid: int, name: str, activity: int) -> dict[str, Any]:
    return {
        "category_uid": 2, "category_name": "Findings", "class_uid": uid, "class_name": name, "activity_id": activity,
        "activity_name": _ACTIVITY_NAMES[activity], "type_uid": uid * 100 + activity, "type_name": f"{name}: {_ACTIVITY_NAMES[activity]}",
    }  # fmt: skip


def _finding_info(row: dict[str, Any], times: list[datetime]) -> dict[str, Any]:
    rule = (
        {"uid": row["rule_id"], "version": row["rule_version"], "type_id": 1, "type": "Rule"}
        if row["rule_id"]
        else None
    )
    return _told(
        {
            "uid": row["alert_id"],
            "title": row["title"],
            "created_time": _ms(row["created_at"]),
            "modified_time": _ms(max(times)),
            "first_seen_time": _ms(row["first_activity_at"]),
            "last_seen_time": _ms(row["last_activity_at"]),
            "analytic": None if rule is None else _told(rule),
            "data_sources": [row["vendor"]] if row["vendor"] else None,
            "uid_alt": row["external_id"],
        }
    )


def _metadata(row: dict[str, Any], version: str, product: dict[str, Any]) -> dict[str, Any]:
    told = {
        "version": version, "product": product, "profiles": ["incident"], "uid": row["alert_id"], "log_name": row["source"],
        "tenant_uid": row["tenant"], "logged_time": _ms(row["recorded_at"]),
    }  # fmt: skip
    return _told(told)


def _observable(seen: dict[str, Any]) -> dict[str, Any]:
    kind, role = seen["kind"], seen["role"]
    known = OBSERVABLE.get((kind, role))
    if known is None:
        number = next((n for n, name in BY_TYPE.items() if name == kind), 99)
        return {"type_id": number, "type": kind, "name": f"{kind}/{role or ''}", "value": seen["value"]}
    return {"type_id": known[0], "type": known[1], "name": known[2], "value": seen["value"]}


def _evidences(row: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    ends = {("ip", "source"): "src_endpoint", ("ip", "destination"): "dst_endpoint"}
    for seen in row["@seen"]:
        end = ends.get((seen["kind"], seen["role"]))
        if end is not None and _is_address(seen["value"]):
            found.append({end: {"ip": seen["value"]}})
        elif seen["kind"] == "user" and seen["value"]:
            found.append({"user": {"name": seen["value"]}})
        elif seen["kind"] == "host" and seen["value"]:
            found.append({"device": {"hostname": seen["value"], "type_id": 0}})
    found += [{"data": {**one, "evidence": _json(one["evidence"])}} for one in row["@evidence"]]
    return found


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return len(text) <= 40  # what the schema allows


def _unmapped(row: dict[str, Any]) -> dict[str, Any]:
    alert = {
        name: _plain(row[name]) for name in ALERT if row[name] is not None and (name not in EXACT or row[name] == "")
    }
    if row["severity"] != row["severity_now"]:
        alert["severity"] = row["severity"]
    activities = [{name: _plain(v) for name, v in a.items() if v is not None} for a in row["@activities"]]
    return {"alert": alert, **({"activities": activities} if activities else {})}


def _incident(incident: str, parts: list[dict[str, Any]], version: str, product: dict[str, Any]) -> dict[str, Any]:
    rows = [part["row"] for part in parts]
    states = {row["state"] for row in rows}
    done = states <= {"closed", "merged"}
    held = "on_hold" in states and states <= {"closed", "merged", "on_hold"}
    status = (
        (5, "Closed") if done else (3, "On Hold") if held else (1, "New") if states == {"new"} else (2, "In Progress")
    )
    judged = {row["verdict"] for row in rows}
    verdict = "true_positive" if "true_positive" in judged else judged.pop() if len(judged) == 1 else "unjudged"
    severity = max((row["severity_now"] for row in rows), key=SEVERITIES.index)
    people = [row["assignee"] for row in rows if row["assignee"]]
    begun = min(part["at"] for part in parts)
    times = [begun, *(a["at"] for row in rows for a in row["@activities"])]
    return _told(
        {
            **_class(2005, "Incident Finding", 3 if done else 2),
            "time": _ms(max(times)),
            "start_time": _ms(begun),
            "severity_id": SEVERITY[severity],
            "severity": severity.capitalize(),
            "status_id": status[0],
            "status": status[1],
            "assignee": {"name": people[-1]} if people else None,
            "assignee_group": None if people else {"name": "unassigned"},
            "verdict_id": VERDICT[verdict][0],
            "verdict": VERDICT[verdict][1],
            "desc": f"{len(parts)} alert{'s' if len(parts) > 1 else ''} promoted to incident {incident}",
            "count": len(parts),
            "finding_info_list": [part["info"] for part in parts],
            "metadata": {"version": version, "product": product, "uid": incident, "correlation_uid": incident},
        }
    )


def _told(record: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is not known."""
    return {name: value for name, value in record.items() if value is not None and value != []}


def _ms(when: datetime | None) -> int | None:
    return None if when is None else (when - EPOCH) // _MS


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _json(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text
