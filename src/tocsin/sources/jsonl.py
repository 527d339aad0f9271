"""JSON lines, one line at a time: the reference reading, exact and unbreakable.

Enters: a chunk of whole lines. Leaves: `Parsed` with text columns (numbers in their shortest spelling, nested objects
flattened to dotted names), bad lines with their reasons. Any line, whatever it holds, ends as one row or one reject.
Layer: sources.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from tocsin.sources.clean import Parsed, clip

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MAX_NESTING: Final = 16


class _RefusedError(ValueError):
    """The line is JSON of a kind that would be read wrongly."""


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        seen: set[str] = set()
        twin = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
        raise _RefusedError(f"the key {twin[:60]!r} stands twice")
    return fields


def _no_constant(name: str) -> Any:
    raise _RefusedError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_no_twins, parse_constant=_no_constant)


def parse_line(line: bytes) -> dict[str, Any] | str:
    """Return a line's flattened object, or the reason why it is none.

    >>> parse_line(b'{"user": {"id": 7}, "ok": true}')
    {'user.id': 7, 'ok': True}
    >>> parse_line(b'{"a": 1, "a": 2}')
    "the key 'a' stands twice"
    """
    try:
        text = line.decode("utf-8")
        value = _DECODER.decode(text)
        if not isinstance(value, dict):
            return "not a JSON object"
        if b"\\u" in line:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return _flat(value) if any(isinstance(v, dict) for v in value.values()) else value
    except UnicodeDecodeError as error:
        return f"not UTF-8 at byte {error.start + 1}"
    except UnicodeEncodeError:
        return "half a surrogate pair, which is no character"
    except RecursionError:
        return "nested too deeply"
    except _RefusedError as error:
        return str(error)
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg} at character {error.pos + 1}"
    except ValueError:  # an integer of thousands of digits
        return "not JSON that can be read: a number is too long"


def parse_nested(line: bytes) -> dict[str, Any]:
    """Return the object of a line that `parse_line` can read, nested as it stands.

    >>> parse_nested(b'{"user": {"id": 7}}')
    {'user': {'id': 7}}
    """
    value: dict[str, Any] = _DECODER.decode(line.decode("utf-8"))
    return value


def _flat(value: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}

    def put(prefix: str, fields: dict[str, Any], depth: int) -> None:
        for key, item in fields.items():
            name = f"{prefix}{key}"
            if isinstance(item, dict) and item and depth < _MAX_NESTING:
                put(f"{name}.", item, depth + 1)
            elif name in flat:
                raise _RefusedError(f"the key {name[:60]!r} stands twice")
            else:
                flat[name] = None if item == {} else item

    put("", value, 1)
    return flat


def spell(value: Any) -> str | None:
    """Return a JSON value as the text a column keeps: strings as they are, all else in JSON's own spelling.

    >>> spell("x"), spell(5), spell(True), spell([1, {"a": None}])
    ('x', '5', 'true', '[1,{"a":null}]')
    """
    if value is None or isinstance(value, str):
        return value
    if type(value) is int:
        return str(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def kind_of(values: Iterable[Any]) -> str:
    """Return the kind that holds all these JSON values: mixed scalars are text, whatever is nested is text too.

    >>> kind_of([1, None, 2.5]), kind_of(["a", 1]), kind_of([["x"], []]), kind_of([None])
    ('float', 'text', 'list', 'text')
    """
    kinds = {_kind(v) for v in values if v is not None}
    if kinds == {"int", "float"}:
        return "float"
    lists = {k for k in kinds if k.startswith("list")} - {"list_empty"}
    if kinds and all(k.startswith("list") for k in kinds):
        if not lists:
            return "list"
        return lists.pop() if len(lists) == 1 else "list_float" if lists == {"list_int", "list_float"} else "list"
    return kinds.pop() if len(kinds) == 1 else "text"


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else "text"
    if isinstance(value, float):
        return "float"
    if isinstance(value, list):
        if any(isinstance(v, list | dict) for v in value):
            return "text"
        inner = kind_of(value) if any(v is not None for v in value) else "empty"
        return f"list_{inner}" if inner in {"int", "float", "empty"} else "list"
    return "text"


def parse_lines(data: bytes, first_line: int, kinds: dict[str, str], strict_columns: frozenset[str]) -> Parsed:
    """Return a chunk's records.

    Args:
        data: Whole lines.
        first_line: Number of the first one.
        kinds: The kind of each known source column; a column starting with "list" becomes List(String), all others text.
        strict_columns: Columns in which a list or object is a wrong value rather than text.
    """
    lines = data.split(b"\n")
    return parse_numbered(lines, range(first_line, first_line + len(lines)), kinds, strict_columns)


def parse_numbered(
    raw: Sequence[bytes], numbers: Sequence[int], kinds: dict[str, str], strict_columns: frozenset[str]
) -> Parsed:
    """Return the records of single lines, each with its own number."""
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    bad_lines: list[tuple[int, str, str]] = []
    for number, line in zip(numbers, raw, strict=True):
        stripped = line.strip()
        if not stripped:
            continue
        record = parse_line(stripped)
        if isinstance(record, str):
            bad_lines.append((number, shown(stripped), record))
        else:
            rows.append(record)
            lines.append(number)
    frame, bad_cells = columns_of(rows, kinds, strict_columns)
    return Parsed(frame, pl.Series(lines, dtype=pl.Int64), bad_cells, bad_lines)


def shown(line: bytes) -> str:
    """Return the beginning of a line as text, bytes that are no text as escapes."""
    return clip(line[:400].decode("utf-8", "backslashreplace")) or ""


def columns_of(
    rows: list[dict[str, Any]], kinds: dict[str, str], strict_columns: frozenset[str]
) -> tuple[pl.DataFrame, list[tuple[int, str, str, str]]]:
    """Return records as a frame of text and list columns, with the cells that cannot stand in theirs."""
    names = dict.fromkeys(kinds)
    for row in rows:
        if not row.keys() <= names.keys():
            names.update(dict.fromkeys(row))
    bad_cells: list[tuple[int, str, str, str]] = []
    columns: list[pl.Series] = []
    for name in names:
        values = [row.get(name) for row in rows]
        if kinds.get(name, "text").startswith("list"):
            columns.append(_list_column(name, values, bad_cells))
        else:
            columns.append(_text_column(name, values, bad_cells, strict=name in strict_columns))
    frame = pl.DataFrame(columns) if columns else pl.DataFrame(height=len(rows))
    return frame, bad_cells


def _text_column(
    name: str, values: list[Any], bad_cells: list[tuple[int, str, str, str]], *, strict: bool
) -> pl.Series:
    if strict and any(isinstance(v, list | dict) for v in values):
        for row, value in enumerate(values):
            if isinstance(value, list | dict):
                what = "a list" if isinstance(value, list) else "an object"
                bad_cells.append((row, name, spell(value) or "", f"expected one value, found {what}"))
                values[row] = None
    try:
        return pl.Series(name, values, dtype=pl.String, strict=True)
    except (TypeError, OverflowError):  # the latter of integers that no integer type holds
        return pl.Series(name, [spell(v) for v in values], dtype=pl.String)


def _list_column(name: str, values: list[Any], bad_cells: list[tuple[int, str, str, str]]) -> pl.Series:
    lists: list[list[str | None] | None] = []
    for row, value in enumerate(values):
        if isinstance(value, list) and not any(isinstance(v, list | dict) for v in value):
            lists.append([spell(v) for v in value])
        elif value is None:
            lists.append(None)
        else:
            bad_cells.append((row, name, spell(value) or "", "expected a list"))
            lists.append(None)
    return pl.Series(name, lists, dtype=pl.List(pl.String))
