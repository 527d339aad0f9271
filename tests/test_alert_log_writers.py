"""Several programs write to one log: nothing is lost, nothing doubled, and one that is killed leaves no trace of half a step."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from log_rows import START, Clock, findings, minute

from tocsin.alerts import Added, Alerts
from tocsin.lifecycle import History

pytest_plugins = ["log_fixtures"]
HERE = Path(__file__).resolve().parent
WRITERS, ROUNDS, PEOPLE = 4, 12, 10

ADDS_AND_TRIAGES = """
import json, sys
from datetime import timedelta
from log_rows import findings, minute
from tocsin.alerts import Alerts
from tocsin.lifecycle import LifecycleError

where, me, rounds, people = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
print("ready", flush=True)
sys.stdin.readline()
done = {"commented": 0, "closed": [], "refused": 0}
with Alerts(where) as log:
    for n in range(rounds):
        # Every writer adds every finding; they come to them in different orders.
        turn = (n + me) % rounds
        shared = [{"finding_id": f"{turn:016x}{p:016x}", "entity": f"u{p}", "time": minute(turn)} for p in range(people)]
        log.add(findings(*shared), source="backtest")
        for alert in log.alerts()["alert_id"].to_list()[:3]:
            log.comment(alert, f"{me} in round {n}", actor=f"writer-{me}")
            done["commented"] += 1
            print("wrote", flush=True)
        for alert in log.alerts()["alert_id"].sort().to_list():
            try:
                log.close(alert, f"by {me}", actor=f"writer-{me}")
                done["closed"].append(alert)
            except LifecycleError:
                done["refused"] += 1
print(json.dumps(done), flush=True)
"""

IMPORTS = """
import sys
from benchmarks.alerts import history
from tocsin.alerts import Alerts
import tocsin.store.rows as rows

rows.CHUNK_ROWS = 500
append, made = rows.append, history(20_000)
with Alerts(sys.argv[1]) as log:
    print("importing", flush=True)
    log.import_history(made)
print("imported", flush=True)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    paths = [str(HERE), str(HERE.parent), *(p for p in sys.path if p)]
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        pipe.close()


@pytest.mark.slow
def test_writers_in_four_processes_lose_nothing_and_double_nothing_though_one_is_killed(
    new_log: Callable[[], str],
) -> None:
    where = new_log()
    Alerts(where).disconnect()
    running = [start(ADDS_AND_TRIAGES, where, n, ROUNDS, PEOPLE) for n in range(WRITERS)]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    killed = running[-1]
    for _ in range(5):
        assert killed.stdout.readline() == "wrote\n"
    kill(killed)
    told = [json.loads(p.communicate(timeout=300)[0].splitlines()[-1]) for p in running[:-1]]
    assert [p.returncode for p in running[:-1]] == [0] * (WRITERS - 1)

    with Alerts(where) as log:
        history = log.history()
    assert history.findings.height == ROUNDS * PEOPLE
    assert history.findings["finding_id"].is_unique().all()
    assert history.alerts.height == PEOPLE
    assert history.current["findings"].to_list() == [ROUNDS] * PEOPLE
    assert history.current["state"].to_list() == ["closed"] * PEOPLE
    comments = history.activities.filter(type="commented").group_by("actor").len()
    assert dict(comments.filter(pl.col("actor") != "writer-3").iter_rows()) == {
        f"writer-{n}": done["commented"] for n, done in enumerate(told)
    }
    closed = history.activities.filter(type="closed")
    assert closed["alert_id"].is_unique().all(), "each was closed once, by whoever came first"
    for n, done in enumerate(told):
        assert closed.filter(actor=f"writer-{n}")["alert_id"].sort().to_list() == sorted(done["closed"])
    assert history.activities["recorded_at"].is_sorted(), "what was learnt later has a higher number and a later time"


@pytest.mark.slow
def test_a_program_killed_in_the_middle_of_an_import_leaves_a_log_that_can_take_it_again(
    new_log: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.alerts import history

    monkeypatch.setattr("tocsin.store.rows.BULK_ROWS", 10_000)
    where, made = new_log(), history(20_000)
    with Alerts(where, clock=Clock()) as log:
        log.add(findings({"time": START}))
    for wait_seconds in (0.0, 0.3, 0.8):
        process = start(IMPORTS, where)
        assert process.stdout.readline() == "importing\n"
        time.sleep(wait_seconds)
        kill(process)
        with Alerts(where, clock=Clock()) as log:
            assert log.history().alerts.height in (1, 20_001), "all of it or nothing"
    with Alerts(where, clock=Clock()) as log:
        log.import_history(made)
        assert log.import_history(made) == Added(known=100_000)
        assert log.history().alerts.height == 20_001
        assert log.history().activities.height == 80_000


CLOSES = """
import sys
from tocsin.alerts import Alerts
from tocsin.lifecycle import LifecycleError

with Alerts(sys.argv[1]) as log:
    print("ready", flush=True)
    for alert in sys.stdin:
        try:
            log.close(alert.strip(), "done", actor=sys.argv[2])
            print("closed", flush=True)
        except LifecycleError as error:
            print(error, flush=True)
"""


@pytest.mark.slow
def test_of_two_closes_at_once_one_succeeds_and_one_is_told_why_not(new_log: Callable[[], str]) -> None:
    where = new_log()
    with Alerts(where, clock=Clock()) as log:
        log.add(findings(*({"entity": f"u{i}"} for i in range(20))))
        ids = log.alerts()["alert_id"].to_list()
    pair = [start(CLOSES, where, name) for name in ("ann", "bob")]
    for process in pair:
        assert process.stdout.readline() == "ready\n"
    for alert in ids:
        for process in pair:
            process.stdin.write(f"{alert}\n")
            process.stdin.flush()
        words = sorted(p.stdout.readline().strip() for p in pair)
        assert [w[:6] for w in words] == ["alert ", "closed"]
        assert "is closed" in words[0]
    assert [p.communicate(timeout=60)[1] for p in pair] == [None, None]


def test_a_reader_sees_one_moment_of_the_log_while_others_write(new_log: Callable[[], str]) -> None:
    where = new_log()
    with Alerts(where, clock=Clock()) as log, Alerts(where, clock=Clock()) as other:
        log.add(findings({}))
        with log._store.reading() as connection:
            from tocsin.alerts.reading import load

            before = load(connection)
            other.add(findings({"entity": "bob", "finding_id": "b" * 32, "time": minute(1)}))
            after: History = load(connection)
        assert after.alerts.equals(before.alerts)
        assert log.history().alerts.height == 2
