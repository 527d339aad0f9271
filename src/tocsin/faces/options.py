"""Options that several commands share, and what becomes of them.

Enters: what was typed. Leaves: events, reference data, rules; or a `UsageError` that says what to type instead.
Layer: faces.
"""

import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tocsin.errors import MappingError, TocsinError, did_you_mean

if TYPE_CHECKING:
    from tocsin.detection import Detection
    from tocsin.references import References
    from tocsin.sources import Events

Flag = Parameter(negative=(), show_default=False)
Several = Parameter(consume_multiple=(1, None), negative=(), show_default=False)


class UsageError(TocsinError):
    """What was typed makes no sense; nothing was read or written."""


Source = Annotated[
    str,
    Parameter(
        name="SOURCE",
        allow_leading_hyphen=True,
        help='File, folder, glob in quotes, URL, or "-" for stdin: JSONL, CSV, Parquet, Excel or log lines, also .gz and .zst.',
    ),
]


@Parameter(name="*")
@dataclass(frozen=True)
class SourceOptions:
    """How a source is read."""

    map: Annotated[
        str | None,
        Parameter(
            help='Mapping: a TOML file, a shipped name, or "none". Default: recognised by the fields.',
            metavar="FILE|NAME",
        ),
    ] = None
    zone: Annotated[str | None, Parameter(help="Time zone of times that name none, such as Europe/Berlin.")] = None
    year: Annotated[int | None, Parameter(help="Year of times that name none (syslog).")] = None
    query: Annotated[str | None, Parameter(help="SQL; SOURCE is then a database URL.", metavar="SQL")] = None
    strict: Annotated[
        bool, Parameter(help="Stop with exit code 1 if any row or value was rejected.", negative=(), show_default=False)
    ] = False


@Parameter(name="*")
@dataclass(frozen=True)
class ReferenceOptions:
    """What events are looked up in."""

    geo: Annotated[
        str | None,
        Parameter(help='Geo table (CSV, Parquet, MMDB), or "country" for the one that ships.', metavar="FILE|country"),
    ] = None
    networks: Annotated[
        Path | None, Parameter(help="Address ranges with AS numbers (CSV, Parquet).", metavar="FILE")
    ] = None
    threats: Annotated[
        tuple[Path, ...], Several, Parameter(help="Threat lists: text, CSV or JSONL.", metavar="FILE")
    ] = ()
    assets: Annotated[tuple[Path, ...], Several, Parameter(help="Asset lists.", metavar="FILE")] = ()
    allow: Annotated[
        tuple[Path, ...],
        Several,
        Parameter(help="Allow-lists: what they match is counted as suppressed.", metavar="FILE"),
    ] = ()


@Parameter(name="*")
@dataclass(frozen=True)
class SpanOptions:
    """Which part of the history."""

    since: Annotated[
        str | None,
        Parameter(help="Report from here on; what is earlier is history for baselines only.", metavar="TIME"),
    ] = None
    until: Annotated[str | None, Parameter(help="Read events before this time only.", metavar="TIME")] = None
    gap: Annotated[
        tuple[str, ...],
        Several,
        Parameter(help="Times in which the source was not covered: START..END.", metavar="START..END"),
    ] = ()


READING, LOOKING_UP, SPAN = SourceOptions(), ReferenceOptions(), SpanOptions()
"""What holds where nothing was said."""


def open_events(source: str, options: SourceOptions) -> "Events":
    """Read a source as the options say. Rejects under --strict are left for the caller to show (`strict_failed`)."""
    from tocsin.sources import read
    from tocsin.sources.mapping import Mapping

    mapping = Mapping() if options.map == "none" else options.map
    return read(
        source, mapping=mapping, zone=options.zone, year=options.year, query=options.query, progress=sys.stderr.isatty()
    )


def strict_failed(events: "Events", options: SourceOptions) -> bool:
    """Tell whether --strict was asked for and something was rejected."""
    return options.strict and bool(events.counts.rejected or events.counts.cells)


def open_references(options: ReferenceOptions) -> "References | None":
    """Return the reference data that was named, or None."""
    if not (options.geo or options.networks or options.threats or options.assets or options.allow):
        return None
    from tocsin.references import reference

    return reference(
        geo=options.geo,
        threats=list(options.threats) or None,
        assets=list(options.assets) or None,
        allow=list(options.allow) or None,
        networks=options.networks,
    )


def load_detections(files: tuple[Path, ...]) -> "tuple[Detection, ...]":
    """Return the detections of rule files, or those that ship where none is named."""
    if not files:
        from tocsin.rules import ALL

        return ALL
    from tocsin.runners.rulefiles import load_rules

    return tuple(d for file in files for d in load_rules(file))


def pick(detections: "tuple[Detection, ...]", wanted: tuple[str, ...]) -> "tuple[Detection, ...]":
    """Return the detections with these ids, all of them when none is asked for.

    Raises:
        UsageError: No detection has that id.
    """
    known = {d.id: d for d in detections}
    for name in wanted:
        if name not in known:
            raise UsageError(f'No rule "{name}".{did_you_mean(name, known)} `tocsin rules list` shows them all.')
    return tuple(known[name] for name in wanted) if wanted else detections


def instant(text: str | None, option: str) -> datetime | None:
    """Return the time an option names.

    >>> instant("2026-01-31", "--since").isoformat()
    '2026-01-31T00:00:00+00:00'
    """
    if text is None:
        return None
    from tocsin.sources.mapping import as_instant

    try:
        return as_instant(text, option)
    except MappingError as error:
        raise UsageError(str(error)) from None


def gaps_of(texts: tuple[str, ...]) -> list[tuple[datetime, datetime]]:
    """Return the intervals written as START..END.

    >>> [(a.day, b.day) for a, b in gaps_of(("2026-01-03..2026-01-05",))]
    [(3, 5)]
    """
    found = []
    for text in texts:
        start, mark, end = text.partition("..")
        low, high = (instant(side, "--gap") if mark and side else None for side in (start, end))
        if low is None or high is None or low >= high:
            raise UsageError(
                f"--gap: {text!r} is no interval; write 2026-01-03..2026-01-05 or 2026-01-03T10:00Z..2026-01-03T12:30Z."
            )
        found.append((low, high))
    return found
