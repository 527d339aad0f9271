"""The schema of the log, as the steps by which it came to be.

Enters: a connection that may write. Leaves: the database at the version of this program. A step that was ever released
is never edited: a log of any age is brought forward by the steps it has not seen. Layer: store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from tocsin.errors import TocsinError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

VERSION_TABLE: Final = "tocsin_log"
NAMES: Final = ("alert", "activity", "finding", "journal")
UNIQUE: Final[Mapping[str, str]] = {
    "alert_once": "CREATE UNIQUE INDEX alert_once ON alert (alert_id)",
    "activity_once": "CREATE UNIQUE INDEX activity_once ON activity (key)",
    "finding_once": "CREATE UNIQUE INDEX finding_once ON finding (finding_id)",
    "journal_once": "CREATE UNIQUE INDEX journal_once ON journal (key)",
}
LOOKUP: Final[Mapping[str, str]] = {
    "activity_of_alert": "CREATE INDEX activity_of_alert ON activity (alert_id)",
    "finding_of_alert": "CREATE INDEX finding_of_alert ON finding (alert_id)",
}


class StoreError(TocsinError):
    """A log that cannot be opened, read or written: no such file, no driver, locked, of another version."""


# Step 1. {seq} numbers rows in the order in which they were learnt; {id} compares byte by byte in every locale.
_TABLES = (
    "CREATE TABLE tocsin_log (version INTEGER NOT NULL)",
    """CREATE TABLE alert (
        seq {seq}, alert_id {id} NOT NULL, created_at BIGINT NOT NULL, recorded_at BIGINT NOT NULL, rule_id TEXT, rule_version TEXT,
        rule_hash TEXT, tier SMALLINT, severity TEXT NOT NULL, title TEXT, entity_kind TEXT, entity TEXT, vendor TEXT, tenant TEXT,
        window_start BIGINT, window_end BIGINT, first_activity_at BIGINT, last_activity_at BIGINT, score DOUBLE PRECISION,
        threshold DOUBLE PRECISION, table_digest TEXT, observables TEXT NOT NULL, source TEXT NOT NULL, external_id TEXT,
        history TEXT NOT NULL, is_test BOOLEAN NOT NULL)""",
    """CREATE TABLE activity (
        seq {seq}, key {id} NOT NULL, alert_id {id} NOT NULL, at BIGINT NOT NULL, recorded_at BIGINT NOT NULL, type TEXT NOT NULL,
        actor TEXT, actor_kind TEXT NOT NULL, value TEXT, number DOUBLE PRECISION, until BIGINT, payload TEXT)""",
    """CREATE TABLE finding (
        seq {seq}, finding_id {id} NOT NULL, alert_id {id}, recorded_at BIGINT NOT NULL, detection_id TEXT NOT NULL, version TEXT,
        severity TEXT, tier SMALLINT, title TEXT, entity_kind TEXT, entity TEXT, time BIGINT NOT NULL, window_start BIGINT,
        window_end BIGINT, score DOUBLE PRECISION, threshold DOUBLE PRECISION, value DOUBLE PRECISION, peak_score DOUBLE PRECISION,
        evidence TEXT, table_digest TEXT, event_id TEXT, source TEXT, src_ip TEXT, dst_ip TEXT, suppressed_by TEXT)""",
    """CREATE TABLE journal (
        seq {seq}, key {id} NOT NULL, kind TEXT NOT NULL, name TEXT, at BIGINT NOT NULL, until BIGINT, recorded_at BIGINT NOT NULL,
        value TEXT, number DOUBLE PRECISION)""",
    *UNIQUE.values(),
    *LOOKUP.values(),
)
# Step 2. What was said stays said: the database itself refuses to change or remove a row.
_REFUSALS: Mapping[str, tuple[str, ...]] = {
    "sqlite": tuple(
        f"CREATE TRIGGER {name}_no_{verb} BEFORE {verb} ON {name}"
        f" BEGIN SELECT RAISE(ABORT, 'the log is append-only: a correction is a new row'); END"
        for name in NAMES
        for verb in ("UPDATE", "DELETE")
    ),
    "postgresql": (
        """CREATE FUNCTION tocsin_append_only() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the log is append-only: a correction is a new row'; END $$""",
        *(
            f"CREATE TRIGGER {name}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {name}"
            " FOR EACH STATEMENT EXECUTE FUNCTION tocsin_append_only()"
            for name in NAMES
        ),
    ),
}
_WORDS: Mapping[str, Mapping[str, str]] = {
    "sqlite": {"seq": "INTEGER PRIMARY KEY AUTOINCREMENT", "id": "TEXT"},
    "postgresql": {"seq": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "id": 'TEXT COLLATE "C"'},
}


def steps(dialect: str) -> tuple[tuple[str, ...], ...]:
    """Return the statements of each step, oldest first, in the words of "sqlite" or "postgresql"."""
    return tuple(s.format(**_WORDS[dialect]) for s in _TABLES), _REFUSALS[dialect]


LATEST: Final = len(steps("sqlite"))


def version_of(connection: Connection) -> int:
    """Return the version of the log in a database, 0 where there is none.

    Raises:
        StoreError: The database holds tables of these names that are not a log.
    """
    names = set(sa.inspect(connection).get_table_names())
    if VERSION_TABLE in names:
        return int(connection.exec_driver_sql(f"SELECT max(version) FROM {VERSION_TABLE}").scalar_one())  # noqa: S608
    if taken := names & set(NAMES):
        raise StoreError(
            f"this database has a table {min(taken)!r} but is no alert log; give the log a file or schema of its own."
        )
    return 0


def migrate(connection: Connection, target: int = LATEST) -> None:
    """Bring the log forward to a version, step by step, in the transaction of the connection.

    Raises:
        StoreError: The log was written by a newer program.
    """
    found = version_of(connection)
    if found > LATEST:
        raise StoreError(
            f"this log has version {found}; this program knows versions up to {LATEST}. Use the newer tocsin that wrote it."
        )
    for number in range(found + 1, target + 1):
        for statement in steps(connection.dialect.name)[number - 1]:
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql(f"INSERT INTO {VERSION_TABLE} (version) VALUES ({number})")  # noqa: S608
