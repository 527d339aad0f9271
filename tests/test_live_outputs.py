"""Outputs bring every new alert at least once and in order, whatever the receiver, the disk or a crash does."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from log_rows import START, Clock, findings
from receiver import QUICK, Receiver, add_alerts, eventually, jsonl, webhook

from tocsin.alerts import Alerts
from tocsin.errors import SettingsError, StateError
from tocsin.lifecycle import ALERT
from tocsin.runners.live.delivery import FIELDS, NotNowError, Patience
from tocsin.runners.live.jsonl import JsonLines
from tocsin.runners.live.outputs import Outputs

pytest_plugins = ["log_fixtures", "output_fixtures"]
HERE = Path(__file__).resolve().parent
SECRET = "correct-horse-battery"


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def ids(path: Path) -> list[str]:
    return [line["alert_id"] for line in lines(path)]


# ---- the log as outbox


def test_alerts_after_a_row_number_come_in_order_with_the_evidence_of_their_first_finding(log: Alerts) -> None:
    assert (log.last_seq(), log.last(), log.raised_after(0, 9).height) == (0, (0, None), 0)
    log.add(findings({"entity": "old"}), source="backtest")
    first = add_alerts(log, 1, 3, evidence='{"first":1}')
    log.add(findings({"finding_id": "f" * 32, "entity": "u0002"}, evidence='{"first":2}'))
    rows = log.raised_after(0, 9)
    assert rows.columns == ["seq", *ALERT, "evidence"]
    assert rows["alert_id"].to_list() == first
    assert set(rows["evidence"]) == {'{"first":1}'}
    assert rows["seq"].is_sorted()
    assert log.last_seq() == rows["seq"].max()
    assert log.raised_after(rows["seq"][0], 1)["alert_id"].to_list() == first[1:2]
    assert log.raised_after(0, 9, source="backtest").height == 1
    assert [log.count_after(n) for n in (0, rows["seq"][1], rows["seq"][2])] == [3, 1, 0]
    assert log.count_after(0, severities=["high"]) == 0
    assert (log.seq_of(first[2]), log.seq_of("nobody")) == (log.last_seq(), None)


def test_no_row_number_appears_below_one_that_was_seen_though_several_write_at_once(
    new_log: Callable[[], str],
) -> None:
    where, writers, rounds = new_log(), 4, 15
    Alerts(where).disconnect()

    def write(me: int) -> None:
        with Alerts(where) as log:
            for n in range(rounds):
                log.add(findings({"finding_id": f"{me}{n:031}", "entity": f"{me}.{n}"}))

    threads = [threading.Thread(target=write, args=(me,)) for me in range(writers)]
    seen: list[int] = []
    with Alerts(where) as log:
        for thread in threads:
            thread.start()
        going = True
        while going:
            going = any(t.is_alive() for t in threads)
            seen += log.raised_after(seen[-1] if seen else 0, 3)["seq"].to_list()
        while (rows := log.raised_after(seen[-1], 50)).height:
            seen += rows["seq"].to_list()
        assert seen == log.raised_after(0, 999)["seq"].to_list()
    assert len(seen) == writers * rounds


# ---- a file of JSON lines


def test_a_file_gets_each_new_alert_as_a_line_that_its_owner_alone_may_read(
    writer: Alerts, run: Callable[..., Outputs], tmp_path: Path
) -> None:
    add_alerts(writer, 0)
    path = tmp_path / "alerts.jsonl"
    outputs = run(jsonl(path))
    added = add_alerts(writer, 1, 3, evidence=json.dumps({"n": 1, "what": "\x1b[2J"}), title="ünïcode \u202e")
    writer.add(findings({"finding_id": "b" * 32, "entity": "past"}), source="backtest")
    outputs.wake()
    assert outputs.settle(30)
    assert ids(path) == added, "a new output begins with the next alert, and a backtest's are none of its business"
    one = lines(path)[0]
    assert list(one) == [*FIELDS, "format"]
    assert one["created_at"] == "2026-01-05T09:00:00.000000Z"
    assert one["evidence"] == {"n": 1, "what": "\x1b[2J"}
    assert one["observables"][0] == {"kind": "user", "role": "entity", "value": "u0001"}
    assert path.read_bytes().isascii()
    assert b"\x1b" not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert outputs.status() == [
        {"name": "jsonl", "behind": 0, "delivered": 3, "failed": 0, "refused": 0, "last_error": None}
    ]


@pytest.mark.parametrize("evidence", ["no JSON", '{"x":NaN}', "[" * 100_000, None])
def test_evidence_that_is_no_json_stays_a_text_and_stops_nobody(
    evidence: str | None, writer: Alerts, run: Callable[..., Outputs], tmp_path: Path
) -> None:
    outputs = run(jsonl(tmp_path / "a.jsonl"))
    writer.add(findings({"evidence": evidence}))
    outputs.wake()
    assert outputs.settle(30)
    assert [line["evidence"] for line in lines(tmp_path / "a.jsonl")] == [evidence]


def test_a_file_that_was_moved_away_is_begun_anew(writer: Alerts, run: Callable[..., Outputs], tmp_path: Path) -> None:
    path, moved = tmp_path / "a.jsonl", tmp_path / "a.jsonl.1"
    outputs = run(jsonl(path))
    first = add_alerts(writer, 1)
    outputs.wake()
    assert outputs.settle(30)
    path.rename(moved)
    second = add_alerts(writer, 2)
    outputs.wake()
    assert outputs.settle(30)
    assert (ids(moved), ids(path)) == (first, second)


WHOLE = b'{"alert_id":"a"}\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (WHOLE, WHOLE),
        (WHOLE + b"{", WHOLE),
        (WHOLE + b'{"alert_id":"b","ti', WHOLE),
        (WHOLE + b'{"alert_id":"' + b"x" * 200_000, WHOLE),
        (b'{"alert_id":"b', b""),
        (WHOLE + bytes(5000), WHOLE),
        (WHOLE + b'{"alert_id":"b"}', WHOLE + b'{"alert_id":"b"}\n'),
    ],
)
def test_a_torn_last_line_is_cut_and_a_whole_one_ended(before: bytes, after: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(before)
    target = JsonLines(path)
    target.append([b'{"alert_id":"c"}'])
    target.close()
    assert path.read_bytes() == after + b'{"alert_id":"c"}\n'


def test_the_last_line_of_somebody_else_is_never_cut(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"dear diary")
    with pytest.raises(NotNowError, match="not of this program"):
        JsonLines(path).append([b"{}"])
    assert path.read_bytes() == b"dear diary"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotNowError):
        JsonLines(tmp_path / "pipe").append([b"{}"])


def test_of_a_batch_that_could_not_be_written_whole_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, lines_of_two, write = JsonLines(tmp_path / "a"), [WHOLE.strip(), WHOLE.strip()], os.write
    target.append(lines_of_two[:1])
    with monkeypatch.context() as patch:
        patch.setattr(
            os, "write", lambda file, data: write(file if len(data) > 3 else -1, data[: max(3, len(data) - 3)])
        )
        with pytest.raises(NotNowError):
            target.append(lines_of_two)
    assert (tmp_path / "a").read_bytes() == WHOLE


def test_a_full_disk_leaves_whole_lines_and_the_alerts_come_when_there_is_room(
    writer: Alerts, run: Callable[..., Outputs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write, full = tmp_path / "a.jsonl", os.write, threading.Event()

    def write_some(file: int, data: bytes) -> int:
        if threading.current_thread().name == "output jsonl" and full.is_set():
            if len(data) < 100:
                raise OSError(28, "No space left on device")
            return write(file, data[:90] if len(data) < 200 else data[: len(data) - 90])
        return write(file, data)

    monkeypatch.setattr(os, "write", write_some)
    full.set()
    outputs = run(jsonl(path))
    added = add_alerts(writer, 1, 2)
    outputs.wake()
    eventually(lambda: outputs.status()[0]["failed"] > 1)
    assert path.read_bytes() == b""
    assert "No space left" in outputs.status()[0]["last_error"]
    assert outputs.status()[0]["behind"] == 2
    full.clear()
    assert outputs.settle(30)
    assert ids(path) == added
    assert outputs.status()[0]["last_error"] is None


# ---- places, restarts, crashes


def test_a_restart_goes_on_where_the_run_before_it_stopped(
    writer: Alerts, run: Callable[..., Outputs], tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    added: list[str] = []
    run(jsonl(path)).stop()
    for n in range(3):
        added += add_alerts(writer, 10 * n, 2)
        outputs = run(jsonl(path))
        assert outputs.settle(30)
        outputs.stop()
    assert ids(path) == added


def test_in_another_log_an_output_goes_on_after_the_same_alert_or_at_its_end(
    writer: Alerts, where: str, tmp_path: Path
) -> None:
    settings, folder = (jsonl(tmp_path / "a.jsonl"),), tmp_path / "outputs"
    Outputs(where, settings, folder, lambda: START).start().stop()
    first = add_alerts(writer, 1, 3)
    outputs = Outputs(where, settings, folder, lambda: START).start()
    assert outputs.settle(30)
    outputs.stop()

    moved, strange = str(tmp_path / "moved.db"), str(tmp_path / "strange.db")
    with Alerts(moved, clock=Clock()) as log:
        log.add(findings({"entity": "other"}), source="backtest")
        log.import_history(writer.history())
        added = add_alerts(log, 7)
    outputs = Outputs(moved, settings, folder, lambda: START).start()
    assert outputs.settle(30)
    outputs.stop()
    assert ids(tmp_path / "a.jsonl") == [*first, *added]

    Alerts(strange).disconnect()
    outputs = Outputs(strange, settings, folder, lambda: START).start()
    with Alerts(strange, clock=Clock()) as log:
        new = add_alerts(log, 8)
    outputs.wake()
    assert outputs.settle(30)
    outputs.stop()
    assert ids(tmp_path / "a.jsonl") == [*first, *added, *new]


def test_a_place_that_cannot_be_read_is_said_and_not_guessed(where: str, tmp_path: Path) -> None:
    (tmp_path / "jsonl").mkdir()
    (tmp_path / "jsonl" / "place.json").write_text("{")
    with pytest.raises(StateError, match=r"cannot be read\. Remove it"):
        Outputs(where, [jsonl(tmp_path / "a")], tmp_path, lambda: START).start()


CRASHES = """
import os, signal, sys
from pathlib import Path
from log_rows import START
from receiver import jsonl
from tocsin.runners.live import outputs
from tocsin.runners.live.settings import WebhookOutput

where, folder, url, survives = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
save, saved = outputs.Place.save, 0

def saves_so_often_and_dies(place):
    global saved
    saved += 1
    if saved > survives:
        os.kill(os.getpid(), signal.SIGKILL)
    save(place)

outputs.Place.save = saves_so_often_and_dies
one = WebhookOutput(kind="webhook", url=url, allow_private=True) if url != "-" else jsonl(folder / "a.jsonl")
outputs.Outputs(where, [one], folder / "outputs", lambda: START).start().settle(60)
"""


@pytest.mark.parametrize("kind", ["webhook", "jsonl"])
def test_what_a_kill_came_between_is_delivered_again_under_the_same_key_and_nothing_is_lost(
    kind: str,
    writer: Alerts,
    where: str,
    run: Callable[..., Outputs],
    tmp_path: Path,
    new_receiver: Callable[..., Receiver],
) -> None:
    receiver = new_receiver()
    one = webhook(receiver) if kind == "webhook" else jsonl(tmp_path / "a.jsonl")
    run(one).stop()
    added = add_alerts(writer, 1, 4)
    paths = os.pathsep.join([str(HERE), str(HERE.parent), *(p for p in sys.path if p)])
    place = receiver.url if kind == "webhook" else "-"
    crash = [sys.executable, "-c", CRASHES, where, str(tmp_path), place, "2" if kind == "webhook" else "1"]
    done = subprocess.run(crash, env=os.environ | {"PYTHONPATH": paths}, timeout=120, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert run(one).settle(30)
    if kind == "webhook":
        assert receiver.got == [*added[:2], *added[1:]], "the second was delivered and not noted"
        again = [r for r in receiver.requests if r.alert_id == added[1]]
        assert {r.headers["idempotency-key"] for r in again} == {added[1]}
        assert again[0].body == again[1].body
    else:
        assert ids(tmp_path / "a.jsonl") == [*added, *added]


def test_a_thread_that_was_left_alone_writes_its_place_down_no_more(
    writer: Alerts, run: Callable[..., Outputs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, go = threading.Event(), threading.Event()

    def hangs(self: JsonLines, alerts: object) -> None:
        stuck.set()
        go.wait(30)

    monkeypatch.setattr(JsonLines, "deliver", hangs)
    outputs = run(jsonl(tmp_path / "a.jsonl"))
    place = tmp_path / "outputs" / "jsonl" / "place.json"
    before = place.read_bytes()
    add_alerts(writer, 1)
    outputs.wake()
    assert stuck.wait(30)
    outputs.stop(0.05)
    go.set()
    outputs._runs[0]._thread.join(30)
    assert place.read_bytes() == before


def test_a_place_that_cannot_be_written_stops_no_delivery(
    writer: Alerts, run: Callable[..., Outputs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = run(jsonl(tmp_path / "a.jsonl"))

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tocsin.runners.live.outputs.write_durably", fails)
        added = add_alerts(writer, 1, 2)
        outputs.wake()
        assert outputs.settle(30)
        assert "cannot be written down" in outputs.status()[0]["last_error"]
    added += add_alerts(writer, 3)
    outputs.wake()
    assert outputs.settle(30)
    assert ids(tmp_path / "a.jsonl") == added
    assert json.loads((tmp_path / "outputs" / "jsonl" / "place.json").read_bytes())["alert_id"] == added[-1]


def test_alerts_that_another_program_raised_are_found_without_being_woken(
    writer: Alerts, run: Callable[..., Outputs], tmp_path: Path
) -> None:
    run(jsonl(tmp_path / "a.jsonl"))
    added = add_alerts(writer, 1)
    eventually(lambda: ids(tmp_path / "a.jsonl") == added)


def test_a_log_that_does_not_answer_for_a_while_is_asked_again(
    writer: Alerts, run: Callable[..., Outputs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tocsin.store import StoreError

    outputs, raised_after = run(jsonl(tmp_path / "a.jsonl")), Alerts.raised_after
    failures = iter([StoreError("soc: the server is away"), RuntimeError("a bug")])

    def is_away(*arguments: object) -> pl.DataFrame:
        if error := next(failures, None):
            raise error
        return raised_after(*arguments)

    monkeypatch.setattr(Alerts, "raised_after", is_away)
    added = add_alerts(writer, 1)
    outputs.wake()
    eventually(lambda: ids(tmp_path / "a.jsonl") == added)
    assert outputs.status()[0]["failed"] == 2


# ---- webhooks


def documented_check() -> Callable[..., bool]:
    """The function of the page about outputs by which a receiver checks a request."""
    page = (HERE.parent / "docs" / "outputs.md").read_text()
    code = re.search(r"^```python\n(.*?)^headers = ", page, re.DOTALL | re.MULTILINE)
    names: dict = {}
    exec(code[1], names)
    return names["is_genuine"]


def test_the_receiver_of_the_docs_accepts_what_is_sent_with_either_secret_and_nothing_else(
    writer: Alerts, run: Callable[..., Outputs], tmp_path: Path, new_receiver: Callable[..., Receiver]
) -> None:
    receiver, secret = new_receiver(), tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    secret.chmod(0o600)
    outputs = run(webhook(receiver, secret_file=secret))
    add_alerts(writer, 1)
    outputs.wake()
    assert outputs.settle(30)
    secret.write_text(f"{SECRET}\nthe-next-one-is-this\n")
    add_alerts(writer, 2)
    outputs.wake()
    assert outputs.settle(30)
    check, now = documented_check(), START.timestamp()
    old, both = receiver.requests
    for request, key, accepted in [
        (old, SECRET, True),
        (old, "the-next-one-is-this", False),
        (both, SECRET, True),
        (both, "the-next-one-is-this", True),
    ]:
        assert check(request.headers, request.body, key, now) is accepted
    assert not check(old.headers, both.body, SECRET, now)
    assert old.headers["idempotency-key"] == old.alert_id
    assert old.headers["content-type"] == "application/json"
    assert old.path == "/alerts?k=hush-hush"


def test_failures_and_slowness_of_a_receiver_lose_nothing_and_change_no_order(
    writer: Alerts, run: Callable[..., Outputs], new_receiver: Callable[..., Receiver]
) -> None:
    asked = (429, {"Retry-After": "1"}, b"")
    elsewhere = (302, {"Location": "http://127.0.0.1:9/"}, b"")
    plan: list[object] = [
        500,
        asked,
        "reset",
        "nonsense",
        503,
        elsewhere,
        (408, {}, b"x" * 200_000),
        "hang",
        "endless headers",
    ]
    receiver, told = new_receiver(list(plan)), []
    outputs = run(webhook(receiver, timeout_seconds=1), tell=told.append)
    added = add_alerts(writer, 1, 5)
    outputs.wake()
    assert outputs.settle(60)
    assert receiver.got[: len(plan) + 1] == [added[0]] * (len(plan) + 1)
    assert list(dict.fromkeys(receiver.got)) == added
    assert len({r.body for r in receiver.requests if r.alert_id == added[0]}) == 1
    assert receiver.requests[2].at - receiver.requests[1].at >= 0.29, "Retry-After is waited for, within bounds"
    status = outputs.status()[0]
    assert (status["delivered"], status["refused"], status["last_error"]) == (5, 0, None)
    assert status["failed"] >= len(plan)
    words = " ".join(told)
    for said in ("answers 500", "answers 429", "not HTTP", "elsewhere", "within 1 s"):
        assert said in words
    assert "hush" not in words


@pytest.mark.parametrize("step", ["endless", "flood"])
def test_an_answer_without_end_is_an_answer_since_its_status_is_there(
    step: str, writer: Alerts, run: Callable[..., Outputs], new_receiver: Callable[..., Receiver]
) -> None:
    receiver = new_receiver([step])
    outputs = run(webhook(receiver, timeout_seconds=2))
    added = add_alerts(writer, 1, 2)
    outputs.wake()
    assert outputs.settle(60)
    assert (receiver.got, receiver.connections) == (added, 2)


def test_an_alert_that_is_refused_five_times_is_set_aside_and_the_next_ones_come(
    writer: Alerts, run: Callable[..., Outputs], tmp_path: Path, new_receiver: Callable[..., Receiver]
) -> None:
    receiver = new_receiver([200, *[(422, {}, b"no such \x1b[31mteam")] * 5])
    outputs = run(webhook(receiver))
    added = add_alerts(writer, 1, 3)
    outputs.wake()
    assert outputs.settle(30)
    assert receiver.got == [added[0], *[added[1]] * 5, added[2]]
    path = tmp_path / "outputs" / "webhook" / "refused.jsonl"
    assert ids(path) == [added[1]]
    entry = lines(path)[0]
    assert entry["alert"] == json.loads(receiver.requests[1].body)
    assert entry["answer"] == "no such \x1b[31mteam"
    assert "answers 422" in entry["why"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    status = outputs.status()[0]
    assert (status["delivered"], status["failed"], status["refused"], status["behind"]) == (2, 5, 1, 0)


def test_only_alerts_of_at_least_the_severity_are_brought_and_those_of_unknown_severity(
    writer: Alerts, run: Callable[..., Outputs], new_receiver: Callable[..., Receiver]
) -> None:
    receiver = new_receiver()
    outputs = run(webhook(receiver, min_severity="high"))
    severities = ("low", "high", "unknown", "medium", "critical", "informational")
    added = {s: add_alerts(writer, n, severity=s)[0] for n, s in enumerate(severities)}
    outputs.wake()
    assert outputs.settle(30)
    assert receiver.got == [added[s] for s in ("high", "unknown", "critical")]
    assert outputs.status()[0]["behind"] == 0


def test_one_connection_serves_many_alerts_and_a_closed_one_is_made_anew(
    writer: Alerts, run: Callable[..., Outputs], new_receiver: Callable[..., Receiver]
) -> None:
    receiver = new_receiver([200, 200, (200, {"Connection": "close"}, b"bye"), 200])
    outputs = run(webhook(receiver))
    added = add_alerts(writer, 1, 5)
    outputs.wake()
    assert outputs.settle(30)
    assert (receiver.got, receiver.connections, outputs.status()[0]["failed"]) == (added, 2, 0)


@pytest.mark.parametrize("step", ["hang", "endless headers", (503, {"Retry-After": "86400"}, b"")])
def test_stopping_waits_neither_for_a_receiver_that_hangs_nor_for_the_next_attempt(
    step: object, writer: Alerts, run: Callable[..., Outputs], new_receiver: Callable[..., Receiver]
) -> None:
    receiver = new_receiver([step])
    outputs = run(webhook(receiver, timeout_seconds=120), patience=Patience())
    added = add_alerts(writer, 1)
    outputs.wake()
    eventually(lambda: receiver.requests)
    assert not outputs.settle(0)
    began = time.monotonic()
    outputs.stop(30)
    assert time.monotonic() - began < 15, "neither of 120 s nor of 300"
    assert not outputs._runs[0]._thread.is_alive()
    assert run(webhook(receiver)).settle(30)
    assert receiver.got == added * 2


def test_outputs_do_not_wait_for_each_other(
    writer: Alerts, run: Callable[..., Outputs], tmp_path: Path, new_receiver: Callable[..., Receiver]
) -> None:
    receiver = new_receiver(["hang"])
    outputs = run(webhook(receiver, timeout_seconds=60), jsonl(tmp_path / "a.jsonl"))
    writer.add(findings({"entity": "ann"}, {"entity": "bob"}))
    outputs.wake()
    eventually(lambda: len(ids(tmp_path / "a.jsonl")) == 2)
    eventually(lambda: [s["behind"] for s in outputs.status()] == [2, 0])


def test_without_outputs_nothing_is_opened(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "none.db", [], tmp_path, lambda: START).start()
    outputs.wake()
    assert (outputs.settle(0), outputs.status(), list(tmp_path.iterdir())) == (True, [], [])
    outputs.stop()


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [("short", 0o600, "16 characters"), (SECRET, 0o640, "read by others"), (None, 0, "No such file")],
)
def test_a_secret_that_is_missing_short_or_open_to_others_is_refused_before_anything_runs(
    content: str | None, mode: int, said: str, where: str, tmp_path: Path, new_receiver: Callable[..., Receiver]
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    with pytest.raises(SettingsError, match=said) as caught:
        Outputs(where, [webhook(new_receiver(), secret_file=path)], tmp_path, datetime.now)
    assert content is None or content not in str(caught.value)
    with pytest.raises(SettingsError, match="TOCSIN_NO_SUCH_SECRET holds no secret"):
        Outputs(where, [webhook(new_receiver(), secret_env="TOCSIN_NO_SUCH_SECRET")], tmp_path, datetime.now)


def test_secrets_appear_in_no_representation(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_receiver: Callable[..., Receiver]
) -> None:
    monkeypatch.setenv("SOC_SECRET", SECRET)
    settings = webhook(new_receiver(), secret_env="SOC_SECRET")
    target = Outputs(where, [settings], tmp_path, datetime.now, patience=QUICK)._runs[0]._target
    shown = " ".join([repr(settings), repr(target), str(vars(target)), str(vars(target._wire)["_socket"])])
    assert "correct-horse" not in shown
    assert "hush-hush" not in repr(settings) + repr(target)
