"""Opening the log: SQLite at a path, PostgreSQL at a URL; one writer at a time, readers never wait.

Enters: a path or URL. Leaves: `Store`, with transactions to read in and to write in. Layer: store.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from tocsin.store.migrations import LATEST, StoreError, migrate, version_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection, Engine

BUSY_SECONDS: Final = 120
"""How long a writer waits for another; longer than the import of a million alerts."""
_LOCK: Final = 0x746F6373696E  # "tocsin": the advisory lock that every writer to a PostgreSQL log takes first
_CACHE_KB: Final = 256 * 1024

__all__ = ["Store", "StoreError"]


class Store:
    """A database with the tables of the log.

    where: a path, ``sqlite:///path``, or ``postgresql://user@host/database``. create: whether a log that is not there is
    made. A file that may not be written, or is in a folder that may not be, can be read. Passwords are best left to
    PGPASSFILE or PGPASSWORD; one in the URL is shown by no message.

    Raises:
        StoreError: It cannot be opened, is no log, or was written by a newer program.
    """

    def __init__(self, where: str | os.PathLike[str], *, create: bool = True) -> None:
        self.url = _url(where)
        self.name = self.url.database or "" if self._is_sqlite else self.url.render_as_string(hide_password=True)
        self._read_only = False
        if self._is_sqlite:
            _prepare_file(Path(self.name), create)
            self._read_only = not (os.access(self.name, os.W_OK) and os.access(Path(self.name).parent, os.W_OK))
        self._engine = self._connect()
        try:
            self._bring_forward(create)
        except StoreError as error:
            self.close()
            raise error if str(error).startswith(self.name) else StoreError(f"{self.name}: {error}") from None

    def _bring_forward(self, create: bool) -> None:
        with self.reading() as connection:
            found = version_of(connection)
        if found == LATEST:
            return
        if not found and not create:
            raise StoreError("there is no alert log yet.")
        with self.writing() as connection:
            migrate(connection)

    @property
    def _is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    def __repr__(self) -> str:
        """Name the log; never its password."""
        return f"Store({self.name!r})"

    def _connect(self) -> Engine:
        try:
            if self._is_sqlite:
                how: dict[str, Any] = {"connect_args": {"timeout": BUSY_SECONDS, "check_same_thread": False}}
                if self._read_only:
                    how = {"creator": lambda: _read_only_connection(Path(self.name))}
                engine = sa.create_engine(self.url, **how)
                sa.event.listen(engine, "connect", _SETTINGS[self._read_only])
                sa.event.listen(engine, "begin", _sqlite_begin)
                return engine
            return sa.create_engine(self.url, pool_pre_ping=True, connect_args={"application_name": "tocsin"})
        except ImportError:
            raise StoreError("a log in PostgreSQL needs the driver psycopg: install tocsin[postgres].") from None

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a transaction in which every query sees the log as it was at its beginning."""
        options = {} if self._is_sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with self._told(), self._engine.connect().execution_options(**options) as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give the transaction of the only writer; it is kept if the block ends well, and never happened if it does not."""
        if self._read_only:
            raise StoreError(f"{self.name}: nothing can be written: the file or its folder is read-only.")
        options = {"tocsin_writes": True}
        with self._told(), self._engine.connect().execution_options(**options) as connection, connection.begin():
            if not self._is_sqlite:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{BUSY_SECONDS}s'")
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            yield connection

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn an error of the database into one of ours, without its query, its rows or a password."""
        try:
            yield
        except (sa.exc.DBAPIError, sqlite3.Error) as error:  # the second: where a connection is being set up
            text = str(error.orig if isinstance(error, sa.exc.DBAPIError) else error).strip()
            if self.url.password:
                text = text.replace(str(self.url.password), "***")
            if "file is not a database" in text:
                raise StoreError(f"{self.name}: it is no alert log, nor any other database.") from None
            hint = " Another process has been writing for too long." if "lock" in text else ""
            raise StoreError(f"{self.name}: {text}.{hint}") from None


def _url(where: str | os.PathLike[str]) -> sa.URL:
    text = os.fspath(where)
    if "://" not in text:
        if not text:
            raise StoreError("a log needs a path or a URL, such as soc.db or postgresql://user@host/soc.")
        return sa.URL.create("sqlite", database=text)
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise StoreError("that is no database URL; write postgresql://user@host/database or a path.") from None
    kind = url.drivername.partition("+")[0]
    if kind == "sqlite" and url.database and url.database != ":memory:":
        return url.set(drivername="sqlite")
    if kind in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    raise StoreError(
        f"{kind}: a log is a SQLite file (soc.db, sqlite:///soc.db) or in PostgreSQL (postgresql://user@host/soc)."
    )


def _prepare_file(path: Path, create: bool) -> None:
    """Make the file readable by its owner alone, since it holds what attackers wrote and what analysts said of whom."""
    if path.exists():
        return
    if not create:
        raise StoreError(f"{path}: there is no alert log.")
    if not path.parent.is_dir():
        raise StoreError(f"{path}: there is no folder {path.parent}. Make it first.")
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _read_only_connection(path: Path) -> sqlite3.Connection:
    """Connect without writing anything, not even beside the file.

    A writer who is there has a file of his last rows beside it, which is read, too. Without one nobody writes, and the file
    is read as it is: SQLite would otherwise want to make such a file.
    """
    mode = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=BUSY_SECONDS, check_same_thread=False
    )


def _sqlite_settings(connection: Any, record: Any) -> None:
    _sqlite_reading(connection, record)
    for pragma in (
        "journal_mode = WAL",  # readers do not wait for the writer, nor he for them
        "synchronous = FULL",  # what triage said survives a power cut; an import syncs once, so it costs nothing there
        "wal_autocheckpoint = 16000",  # pages: keys are hashes, so each row touches others; written back together, they are fewer
        "recursive_triggers = ON",  # so that REPLACE is refused like the DELETE it is
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _sqlite_reading(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where _sqlite_begin says, not where the driver guesses
    for pragma in (
        f"busy_timeout = {BUSY_SECONDS * 1000}",
        f"cache_size = -{_CACHE_KB}",
        "threads = 2",  # indexes after a large import are sorted by two
    ):
        connection.execute(f"PRAGMA {pragma}").close()


_SETTINGS: Final = {False: _sqlite_settings, True: _sqlite_reading}


def _sqlite_begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("tocsin_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
