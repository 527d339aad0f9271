"""From a piece to events: the records of a live source become the frame that the engine takes, and what is none a letter.

Enters: `Piece` values, and once a sample of them. Leaves: `Decoder`, `Decoded`. Layer: sources.

The reading itself is that of files (`clean`, `LineReader`): the same records give the same columns, values and ids as
`tocsin.read` of a file that holds them. Only the columns are settled beforehand and never change again: a field that no
one had seen or asked for when the decoder was learnt is left out, one that has gone is null.
"""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import polars as pl

from tocsin.errors import MappingError, StateError
from tocsin.schema import STANDARD, TIME
from tocsin.sources import records
from tocsin.sources.clean import MAX_FIELD_BYTES, Parsed, Rejects, clean
from tocsin.sources.convert import AS_IS, as_text
from tocsin.sources.jsonl_fast import Fields, LineReader, fast_kind
from tocsin.sources.live.pieces import Letter
from tocsin.sources.live.sample import look_at
from tocsin.sources.mapping import Mapping, load_mapping, parse_mapping, recognise
from tocsin.sources.plan import make_plan, raw_kind, raw_kinds

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tocsin.sources.live.pieces import Piece

MAX_LETTER_BYTES: Final = 1 << 20
"""A record up to this size is kept whole in its letter."""
KEPT_BYTES: Final = 1 << 16
"""How much is kept of one that is larger."""
_FORMAT: Final = 1
_END_OF_TIME: Final = datetime(9999, 1, 1, tzinfo=UTC)
_STAMPS: Final = ("received_at", "partition")
_SAMPLE_ROWS: Final = 10_000
_NEWLINE: Final = 10
_MOST_PASSED_OVER: Final = 64
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a piece holds: read = accepted + rejected + skipped.

    Attributes:
        frame: The accepted events, one row each, in the order of their records; always the decoder's columns.
        letters: The records that were set aside, each once.
        read: How many records there were, faults included.
        accepted: Rows of `frame`.
        rejected: Records set aside.
        cells: Values that were left out of rows that were kept.
        skipped: Lines of a log that are no events of this source.
        rows_of: The number of the record behind each row of `frame`, for `Decoder.record_of`.
    """

    frame: pl.DataFrame
    letters: list[Letter]
    read: int
    accepted: int
    rejected: int
    cells: int
    skipped: int
    rows_of: pl.Series


class Decoder:
    r"""Reads the pieces of one source. Made by `learn` or `from_json`; one thread uses it.

    >>> from tocsin.sources.live.pieces import Piece, Span
    >>> span = Span("mail", "a.jsonl", None, {"at": 2})
    >>> piece = Piece(span, b'{"timestamp":"2025-01-01T00:00:00Z","size":5}\n', prefix="mail", rows=1)
    >>> decoder = Decoder.learn("mail", [piece], wanted=["src_ip"])
    >>> decoder.decode(piece, datetime(2025, 1, 1, 0, 1, tzinfo=UTC)).frame.row(0)[0], list(decoder.columns)
    ('mail:1', ['event_id', 'timestamp', 'received_at', 'partition', 'src_ip', 'size'])
    """

    def __init__(
        self,
        name: str,
        mapping: Mapping,
        sampled: dict[str, str],
        sample: pl.DataFrame,
        *,
        wanted: Collection[str],
        zone: str | None,
        year: int | None,
        fixed: bool = False,
    ) -> None:
        self.name, self.mapping = name, mapping
        self._sampled, self._zone, self._year = sampled, zone, year
        self._as_is = sample.select(n for n in sample.columns if sampled.get(n) == AS_IS).clear()
        self._wanted = tuple(sorted({*wanted, *_STAMPS} & STANDARD.keys()))
        # Time ends far ahead: what is from the future is for the engine to say, by the moment of receipt.
        self._plan = make_plan(
            mapping,
            sampled,
            sample,
            name=name,
            now=_END_OF_TIME,
            fixed=fixed,
            zone=zone,
            year=year,
            wanted=self._wanted,
        )
        read = [o for o in self._plan.outputs if o.source is not None]
        awaited = {o.source: raw_kind(o.rule) for o in read if o.source is not None and o.source not in sampled}
        self._fields = records.fields_of(raw_kinds(mapping, sampled) | awaited, sampled | awaited, self._plan)
        self._lines = LineReader(self._fields, small_bytes=0)
        self._passed_over = 0
        self._counts_files = {"attachments", "nr_attachments"} <= awaited.keys()
        self._binding = {o.rule.name for o in read if o.declared and o.rule.on_invalid == "reject"}
        empty = pl.DataFrame(schema=dict.fromkeys(sampled, pl.String()) | dict(self._as_is.schema))
        numbers = pl.Series(dtype=pl.Int64)
        self.columns: dict[str, pl.DataType] = dict(
            clean(Parsed(empty, numbers), self._plan, "", Rejects(), prefix="").frame.schema
        )
        """The columns of every frame and their types, for as long as the decoder lives (``source`` by `scope` aside)."""

    @classmethod
    def learn(
        cls,
        name: str,
        sample: Sequence[Piece] | bytes,
        *,
        mapping: str | Path | Mapping | None = None,
        zone: str | None = None,
        year: int | None = None,
        wanted: Collection[str] = (),
    ) -> Self:
        """Return the decoder that a source's first records ask for.

        Args:
            name: The source's name, for messages.
            sample: The first pieces, or JSON lines; the more there are, the surer are the kinds of undeclared fields.
            mapping: As for `tocsin.read`; None looks whether a shipped one fits the fields.
            zone: IANA zone of times that name none.
            year: Year of times that name none.
            wanted: Columns that rules ask for; the standard ones among them are read whenever they come.

        Raises:
            MappingError: As `tocsin.read` of these records: no time column, times that need a zone, unit or year; also
                where no mapping is named and none of the records can be read.
        """
        frame, kinds, fixed = look_at(sample)
        known = None if mapping is None else load_mapping(mapping)
        if known is None:
            if not kinds:
                raise MappingError(
                    f"{name}: none of the first records can be read, so what fields there are is not known. Name a mapping."
                )
            known = recognise(kinds) or Mapping()
        return cls(name, known, kinds, frame, wanted=wanted, zone=zone, year=year, fixed=fixed)

    def answers(self, mapping: str | Path | Mapping | None, zone: str | None, year: int | None) -> bool:
        """Tell whether these settings would still lead to this decoder; no mapping is any that was recognised."""
        same = mapping is None or load_mapping(mapping).to_toml() == self.mapping.to_toml()
        return same and (zone, year) == (self._zone, self._year)

    def to_json(self) -> dict[str, Any]:
        """Return what has to be kept so that a later process decodes the same records to the same events."""
        types = io.BytesIO()
        self._as_is.write_ipc(types)
        return {
            "format": _FORMAT, "name": self.name, "mapping": self.mapping.to_toml(), "sampled": self._sampled,
            "types": base64.b64encode(types.getvalue()).decode() if self._as_is.width else "",
            "wanted": list(self._wanted), "zone": self._zone, "year": self._year,
        }  # fmt: skip

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        """Return the decoder that `to_json` described.

        Raises:
            StateError: Another version wrote it in a form that is not known here.
        """
        if saved.get("format") != _FORMAT:
            raise StateError(f"a saved decoder has format {saved.get('format')!r}; this version reads {_FORMAT}.")
        mapping = parse_mapping(saved["mapping"], where=f"{saved['name']}: saved mapping")
        types = saved["types"]
        sample = pl.read_ipc(io.BytesIO(base64.b64decode(types))) if types else pl.DataFrame()
        facts = {key: saved[key] for key in ("wanted", "zone", "year")}
        return cls(saved["name"], mapping, saved["sampled"], sample, **facts)

    def decode(self, piece: Piece, received_at: datetime, *, scope: bool = False) -> Decoded:
        """Return a piece's events and letters.

        Args:
            piece: The records.
            received_at: When they came, for records and pieces that do not say so themselves.
            scope: Whether a column ``source`` names the source.
        """
        parsed = self._parsed(piece)
        rejects = Rejects(most=max(piece.rows, 1) * (len(self.columns) + 1))
        cleaned = [clean(p, self._plan, "", rejects, prefix=piece.prefix) for p in parsed]
        frames = [self._settled(done.frame, piece, received_at, scope=scope) for done in cleaned]
        lines = [
            p.lines if done.accepted.all() else p.lines.filter(done.accepted)
            for p, done in zip(parsed, cleaned, strict=True)
        ]
        frame, rows_of = frames[0], lines[0]
        if len(frames) > 1:
            rows_of = pl.concat(lines)
            order = rows_of.arg_sort()
            rows_of, frame = rows_of.gather(order), pl.concat(frames).select(pl.all().gather(order))
        skipped = sum(p.skipped for p in parsed)
        read = sum(len(p.lines) + len(p.bad_lines) for p in parsed) + skipped + len(piece.faults)
        return Decoded(
            frame=frame,
            letters=self._letters(piece, rejects),
            read=read,
            accepted=len(frame),
            rejected=rejects.rows + len(piece.faults),
            cells=rejects.cells + sum(self._lost(done.frame) for done in cleaned),
            skipped=skipped,
            rows_of=rows_of,
        )

    def _parsed(self, piece: Piece) -> list[Parsed]:
        """Return a piece's records, those fields left out of which no column is made."""
        if piece.parsed:
            found = list(piece.parsed)
        else:
            data = piece.data if piece.parsed is None else b""
            data = data.removeprefix(_BOM) if piece.first_line == 1 else data
            found = self._lines.parse(data, 0 if piece.numbers is not None else piece.first_line)
            self._pass_over({n for p in found for n in p.frame.columns} - self._fields.kinds.keys(), data)
            found = found if piece.numbers is None else [_numbered(p, piece.numbers) for p in found]
        known = self._plan.known()
        return [p if known.issuperset(p.frame.columns) else _without(p, known) for p in found]

    def _pass_over(self, names: set[str], data: bytes) -> None:
        """Let the quick reading know fields that nobody asks for: a line with a field it does not know takes far longer."""
        if not names or self._passed_over >= _MOST_PASSED_OVER:
            return
        self._passed_over += 1
        _, kinds = records.sample_lines(data[: records.SAMPLE_BYTES])
        new = {name: kind for name, kind in sorted(kinds.items()) if name in names}
        fast = {name: fast_kind(kind, kind) for name, kind in list(new.items())[:_MOST_PASSED_OVER]}
        self._fields = Fields(self._fields.kinds | fast, self._fields.wanted | new, self._fields.strict)
        self._lines = LineReader(self._fields, small_bytes=self._lines.small_bytes)

    def _lost(self, frame: pl.DataFrame) -> int:
        """Return how many values the types of the decoder's columns cannot hold."""
        odd = [n for n, t in self.columns.items() if n in frame.columns and frame.schema[n] != t]
        return sum(_as(frame[n], self.columns[n]).null_count() - frame[n].null_count() for n in odd)

    def _settled(self, frame: pl.DataFrame, piece: Piece, received_at: datetime, *, scope: bool) -> pl.DataFrame:
        """Return the events with the decoder's columns and no others, stamped."""
        have, height = frame.schema, len(frame)
        made: dict[str, pl.Series] = {}
        for name, dtype in self.columns.items():
            if name not in have:
                made[name] = pl.Series(name, [None], dtype=dtype).new_from_index(0, height)
            else:
                made[name] = frame[name] if have[name] == dtype else _as(frame[name], dtype)
        if self._counts_files:  # the sample had neither; records may have one or the other
            count = made["attachments"].list.len().cast(pl.Int64)
            made["nr_attachments"] = _filled(made["nr_attachments"], count)
        # What a record says itself of where and when it was received stays.
        received = pl.Series([piece.received_at or received_at], dtype=TIME).new_from_index(0, height)
        made["received_at"] = _filled(made["received_at"], received)
        place = pl.Series([f"{piece.owner}/{piece.span.partition}"]).new_from_index(0, height)
        own = made["partition"]
        made["partition"] = place if own.null_count() == height else _filled(place + "/" + own, place)
        if scope:
            made["source"] = pl.Series([piece.owner]).new_from_index(0, height)
        return pl.DataFrame([series.alias(name) for name, series in made.items()])

    def _letters(self, piece: Piece, rejects: Rejects) -> list[Letter]:
        why: dict[int, list[tuple[str, str]]] = {}
        if rejects.rows:
            for _, line, column, _, reason, kept in rejects.frame().iter_rows():
                if not kept:
                    why.setdefault(line, []).append((column, reason))
        letters = []
        raw = _Raw(piece)
        for number, causes in why.items():
            causes.sort(key=lambda c: c[0] not in self._binding)  # first what made it go, then what else is wrong
            (column, reason), *more = causes
            whole, record = raw.record(number)
            told = "; ".join([reason, *(f"{c}: {r}" for c, r in more)])
            letters.append(letter_of(piece, number, record, column, told, whole=whole))
        letters += [
            letter_of(piece, number, record, "", reason, whole=False) for number, record, reason in piece.faults
        ]
        return letters

    @staticmethod
    def record_of(piece: Piece, number: int) -> bytes:
        """Return the record with this number as the source has it; where the source parsed it, its fields as JSON.

        Raises:
            KeyError: The piece has no such record.
        """
        return _Raw(piece).record(number)[1]


class _Raw:
    """The records of a piece as they were, by number."""

    def __init__(self, piece: Piece) -> None:
        self._piece = piece
        self._at = {} if piece.numbers is None else {n: at for at, n in enumerate(piece.numbers)}

    @cached_property
    def _bounds(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        ends = np.flatnonzero(np.frombuffer(self._piece.data, np.uint8) == _NEWLINE)
        return np.concatenate([[0], ends + 1]), np.append(ends, len(self._piece.data))

    def record(self, number: int) -> tuple[bool, bytes]:
        """Return a record, and whether it is there byte for byte."""
        piece = self._piece
        at = number - piece.first_line if piece.numbers is None else self._at.get(number, -1)
        if piece.data and 0 <= at < len(self._bounds[0]):
            return True, piece.data[self._bounds[0][at] : self._bounds[1][at]]
        for parsed in piece.parsed or ():
            rows = (parsed.lines == number).arg_true()
            if len(rows):
                row = {k: v for k, v in parsed.frame.row(rows[0], named=True).items() if v is not None}
                return True, json.dumps(row, ensure_ascii=False, default=str).encode()
            for line, value, _ in parsed.bad_lines:
                if line == number:
                    return False, value.encode()
        raise KeyError(number)


def letter_of(piece: Piece, number: int, record: bytes, column: str, reason: str, *, whole: bool = True) -> Letter:
    """Return the letter of a record; of one that is very large only the beginning is kept."""
    kept = record if len(record) <= MAX_LETTER_BYTES else record[:KEPT_BYTES]
    whole = whole and len(kept) == len(record)
    return Letter(f"{piece.prefix}:{number}", piece.owner, piece.span.partition, kept, whole, column, reason)


def _without(parsed: Parsed, known: set[str]) -> Parsed:
    """Leave fields out that are not known, save those that are too long: `clean` refuses their records, as everywhere."""
    columns = [parsed.frame[name] for name in parsed.frame.columns if name in known]
    for name in parsed.frame.columns:
        column = parsed.frame[name]
        if name in known or column.estimated_size() <= MAX_FIELD_BYTES:
            continue
        text = column.list.join("", ignore_nulls=True) if column.dtype == pl.List(pl.String) else column
        if text.dtype == pl.String and (text.str.len_bytes().max() or 0) > MAX_FIELD_BYTES:  # type: ignore[operator]
            columns.append(text)
    cells = [cell for cell in parsed.bad_cells if cell[1] in known]
    return Parsed(pl.DataFrame(columns), parsed.lines, cells, parsed.bad_lines, parsed.skipped)


def _numbered(parsed: Parsed, numbers: tuple[int, ...]) -> Parsed:
    """Return records whose lines were counted from 0 under their own numbers."""
    own = pl.Series(numbers, dtype=pl.Int64)
    bad = [(numbers[line], value, reason) for line, value, reason in parsed.bad_lines]
    return Parsed(parsed.frame, own.gather(parsed.lines), parsed.bad_cells, bad, parsed.skipped)


def _filled(own: pl.Series, other: pl.Series) -> pl.Series:
    missing = own.null_count()
    return own if not missing else other if missing == len(own) else own.zip_with(own.is_not_null(), other)


def _as(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Return a column as another type: null where a value cannot be."""
    if dtype == pl.String:
        return as_text(column)
    try:
        return column.cast(dtype, strict=False)
    except pl.exceptions.PolarsError:  # a list is no number, whatever is in it
        return pl.Series(column.name, [None], dtype=dtype).new_from_index(0, len(column))
