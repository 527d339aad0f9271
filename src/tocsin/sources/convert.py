"""One column to one kind: text, whole number, number, truth, time, address or list; null where a value cannot be.

Enters: a Polars series as the source has it, and its rule. Leaves: a series of the kind's type, the very same object when
there was nothing to do, and the reason for the values that became null. Layer: sources.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import polars as pl

from tocsin.addresses import canonical
from tocsin.sources.times import parse_times

if TYPE_CHECKING:
    from tocsin.sources.clean import Plan
    from tocsin.sources.mapping import ColumnRule

AS_IS: Final = "as_is"
"""The kind of a typed column nobody declared: it stays as it is."""
LIST_INNER: Final = {"list": pl.String(), "list_int": pl.Int64(), "list_float": pl.Float64()}
"""The kinds of list, and the type of their items."""
_LIST_SPLIT: Final = ";"
_TRUE, _FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")


def convert(raw: pl.Series, kind: str, rule: ColumnRule, plan: Plan) -> tuple[pl.Series, str]:
    """Return `raw` as that kind, null where it cannot be, and the reason for those."""
    if kind == AS_IS:
        return raw, ""
    if kind == "time":
        return parse_times(raw, zone=plan.zone, unit=rule.unit, format=rule.format, year=plan.year), ""
    if kind == "address":
        return _addresses(raw), "not an IP address"
    if kind == "text":
        return _to_text(raw), "expected text"
    if kind == "int":
        return _to_int(raw), "not a whole number"
    if kind == "float":
        return _to_float(raw), "not a finite number"
    if kind == "bool":
        return _to_bool(raw), "not true or false"
    return _to_list(raw, kind, rule.split or _LIST_SPLIT), "not a list"


def _addresses(raw: pl.Series) -> pl.Series:
    if raw.dtype != pl.String:
        return pl.Series(raw.name, [None], dtype=pl.String).new_from_index(0, len(raw))
    fixed = canonical(raw)
    if fixed.null_count() == raw.null_count():
        return fixed
    rows = (fixed.is_null() & raw.is_not_null()).arg_true()
    return fixed.clone().scatter(rows, canonical(raw.gather(rows).str.strip_chars()))


def as_text(raw: pl.Series) -> pl.Series:
    """Return any column as text: what a reject shows of it, and what a text column keeps of a number."""
    if raw.dtype == pl.String:
        return raw
    if isinstance(raw.dtype, pl.List | pl.Struct | pl.Array):
        return pl.Series(raw.name, [None if v is None else str(v) for v in raw.to_list()], dtype=pl.String)
    if raw.dtype == pl.Binary:
        return pl.Series(
            raw.name,
            [None if v is None else v.decode("utf-8", "backslashreplace") for v in raw.to_list()],
            dtype=pl.String,
        )
    if isinstance(raw.dtype, pl.Datetime):
        return raw.dt.to_string("iso:strict")
    return raw.cast(pl.String)


def _to_text(raw: pl.Series) -> pl.Series:
    if raw.dtype.is_nested():
        return pl.Series(raw.name, [None], dtype=pl.String).new_from_index(0, len(raw))
    return as_text(raw)


def _to_int(raw: pl.Series) -> pl.Series:
    if raw.dtype.is_integer():
        return raw if raw.dtype == pl.Int64 else raw.cast(pl.Int64, strict=False)
    if raw.dtype.is_nested() or not (raw.dtype == pl.String or raw.dtype.is_numeric()):
        return pl.Series(raw.name, [None], dtype=pl.Int64).new_from_index(0, len(raw))
    if raw.dtype != pl.String:
        return _whole(raw.cast(pl.Float64))
    text = raw.str.strip_chars()
    value = text.cast(pl.Int64, strict=False)
    if value.null_count() == raw.null_count():
        return value
    # "5.0" and "1e3" are whole numbers too; beyond 2**53 a float would guess the last digits.
    return value.zip_with(value.is_not_null(), _whole(text.cast(pl.Float64, strict=False)))


def _whole(number: pl.Series) -> pl.Series:
    exact = (number.abs() < 2.0**53) & (number == number.round())
    return number.set(~exact.fill_null(value=False), None).cast(pl.Int64, strict=False)


def _to_float(raw: pl.Series) -> pl.Series:
    if raw.dtype.is_nested() or raw.dtype == pl.Boolean or raw.dtype.is_temporal():
        return pl.Series(raw.name, [None], dtype=pl.Float64).new_from_index(0, len(raw))
    number = (raw.str.strip_chars() if raw.dtype == pl.String else raw).cast(pl.Float64, strict=False)
    infinite = number.is_not_null() & ~number.is_finite()
    return number.set(infinite, None) if infinite.any() else number


def _to_bool(raw: pl.Series) -> pl.Series:
    if raw.dtype == pl.Boolean:
        return raw
    if raw.dtype.is_nested():
        return pl.Series(raw.name, [None], dtype=pl.Boolean).new_from_index(0, len(raw))
    text = as_text(raw).str.strip_chars().str.to_lowercase()
    return text.replace_strict(
        [*_TRUE, *_FALSE], [True] * len(_TRUE) + [False] * len(_FALSE), default=None, return_dtype=pl.Boolean
    )


def _to_list(raw: pl.Series, kind: str, split: str) -> pl.Series:
    inner = LIST_INNER[kind]
    if isinstance(raw.dtype, pl.Array):
        raw = raw.arr.to_list()
    if isinstance(raw.dtype, pl.List):
        if raw.dtype.inner == inner:
            return raw
        if raw.dtype.inner.is_nested():
            return pl.Series(raw.name, [None], dtype=pl.List(inner)).new_from_index(0, len(raw))
        cast = raw.cast(pl.List(inner), strict=False)
        lost = (
            cast.list.eval(pl.element().is_null().sum()).list.first()
            != raw.list.eval(pl.element().is_null().sum()).list.first()
        )
        return cast.set(lost.fill_null(value=False), None)
    if raw.dtype != pl.String:
        return pl.Series(raw.name, [None], dtype=pl.List(inner)).new_from_index(0, len(raw))
    return _list_from_text(raw, split, inner)


def _list_from_text(raw: pl.Series, split: str, inner: pl.DataType) -> pl.Series:
    text = raw.str.strip_chars()
    told = text.str.starts_with("[").fill_null(value=False)
    parts = text.str.split(split).list.eval(pl.element().str.strip_chars().filter(pl.element().str.strip_chars() != ""))
    if told.any():
        parts = parts.zip_with(~told, _json_lists(text.set(~told, None)))
    return parts if inner == pl.String else _to_list(parts, next(k for k, v in LIST_INNER.items() if v == inner), split)


def _json_lists(text: pl.Series) -> pl.Series:
    lists: list[list[str | None] | None] = []
    for value in text.to_list():
        try:
            items = [] if value is None else json.loads(value)
            lists.append([None if i is None else i if isinstance(i, str) else json.dumps(i) for i in items])
        except (ValueError, RecursionError):
            lists.append(None)
    return pl.Series(lists, dtype=pl.List(pl.String))
