"""The log as `History`: all of it, what had happened or was known by a time, or a few alerts.

Enters: a connection that reads. Leaves: histories; full ids for the beginnings of ids. Layer: alerts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl
import sqlalchemy as sa

from tocsin.calendars import instant_us
from tocsin.lifecycle import History, LifecycleError, empty_history, fit_frame
from tocsin.lifecycle.frames import TIME
from tocsin.store import read
from tocsin.store.rows import CHUNK_ROWS, among
from tocsin.store.schema import TABLES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime

    from sqlalchemy.engine import Connection

_HAPPENED: Final = {"alert": "created_at", "activity": "at", "finding": "time", "journal": "at"}
_PAGE_ALERTS: Final = 5_000
_SHOWN: Final = 5
_CAVEAT: Final = "caveat"


def load(
    connection: Connection,
    *,
    happened_by: datetime | None = None,
    recorded_by: datetime | None = None,
    alert_ids: pl.Series | None = None,
) -> History:
    """Return the history of the rows that happened and were recorded by a time; ``alert_ids``: of these alerts alone."""
    frames = empty_history()
    for name, happened in _HAPPENED.items():
        columns, where = TABLES[name].c, []
        if happened_by is not None:
            where.append(columns[happened] <= instant_us(happened_by))
        if recorded_by is not None:
            where.append(columns.recorded_at <= instant_us(recorded_by))
        if alert_ids is None:
            frames[name] = read(connection, name, *where, chunk=CHUNK_ROWS)
        elif name != "journal":
            frames[name] = read(connection, name, *where, among(columns.alert_id, alert_ids, connection.dialect.name))
    caveats = frames["journal"].filter(kind="note", name=_CAVEAT)["value"].unique(maintain_order=True).to_list()
    return History(frames["alert"], frames["activity"], frames["finding"], frames["journal"], caveats=tuple(caveats))


def caveat_rows(history: History) -> pl.DataFrame:
    """Return the caveats of a history as notes of the journal, as old as its oldest alert: they hold for all of them."""
    first = history.alerts["created_at"].min()
    told = () if first is None else history.caveats
    rows = pl.DataFrame({"value": told, "at": [first] * len(told)}, schema={"value": pl.String, "at": TIME})
    return fit_frame(rows.with_columns(kind=pl.lit("note"), name=pl.lit(_CAVEAT)), "journal")


def newest_first(connection: Connection, *, rule: str | None = None) -> Iterator[History]:
    """Yield the alerts, of one rule or all, in pages of a few thousand, those learnt last first."""
    table = TABLES["alert"].c
    before: Any = None
    while True:
        where = [] if before is None else [table.seq < before]
        where += [] if rule is None else [table.rule_id == rule]
        page = connection.execute(
            sa.select(table.seq, table.alert_id).where(*where).order_by(table.seq.desc()).limit(_PAGE_ALERTS)
        ).all()
        if not page:
            return
        before = page[-1][0]
        yield load(connection, alert_ids=pl.Series([alert_id for _, alert_id in page]))


def raised_after(connection: Connection, seq: int, limit: int, source: str) -> pl.DataFrame:
    """Return the first alerts of a source after a row number: ``seq``, the alert's row, the ``evidence`` of its first finding."""
    table, findings = TABLES["alert"].c, TABLES["finding"].c
    page = connection.execute(
        sa.select(table.seq, table.alert_id)
        .where(table.seq > seq, table.source == source)
        .order_by(table.seq)
        .limit(limit)
    )
    numbers = pl.DataFrame([tuple(row) for row in page], schema={"seq": pl.Int64, "alert_id": pl.String}, orient="row")
    mine = among(table.alert_id, numbers["alert_id"], connection.dialect.name)
    theirs = among(findings.alert_id, numbers["alert_id"], connection.dialect.name)
    first = sa.select(sa.func.min(findings.seq)).where(theirs).group_by(findings.alert_id)
    told = read(connection, "finding", findings.seq.in_(first)).select("alert_id", "evidence")
    rows = numbers.join(read(connection, "alert", mine), on="alert_id", how="inner", maintain_order="left")
    return rows.join(told, on="alert_id", how="left", maintain_order="left")


def count_after(connection: Connection, seq: int, source: str, severities: Collection[str]) -> int:
    """Return how many alerts of a source and of these severities have a higher row number."""
    table = TABLES["alert"].c
    chosen = (table.seq > seq, table.source == source, table.severity.in_(severities))
    return int(connection.execute(sa.select(sa.func.count()).where(*chosen)).scalar_one())


def last_alert(connection: Connection, alert_id: str | None = None) -> tuple[int, str] | None:
    """Return the row number and id of the alert learnt last, or of a certain one; None where there is none."""
    table = TABLES["alert"].c
    some = [] if alert_id is None else [table.alert_id == alert_id]
    row = connection.execute(
        sa.select(table.seq, table.alert_id).where(*some).order_by(table.seq.desc()).limit(1)
    ).first()
    return None if row is None else (int(row[0]), str(row[1]))


def resolve(connection: Connection, alert: str) -> str:
    """Return the id of the alert that is meant by its id or the beginning of it.

    Raises:
        LifecycleError: None or several begin so; the message names some that are near.
    """
    column = TABLES["alert"].c.alert_id
    found = beginning(connection, column, alert)
    if alert in found or len(found) == 1:
        return alert if alert in found else found[0]
    if found:
        raise LifecycleError(f"several alerts begin with {alert!r}: {', '.join(found)}. Write more of the id.")
    near: list[str] = []
    for length in range(len(alert) - 1, 0, -1):
        if near := beginning(connection, column, alert[:length]):
            break
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise LifecycleError(f"there is no alert {alert!r} in this log.{hint}")


def beginning(connection: Connection, column: sa.Column[str], start: str) -> list[str]:
    """Return the first ids (or keys) that begin so; both databases compare them byte by byte."""
    if not start:
        return []
    query = sa.select(column).where(column >= start, column < start + "\U0010ffff").order_by(column).limit(_SHOWN)
    return list(connection.execute(query).scalars())
