"""Files of OCSF findings as a history: lines that are no finding are set aside with their reason.

Enters: JSON lines (or one JSON list) of Detection and Incident Findings. Leaves: `Imported`. Layer: sources.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from tocsin.errors import SourceError
from tocsin.lifecycle import History, LifecycleError
from tocsin.lifecycle.frames import TIME
from tocsin.lifecycle.ocsf import from_ocsf, read_record
from tocsin.sources import files, jsonl
from tocsin.sources.clean import REJECTED_SCHEMA, Rejects
from tocsin.sources.histories.cleaning import choose
from tocsin.sources.histories.raw import document_rows
from tocsin.sources.histories.sheet import EARLIEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from tocsin.sources.histories.mapping import HistoryMapping
    from tocsin.sources.histories.read import Imported

_NO_RECORD: Final = "unreadable-row"


def read_findings(
    source: str | Path | pl.DataFrame,
    mapping: HistoryMapping,
    *,
    as_of: datetime | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    cleaning: Iterable[str] | Mapping[str, str] | None = None,
) -> Imported:
    """Read files of OCSF findings.

    Raises:
        SourceError: Nothing to read, or a table: findings are nested, and read from JSON.
    """
    from tocsin.sources.histories.read import Imported, covered

    if isinstance(source, pl.DataFrame) or not (isinstance(source, str) or hasattr(source, "__fspath__")):
        raise SourceError(
            "OCSF findings are read from JSON lines; for records in memory there is tocsin.lifecycle.ocsf.from_ocsf"
        )
    rules = choose(mapping.cleaning, cleaning)
    rejects, dropped, records, lost = Rejects(), Counter[str](), [], []
    seen: set[str] = set()
    read = 0
    for name, line, text, record in _records(source):
        read += 1
        why = record if isinstance(record, str) else _why_not(record, as_of)
        again = isinstance(record, dict) and "duplicate-row" in rules and text in seen
        if why:
            rejects.add(name, [(line, "", text[:400], why)], kept=False)
        if why or again:
            rule = _NO_RECORD if why else "duplicate-row"
            dropped[rule] += 1
            lost.append({"rule": rule, "file": name, "line": line, "text": text})
            continue
        seen.add(text)
        records.append(record)
    found = from_ocsf(records)
    alerts = found.alerts.with_columns(pl.coalesce("recorded_at", pl.lit(as_of, TIME)).alias("recorded_at"))
    activities = found.activities.with_columns(pl.coalesce("recorded_at", pl.lit(as_of, TIME)).alias("recorded_at"))
    caveats = [*mapping.caveats]
    if (alerts["history"] == "summary").any():
        n = int((alerts["history"] == "summary").sum())
        caveats.append(f"Of {n:,} findings there is one record only: how they stand, not how they came there.")
    if as_of is None and alerts.height:
        caveats.append("When the file was made is not known: it is seen from its latest time.")
    history = History(
        alerts, activities, journal=covered(mapping, as_of, since, until), at=as_of, caveats=tuple(caveats)
    )
    counts = {
        "read": read, "alerts": alerts.height, "activities": activities.height, "tests": int(alerts["is_test"].sum()),
        "dropped": len(lost), "rejected": rejects.frame().height,
    }  # fmt: skip
    schema = {"rule": pl.String, "file": pl.String, "line": pl.Int64, "text": pl.String}
    return Imported(
        history, mapping, dict(dropped), pl.DataFrame(lost, schema=schema), rejects.frame().select(list(REJECTED_SCHEMA)), counts,
        tuple(caveats), (),
    )  # fmt: skip


def _why_not(record: Any, as_of: datetime | None) -> str:
    """Return why a record is no finding that can be believed, or the empty string."""
    try:
        step = read_record(record)
    except LifecycleError as error:
        return str(error)
    for when in (step["at"], step.get("created", step["at"])):
        if when < EARLIEST or (as_of is not None and when > as_of):
            return f"absurd time: {when:%Y-%m-%d %H:%M}Z"
    return ""


def _records(source: str | Path) -> Iterator[tuple[str, int, str, Any]]:
    """Yield file, line, text and record (or the reason why there is none) of every line that is not blank."""
    for item in files.resolve(source, format="jsonl"):
        document = document_rows(item)
        if document is not None:
            for line, data in enumerate(document, 1):
                yield item.name, line, data.decode(), _decoded(data)
            continue
        line = 0
        for chunk in files.chunks(item):
            if isinstance(chunk, files.Fault):
                yield item.name, line + 1, jsonl.shown(chunk.value), chunk.reason
                line += chunk.line_lost
                continue
            lines = chunk.data.removeprefix(b"\xef\xbb\xbf" if line == 0 else b"").split(b"\n")
            for n, data in enumerate(lines, 1):
                if data.strip():
                    yield (
                        item.name,
                        line + n,
                        jsonl.shown(data) if len(data) > 1 << 20 else data.decode("utf-8", "backslashreplace"),
                        _decoded(data),
                    )
            line += chunk.data.count(b"\n")


def _decoded(data: bytes) -> Any:
    reason = jsonl.parse_line(data.strip())
    if isinstance(reason, str):
        return reason
    return jsonl.parse_nested(data.strip())
