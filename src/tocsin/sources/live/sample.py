"""The first records of a live source: what fields there are, and of which kinds.

Enters: pieces, or JSON lines. Leaves: some rows, and the kinds of their fields. Layer: sources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from tocsin.sources import delimited, records
from tocsin.sources.convert import AS_IS
from tocsin.sources.reading import kind_of_dtype, merge_kinds, one_sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tocsin.sources.live.pieces import Piece

_SAMPLE_ROWS: Final = 10_000


def look_at(sample: Sequence[Piece] | bytes) -> tuple[pl.DataFrame, dict[str, str], bool]:
    """Return some rows, the kinds of their fields, and whether these are all the fields there can be."""
    if isinstance(sample, bytes):
        return *records.sample_lines(sample[: records.SAMPLE_BYTES]), False
    seen: list[tuple[pl.DataFrame, dict[str, str]]] = []
    if lines := b"".join(_whole(p.data) for p in sample):
        head = lines if len(lines) <= records.SAMPLE_BYTES else lines[: lines.rfind(b"\n", 0, records.SAMPLE_BYTES) + 1]
        seen.append(records.sample_lines(head or lines[: records.SAMPLE_BYTES]))
    formats = {p.format for p in sample if p.parsed}
    for form in sorted(formats):
        frames = [q.frame for p in sample if p.format == form for q in p.parsed or ()]
        frame = one_sample([f for f in frames if f.width] or [pl.DataFrame()]).head(_SAMPLE_ROWS)
        seen.append((frame, {n: _kind(form, frame[n], alone=not lines and len(formats) == 1) for n in frame.columns}))
    names = dict.fromkeys(name for _, kinds in seen for name in kinds)
    kinds = {n: merge_kinds([k[n] for _, k in seen if n in k]) for n in names}
    frame = one_sample([f for f, _ in seen] or [pl.DataFrame()])
    return frame, kinds, bool(kinds) and not lines and formats <= {"csv", "parquet"}


def _kind(form: str, column: pl.Series, *, alone: bool) -> str:
    if form == "parquet":
        return AS_IS if alone else kind_of_dtype(column.dtype)
    return delimited.text_kind(column) if form == "csv" else "text"


def _whole(data: bytes) -> bytes:
    return data if not data or data.endswith(b"\n") else data + b"\n"
