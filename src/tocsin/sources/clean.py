"""From a chunk as the source has it to an event batch: rename, convert, validate, derive; what does not fit is recorded.

Enters: `Parsed` chunks (text or typed columns, one line number a row) and a `Plan` made once per source.
Leaves: frames of accepted rows with their final types, and `Rejects`. Everything is a column expression; Python sees
only the values that failed. Layer: sources.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import polars as pl

from tocsin.schema import KINDS, STANDARD
from tocsin.sources.convert import AS_IS, LIST_INNER, as_text, convert
from tocsin.sources.mapping import ColumnRule
from tocsin.sources.times import why_unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

MAX_FIELD_BYTES: Final = 65_536
MAX_REJECTS_KEPT: Final = 100_000
_MAX_VALUE_CHARS: Final = 200

REJECTED_SCHEMA: Final = {
    "file": pl.String(), "line": pl.Int64(), "column": pl.String(), "value": pl.String(), "reason": pl.String(), "kept": pl.Boolean(),
}  # fmt: skip


@dataclass(slots=True)
class Parsed:
    """A chunk of records as the source has them.

    Attributes:
        frame: One row a record; columns are text (or lists of text), or have their own types.
        lines: The number of each record in its file, from 1.
        bad_cells: (row of `frame`, source column, value, reason) of values that are null in `frame` for that reason.
        bad_lines: (line, value, reason) of lines that are no record at all.
        skipped: Lines that are no events of this source (counted, not rejected).
    """

    frame: pl.DataFrame
    lines: pl.Series
    bad_cells: list[tuple[int, str, str, str]] = field(default_factory=list)
    bad_lines: list[tuple[int, str, str]] = field(default_factory=list)
    skipped: int = 0


@dataclass(slots=True)
class Rejects:
    """What was rejected: exact counts, and the first `most` records.

    A record with ``kept`` true is a cell: its row was accepted without the value.
    """

    rows: int = 0
    cells: int = 0
    most: int = MAX_REJECTS_KEPT
    reasons: Counter[str] = field(default_factory=Counter)
    _frames: list[pl.DataFrame] = field(default_factory=list)
    _kept_records: int = 0

    def add(self, file: str, records: Sequence[tuple[int, str, str | None, str]], *, kept: bool) -> None:
        """Record (line, column, value, reason) tuples; does not count rows, see `rows` and `cells`."""
        if not records:
            return
        frame = pl.DataFrame(
            [(file, line, column, clip(value), reason, kept) for line, column, value, reason in records],
            schema=REJECTED_SCHEMA,
            orient="row",
        )
        self.add_frame(frame)

    def add_frame(self, frame: pl.DataFrame) -> None:
        """Record a frame with the columns of `REJECTED_SCHEMA`."""
        for reason, count in frame.group_by("reason").len().iter_rows():
            self.reasons[reason] += count
        room = self.most - self._kept_records
        if room > 0 and len(frame):
            self._frames.append(frame.head(room))
            self._kept_records += min(room, len(frame))

    def frame(self) -> pl.DataFrame:
        """Return the records in file and line order."""
        if not self._frames:
            return pl.DataFrame(schema=REJECTED_SCHEMA)
        return pl.concat(self._frames).sort("file", "line", maintain_order=True)


def clip(value: str | None) -> str | None:
    """Cut a rejected value to a length that can be shown; lone surrogates become escapes, for no table can hold them."""
    if value is None:
        return None
    value = value if len(value) <= _MAX_VALUE_CHARS else value[: _MAX_VALUE_CHARS - 1] + "…"
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass(frozen=True, slots=True)
class Output:
    """One column of the batch: its rule, the source column it reads (None: constant, derived or absent) and its kind."""

    rule: ColumnRule
    source: str | None
    kind: str
    declared: bool

    @property
    def dtype(self) -> pl.DataType:
        """The type the column is stored as (a column kept as it is has its source's)."""
        return KINDS[self.kind] if self.kind in KINDS else pl.List(LIST_INNER.get(self.kind, pl.String()))


@dataclass(frozen=True, slots=True)
class Plan:
    """What `clean` does to every chunk of a source."""

    name: str
    outputs: tuple[Output, ...]
    zone: str | None
    year: int | None
    earliest: datetime
    latest: datetime
    null_values: tuple[str, ...] = ()

    def known(self) -> set[str]:
        """The source fields and column names that the plan speaks of; any other field is a late one."""
        return {o.rule.name for o in self.outputs} | {o.source for o in self.outputs if o.source is not None}

    def only(self, columns: set[str]) -> Plan:
        """Return the plan that makes just these columns and what they are derived from."""
        wanted = columns | {o.rule.count_of for o in self.outputs if o.rule.name in columns and o.rule.count_of}
        outputs = tuple(o for o in self.outputs if o.rule.name in wanted)
        return Plan(self.name, outputs, self.zone, self.year, self.earliest, self.latest, self.null_values)


@dataclass(slots=True)
class _Issue:
    """Cells of one column that failed: where, what stood there, why, and whether their rows go."""

    column: str
    rows: pl.Series
    values: pl.Series
    reasons: pl.Series
    fatal: bool


class Cleaned(NamedTuple):
    """The accepted rows as a batch, which rows those are, and which columns are not the source's own as they stood."""

    frame: pl.DataFrame
    accepted: pl.Series
    changed: set[str]


def clean(parsed: Parsed, plan: Plan, file: str, rejects: Rejects, *, prefix: str) -> Cleaned:
    """Return the accepted rows of a chunk as a batch.

    Args:
        parsed: The chunk.
        plan: What to make of it.
        file: The name shown in rejects.
        rejects: Collects what fails.
        prefix: An event without an id is called ``prefix:line``.
    """
    issues: list[_Issue] = []
    made, changed = _make_all(parsed, plan, issues)
    bad_by_source: dict[str, list[tuple[int, str, str]]] = {}
    for row, column, value, reason in parsed.bad_cells:
        bad_by_source.setdefault(column, []).append((row, value, reason))
    issues += _source_issues(bad_by_source, plan)
    accepted = _settle(issues, parsed, file, rejects)
    rejects.add(file, [(line, "", value, reason) for line, value, reason in parsed.bad_lines], kept=False)
    rejects.rows += len(parsed.bad_lines)
    frame = _frame(made, parsed.lines, prefix)
    return Cleaned(frame if accepted.all() else frame.filter(accepted), accepted, changed)


def convert_only(parsed: Parsed, plan: Plan, *, prefix: str) -> pl.DataFrame:
    """Return all rows of a chunk converted, none left out: for a second pass over records that `clean` has judged."""
    return _frame(_make_all(parsed, plan, [])[0], parsed.lines, prefix)


def believable_times(parsed: Parsed, plan: Plan) -> pl.Series:
    """Return the times of a chunk that can be accepted, in its order."""
    times = _make_all(parsed, plan.only({"timestamp"}), [])[0]["timestamp"]
    believable = times.is_between(plan.earliest, plan.latest)
    return times if believable.all(ignore_nulls=False) else times.filter(believable)


def _make_all(parsed: Parsed, plan: Plan, issues: list[_Issue]) -> tuple[dict[str, pl.Series], set[str]]:
    made: dict[str, pl.Series] = {}
    changed: set[str] = set()
    for output in (*plan.outputs, *late_outputs(parsed.frame, plan)):
        own = (
            parsed.frame[output.source] if output.source is not None and output.source in parsed.frame.columns else None
        )
        value = _make(output, own, parsed, made, plan, issues)
        made[output.rule.name] = value
        if value is not own:  # every conversion hands back its very input when there was nothing to do
            changed.add(output.rule.name)
    if "event_id" not in made or made["event_id"].null_count():
        changed.add("event_id")
    return made, changed


def late_outputs(frame: pl.DataFrame, plan: Plan) -> list[Output]:
    """Return outputs for fields that no sample had shown: standard columns as such, all others as text."""
    known = plan.known()
    late = [name for name in frame.columns if name not in known]
    return [
        Output(ColumnRule(n), n, STANDARD[n].kind, declared=True)
        if n in STANDARD
        else Output(ColumnRule(n), n, "text", declared=False)
        for n in late
    ]


def _frame(made: dict[str, pl.Series], lines: pl.Series, prefix: str) -> pl.DataFrame:
    made["event_id"] = _ids(made.get("event_id"), lines, prefix)
    first = [n for n in ("event_id", "timestamp") if n in made]
    return pl.DataFrame([made[n].alias(n) for n in [*first, *(n for n in made if n not in first)]])


def _make(
    output: Output, own: pl.Series | None, parsed: Parsed, made: dict[str, pl.Series], plan: Plan, issues: list[_Issue]
) -> pl.Series:
    rule, height = output.rule, len(parsed.lines)
    if rule.constant is not None:
        return _constant(rule.constant, output.dtype, height)
    if rule.count_of is not None:
        counted = made.get(rule.count_of)
        if counted is None:
            return pl.Series([0]).new_from_index(0, height)
        count = counted.list.len().cast(pl.Int64)
        return count.fill_null(0) if count.null_count() else count
    raw, reason = _nothing(output, own, height), ""
    value = raw
    if own is not None and own.null_count() < height:
        raw = _prepare(own, rule, plan)
        value, reason = convert(raw, output.kind, rule, plan)
    bad = value.is_null() & raw.is_not_null() if value.null_count() != raw.null_count() else None
    if bad is not None:
        rows = bad.arg_true()
        values = as_text(raw.gather(rows))
        reasons = _reasons(values, reason, output, plan)
        issues.append(_Issue(rule.name, rows, values, reasons, output.declared and rule.on_invalid == "reject"))
    if rule.default is not None and value.null_count():
        value = value.zip_with(value.is_not_null(), _constant(rule.default, output.dtype, height))
    _check_length(value, rule, issues)
    if output.rule.name == "timestamp":
        _check_time(value, raw, bad, plan, issues)
    return value


def _nothing(output: Output, own: pl.Series | None, height: int) -> pl.Series:
    if own is not None and (output.kind == AS_IS or own.dtype == output.dtype):
        return own
    return pl.Series([None], dtype=output.dtype).new_from_index(0, height)


def _constant(value: object, dtype: pl.DataType, height: int) -> pl.Series:
    return pl.Series([value]).cast(dtype).new_from_index(0, height)


def _prepare(raw: pl.Series, rule: ColumnRule, plan: Plan) -> pl.Series:
    """Text as the rule wants it: missing where empty, then pattern, replacements and case."""
    if isinstance(raw.dtype, pl.Categorical | pl.Enum):
        raw = raw.cast(pl.String)
    if (rule.values or rule.pattern) and not raw.dtype.is_nested():
        raw = as_text(raw)
    if raw.dtype != pl.String:
        return raw
    missing = raw.is_in(["", *plan.null_values]) if plan.null_values else raw == ""
    if missing.any():
        raw = raw.set(missing, None)
    if rule.pattern is not None:
        raw = raw.str.extract(rule.pattern)
    if rule.values:
        old, new = [k for k, _ in rule.values], [v for _, v in rule.values]
        if rule.otherwise is None:
            raw = raw.replace(old, new)
        else:
            raw = raw.replace_strict(old, new, default=rule.otherwise).zip_with(raw.is_not_null(), raw)
    return raw.str.to_lowercase() if rule.lower else raw


def _reasons(values: pl.Series, reason: str, output: Output, plan: Plan) -> pl.Series:
    if output.kind != "time":
        return pl.Series([reason]).new_from_index(0, len(values))
    # Distinct look of the value (digits folded) decides the reason, so a million bad times cost a few look-ups.
    shapes = values.str.replace_all(r"\d", "0").str.slice(0, 40)
    first = (
        pl.DataFrame({"shape": shapes, "value": values}).unique("shape", keep="first", maintain_order=True).head(1000)
    )
    why = [why_unreadable(v, zone=plan.zone, unit=output.rule.unit, year=plan.year) for v in first["value"].to_list()]
    return shapes.replace_strict(
        first["shape"], pl.Series(why, dtype=pl.String), default="not a time", return_dtype=pl.String
    )


def _check_length(value: pl.Series, rule: ColumnRule, issues: list[_Issue]) -> None:
    if value.estimated_size() <= MAX_FIELD_BYTES:  # of all together
        return
    if value.dtype == pl.String:
        longest = value.str.len_bytes()
        if (longest.max() or 0) <= MAX_FIELD_BYTES:  # type: ignore[operator]
            return
        rows = (longest > MAX_FIELD_BYTES).arg_true()
    elif value.dtype == pl.List(pl.String):
        if (value.list.explode().str.len_bytes().max() or 0) <= MAX_FIELD_BYTES:  # type: ignore[operator]
            return
        rows = (
            (value.list.eval(pl.element().str.len_bytes().max()).list.first() > MAX_FIELD_BYTES)
            .fill_null(value=False)
            .arg_true()
        )
    else:
        return
    shown = pl.Series([clip(str(v)) for v in value.gather(rows).to_list()], dtype=pl.String)
    reason = pl.Series([f"longer than {MAX_FIELD_BYTES:,} bytes"]).new_from_index(0, len(rows))
    issues.append(_Issue(rule.name, rows, shown, reason, fatal=True))


def _check_time(
    value: pl.Series, raw: pl.Series, unreadable: pl.Series | None, plan: Plan, issues: list[_Issue]
) -> None:
    if value.null_count() > (0 if unreadable is None else unreadable.sum()):
        missing = value.is_null() if unreadable is None else value.is_null() & ~unreadable
        rows = missing.arg_true()
        nothing = pl.Series([None], dtype=pl.String).new_from_index(0, len(rows))
        issues.append(
            _Issue("timestamp", rows, nothing, pl.Series(["missing time"]).new_from_index(0, len(rows)), fatal=True)
        )
    low: Any = value.min()
    high: Any = value.max()
    for early in (True, False):
        limit = plan.earliest if early else plan.latest
        if low is None or (low >= limit if early else high <= limit):
            continue
        outside = value < limit if early else value > limit
        rows = outside.fill_null(value=False).arg_true()
        word = "before the earliest" if early else "after the latest"
        reason = f"absurd time: {word} allowed, {limit:%Y-%m-%d %H:%M}Z"
        reasons = pl.Series([reason]).new_from_index(0, len(rows))
        issues.append(_Issue("timestamp", rows, as_text(raw.gather(rows)), reasons, fatal=True))


def _source_issues(bad: dict[str, list[tuple[int, str, str]]], plan: Plan) -> list[_Issue]:
    """Cells the parser itself refused: told once for each batch column made from the source column."""
    issues = []
    for source, cells in bad.items():
        rows = pl.Series([c[0] for c in cells], dtype=pl.UInt32)
        values, reasons = (
            pl.Series([clip(c[1]) for c in cells], dtype=pl.String),
            pl.Series([c[2] for c in cells], dtype=pl.String),
        )
        users = [o for o in plan.outputs if o.source == source]
        if not users:
            issues.append(_Issue(source, rows, values, reasons, fatal=False))
        issues += [
            _Issue(o.rule.name, rows, values, reasons, o.declared and o.rule.on_invalid == "reject") for o in users
        ]
    return issues


def _settle(issues: list[_Issue], parsed: Parsed, file: str, rejects: Rejects) -> pl.Series:
    accepted = pl.Series([True]).new_from_index(0, len(parsed.lines))
    for issue in issues:
        if issue.fatal and len(issue.rows):
            accepted = accepted.scatter(issue.rows, False)
    for issue in issues:
        kept = accepted.gather(issue.rows)
        rejects.add_frame(
            pl.DataFrame(
                {
                    "file": pl.Series([file]).new_from_index(0, len(issue.rows)),
                    "line": parsed.lines.gather(issue.rows).cast(pl.Int64),
                    "column": pl.Series([issue.column]).new_from_index(0, len(issue.rows)),
                    "value": pl.Series([clip(v) for v in issue.values.to_list()], dtype=pl.String),
                    "reason": issue.reasons,
                    "kept": kept,
                }
            )
        )
        rejects.cells += int(kept.sum())
    rejects.rows += int((~accepted).sum())
    return accepted


def _ids(ids: pl.Series | None, lines: pl.Series, prefix: str) -> pl.Series:
    if ids is not None and not ids.null_count():
        return ids
    made = pl.Series([f"{prefix}:"]).new_from_index(0, len(lines)) + lines.cast(pl.String)
    return made if ids is None else ids.zip_with(ids.is_not_null(), made)
