"""Free-form log lines, read by the named groups of regular expressions.

Enters: chunks of lines and a mapping's patterns. Leaves: `Parsed` with one text column for each group and constant. Lines
that fit no pattern are rejected, or only counted where the mapping says that the log holds other things too. Layer: sources.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import polars as pl

from tocsin.sources.clean import Parsed
from tocsin.sources.jsonl import shown

if TYPE_CHECKING:
    from tocsin.sources.mapping import Mapping


def fields_of(mapping: Mapping) -> list[str]:
    """Return the names of the fields the patterns of a mapping can give, in order of first mention."""
    names: dict[str, None] = {}
    for pattern in mapping.patterns:
        names.update(dict.fromkeys(re.compile(pattern.regex).groupindex))
        names.update(dict.fromkeys(name for name, _ in pattern.constants))
    return list(names)


def parse_log(data: bytes, first_line: int, mapping: Mapping) -> Parsed:
    """Return a chunk's records; the first pattern that fits a line reads it."""
    raw = data.split(b"\n")
    if raw and not raw[-1]:
        raw.pop()
    bad: list[tuple[int, str, str]] = []
    texts: list[str | None] = []
    for number, line in enumerate(raw, first_line):
        try:
            texts.append(line.decode("utf-8").rstrip("\r") or None)
        except UnicodeDecodeError as error:
            bad.append((number, shown(line), f"not UTF-8 at byte {error.start + 1}"))
            texts.append(None)
    lines = pl.Series("line", texts, dtype=pl.String)
    numbers = pl.int_range(first_line, first_line + len(raw), eager=True, dtype=pl.Int64)
    open_rows = lines.is_not_null()
    parts: list[pl.DataFrame] = []
    for pattern in mapping.patterns:
        fits = open_rows & lines.str.contains(pattern.regex).fill_null(value=False)
        if fits.any():
            parts.append(_read(lines.filter(fits), numbers.filter(fits), pattern.regex, dict(pattern.constants)))
            open_rows &= ~fits
    empty = pl.DataFrame(schema={"@line": pl.Int64(), **dict.fromkeys(fields_of(mapping), pl.String())})
    frame = pl.concat([empty, *parts], how="diagonal").sort("@line")
    if not mapping.skip_unmatched:
        unmatched = zip(numbers.filter(open_rows).to_list(), lines.filter(open_rows).to_list(), strict=True)
        bad += [(n, shown((t or "").encode()), "fits no pattern of the mapping") for n, t in unmatched]
    skipped = int(open_rows.sum()) if mapping.skip_unmatched else 0
    return Parsed(frame.drop("@line"), frame["@line"], [], sorted(bad), skipped)


def _read(lines: pl.Series, numbers: pl.Series, regex: str, constants: dict[str, str]) -> pl.DataFrame:
    found = lines.str.extract_groups(regex).struct.unnest()
    named = [name for name in found.columns if name in re.compile(regex).groupindex]
    return found.select(named).with_columns(
        [numbers.alias("@line"), *(pl.lit(value, dtype=pl.String).alias(name) for name, value in constants.items())]
    )
