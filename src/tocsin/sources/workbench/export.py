"""The metrics export as it came: which alerts it names, and which of its rows are not what was asked for.

Enters: a CSV file and a range of time. Leaves: ids and counts; nothing is changed, and nothing is dropped from the file.
Layer: sources.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any, Final

from tocsin.errors import WorkbenchError

if TYPE_CHECKING:
    from collections.abc import Iterator

ID: Final = "Expel Alert ID"
CREATED: Final = "Insert At (T3)"
READ_BY_THE_NOTEBOOK: Final = (
    ID, "Severity", "Alert Status", "Investigation ID", "Investigation Type", "First Investigated At", "Expel Vendor Tech Name", CREATED,
    "First Assigned To User At (T4)", "First Assigned User (T4 Assignee)", "First Assigned User Name (T4 Assignee)",
    "Time Promoted To Incident", "Time First Investigative Action (T5a)", "Time First Remediation Action (T5b)",
    "Time First Closed (T60)", "Time Last Closed (T6)", "First Assigned To Org At",
)  # fmt: skip


@dataclass(frozen=True)
class ExportCounts:
    """Rows of an export: all of them, and by where their time lies; `ragged` have too many or too few cells."""

    rows: int = 0
    inside: int = 0
    before: int = 0
    after: int = 0
    unreadable_time: int = 0
    ragged: int = 0
    without_id: int = 0


@dataclass(frozen=True)
class ExportFacts:
    """What an export holds: its counts, columns, those of the notebook's columns it lacks, and distinct ids to ask for.

    Rows outside the range are not asked for; rows whose time cannot be read are, so that nothing is lost.
    """

    counts: ExportCounts
    columns: tuple[str, ...]
    missing: tuple[str, ...]
    ids: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what the manifest keeps: everything but the ids."""
        return {
            "rows": self.counts.rows,
            "counts": asdict(self.counts),
            "columns": self.columns,
            "columns_missing": self.missing,
        }


def instant(text: str) -> dt.datetime | None:
    """Return a time of the export, UTC where it names no zone; None where it is no time.

    >>> instant("2026-10-01T12:00:00.000Z"), instant("soon")
    (datetime.datetime(2026, 10, 1, 12, 0, tzinfo=datetime.timezone.utc), None)
    """
    try:
        found = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def survey(file: IO[bytes], low: dt.datetime, high: dt.datetime) -> ExportFacts:
    """Read an export once and say what it holds of ``[low, high)``.

    Raises:
        WorkbenchError: It ends in the middle of a row, or cannot be taken apart.
    """
    names = [name for name, _ in ExportCounts.__annotations__.items()]
    count = dict.fromkeys(names, 0)
    ids: dict[str, None] = {}
    rows = _rows(file)
    header = next(rows, [])
    where = {name: i for i, name in enumerate(header)}
    cells: list[str] = []
    for cells in rows:
        count["rows"] += 1
        count["ragged"] += len(cells) != len(header)
        moment = instant(_cell(cells, where.get(CREATED)))
        place = (
            "unreadable_time"
            if moment is None
            else "before"
            if moment < low
            else "after"
            if moment >= high
            else "inside"
        )
        count[place] += 1
        alert_id = _cell(cells, where.get(ID)).strip()
        count["without_id"] += not alert_id
        if alert_id and place in {"inside", "unreadable_time"}:
            ids.setdefault(alert_id)
    if count["rows"] and len(cells) < len(header):
        raise WorkbenchError(
            f"the export ends in the middle of row {count['rows']:,}: it has {len(cells)} of {len(header)} cells. "
            "The connection was cut; run the same command again"
        )
    missing = tuple(name for name in READ_BY_THE_NOTEBOOK if name not in where)
    return ExportFacts(ExportCounts(**count), tuple(header), missing, tuple(ids))


def _cell(cells: list[str], at: int | None) -> str:
    return cells[at] if at is not None and at < len(cells) else ""


def _rows(file: IO[bytes]) -> Iterator[list[str]]:
    """Yield the rows that are not blank; text that is no UTF-8 is read with replacement marks, the file keeps its bytes."""
    file.seek(0)
    text = io.TextIOWrapper(file, "utf-8-sig", "replace", newline="")
    reader = csv.reader(text)
    try:
        yield from filter(None, reader)
    except csv.Error as error:
        raise WorkbenchError(
            f"the export cannot be taken apart at line {reader.line_num:,}: {error}; tell the operator"
        ) from None
    finally:
        text.detach()  # the file stays open: it is the caller's
