"""A first history mapping for a file of alerts nobody has mapped: proposed from its fields, with what it makes of it.

Enters: a file or table. Leaves: a `HistoryProposal`: TOML text to keep and correct, and the alerts it gives. Layer: sources.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import polars as pl

from tocsin.lifecycle.words import SEVERITIES, VERDICTS
from tocsin.sources import files, times
from tocsin.sources.histories.cleaning import CleaningRule
from tocsin.sources.histories.fields import CLOCKS, fields_of, time_formats
from tocsin.sources.histories.mapping import (
    ActivityRule,
    Cell,
    ChangeRule,
    HistoryMapping,
    ObservableRule,
    fold,
)
from tocsin.sources.histories.mapping_read import recognise_history
from tocsin.sources.histories.raw import Rows, read_rows, sniff
from tocsin.sources.histories.sheet import cells_of, field_cell
from tocsin.sources.mapping import ColumnRule
from tocsin.text import escape_terminal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tocsin.sources.histories.read import Imported

_SAMPLE_ROWS: Final = 50_000
_MANY: Final = 40
"""A field of more different words than this is no status or severity."""

_STATES: Final = {
    "new": ("new", "open", "opened", "unassigned", "queued", "to do", "todo", "created", "pending triage"),
    "in_progress": ("in progress", "in_progress", "inprogress", "active", "assigned", "acknowledged", "triaged", "investigating",
                    "work in progress"),
    "on_hold": ("on hold", "on_hold", "waiting", "pending", "awaiting user info", "blocked"),
    "closed": ("closed", "resolved", "done", "completed", "cancelled", "canceled", "closed - resolved"),
    "suppressed": ("suppressed", "muted"),
}  # fmt: skip
_SEVERITY: Final = {
    "critical": ("critical", "crit", "urgent", "p1", "1 - critical", "sev1", "highest"),
    "high": ("high", "major", "p2", "2 - high", "sev2"),
    "medium": ("medium", "moderate", "med", "normal", "p3", "3 - moderate", "sev3"),
    "low": ("low", "minor", "p4", "4 - low", "sev4", "lowest"),
    "informational": ("informational", "info", "information", "p5"),
}  # fmt: skip
_JUDGED: Final = {
    "true_positive": ("true positive", "truepositive", "malicious", "confirmed"),
    "benign_true_positive": ("benign", "benign positive", "benignpositive", "benign true positive", "expected", "authorized", "authorised"),
    "false_positive": ("false positive", "falsepositive", "fp"),
    "inconclusive": ("inconclusive", "undetermined", "unknown", "other"),
    "test": ("test", "testing", "simulation", "phishing simulation"),
    "duplicate": ("duplicate", "duplicated"),
}  # fmt: skip
_TESTS: Final = ("test", "testing", "tuning", "simulation", "phishing simulation", "drill")


@dataclass(frozen=True, slots=True)
class HistoryProposal:
    """A proposed history mapping and what it makes of the file.

    Attributes:
        mapping: The mapping as a value.
        toml: The same as TOML text, with comments that name every assumption.
        imported: What reading the sample with it gives; None where no id or no creation time was found.
        notes: What was assumed or could not be found, one sentence each.
    """

    mapping: HistoryMapping
    toml: str
    imported: Imported | None
    notes: tuple[str, ...]


def propose_history_mapping(
    sample: str | Path | pl.DataFrame, *, name: str | None = None, zone: str | None = None
) -> HistoryProposal:
    """Propose a history mapping for a file of alerts.

    Args:
        sample: What to look at; the first 50,000 rows are.
        name: Name of the mapping; by default the file's.
        zone: Zone of times that name none; without it UTC is assumed, and the notes say so.

    Raises:
        SourceError: Nothing there, or nothing that is a table.

    >>> rows = pl.DataFrame({"Ticket ID": ["7"], "Opened At": ["2026-01-05T09:00:00Z"], "Status": ["Resolved"]})
    >>> proposal = propose_history_mapping(rows, name="desk")
    >>> proposal.mapping.cell("created_at").fields, proposal.imported.history.current["state"].to_list()
    (('Opened At',), ['closed'])
    """
    from tocsin.sources.histories.read import import_rows

    form, separator = sniff(sample)
    rows = [_head(part) for part in read_rows(sample, format=form, separator=separator)]
    names = list(dict.fromkeys(n for part in rows for n in part.parsed.frame.columns))
    found = recognise_history(names)
    if found is not None:
        notes = [f"The fields are those of the shipped mapping {found.name!r}: it is used unless another is named."]
        mapping = found
        if separator != ",":
            mapping = replace(found, separator=separator, format=form)
    else:
        frame = pl.concat([part.parsed.frame for part in rows], how="diagonal_relaxed")
        mapping, notes = _guess(frame, name or (files.stem(rows[0].name) if rows else "alerts"), zone)
        mapping = replace(mapping, separator=separator, format=form)
    complete = (
        mapping.shape != "ocsf" and mapping.cell("external_id") is not None and mapping.cell("created_at") is not None
    )
    imported = import_rows(rows, mapping, zone=zone) if complete else None
    if imported is not None and not imported.counts["alerts"] and imported.counts["read"]:
        why = ", ".join(f"{rule} ({n:,})" for rule, n in imported.dropped.items())
        notes.append(f"No row of the sample becomes an alert as it stands: {why}.")
    used = {fold(f) for cell in cells_of(mapping) for f in cell.fields}
    unused = [n for n in names if fold(n) not in used]
    if unused and mapping.shape != "ocsf":
        notes.append(f"Columns not taken: {', '.join(unused)}.")
    toml = "".join(f"# {_comment(note)}\n" for note in notes) + _with_blanks(mapping, unused)
    return HistoryProposal(mapping, toml, imported, tuple(notes))


def _with_blanks(mapping: HistoryMapping, unused: list[str]) -> str:
    """Return the mapping as text; where it lacks what it needs there is a line to complete, with the fields that are left."""
    text = mapping.to_toml()
    left = ", ".join(_comment(n) for n in unused) or "no field is left"
    if mapping.shape == "ocsf":
        return text
    blanks = [f'# {c} = "..."  # one of: {left}\n' for c in ("external_id", "created_at") if mapping.cell(c) is None]
    return text.replace("[alert]\n", "[alert]\n" + "".join(blanks), 1)


def _comment(text: str) -> str:
    """Return text as a TOML comment can hold it: one line, controls written out."""
    return escape_terminal(" ".join(text.split()))


def _head(rows: Rows) -> Rows:
    parsed = rows.parsed
    cut = replace(parsed, frame=parsed.frame.head(_SAMPLE_ROWS), lines=parsed.lines.head(_SAMPLE_ROWS))
    return Rows(rows.name, cut)


def _guess(frame: pl.DataFrame, name: str, zone: str | None) -> tuple[HistoryMapping, list[str]]:
    taken = fields_of(frame)
    notes = [
        f"No field was taken for {what}."
        for what in ("external_id", "created_at", "severity", "status")
        if what not in taken
    ]
    clock, zoned = _time_rules(frame, taken, zone, notes)
    if "title" not in taken and "rule_id" in taken:
        taken["title"] = taken["rule_id"]
    facts = ("external_id", "title", "rule_id", "vendor")
    alert = [(column, field_cell(taken[column], "text")) for column in facts if column in taken]
    if "created_at" in clock:
        alert.append(("created_at", clock["created_at"]))
    if "severity" in taken:
        alert.append(("severity", _words(frame, taken["severity"], _SEVERITY, SEVERITIES, notes)))
    status = _words(frame, taken["status"], _STATES, (), notes) if "status" in taken else None
    updates = "updated" in clock and "external_id" in taken and frame[taken["external_id"]].is_duplicated().mean() > 0.5  # type: ignore[operator]
    if updates:
        notes.append(f"Ids repeat, so each row is taken for an update, made at {taken['updated']!r}.")
    else:
        notes.append("Each row is taken for one alert, of which first and last times are known.")
    mapping = HistoryMapping(
        name=re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "alerts",
        shape="updates" if updates else "alerts",
        history="full" if updates else "summary",
        zone=zoned,
        alert=tuple(alert),
        status=status,
        at=clock["updated"] if updates else None,
        activities=() if updates else tuple(_activities(frame, taken, clock, notes)),
        changes=tuple(_changes(frame, taken, notes)) if updates else (),
        observables=tuple(_observables(taken)),
        cleaning=tuple(_cleaning(frame, taken)),
    )
    return mapping, notes


def _time_rules(
    frame: pl.DataFrame, taken: dict[str, str], zone: str | None, notes: list[str]
) -> tuple[dict[str, Cell], str | None]:
    clock: dict[str, Cell] = {}
    zoned = zone
    formats, assumed = time_formats(frame, [taken[what] for what in CLOCKS if what in taken])
    notes += [] if assumed is None else [assumed]
    for what in (w for w in CLOCKS if w in taken):
        field = taken[what]
        form = formats.get(field)
        missing = "zone" if form else times.needs(frame[field])
        unit = times.guess_unit(frame[field]) if missing == "unit" else None
        rule = ColumnRule("cell", (field,), kind="time", unit=unit, format=form, on_invalid="null")  # type: ignore[arg-type]
        clock[what] = Cell((rule,), ("",))
        if missing == "zone" and zoned is None:
            zoned = "UTC"
            notes.append(
                "The times name no zone: UTC is assumed; correct zone under [history] if they are local times."
            )
    return clock, zoned


def _distinct(frame: pl.DataFrame, field: str) -> list[str]:
    words = frame[field].cast(pl.String).str.strip_chars().drop_nulls().unique().sort().to_list()
    return [] if len(words) > _MANY else [w for w in words if w]


def _words(
    frame: pl.DataFrame, field: str, known: dict[str, tuple[str, ...]], own: Iterable[str], notes: list[str]
) -> Cell:
    """Return the cell of a field whose words are said in others; those nobody knows are named in the notes."""
    values, strange = [], []
    for word in _distinct(frame, field):
        plain = " ".join(word.replace("_", " ").replace("-", " ").casefold().split())
        meaning = next((m for m, said in known.items() if plain in said or fold(word) in said), None)
        if meaning is None and plain.replace(" ", "_") in own:
            meaning = plain.replace(" ", "_")
        if meaning is None:
            strange.append(word)
        elif meaning != word:
            values.append((word, meaning))
    if strange:
        shown = ", ".join(repr(w[:40]) for w in strange[:8])
        notes.append(f"Say under values what these words of {field!r} mean: {shown}.")
    return Cell((ColumnRule("cell", (field,), kind="text", values=tuple(values), on_invalid="null"),), ("",))


def _activities(
    frame: pl.DataFrame, taken: dict[str, str], clock: dict[str, Cell], notes: list[str]
) -> Iterable[ActivityRule]:
    who = field_cell(taken["assignee"], "text") if "assignee" in taken else None
    for kind in ("assigned", "work_started", "reopened", "closed"):
        if kind in clock:
            yield ActivityRule(
                kind,
                at=clock[kind],
                value=who if kind == "assigned" else None,
                actor=who if kind == "work_started" else None,
            )
    if "assigned" not in clock and who is not None and "created_at" in clock:
        notes.append(
            f"Nothing says when {taken['assignee']!r} was assigned: the time of creation stands for it, and is too early."
        )
        yield ActivityRule("assigned", at=clock["created_at"], value=who, needs_value=True, actor_kind="import")
    if "verdict" in taken and "closed" in clock:
        verdict = _words(frame, taken["verdict"], _JUDGED, VERDICTS, notes)
        yield ActivityRule("verdict", at=clock["closed"], value=verdict, needs_value=True)


def _changes(frame: pl.DataFrame, taken: dict[str, str], notes: list[str]) -> Iterable[ChangeRule]:
    if "assignee" in taken:
        yield ChangeRule("assigned", field_cell(taken["assignee"], "text"), empty="unassigned")
    if "severity" in taken:
        yield ChangeRule("severity_changed", _words(frame, taken["severity"], _SEVERITY, SEVERITIES, []), first=False)
    if "verdict" in taken:
        yield ChangeRule("verdict", _words(frame, taken["verdict"], _JUDGED, VERDICTS, notes))


def _observables(taken: dict[str, str]) -> Iterable[ObservableRule]:
    for what, kind, role in (
        ("host", "host", None),
        ("user", "user", None),
        ("src_ip", "ip", "source"),
        ("dst_ip", "ip", "destination"),
    ):
        if what in taken:
            yield ObservableRule(kind, field_cell(taken[what], "list"), role)


def _cleaning(frame: pl.DataFrame, taken: dict[str, str]) -> Iterable[CleaningRule]:
    for what in ("severity", "status", "verdict"):
        if what in taken:
            words = [
                w for w in _distinct(frame, taken[what]) if w.replace("_", " ").replace("-", " ").casefold() in _TESTS
            ]
            if words:
                yield CleaningRule(
                    f"{what}-test", "Its words say that it is a test.", "test", taken[what], tuple(words)
                )
