"""`read_history`: a file of alerts, of whatever system, as a `History`.

Enters: a path, folder, glob, URL, `-` or table; a mapping; the time of the export. Leaves: `Imported`. Layer: sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from tocsin.errors import SourceError
from tocsin.lifecycle import History
from tocsin.sources.histories.alerts import activity_frame, alert_frame, settled, told_activities
from tocsin.sources.histories.cleaning import choose
from tocsin.sources.histories.mapping_read import load_history_mapping, recognise_history, shipped_histories
from tocsin.sources.histories.raw import read_rows, sniff
from tocsin.sources.histories.sheet import judge, make_sheet
from tocsin.sources.histories.updates import split_updates
from tocsin.sources.mapping import as_instant, check_zone

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date, datetime

    from tocsin.sources.histories.cleaning import CleaningRule
    from tocsin.sources.histories.mapping import HistoryMapping
    from tocsin.sources.histories.raw import Rows
    from tocsin.sources.histories.sheet import Sheet


@dataclass(frozen=True, eq=False)
class Imported:
    """A history that was read, and what reading it left out.

    Attributes:
        history: The alerts and what happened to them.
        mapping: What their file was read with.
        dropped: Cleaning rule -> how many rows it dropped, marked as tests, or (where its action is "keep") caught.
        dropped_rows: The rows that were left out, as they stood, with ``rule``, ``file`` and ``line``.
        rejected: What could not be read: ``file, line, column, value, reason``; ``kept`` tells whether the row is an alert
            nevertheless, without that value.
        counts: read, alerts, activities, tests, dropped, rejected.
        caveats: What a careful reader must know; also in the history.
        ignored: Fields of the file of which the mapping does not speak.
    """

    history: History
    mapping: HistoryMapping
    dropped: Mapping[str, int]
    dropped_rows: pl.DataFrame
    rejected: pl.DataFrame
    counts: Mapping[str, int]
    caveats: tuple[str, ...]
    ignored: tuple[str, ...]


def read_history(
    source: str | Path | pl.DataFrame,
    mapping: str | Path | HistoryMapping | None = None,
    *,
    zone: str | None = None,
    as_of: datetime | date | str | None = None,
    since: datetime | date | str | None = None,
    until: datetime | date | str | None = None,
    cleaning: Iterable[str] | Mapping[str, str] | None = None,
) -> Imported:
    """Read a file of alerts and what happened to them.

    Args:
        source: CSV, JSON lines or Parquet (also packed), a folder or glob of them, a table, or a folder that
            `tocsin workbench fetch` wrote.
        mapping: A shipped mapping's name, a TOML file, or a value; by default the shipped one that knows the fields.
        zone: Zone of times that name none; by default the mapping's. Without either such a time cannot be read.
        as_of: When the file was made: nothing in it can be later. By default what the folder's manifest says.
        since: From which creation time on the file has every alert, where that is known: then days without alerts in it
            are days with no alert, not days of which nothing is known.
        until: Before which creation time; by default the time of export.
        cleaning: The cleaning rules that hold: None for all, names for just these, or name -> action to change some.

    Raises:
        SourceError: Nothing to read, or no file of alerts.
        MappingError: No mapping knows the fields, or the one that was named does not fit.

    >>> rows = pl.DataFrame({"Expel Alert ID": ["a", "b"], "Insert At (T3)": ["2026-10-01T09:00:00Z", "soon"],
    ...                      "Severity": ["HIGH", "LOW"]})
    >>> read = read_history(rows)
    >>> read.history.alerts["severity"].to_list(), read.dropped, read.rejected["reason"].to_list()
    (['high'], {'bad-creation-time': 1}, ['not a time'])
    """
    check_zone(zone, "zone")
    limits = {"as_of": as_of, "since": since, "until": until}
    times: Any = {name: None if when is None else as_instant(when, name) for name, when in limits.items()}
    if isinstance(source, str | Path):
        from tocsin.sources.histories import workbench

        if workbench.is_folder(source):
            return workbench.read_folder(Path(source), mapping, zone=zone, cleaning=cleaning, **times)
    chosen = None if mapping is None else load_history_mapping(mapping)
    if chosen is not None and chosen.shape == "ocsf":
        from tocsin.sources.histories import ocsf

        return ocsf.read_findings(source, chosen, cleaning=cleaning, **times)
    form, separator = sniff(source) if chosen is None else (chosen.format, chosen.separator)
    files = list(read_rows(source, format=form, separator=separator))
    if chosen is None:
        chosen = _recognised(files)
        if chosen.shape == "ocsf":
            from tocsin.sources.histories import ocsf

            return ocsf.read_findings(source, chosen, cleaning=cleaning, **times)
    return import_rows(files, chosen, zone=zone, cleaning=cleaning, **times)


def _recognised(files: list[Rows]) -> HistoryMapping:
    names = [name for rows in files for name in rows.parsed.frame.columns]
    found = recognise_history(names)
    if found is None:
        raise SourceError(
            f"no shipped history mapping knows these fields: {', '.join(names[:20]) or 'none'}. Name one of"
            f" {', '.join(shipped_histories())}, or have one proposed: tocsin map init --alerts FILE"
        )
    return found


def import_rows(
    files: list[Rows],
    mapping: HistoryMapping,
    *,
    zone: str | None = None,
    as_of: datetime | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    cleaning: Iterable[str] | Mapping[str, str] | None = None,
    more: Iterable[pl.DataFrame] = (),
) -> Imported:
    """Return the history of rows; `more` are frames of further activities of its alerts, by alert_id."""
    rules = choose(mapping.cleaning, cleaning)
    sheet = make_sheet(files, mapping, zone=zone, as_of=as_of)
    judge(sheet, rules, one_row_an_alert=mapping.shape == "alerts")
    sheet.refuse_absurd_times()
    if mapping.shape == "updates":
        told = split_updates(sheet)
    else:
        told = told_activities(sheet)
        told = pl.concat([told, settled(sheet, told, as_of or _latest(sheet, told))])
    alerts = alert_frame(sheet, as_of=as_of)
    activities = activity_frame(sheet, told, alerts, as_of=as_of)
    for frame in more:
        kept = frame.filter(pl.col("alert_id").is_in(alerts["alert_id"].implode()))
        activities = pl.concat([activities, kept]).sort("at", maintain_order=True)
    return _imported(sheet, rules, alerts, activities, zone=zone, as_of=as_of, since=since, until=until)


def _latest(sheet: Sheet, told: pl.DataFrame) -> datetime | None:
    times: list[Any] = [sheet.frame["@created"].max(), told["at"].max()]
    return max((t for t in times if t is not None), default=None)


def _imported(
    sheet: Sheet,
    rules: dict[str, CleaningRule],
    alerts: pl.DataFrame,
    activities: pl.DataFrame,
    *,
    zone: str | None,
    as_of: datetime | None,
    since: datetime | None,
    until: datetime | None,
) -> Imported:
    rejected = sheet.rejected()
    sheet.count("bad-value", int(rejected["kept"].sum()))
    dropped = {
        name: sheet.dropped[name] for name in (*rules, *sheet.dropped) if sheet.dropped.get(name) and name in rules
    }
    caveats = (*sheet.mapping.caveats, *_caveats(sheet, alerts, dropped, zone=zone, as_of=as_of))
    rows = sheet.dropped_rows()
    counts = {
        "read": sheet.read, "alerts": alerts.height, "activities": activities.height, "tests": int(alerts["is_test"].sum()),
        "dropped": rows.height + sheet.read - sheet.raw.height, "rejected": rejected.height,
    }  # fmt: skip
    history = History(
        alerts, activities, journal=covered(sheet.mapping, as_of, since, until), at=as_of, caveats=caveats
    )
    return Imported(history, sheet.mapping, dropped, rows, rejected, counts, caveats, _ignored(sheet))


def covered(
    mapping: HistoryMapping, as_of: datetime | None, since: datetime | None, until: datetime | None
) -> pl.DataFrame:
    """Return the journal row that says over which time the file has every alert; none where that is not known."""
    from tocsin.lifecycle import empty_history, fit_frame

    ends = [t for t in (until, as_of) if t is not None]
    if since is None or not ends or min(ends) <= since:
        return empty_history()["journal"]
    row = {
        "kind": "covered",
        "name": mapping.source or mapping.name,
        "at": since,
        "until": min(ends),
        "recorded_at": as_of,
    }
    return fit_frame(pl.DataFrame([row], schema_overrides={"recorded_at": pl.Datetime("us", "UTC")}), "journal")


def _ignored(sheet: Sheet) -> tuple[str, ...]:
    from tocsin.sources.histories.mapping import fold
    from tocsin.sources.histories.sheet import FILE, LINE

    used = {fold(name) for rule in sheet.names for name in rule.source}
    return tuple(name for name in sheet.raw.columns if name not in (FILE, LINE) and fold(name) not in used)


def _caveats(
    sheet: Sheet, alerts: pl.DataFrame, dropped: Mapping[str, int], *, zone: str | None, as_of: datetime | None
) -> list[str]:
    said = []
    if sheet.mapping.history == "summary" and alerts.height:
        said.append("The source tells first and last times only, not each activity.")
    if zone or sheet.mapping.zone:
        said.append(f"Times that name no zone are taken as {zone or sheet.mapping.zone}.")
    if as_of is None and alerts.height:
        said.append("When the file was made is not known: it is seen from its latest time.")
    if dropped.get("closed-time-unknown"):
        said.append(f"{dropped['closed-time-unknown']:,} alerts are closed, and nothing says since when.")
    if dropped.get("clock-skew"):
        said.append(f"{dropped['clock-skew']:,} activities are earlier than their alert.")
    if sheet.unknown:
        shown = ", ".join(f"{word} ({count:,} times)" for word, count in sheet.unknown.most_common(5))
        said.append(f"Words of which the mapping does not know the meaning: {shown}.")
    return said


__all__ = ["Imported", "covered", "import_rows", "read_history"]
