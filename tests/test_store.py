"""The database under the log: append-only, brought forward step by step, private, and quiet about passwords."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from log_rows import Clock, findings

from tocsin.alerts import Alerts
from tocsin.store import Store, StoreError, migrations
from tocsin.store.schema import IDENTITY, TABLES

pytest_plugins = ["log_fixtures"]
DATA = Path(__file__).parent / "data"


def test_the_steps_make_the_tables_that_queries_are_built_of(new_log: Callable[[], str]) -> None:
    store = Store(new_log())
    with store.reading() as connection:
        made = sa.inspect(connection)
        assert migrations.version_of(connection) == migrations.LATEST
        for name, table in TABLES.items():
            columns = {c["name"]: c["type"] for c in made.get_columns(name)}
            assert [*columns] == [c.name for c in table.c]
            for column in table.c:
                assert columns[column.name]._type_affinity is column.type._type_affinity, column
            assert [IDENTITY[name]] in [i["column_names"] for i in made.get_indexes(name) if i["unique"]]
    store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE alert SET severity = 'low'",
        "DELETE FROM alert",
        "DELETE FROM activity",
        "UPDATE finding SET score = 1",
        "DELETE FROM journal",
    ],
)
def test_no_row_can_be_changed_or_removed(log: Alerts, statement: str) -> None:
    log.add(findings({}))
    log.comment(log.alerts()["alert_id"].item(), "hm", actor="ann")
    before = log.history()
    if "journal" in statement:
        import polars as pl

        log.journal(pl.DataFrame({"kind": ["note"], "at": [Clock().now]}))
    with pytest.raises(StoreError, match="append-only"), log._store.writing() as connection:
        connection.exec_driver_sql(statement)
    assert log.history().alerts.equals(before.alerts)
    assert log.history().activities.equals(before.activities)


def test_a_log_of_an_earlier_version_is_brought_forward_with_all_it_holds(new_log: Callable[[], str]) -> None:
    where = new_log()
    dump = (DATA / "log-version-1.sql").read_text(encoding="utf-8")
    if "://" in where:
        rows = re.findall(r'^INSERT INTO "(alert|activity|finding)" VALUES\(\d+,(.*)\);$', dump, re.MULTILINE)
        engine = sa.create_engine(where.replace("postgresql:", "postgresql+psycopg:"))
        with engine.begin() as connection:
            migrations.migrate(connection, 1)
            for name, values in rows:
                columns = ", ".join(c.name for c in TABLES[name].c if c.name != "seq")
                told = values.removesuffix(",0") + ",false" if name == "alert" else values
                connection.exec_driver_sql(f"INSERT INTO {name} ({columns}) VALUES ({told})")
        engine.dispose()
    else:
        file = sqlite3.connect(where)
        file.executescript(dump)
        file.close()
    with Alerts(where, clock=Clock()) as log:
        current = log.history().current
        assert current.select("entity", "state", "verdict", "findings").row(0) == ("ann", "closed", "false_positive", 1)
        with log._store.reading() as connection:
            assert migrations.version_of(connection) == migrations.LATEST
        with pytest.raises(StoreError, match="append-only"), log._store.writing() as connection:
            connection.exec_driver_sql("DELETE FROM alert")
        assert log.add(findings({"entity": "bob", "finding_id": "b" * 32})).alerts == 1


def test_a_log_of_a_newer_version_is_refused(new_log: Callable[[], str]) -> None:
    where = new_log()
    store = Store(where)
    with store.writing() as connection:
        connection.exec_driver_sql("INSERT INTO tocsin_log (version) VALUES (99)")
    store.close()
    with pytest.raises(StoreError, match=r"version 99; this program knows versions up to \d"):
        Store(where)


def test_a_migration_that_fails_leaves_the_log_as_it_was(
    new_log: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = new_log()
    good = migrations.steps
    monkeypatch.setattr(migrations, "steps", lambda dialect: (good(dialect)[0], ("CREATE NONSENSE",)))
    with pytest.raises(StoreError, match="NONSENSE"):
        Store(where)
    monkeypatch.undo()
    store = Store(where)
    with store.reading() as connection:
        assert migrations.version_of(connection) == migrations.LATEST
    store.close()


def test_a_database_of_something_else_is_refused(new_log: Callable[[], str], tmp_path: Path) -> None:
    where = new_log()
    engine = sa.create_engine(
        where.replace("postgresql:", "postgresql+psycopg:") if "://" in where else f"sqlite:///{where}"
    )
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE finding (x INTEGER)")
    engine.dispose()
    with pytest.raises(StoreError, match="is no alert log"):
        Store(where)
    text = tmp_path / "notes.txt"
    text.write_text("nothing of the kind " * 300)
    with pytest.raises(StoreError, match=r"notes\.txt: it is no alert log"):
        Store(text)


def test_a_log_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    with Alerts(tmp_path / "soc.db") as log:
        log.add(findings({}))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"soc.db": 0o600, "soc.db-wal": 0o600, "soc.db-shm": 0o600}


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("", "needs a path or a URL"),
        ("mysql://x/y", "mysql: a log is a SQLite file"),
        ("sqlite://", "a log is a SQLite file"),
        ("postgresql://user:hunter2@host:port/db", "no database URL"),
        ("missing/folder/soc.db", "no folder missing"),
    ],
)
def test_what_is_no_place_for_a_log_is_refused_in_words(where: str, words: str) -> None:
    with pytest.raises(StoreError, match=words) as refused:
        Store(where)
    assert "hunter2" not in str(refused.value)


def test_only_a_log_that_is_there_is_opened_where_none_may_be_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no alert log"):
        Alerts(tmp_path / "soc.db", create=False)
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreError, match="there is no alert log"):
        Alerts(tmp_path / "empty.db", create=False)
    assert not (tmp_path / "soc.db").exists()


@pytest.mark.needs("psycopg")
def test_a_password_is_in_no_message_and_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://ann:hunter2@127.0.0.1:1/soc"
    with pytest.raises(StoreError) as refused:
        Alerts(url)
    shown, error = [repr(refused.value), str(refused.value)], refused.value
    while error.__cause__ or (error.__context__ and not error.__suppress_context__):
        error = error.__cause__ or error.__context__
        shown += [repr(error), str(error)]
    assert not [text for text in shown if "hunter2" in text]
    assert "ann:***@127.0.0.1" in str(refused.value)
    monkeypatch.setattr(Store, "_bring_forward", lambda *_: None)
    with Alerts(url) as log:
        assert "hunter2" not in repr(log) + repr(log._store) + repr(log._store.url)


def test_a_log_in_postgresql_without_its_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"install tocsin\[postgres\]"):
        Store("postgresql://ann@localhost/soc")


def test_a_writer_that_waits_too_long_says_so(log: Alerts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.store.connect.BUSY_SECONDS", 0.05)
    with Alerts(log._store.url.render_as_string(hide_password=False)) as other, log._store.writing():
        with pytest.raises(StoreError, match="Another process has been writing"):
            other.add(findings({}))
        assert other.history().alerts.is_empty(), "who reads does not wait"


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_log_that_may_not_be_written_is_read_and_refuses_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    folder = tmp_path / "a folder?#%20"
    folder.mkdir()
    path = folder / "soc.db"
    with Alerts(path) as log:
        log.add(findings({}))
        before = log.history()
    path.chmod(0o400 if what == "file" else 0o600)
    folder.chmod(0o500 if what == "folder" else 0o700)
    locked, may = path if what == "file" else folder, os.access
    monkeypatch.setattr(os, "access", lambda p, mode: Path(p) != locked and may(p, mode))  # root may do everything
    with Alerts(path) as log:
        assert log.history().alerts.equals(before.alerts)
        with pytest.raises(StoreError, match="read-only"):
            log.comment(log.alerts()["alert_id"].item(), "hm", actor="ann")
    assert [p.name for p in folder.iterdir()] == ["soc.db"]
    folder.chmod(0o700)


def test_a_read_only_log_is_read_with_what_its_writer_has_not_yet_moved_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Alerts(tmp_path / "soc.db") as writer:
        writer.add(findings({}))
        monkeypatch.setattr(os, "access", lambda *_: False)
        with Alerts(tmp_path / "soc.db") as reader:
            assert reader.alerts().height == 1
