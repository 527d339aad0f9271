"""An alert log that goes away and receivers that fail: memory stays bounded, trouble is told, everything arrives in the end.

Layer: tests.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.live_process import (
    append,
    assert_same,
    engine,
    few_rules,
    log_of,
    replay,
    settings,
    write_log,
)
from tests.test_live_faults import stop_in_time
from tests.test_live_faults_disk import peak_bytes
from tocsin.alerts import Alerts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from log_fixtures import Server

pytest_plugins = ["log_fixtures", "output_fixtures"]


@pytest.fixture
def where(stoppable_postgres: Server, request: pytest.FixtureRequest) -> str:
    """A schema of its own."""
    import psycopg

    name = f"log{abs(hash(request.node.name))}"
    with psycopg.connect(stoppable_postgres.url) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return f"{stoppable_postgres.url}&options=-csearch_path%3D{name}"


def awkward(at: str) -> list[dict[str, Any]]:
    """Findings about entities that a database may not like."""
    users = [
        "nul\x00l",
        "",
        "x" * 1_000_000,
        "\U0001f600" * 700,
        "\udc80".encode("utf-8", "replace").decode(),
        "'; DROP TABLE alert; --",
    ]
    about = {"timestamp": at, "kind": "mail", "nr_recipients": 29, "size": 1}
    return [about | {"event_id": f"awkward{n}", "user_id": user} for n, user in enumerate(users)]


@pytest.mark.needs("postgres", "psycopg")
def test_while_postgresql_is_away_trouble_is_told_memory_is_bounded_and_all_findings_are_there_once_afterwards(
    tmp_path: Path, stoppable_postgres: Server, where: str
):
    events = log_of(4_000)
    events[2_000:2_000] = awkward(events[2_000]["timestamp"])
    path = write_log(tmp_path / "mail.jsonl", events[:1_000])
    asked = settings(tmp_path, log=f'"{where}"', more=few_rules(tmp_path), rows=100)
    with engine(tmp_path, asked) as running:
        running.until(lambda s: s["events"]["read"] == 1_000, "reading")
        before = peak_bytes(running.process.pid)
        stoppable_postgres.stop()
        try:
            append(path, events[1_000:])
            status = running.until(lambda s: any("the alert log" in t["what"] for t in s["trouble"]), "telling trouble")
            shown = running.until(
                lambda s: s["at"] > status["at"] and s["sources"][0]["behind"], "showing how far behind it is"
            )
            assert shown["events"]["read"] < len(events)
            assert peak_bytes(running.process.pid) - before < 100 << 20
        finally:
            stoppable_postgres.start()
        running.until(lambda s: s["events"]["read"] == len(events), "writing all")
        back_at = running.status()["at"]
        stoppable_postgres.stop()
        try:
            append(path, [events[-1] | {"event_id": "last", "nr_recipients": 29}])
            running.until(lambda s: s["trouble"][-1]["at"] > back_at, "telling trouble again")
            stop_in_time(running)
        finally:
            stoppable_postgres.start()
    with engine(tmp_path, asked, "--finish") as last:
        assert last.wait() == 0, last.tail()
    assert_same(tmp_path, replay(path, tmp_path / "few.py"), where)


@pytest.mark.needs("postgres", "psycopg")
def test_sigterm_ends_at_once_while_postgresql_hangs_and_its_queue_is_full(
    tmp_path: Path, stoppable_postgres: Server, where: str
):
    events = log_of(2_000)
    path = write_log(tmp_path / "mail.jsonl", events[:300])
    asked = settings(tmp_path, log=f'"{where}"', more=few_rules(tmp_path), rows=50)
    with engine(tmp_path, asked) as running:
        running.until(lambda s: s["events"]["read"] == 300, "reading")
        pids = stoppable_postgres.pids()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            append(path, events[300:])
            running.until(lambda s: s["sources"][0]["behind"], "reading ahead until every queue is full")
            stop_in_time(running)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
    with engine(tmp_path, asked, "--finish") as last:
        assert last.wait() == 0, last.tail()
    assert_same(tmp_path, replay(path, tmp_path / "few.py"), where)


def test_a_receiver_that_fails_and_hangs_holds_up_no_alert_and_gets_each_at_least_once_with_its_key(
    tmp_path: Path, new_receiver: Callable[..., Any]
):
    receiver = new_receiver([500, "hang", "reset", 503, "hang"])
    events = log_of(1_200)
    path = write_log(tmp_path / "mail.jsonl", events[:400])
    hook = f'[[outputs]]\nkind = "webhook"\nurl = "{receiver.url}"\nallow_private = true\ntimeout_seconds = 0.5\n'
    asked = settings(tmp_path, more=few_rules(tmp_path) + hook, rows=50)
    with engine(tmp_path, asked) as running:
        running.until(lambda s: s["events"]["read"] == 400, "reading")
        status = running.until(lambda s: s["outputs"] and s["outputs"][0]["failed"] > 0, "failing")
        assert status["outputs"][0]["last_error"]
        running.until(lambda s: s["outputs"][0]["delivered"] > 2, "delivering")
        append(path, events[400:])
        running.until(lambda s: s["events"]["read"] > 600, "reading on")
        running.kill()
    with engine(tmp_path, asked, "--finish") as finished:
        assert finished.wait() == 0, finished.tail()
    assert_same(tmp_path, replay(path, tmp_path / "few.py"))
    with Alerts(tmp_path / "soc.db") as log:
        wanted = log.history().alerts["alert_id"].to_list()
    assert set(receiver.got) == set(wanted), "an engine that finishes waits until all is delivered"
    assert all(r.headers["idempotency-key"] == r.alert_id for r in receiver.requests)
