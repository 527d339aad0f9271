"""From OCSF records to a history.

Enters: Detection and Incident Findings of any maker. Leaves: a `History`. Layer: lifecycle.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from tocsin.lifecycle.frames import ACTIVITY, ALERT, TIME, digest, fit_frame
from tocsin.lifecycle.history import History
from tocsin.lifecycle.ocsf.words import BY_TYPE, EPOCH, EXACT, PRODUCT, SEEN, SEVERITY, VERDICT
from tocsin.lifecycle.words import TRANSITIONS, LifecycleError

if TYPE_CHECKING:
    from collections.abc import Iterable


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

    >>> from tocsin.lifecycle.ocsf.write import to_ocsf
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
    known = {number: word for word, number in SEVERITY.items()} | {6: "critical"}
    verdicts = {number: word for word, (number, _) in VERDICT.items()} | {
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
    if _at(step["record"], "metadata", "product", "name") != PRODUCT or not isinstance(told, dict):
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
        alert = {name: alert[name] for name in EXACT} | {"vendor": vendor} | own
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
        kind, role = SEEN.get(name) or SEEN.get(path) or (_kind(item), None)
        if "/" in name and name not in SEEN:
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
    return _word(BY_TYPE, _at(item, "type_id")) or (_text(_at(item, "type")) or "other").lower()


def _when(value: Any, what: str) -> datetime:
    found = _maybe_when(value)
    if found is None:
        raise LifecycleError(f"{what} is {str(value)[:60]!r}: not milliseconds since 1970")
    return found


def _maybe_when(value: Any) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return EPOCH + timedelta(milliseconds=value)
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
