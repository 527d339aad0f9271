"""Which field of a file nobody has mapped is the id, which the time of creation and so on: by its name, and by what stands in it.

Enters: the rows as text. Leaves: what each field is taken for, and the form of its times. Layer: sources.
"""

from __future__ import annotations

import re
from typing import Final

import polars as pl

from tocsin.sources import times

CLOCKS: Final = ("created_at", "updated", "assigned", "work_started", "closed", "reopened")
"""What only a field of times is taken for."""

_WORDS: Final = {
    "external_id": ("alert id", "incident id", "case id", "ticket id", "incident number", "ticket number", "id", "uuid", "uid", "number",
                    "key", "reference", "ref", "alert", "incident", "ticket", "case",
                    "issue"),
    "updated": ("updated at", "update time", "last modified time", "modified time", "sys updated at", "changed at", "updated", "modified"),
    "created_at": ("created at", "created", "created time", "creation time", "create time", "opened at", "opened", "raised at",
                   "detected at", "detection time", "insert at", "date opened", "open date", "date created", "date raised", "date reported",
                   "reported at", "reported", "timestamp", "time", "date", "@timestamp"),
    "assigned": ("assigned at", "first assigned at", "assignment time", "assigned time", "acknowledged at", "acknowledged"),
    "work_started": ("started at", "work started at", "in progress at", "first action at", "investigated at", "triaged at", "responded at"),
    "closed": ("closed at", "closed time", "close time", "closed", "date closed", "close date", "resolved at", "date resolved",
               "resolved time", "resolved", "completed at"),
    "reopened": ("reopened at",),
    "severity": ("severity", "sev", "priority", "urgency", "level", "criticality"),
    "status": ("status", "state", "stage", "workflow status", "incident state", "alert status"),
    "assignee": ("assignee", "assigned to", "owner", "analyst", "assigned analyst", "assigned user", "handler"),
    "verdict": ("verdict", "classification", "disposition", "resolution", "close reason", "closing reason", "outcome"),
    "title": ("title", "name", "alert title", "summary", "alert name", "subject", "short description", "description"),
    "rule_id": ("rule id", "rule", "rule name", "detection name", "detection rule", "detection", "detection id", "signature", "category"),
    "vendor": ("vendor", "source", "product", "provider", "provider name", "module"),
    "host": ("host", "source host", "affected host", "hostname", "host name", "device", "computer", "machine"),
    "user": ("user", "username", "user name", "account", "user id"),
    "src_ip": ("src ip", "source ip", "ip", "ip address", "client ip"),
    "dst_ip": ("dst ip", "destination ip", "dest ip"),
}  # fmt: skip
"""What a field is taken for, by its whole name: the first that is there."""

_INSIDE: Final = {
    "updated": {"updated", "modified"},
    "created_at": {"created", "opened", "raised", "reported", "detected", "open"},
    "assigned": {"assigned", "acknowledged"},
    "work_started": {"started", "triaged", "investigated"},
    "closed": {"closed", "resolved", "completed"},
    "reopened": {"reopened"},
    "severity": {"severity", "sev", "priority", "urgency"},
    "status": {"status", "state"},
    "assignee": {"assignee", "owner", "analyst", "handler"},
    "verdict": {"verdict", "disposition", "classification"},
    "title": {"title", "subject", "summary"},
    "rule_id": {"rule", "detection", "signature"},
    "host": {"host", "hostname", "device", "computer", "machine"},
    "user": {"username", "account"},
}  # fmt: skip
"""What a field is taken for where no whole name fits: by one word of its name."""

_COUNTED: Final = {"id", "key", "number", "no", "nr", "ref", "reference", "uid", "uuid"}
_THING: Final = {"alert", "incident", "case", "ticket", "issue", "detection", "record", "request", "event"}
_NUMERIC_DATE: Final = (
    r"^\s*(?P<a>\d{1,2})(?P<s>[/.-])(?P<b>\d{1,2})[/.-](?P<y>\d{4}|\d{2})"
    r"(?:(?P<g>,? )\d{1,2}:\d{2}(?P<sec>:\d{2})?(?P<frac>\.\d+)?(?P<m> ?[AaPp][Mm])?)?\s*$"
)


def spelled(name: str) -> str:
    """Return a field's name as words in lower case.

    >>> spelled("TicketID"), spelled("date_opened"), spelled("Host  Name")
    ('ticket id', 'date opened', 'host name')
    """
    return re.sub(r"[\s_.-]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)).strip().casefold()


def fields_of(frame: pl.DataFrame) -> dict[str, str]:
    """Return what each field is taken for; a field is taken once, whole names before single words.

    >>> fields_of(pl.DataFrame({"Issue key": ["7"], "Alert owner": ["ann"], "Opened on": ["2026-01-05T09:00:00Z"]}))
    {'external_id': 'Issue key', 'created_at': 'Opened on', 'assignee': 'Alert owner'}
    """
    names = {spelled(n): n for n in reversed(frame.columns)}
    clocks = {n for n in frame.columns if is_time(frame[n])}
    taken: dict[str, str] = {}

    def take(what: str, field: str | None) -> bool:
        fits = field is not None and field not in taken.values() and (what not in CLOCKS or field in clocks)
        if fits and field is not None:
            taken[what] = field
        return fits

    for what, phrases in _WORDS.items():
        any(take(what, names.get(phrase)) for phrase in phrases)
    for what in (w for w in ("external_id", *_INSIDE) if w not in taken):
        for field in frame.columns:
            words = set(spelled(field).split())
            counted = words & _COUNTED and words <= _COUNTED | _THING
            told = (
                counted if what == "external_id" else words & _INSIDE[what] and (what in CLOCKS or field not in clocks)
            )
            if told and take(what, field):
                break
    if "created_at" not in taken:
        any(take("created_at", field) for field in frame.columns)
    return taken


def is_time(values: pl.Series) -> bool:
    """Tell whether most values of a field are times, in whatever form."""
    present = values.drop_nulls().head(1_000)
    present = present.filter(present.str.strip_chars() != "") if present.dtype == pl.String else present
    if not len(present):
        return False
    if times.needs(present) == "unit":
        return times.guess_unit(present) is not None
    return 2 * times.parse_times(present, zone="UTC").null_count() <= len(present) or bool(_numeric(present).height)


def time_formats(frame: pl.DataFrame, fields: list[str]) -> tuple[dict[str, str], str | None]:
    """Return the strptime pattern of each field whose dates are such as 10/05/2026, and what was assumed about their order.

    Day or month first is told by all fields together: a number above 12 is a day.

    >>> time_formats(pl.DataFrame({"t": ["10/05/2026 9:00 AM", "10/25/2026 9:00 AM"]}), ["t"])
    ({'t': '%m/%d/%Y %I:%M %p'}, None)
    """
    found = {field: _numeric(frame[field].drop_nulls()) for field in fields}
    found = {field: parts for field, parts in found.items() if parts.height}
    if not found:
        return {}, None
    parts = pl.concat(found.values())
    first, second = ((parts[name].cast(pl.Int64) > 12).any() for name in ("a", "b"))
    sure = bool(first) != bool(second)
    day_first = bool(first) if sure else parts["m"].null_count() == parts.height
    order = "day before month" if day_first else "month before day"
    note = None
    if first and second:
        note = (
            f"Dates such as {_example(frame, found)!r} stand in both orders: read as {order}; the others are rejected."
        )
    elif not sure:
        note = f"Dates such as {_example(frame, found)!r} can be read in two ways: {order} is assumed; exchange %d and %m if that is wrong."
    return {field: _pattern(parts, day_first=day_first) for field, parts in found.items()}, note


def _numeric(values: pl.Series) -> pl.DataFrame:
    """Return the parts of numeric dates; no rows unless most values are some."""
    if values.dtype != pl.String:
        return pl.DataFrame()
    present = values.filter(values.str.strip_chars() != "")
    parts = present.str.extract_groups(_NUMERIC_DATE).struct.unnest().drop_nulls("a")
    return parts if 2 * parts.height > len(present) else parts.clear()


def _example(frame: pl.DataFrame, found: dict[str, pl.DataFrame]) -> str:
    values = frame[next(iter(found))].drop_nulls()
    return str(values.filter(values.str.contains(_NUMERIC_DATE))[0]).strip()


def _pattern(parts: pl.DataFrame, *, day_first: bool) -> str:
    """Return the pattern that most of a field's values have."""
    shape = parts.select(
        "s", "g", pl.col("y").str.len_chars(), *(pl.col(n).is_not_null() for n in ("sec", "frac", "m")),
        pl.col("m").str.starts_with(" ").fill_null(value=False).alias("gap"),
    )  # fmt: skip
    usual = (
        shape.group_by(pl.all(), maintain_order=True)
        .len()
        .sort("len", descending=True, maintain_order=True)
        .row(0, named=True)
    )
    sign = usual["s"]
    pattern = sign.join((*(("%d", "%m") if day_first else ("%m", "%d")), "%Y" if usual["y"] == 4 else "%y"))
    if usual["g"] is None:
        return str(pattern)
    clock = ("%I" if usual["m"] else "%H") + ":%M" + (":%S" if usual["sec"] else "") + ("%.f" if usual["frac"] else "")
    return f"{pattern}{usual['g']}{clock}" + ((" %p" if usual["gap"] else "%p") if usual["m"] else "")


__all__ = ["CLOCKS", "fields_of", "is_time", "spelled", "time_formats"]
