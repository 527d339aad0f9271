"""A history as OCSF findings, and OCSF findings as a history.

Enters: a `History`, or records of the classes Detection Finding (2004) and Incident Finding (2005) of the Open Cybersecurity
Schema Framework (https://schema.ocsf.io, versions 1.4 to 1.8). Leaves: such records, or a `History`. What OCSF has no
place for stands under ``unmapped``, so that a history written and read back is the same. Layer: lifecycle.

What to know of OCSF: status 3 of a Detection Finding says that somebody looked and then suppressed it, so an alert that is
suppressed before anybody looks has status 99; ``comment`` and ``ticket`` are deprecated and not used; times are
milliseconds, so finer ones stand under ``unmapped`` too.
"""

from __future__ import annotations

import ipaddress
import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from tocsin.lifecycle.frames import ACTIVITY, ALERT, TIME, digest, fit_frame
from tocsin.lifecycle.history import History
from tocsin.lifecycle.words import SEVERITIES, TRANSITIONS, LifecycleError, check_word

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

VERSIONS: Final = ("1.4.0", "1.5.0", "1.6.0", "1.7.0", "1.8.0")
"""The versions whose Detection Finding can say who has it and what was decided (profile "incident")."""

_PRODUCT: Final = "tocsin"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_AT_ONCE: Final = 10_000
_ACTIVITY_NAMES: Final = {1: "Create", 2: "Update", 3: "Close"}
_SEVERITY: Final = {"unknown": 0, "informational": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}
_VERDICT: Final = {
    "unjudged": (0, "Unknown"), "true_positive": (2, "True Positive"), "benign_true_positive": (5, "Benign"),
    "false_positive": (1, "False Positive"), "inconclusive": (7, "Insufficient Data"), "test": (6, "Test"), "duplicate": (10, "Duplicate"),
}  # fmt: skip
_STATUS: Final = {
    "new": (1, "New"), "in_progress": (2, "In Progress"), "on_hold": (2, "In Progress"), "reopened": (2, "In Progress"),
    "closed": (4, "Resolved"), "merged": (4, "Resolved"), "suppressed": (99, "Suppressed"),
}  # fmt: skip
_OBSERVABLE: Final = {
    ("host", None): (1, "Hostname", "device.hostname"), ("host", "source"): (1, "Hostname", "src_endpoint.hostname"),
    ("host", "destination"): (1, "Hostname", "dst_endpoint.hostname"), ("ip", None): (2, "IP Address", "device.ip"),
    ("ip", "source"): (2, "IP Address", "src_endpoint.ip"), ("ip", "destination"): (2, "IP Address", "dst_endpoint.ip"),
    ("user", None): (4, "User Name", "user.name"), ("url", None): (6, "URL String", "url.url_string"),
    ("domain", None): (1, "Hostname", "dst_endpoint.domain"), ("os", None): (99, "Other", "device.os.name"),
}  # fmt: skip
_SEEN: Final = {name: key for key, (_, _, name) in _OBSERVABLE.items()}
_BY_TYPE: Final = {
    1: "host",
    2: "ip",
    3: "mac",
    4: "user",
    5: "email",
    6: "url",
    7: "file",
    8: "hash",
    9: "process",
    21: "user",
}
_EXACT: Final = ("severity", "rule_id", "rule_version", "title", "vendor", "tenant", "alert_id")
"""The columns of an alert that OCSF says as they are; the others stand under ``unmapped`` as well."""


def to_ocsf(history: History, *, version: str = VERSIONS[-1], vendor: str = _PRODUCT) -> Iterator[dict[str, Any]]:
    """Yield the history as OCSF: a Detection Finding for each alert, then an Incident Finding for each incident.

    Args:
        history: Already cut at the time asked for.
        version: One of `VERSIONS`.
        vendor: The ``vendor_name`` of the product that says so.

    Raises:
        LifecycleError: Another version.

    >>> when = datetime(2026, 1, 5, 9, tzinfo=UTC)
    >>> record = next(to_ocsf(History.of(pl.DataFrame({"alert_id": ["a"], "created_at": [when], "severity": ["high"]}))))
    >>> record["type_uid"], record["severity"], record["status"], record["finding_info"]["uid"]
    (200401, 'High', 'New', 'a')
    """
    check_word(version, VERSIONS, "version of OCSF that is written")
    product = {"name": _PRODUCT, "vendor_name": vendor}
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
    status, named = _STATUS[row["state"]]
    verdict, judged = _VERDICT[row["verdict"]]
    return _told(
        {
            **_class(2004, "Detection Finding", activity),
            "time": _ms(max(times)),
            "start_time": _ms(row["first_activity_at"] or row["first_finding_at"]),
            "end_time": _ms(row["last_activity_at"] or row["last_finding_at"]),
            "severity_id": _SEVERITY[row["severity_now"]],
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
    known = _OBSERVABLE.get((kind, role))
    if known is None:
        number = next((n for n, name in _BY_TYPE.items() if name == kind), 99)
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
    alert = {name: _plain(row[name]) for name in ALERT if name not in _EXACT and row[name] is not None}
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
            "severity_id": _SEVERITY[severity],
            "severity": severity.capitalize(),
            "status_id": status[0],
            "status": status[1],
            "assignee": {"name": people[-1]} if people else None,
            "assignee_group": None if people else {"name": "unassigned"},
            "verdict_id": _VERDICT[verdict][0],
            "verdict": _VERDICT[verdict][1],
            "desc": f"{len(parts)} alert{'s' if len(parts) > 1 else ''} promoted to incident {incident}",
            "count": len(parts),
            "finding_info_list": [part["info"] for part in parts],
            "metadata": {"version": version, "product": product, "uid": incident, "correlation_uid": incident},
        }
    )


@dataclass
class _Read:
    """What records say of one alert."""

    alert: dict[str, Any]
    activities: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    own: bool = False
    created: bool = False


def from_ocsf(records: Iterable[dict[str, Any]], *, source: str = "ocsf") -> History:
    """Return the history that Detection and Incident Findings tell.

    Several records of one finding are its updates: a status, assignee, verdict or severity that differs from the one before
    becomes an activity. One record alone tells how things stand, and is marked ``history="summary"`` unless it says
    that the finding has just been created. Records that `to_ocsf` wrote give back what they were written from.

    Args:
        records: Of the classes 2004 and 2005, in any order.
        source: The source of alerts that name none.

    Raises:
        LifecycleError: A record that is no such finding; the message says which and why.

    >>> when = datetime(2026, 1, 5, 9, tzinfo=UTC)
    >>> history = History.of(pl.DataFrame({"alert_id": ["a"], "created_at": [when], "title": ["x"]}))
    >>> from_ocsf(to_ocsf(history)).alerts.equals(history.alerts)
    True
    """
    read: dict[str, _Read] = {}
    incidents = []
    for n, record in enumerate(records, 1):
        try:
            step = read_record(record)
        except LifecycleError as error:
            raise LifecycleError(f"record {n}: {error}") from None
        if step["class"] == 2005:
            incidents.append(step)
        else:
            _take(read, step, source)
    for step in incidents:
        _take_incident(read, step, source)
    return _history(read)


def read_record(record: Any) -> dict[str, Any]:
    """Return the facts of one record, checked.

    Raises:
        LifecycleError: It is no finding of the two classes, or lacks what a finding needs.

    >>> read_record({"class_uid": 3002})
    Traceback (most recent call last):
    ...
    tocsin.lifecycle.words.LifecycleError: class_uid is 3002: not a Detection Finding (2004) or Incident Finding (2005)
    """
    if not isinstance(record, dict):
        raise LifecycleError("not a JSON object")
    if record.get("class_uid") not in (2004, 2005):
        raise LifecycleError(
            f"class_uid is {record.get('class_uid')!r}: not a Detection Finding (2004) or Incident Finding (2005)"
        )
    at = _when(record.get("time"), "time")
    known = {number: word for word, number in _SEVERITY.items()} | {6: "critical"}
    verdicts = {number: word for word, (number, _) in _VERDICT.items()} | {
        3: "benign_true_positive",
        4: "inconclusive",
        8: "true_positive",
    }
    step = {
        "class": record["class_uid"],
        "at": at,
        "activity": record.get("activity_id"),
        "severity": _word(known, record.get("severity_id")) or "unknown",
        "status": record.get("status_id"),
        "verdict": _word(verdicts, record.get("verdict_id")),
        "assignee": _text(_at(record, "assignee", "name")) or _text(_at(record, "assignee", "uid")),
        "record": record,
    }
    if step["class"] == 2004:
        info = record.get("finding_info")
        if not isinstance(info, dict) or not _text(info.get("uid")):
            raise LifecycleError("finding_info.uid is missing: it names the finding")
        step["info"] = info
        step["created"] = _when(info["created_time"], "finding_info.created_time") if "created_time" in info else at
        _own(step)
    else:
        infos = record.get("finding_info_list")
        if not isinstance(infos, list) or not all(isinstance(i, dict) and _text(i.get("uid")) for i in infos):
            raise LifecycleError("finding_info_list is missing, or one of it has no uid")
        step["infos"] = infos
        step["incident"] = _text(_at(record, "metadata", "uid")) or _text(_at(record, "metadata", "correlation_uid"))
    return step


def _own(step: dict[str, Any]) -> None:
    """Read what stands under ``unmapped`` if we wrote it; anything else there is not touched."""
    told = step["record"].get("unmapped")
    if _at(step["record"], "metadata", "product", "name") != _PRODUCT or not isinstance(told, dict):
        return
    alert, activities = told.get("alert"), told.get("activities", [])
    if not isinstance(alert, dict) or not isinstance(activities, list):
        return
    try:
        step["own"] = _cells(alert, ALERT, ("created_at", "source", "history", "observables"))
        step["activities"] = [_cells(activity, ACTIVITY, ("at", "type")) for activity in activities]
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise LifecycleError(f"unmapped does not hold what was written there: {error}") from None


_PYTHON: Final[dict[Any, Any]] = {pl.String: str, pl.Boolean: bool, pl.Float64: (int, float), pl.Int8: int}


def _cells(told: dict[str, Any], schema: Any, needed: tuple[str, ...]) -> dict[str, Any]:
    """Return the cells that stand in a record, of the types that they have in a frame."""
    cells = {}
    for name, value in told.items():
        if name not in schema:
            continue
        if schema[name] == TIME:
            cells[name] = datetime.fromisoformat(value).astimezone(UTC)
        elif isinstance(value, _PYTHON[schema[name]]) and not (schema[name] == pl.Int8 and not -128 <= value <= 127):
            cells[name] = value
        else:
            raise ValueError(f"{name} is {str(value)[:60]!r}")
    for name in needed:
        if name not in cells:
            raise ValueError(f"{name} is missing")
    return cells


def _take(read: dict[str, _Read], step: dict[str, Any], source: str) -> None:
    info, record = step["info"], step["record"]
    rule, sources = info.get("analytic"), info.get("data_sources")
    rule = rule if isinstance(rule, dict) else {}
    vendor = (
        _text(sources[0])
        if isinstance(sources, list) and sources
        else _text(_at(record, "metadata", "product", "vendor_name"))
    )
    alert = {
        "alert_id": info["uid"], "external_id": info["uid"], "created_at": step["created"], "severity": step["severity"],
        "title": _text(info.get("title")) or _text(record.get("message")), "rule_id": _text(rule.get("uid")) or _text(rule.get("name")),
        "rule_version": _text(rule.get("version")), "vendor": vendor, "tenant": _text(_at(record, "metadata", "tenant_uid")),
        "first_activity_at": _maybe_when(info.get("first_seen_time")), "last_activity_at": _maybe_when(info.get("last_seen_time")),
        "observables": json.dumps(_seen(record), ensure_ascii=False), "source": source, "is_test": step["verdict"] == "test",
    }  # fmt: skip
    own = step.get("own")
    if own is not None:
        vendor = alert["vendor"] if isinstance(sources, list) else None
        alert = {name: alert[name] for name in _EXACT} | {"vendor": vendor} | own
        read[info["uid"]] = _Read(alert, step["activities"], own=True)
        return
    held = read.setdefault(info["uid"], _Read(alert))
    held.steps.append(step)
    held.created |= step["activity"] == 1
    if step["at"] < min(s["at"] for s in held.steps[:-1]) if len(held.steps) > 1 else False:
        held.alert = alert


def _take_incident(read: dict[str, _Read], step: dict[str, Any], source: str) -> None:
    for info in step["infos"]:
        if info["uid"] not in read:
            _take(
                read,
                step | {"info": info, "created": _maybe_when(info.get("created_time")) or step["at"], "activity": 0},
                source,
            )
        held = read[info["uid"]]
        if not held.own:
            at = _maybe_when(step["record"].get("start_time")) or step["at"]
            held.activities.append(
                {
                    "at": max(at, held.alert["created_at"]),
                    "type": "promoted",
                    "value": step["incident"],
                    "actor_kind": "import",
                }
            )


def _history(read: dict[str, _Read]) -> History:
    alerts, activities = [], []
    for held in read.values():
        alert = held.alert
        if not held.own:
            alert["history"] = (
                "full" if held.created and (len(held.steps) > 1 or held.steps[0]["activity"] == 1) else "summary"
            )
            held.activities += _moves(held)
        alerts.append(alert)
        activities += [activity | {"alert_id": alert["alert_id"], "@own": held.own} for activity in held.activities]
    rows = fit_frame(pl.DataFrame(alerts, schema=dict(ALERT)), "alert")
    made = pl.DataFrame(activities, schema={**ACTIVITY, "@own": pl.Boolean})
    foreign = [not held.own for held in read.values()]
    if any(foreign):
        ids = digest([pl.col("source"), pl.col("external_id")], rows)
        renamed = ids.zip_with(pl.Series(foreign, dtype=pl.Boolean), rows["alert_id"])
        names = pl.DataFrame({"alert_id": rows["alert_id"], "@new": renamed})
        made = made.join(names, on="alert_id", how="left", maintain_order="left").with_columns(
            pl.when("@own").then("alert_id").otherwise("@new").alias("alert_id")
        )
        rows = rows.with_columns(renamed.alias("alert_id"))
    return History(rows, fit_frame(made.sort("at", maintain_order=True).select(list(ACTIVITY)), "activity"))


def _moves(held: _Read) -> list[dict[str, Any]]:
    """Return what must have happened between one record of a finding and the next."""
    steps = sorted(held.steps, key=lambda s: s["at"])
    stands: dict[str, Any] = {"state": "new", "verdict": None, "assignee": None, "severity": steps[0]["severity"]}
    made: list[dict[str, Any]] = []

    def say(step: dict[str, Any], kind: str, value: str | None = None) -> None:
        made.append({"at": step["at"], "type": kind, "value": value, "actor_kind": "import"})

    for step in steps:
        if step["assignee"] != stands["assignee"]:
            say(step, "assigned" if step["assignee"] else "unassigned", step["assignee"])
            stands["assignee"] = step["assignee"]
        if step["severity"] != stands["severity"] and step["severity"] != "unknown":
            say(step, "severity_changed", step["severity"])
            stands["severity"] = step["severity"]
        for kind in _to_state(stands["state"], step):
            say(step, kind)
            stands["state"] = TRANSITIONS[kind][1]
        if step["verdict"] not in (None, "unjudged", stands["verdict"]):
            say(step, "verdict", step["verdict"])
            stands["verdict"] = step["verdict"]
    return made


def _to_state(state: str, step: dict[str, Any]) -> tuple[str, ...]:
    """Return the activities that lead from a state to what a record's status says.

    Status 3 of a Detection Finding is a finding that was looked at: closed. Status 3 of an incident is on hold.
    """
    status = step["status"]
    closed = step["activity"] == 3 or status in (4, 5, 6) or (status == 3 and step["class"] == 2004)
    if closed:
        return () if state == "closed" else ("closed",)
    if state == "closed":
        return ("reopened",) if status in (1, 2, 3) else ()
    if status == 3:
        return () if state == "on_hold" else ("held",)
    if status == 2:
        return ("work_started",) if state == "new" else ("resumed",) if state == "on_hold" else ()
    return ()


def _seen(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the observables of a record: those it lists, and the ends and users of its evidences."""
    seen: dict[tuple[str, str | None, str], None] = {}
    listed = record.get("observables")
    for item in listed if isinstance(listed, list) else []:
        value = _text(_at(item, "value"))
        if value is None:
            continue
        name = _text(_at(item, "name")) or ""
        path = ".".join(name.replace("[]", "").split(".")[-2:])
        kind, role = _SEEN.get(name) or _SEEN.get(path) or (_kind(item), None)
        if "/" in name and name not in _SEEN:
            kind, role = name.split("/", 1)[0] or kind, name.split("/", 1)[1] or None
        seen[kind, role, value] = None
    evidences = record.get("evidences")
    for item in evidences if isinstance(evidences, list) else []:
        ends = {("ip", "source"): ("src_endpoint", "ip"), ("ip", "destination"): ("dst_endpoint", "ip"), ("user", None): ("user", "name"),
                ("host", None): ("device", "hostname"), ("os", None): ("device", "os", "name")}  # fmt: skip
        for (kind, role), keys in ends.items():
            found = _text(_at(item, *keys))
            if found:
                seen[kind, role, found] = None
    return [{"kind": kind, "role": role, "value": value} for kind, role, value in seen]


def _kind(item: Any) -> str:
    return _word(_BY_TYPE, _at(item, "type_id")) or (_text(_at(item, "type")) or "other").lower()


def _told(record: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is not known."""
    return {name: value for name, value in record.items() if value is not None and value != []}


def _ms(when: datetime | None) -> int | None:
    return None if when is None else (when - _EPOCH) // _MS


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _json(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text


def _when(value: Any, what: str) -> datetime:
    found = _maybe_when(value)
    if found is None:
        raise LifecycleError(f"{what} is {str(value)[:60]!r}: not milliseconds since 1970")
    return found


def _maybe_when(value: Any) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return _EPOCH + timedelta(milliseconds=value)
    except (OverflowError, ValueError):
        return None


def _at(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _word(words: dict[int, str], number: Any) -> str | None:
    return words.get(number) if isinstance(number, int) else None
