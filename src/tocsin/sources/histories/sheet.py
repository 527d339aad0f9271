"""The rows of all files, cell by cell as the mapping wants them, and the cleaning of what is no alert.

Enters: `Rows` and a `HistoryMapping`. Leaves: a `Sheet` whose expressions give each cell, and which remembers every row
it dropped and why. Layer: sources.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import polars as pl

from tocsin.errors import MappingError, did_you_mean
from tocsin.lifecycle.frames import TIME
from tocsin.sources.clean import REJECTED_SCHEMA, Output, Plan, Rejects, clean
from tocsin.sources.convert import as_text
from tocsin.sources.histories.mapping import Cell, HistoryMapping, fold
from tocsin.sources.mapping import ColumnRule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tocsin.sources.histories.cleaning import CleaningRule
    from tocsin.sources.histories.raw import Rows

EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_END: Final = datetime(9999, 12, 31, tzinfo=UTC)
_NEVER: Final = "\x1f"  # one value is one value, unless the mapping says how several are written
ROW, FILE, LINE = "@row", "@file", "@line"


def field_cell(name: str, kind: str) -> Cell:
    """Return the cell that is one field as it stands."""
    return Cell((ColumnRule("cell", (name,), kind=kind, on_invalid="null"),), ("",))


def cells_of(mapping: HistoryMapping) -> Iterator[Cell]:
    """Yield every cell that a mapping speaks of."""
    for told in (*(c for _, c in mapping.alert), mapping.status, mapping.at, mapping.actor, mapping.closed_value):
        if told is not None:
            yield told
    if mapping.status is not None:
        yield from (field_cell(name, "text") for name in mapping.status.fields)
    for rule in mapping.activities:
        yield from (
            c for c in (rule.at, rule.value, rule.actor, rule.number, rule.until, rule.judged_by) if c is not None
        )
        yield from (c for _, c in rule.payload)
        yield from (field_cell(name, "time") for name in (rule.between or ()))
        yield from (field_cell(rule.differs_from, "time"),) if rule.differs_from else ()
        yield from (field_cell(rule.unless, "text"),) if rule.unless else ()
        yield from (field_cell(rule.where.field, "text"),) if rule.where else ()
    yield from (change.value for change in mapping.changes)
    yield from (seen.value for seen in mapping.observables)
    yield from (field_cell(rule.field, "text") for rule in mapping.cleaning)


@dataclass
class Sheet:
    """Rows that may become alerts.

    Attributes:
        mapping: What its cells mean.
        frame: One row a row of the source that still counts: ``@row`` and the cells.
        raw: All rows as they stood, with ``@file`` and ``@line``; ``@row`` is the place in it.
        earliest, latest: Times outside are absurd.
        rejects: Cells and lines that could not be read.
        dropped: rule -> how many rows it dropped, marked or counted.
        unknown: Words that the mapping does not know, with how often they stood there.
    """

    mapping: HistoryMapping
    frame: pl.DataFrame
    raw: pl.DataFrame
    earliest: datetime
    latest: datetime
    rejects: Rejects
    names: dict[ColumnRule, str]
    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    _rows: list[tuple[str, pl.Series]] = field(default_factory=list)

    def expr(self, cell: Cell) -> pl.Expr:
        """Return a cell as an expression over the frame: the first of its rules that has a value in the row."""
        parts = [
            (pl.lit(prefix) + pl.col(self.names[rule])) if prefix else pl.col(self.names[rule])
            for rule, prefix in zip(cell.rules, cell.prefixes, strict=True)
        ]
        return parts[0] if len(parts) == 1 else pl.coalesce(parts)

    def time(self, cell: Cell) -> pl.Expr:
        """Return a cell of a time that is believable, else null."""
        told = self.expr(cell)
        return pl.when(told.is_between(pl.lit(self.earliest, TIME), pl.lit(self.latest, TIME))).then(told)

    def count(self, rule: str, rows: int) -> None:
        """Count rows under a rule's name."""
        if rows:
            self.dropped[rule] += rows

    def drop(self, rule: str, caught: pl.Series) -> None:
        """Leave out the rows for which `caught` is true, and remember them."""
        caught = caught.fill_null(value=False)
        if not caught.any():
            return
        rows = self.frame[ROW].filter(caught)
        self.count(rule, len(rows))
        self._rows.append((rule, rows))
        self.frame = self.frame.filter(~caught)

    def refuse_absurd_times(self) -> None:
        """Set aside, with their reason, the times outside what is believable; `time` gives none of them."""
        for rule, name in self.names.items():
            if rule.kind != "time" or rule in self._creation:
                continue
            times = self.frame[name]
            for early in (True, False):
                outside = times < self.earliest if early else times > self.latest
                rows = self.frame.filter(outside.fill_null(value=False))
                if rows.height:
                    word = "before the earliest" if early else "after the latest"
                    reason = f"absurd time: {word} allowed, {self.earliest if early else self.latest:%Y-%m-%d %H:%M}Z"
                    self._refuse(rows, name, reason)

    def _refuse(self, rows: pl.DataFrame, name: str, reason: str) -> None:
        place = self.raw[rows[ROW]]
        self.rejects.cells += rows.height
        told = {
            "file": place[FILE],
            "line": place[LINE],
            "column": name,
            "value": as_text(rows[name]),
            "reason": reason,
        }
        self.rejects.add_frame(pl.DataFrame(told).with_columns(pl.lit(value=True).alias("kept")))

    @property
    def _creation(self) -> tuple[ColumnRule, ...]:
        told = self.mapping.cell("created_at")
        return () if told is None else told.rules

    def lost(self, rows: pl.Series) -> None:
        """Remember rows that never came into the frame."""
        if len(rows):
            self.count("unreadable-row", len(rows))
            self._rows.append(("unreadable-row", rows))

    def dropped_rows(self) -> pl.DataFrame:
        """Return the rows that were left out, as they stood, each with the rule that did it."""
        parts = [self.raw[rows].with_columns(pl.lit(rule).alias("rule")) for rule, rows in self._rows]
        kept = pl.concat(parts) if parts else self.raw.clear().with_columns(pl.lit(None, pl.String).alias("rule"))
        own = [c for c in self.raw.columns if c not in (FILE, LINE)]
        return kept.select("rule", pl.col(FILE).alias("file"), pl.col(LINE).alias("line"), *own)

    def rejected(self) -> pl.DataFrame:
        """Return the rejects, with `kept` telling whether the row is an alert nevertheless."""
        fields = {name: rule.source[0] if rule.source else "" for rule, name in self.names.items()}
        frame = self.rejects.frame().with_columns(pl.col("column").replace(fields))
        out = self.dropped_rows().select("file", "line").unique().with_columns(pl.lit(value=True).alias("@out"))
        joined = frame.join(out, on=["file", "line"], how="left", maintain_order="left")
        return joined.with_columns(pl.col("kept") & pl.col("@out").is_null()).select(list(REJECTED_SCHEMA))


def make_sheet(
    files: Iterable[Rows],
    mapping: HistoryMapping,
    *,
    zone: str | None,
    as_of: datetime | None,
) -> Sheet:
    """Return the sheet of some files.

    Raises:
        MappingError: No file has the field of the id, or that of the creation time.
    """
    rejects = Rejects()
    names: dict[ColumnRule, str] = {}
    for cell in cells_of(mapping):
        for rule in cell.rules:
            names.setdefault(rule, f"c{len(names)}")
    frames, raws, lost, read, base = [], [], [], 0, 0
    present: dict[str, str] = {}
    for rows in files:
        columns = {fold(name): name for name in reversed(rows.parsed.frame.columns)}
        present |= columns
        plan = _plan(mapping, names, columns, zone)
        cleaned = clean(rows.parsed, plan, rows.name, rejects, prefix="")
        height = len(rows.parsed.lines)
        numbers = pl.int_range(base, base + height, eager=True, dtype=pl.Int64).alias(ROW)
        frames.append(cleaned.frame.select(list(names.values())).with_columns(numbers.filter(cleaned.accepted)))
        lost.append(numbers.filter(~cleaned.accepted))
        place = [pl.lit(rows.name).alias(FILE), rows.parsed.lines.cast(pl.Int64).alias(LINE)]
        raws.append(_own(rows.parsed.frame, height).with_columns(place))
        base, read = base + height, read + rows.read
    if base:
        _need(mapping, present)
    raw = pl.concat(raws, how="diagonal_relaxed")
    sheet = Sheet(
        mapping, pl.concat(frames, how="diagonal_relaxed"), raw, mapping.earliest or EARLIEST, as_of or _END, rejects, names, read
    )  # fmt: skip
    sheet.lost(pl.concat(lost))
    sheet.count("unreadable-row", read - base)
    return sheet


def _own(frame: pl.DataFrame, height: int) -> pl.DataFrame:
    return (
        frame
        if frame.width
        else pl.DataFrame({"@none": pl.Series([None], dtype=pl.String).new_from_index(0, height)}).select()
    )


def _plan(mapping: HistoryMapping, names: dict[ColumnRule, str], columns: dict[str, str], zone: str | None) -> Plan:
    outputs = []
    for rule, name in names.items():
        source = columns.get(fold(rule.source[0])) if rule.source else None
        split = rule.split or _NEVER if rule.kind == "list" else rule.split
        own = replace(rule, name=name, values=_in_any_case(rule.values), split=split)
        outputs.append(Output(own, source, rule.kind or "text", declared=True))
    return Plan(mapping.name, tuple(outputs), zone or mapping.zone, None, EARLIEST, _END, mapping.null_values)


def _in_any_case(values: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    spelled = dict(values)
    for word, meaning in values:
        for other in (word.lower(), word.upper(), word.capitalize(), word.title()):
            spelled.setdefault(other, meaning)
    return tuple(spelled.items())


def _need(mapping: HistoryMapping, present: dict[str, str]) -> None:
    for column in ("external_id", "created_at"):
        cell = mapping.cell(column)
        if cell is None or not cell.fields or any(fold(f) in present for f in cell.fields):
            continue
        missing = cell.fields[0]
        raise MappingError(
            f"the mapping {mapping.name!r} makes {column} from the field {missing!r}, which the source does not have."
            f"{did_you_mean(fold(missing), present)} It has: {', '.join(list(present.values())[:40]) or 'no fields'}."
        )


def text_of(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame with every column as text, for comparing whole rows."""
    return pl.DataFrame([as_text(frame[name]).alias(name) for name in frame.columns])


def judge(sheet: Sheet, rules: dict[str, CleaningRule], *, one_row_an_alert: bool) -> None:
    """Apply the cleaning rules: drop what is no alert, mark tests (``@test``), count the rest."""
    mapping = sheet.mapping
    id_cell, created_cell = mapping.cell("external_id"), mapping.cell("created_at")
    assert id_cell is not None
    assert created_cell is not None
    told = sheet.expr(id_cell).cast(pl.String).str.strip_chars()
    sheet.frame = sheet.frame.with_columns(
        pl.when(told != "").then(told).alias("@id"), sheet.expr(created_cell).alias("@created")
    )
    sheet.drop("missing-id", sheet.frame["@id"].is_null())
    sheet.drop("bad-creation-time", sheet.frame["@created"].is_null())
    if "absurd-creation-time" in rules:
        sheet.drop("absurd-creation-time", ~sheet.frame["@created"].is_between(sheet.earliest, sheet.latest))
    if sheet.frame["@id"].is_duplicated().any():
        _duplicates(sheet, rules, one_row_an_alert=one_row_an_alert)
    marked = pl.lit(value=False)
    for rule in rules.values():
        if not rule.field:
            continue
        words = [word.casefold() for word in rule.among]
        caught = sheet.frame.select(
            sheet.expr(field_cell(rule.field, "text"))
            .str.strip_chars()
            .str.to_lowercase()
            .is_in(words)
            .fill_null(value=False)
        ).to_series()
        if rule.action == "drop":
            sheet.drop(rule.name, caught)
            continue
        sheet.count(rule.name, int(caught.sum()))
        if rule.action == "test":
            sheet.frame = sheet.frame.with_columns(caught.alias(f"@test:{rule.name}"))
            marked = marked | pl.col(f"@test:{rule.name}")
    own = mapping.cell("is_test")
    if own is not None:
        marked = marked | sheet.expr(own).fill_null(value=False)
    sheet.frame = sheet.frame.with_columns(marked.alias("@test"))


def _duplicates(sheet: Sheet, rules: dict[str, CleaningRule], *, one_row_an_alert: bool) -> None:
    several = sheet.frame["@id"].is_duplicated()
    rows = sheet.frame[ROW].filter(several)
    own = sheet.raw.drop(FILE, LINE)
    again = text_of(own[rows]).with_columns(rows)
    first = again.unique(subset=own.columns, keep="first", maintain_order=True)[ROW]
    if "duplicate-row" in rules:
        sheet.drop("duplicate-row", sheet.frame[ROW].is_in(rows.implode()) & ~sheet.frame[ROW].is_in(first.implode()))
    if one_row_an_alert:
        sheet.drop("conflicting-id", ~sheet.frame["@id"].is_first_distinct())
