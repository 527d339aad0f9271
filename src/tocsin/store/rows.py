"""Frames into tables and out of them, a column at a time.

Enters: a connection of `Store`, frames as in `lifecycle.frames`. Leaves: how many rows were new; frames in the order in
which their rows were learnt. Layer: store.

The database hands over each column of some ten thousand rows as one JSON array. Polars reads these ten times as fast as
Python can make tuples of rows, and both databases speak it.
"""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import sqlalchemy as sa

from tocsin.lifecycle.frames import SCHEMAS, TIME
from tocsin.store.migrations import LOOKUP, UNIQUE
from tocsin.store.schema import IDENTITY, TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy.engine import Connection
    from sqlalchemy.sql.elements import ColumnElement

CHUNK_ROWS: Final = 50_000
BULK_ROWS: Final = 100_000
"""From so many rows on, indexes of an empty table are made after them."""
_POSTGRES_TYPES: Final = {
    "TEXT": "text",
    "BIGINT": "bigint",
    "DOUBLE": "double precision",
    "SMALLINT": "smallint",
    "BOOLEAN": "boolean",
}


def read(
    connection: Connection,
    name: str,
    *where: ColumnElement[bool],
    chunk: int | None = None,
    only: Sequence[str] = (),
) -> pl.DataFrame:
    """Return the rows of a table that meet all conditions, in the order they were learnt.

    only: these columns; left out, all. chunk: read so many numbers of rows at a time: for most of a table. None: one query, for
    the few that an index finds.
    """
    table, schema = TABLES[name], {c: t for c, t in SCHEMAS[name].items() if not only or c in only}
    if chunk is None:
        return _frame(schema, [_decoded(schema, *_columns(connection, name, schema, where))])
    low, high = connection.execute(sa.select(sa.func.min(table.c.seq), sa.func.max(table.c.seq))).one()
    if low is None:
        return _frame(schema, [])
    with ThreadPoolExecutor(1) as reader:  # the next columns are fetched while the last are read
        spans = [(table.c.seq >= n, table.c.seq < n + chunk) for n in range(low, high + 1, chunk)]
        parts = [
            reader.submit(_decoded, schema, *_columns(connection, name, schema, (*where, *span))) for span in spans
        ]
        return _frame(schema, [part.result() for part in parts])


def read_known(connection: Connection, name: str, ids: pl.Series, only: Sequence[str]) -> pl.DataFrame:
    """Return the rows that have these identities; where there is none, which is the rule on a stream, that is quickly said."""
    sqlite, table = connection.dialect.name == "sqlite", TABLES[name]
    within = "SELECT value FROM json_each(?)" if sqlite else "SELECT json_array_elements_text(%s::json)"
    cursor = connection.connection.cursor()
    cursor.execute(f"SELECT 1 FROM {name} WHERE {IDENTITY[name]} IN ({within}) LIMIT 1", (json.dumps(ids.to_list()),))  # noqa: S608
    known = cursor.fetchone() is not None
    cursor.close()
    if not known:
        return pl.DataFrame(schema={c: SCHEMAS[name][c] for c in only})
    return read(connection, name, among(table.c[IDENTITY[name]], ids, connection.dialect.name), only=only).select(only)


def _columns(
    connection: Connection, name: str, schema: Mapping[str, Any], where: tuple[ColumnElement[bool], ...]
) -> tuple[Any, list[Any]]:
    """Return the columns as JSON, and for SQLite, whose JSON rounds fractions, the rows that have any."""
    table, sqlite = TABLES[name], connection.dialect.name == "sqlite"
    chosen = sa.select(table.c.seq, *(table.c[c] for c in schema)).where(*where).subquery()
    floats = [column for column, dtype in schema.items() if dtype == pl.Float64]
    gather = sa.func.json_group_array if sqlite else sa.func.json_agg
    told = [c for c in chosen.c if not (sqlite and c.name in floats)]
    plain = (sa.cast(c, sa.Integer) if isinstance(c.type, sa.Boolean) else c for c in told)
    some = [chosen.c[column] for column in floats] if sqlite else []
    query = sa.select(*(sa.cast(gather(c), sa.Text) for c in plain), *(sa.func.count(c) for c in some))
    texts = connection.execute(query).one()
    numbers: list[Any] = []
    if any(texts[len(told) :]):
        rows = sa.select(chosen.c.seq, *some).where(sa.or_(*(c.is_not(None) for c in some)))
        cursor: Any = connection.execute(rows).cursor  # tuples of the driver: half the time of SQLAlchemy's rows
        numbers = cursor.fetchall()
    return {c.name: text for c, text in zip(told, texts[: len(told)], strict=True)}, numbers


def _decoded(schema: Mapping[str, Any], texts: dict[str, str | None], numbers: list[Any]) -> pl.DataFrame:
    types = {"seq": pl.Int64, **schema}
    read_as = {c: pl.Int64 if types[c] in (TIME, pl.Boolean) else types[c] for c in texts}
    columns = pl.DataFrame([{c: text or "[]" for c, text in texts.items()}], schema=dict.fromkeys(texts, pl.String))
    rows = columns.select(
        pl.col(c).str.json_decode(pl.List(t)).explode(empty_as_null=False) for c, t in read_as.items()
    )
    floats = [c for c in types if c not in texts]
    if numbers:
        schema = {"seq": pl.Int64} | dict.fromkeys(floats, pl.Float64)
        rows = rows.join(
            pl.DataFrame(numbers, schema=schema, orient="row"), on="seq", how="left", maintain_order="left"
        )
        return rows.select(*types)
    return rows.select(c if c in texts else pl.lit(None, pl.Float64).alias(c) for c in types)


def _frame(schema: Mapping[str, Any], parts: list[pl.DataFrame]) -> pl.DataFrame:
    if not parts:
        return pl.DataFrame(schema=dict(schema))
    whole = pl.concat(parts)
    whole = whole if whole["seq"].is_sorted() else whole.sort("seq")
    return whole.select(pl.col(c).cast(t) for c, t in schema.items())


def among(column: sa.Column[Any], values: pl.Series, dialect: str) -> ColumnElement[bool]:
    """Return the condition that a column has one of many values, given to the database as one text."""
    array: Any = sa.bindparam(None, json.dumps(values.to_list()), unique=True)
    if dialect == "sqlite":
        return column.in_(sa.select(sa.func.json_each(array).table_valued("value").c.value))
    return column.in_(sa.select(sa.func.json_array_elements_text(sa.cast(array, sa.JSON)).column_valued()))


def append(connection: Connection, name: str, frame: pl.DataFrame) -> int:
    """Write the rows that are not there yet, in their order; return how many those were.

    Text without NUL (PostgreSQL has none) and finite numbers are what can be written; NUL becomes U+FFFD, others null.
    """
    plain = frame.select_seq(_plain(name))
    if not plain.height:
        return 0
    written = 0
    with _indexes_after(connection, name, plain.height) as bulk:
        if bulk:
            plain = plain.unique(IDENTITY[name], keep="first", maintain_order=True)
        insert = _insert(connection, name, conflict="" if bulk else f" ON CONFLICT ({IDENTITY[name]}) DO NOTHING")
        cursor = connection.connection.cursor()
        for start in range(0, plain.height, CHUNK_ROWS):
            part = plain[start : start + CHUNK_ROWS]
            if connection.dialect.name == "sqlite":
                cursor.executemany(insert, part.rows())
            else:
                cursor.execute(insert, tuple(column.to_list() for column in part.get_columns()))
            written += cursor.rowcount
        cursor.close()
    return written


@cache
def _plain(name: str) -> list[pl.Expr]:
    return [_plain_column(column, dtype) for column, dtype in SCHEMAS[name].items()]


def _plain_column(column: str, dtype: Any) -> pl.Expr:
    if dtype == pl.String:
        return pl.col(column).str.replace_all("\x00", "\ufffd", literal=True)
    if dtype == TIME:
        return pl.col(column).dt.epoch("us")
    if dtype == pl.Float64:
        return pl.when(pl.col(column).is_finite()).then(pl.col(column)).alias(column)
    return pl.col(column)


def _insert(connection: Connection, name: str, conflict: str) -> str:
    columns = [c for c in TABLES[name].c if c.name != "seq"]
    names = ", ".join(c.name for c in columns)
    if connection.dialect.name == "sqlite":
        return f"INSERT INTO {name} ({names}) VALUES ({', '.join('?' * len(columns))}){conflict}"  # noqa: S608
    arrays = ", ".join(f"%s::{_POSTGRES_TYPES[str(c.type)]}[]" for c in columns)
    return f"INSERT INTO {name} ({names}) SELECT * FROM unnest({arrays}){conflict}"  # noqa: S608


@contextlib.contextmanager
def _indexes_after(connection: Connection, name: str, rows: int) -> Iterator[bool]:
    """Take the indexes of an empty table away for a load of many rows: sorting keys once is quicker than placing each."""
    if rows < BULK_ROWS or connection.execute(sa.select(TABLES[name].c.seq).limit(1)).first():
        yield False
        return
    mine = {i: s for i, s in {**UNIQUE, **LOOKUP}.items() if i.partition("_")[0] == name}
    for index in mine:
        connection.exec_driver_sql(f"DROP INDEX {index}")
    yield True
    for statement in mine.values():
        connection.exec_driver_sql(statement)
