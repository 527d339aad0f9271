"""What a running engine counts: the status against a slow recomputation, and /metrics as Prometheus reads it."""

from __future__ import annotations

import json
import math
import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families

from tocsin.engine.apply import Tally
from tocsin.faces.live.prometheus import LONGEST_LABEL, MOST_PARTITIONS, exposition, label
from tocsin.runners.live.meters import FATES, MOST_SOURCES, MOST_TROUBLES, Meters
from tocsin.text import has_unsafe

START = datetime(2025, 3, 1, 9, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def filled() -> Meters:
    meters = Meters("0.1.0", 4711, START)
    meters.mode("live")
    meters.batch(1000, 0.02, {"accepted": 990, "late": 6, "duplicate": 3, "rejected": 1}, findings=4, at=at(99))
    meters.batch(500, 0.06, {"accepted": 500}, findings=0, at=at(100))
    meters.rules(
        {"mail.burst": Tally(1490, 1400, 5, 4, 1, {"no_history": 80, "error": 10}, "division by zero")},
        {"mail.burst": 2},
    )
    meters.skipped({"mail.geo": "no geo table"})
    meters.source("mail", "mail.jsonl", behind=4096, unit="bytes", watermark=at(40))
    meters.source("bus", "events/0", behind=7, unit="messages", watermark=at(50), idle=True)
    meters.watermark(at(40))
    meters.state({"user_id": 120, "src_ip": 30}, ids=9000, waiting=12, size_bytes=1 << 20)
    meters.snapshot(17, "delta", at(90), size_bytes=8192, seconds=0.25)
    meters.dead_letters(3)
    meters.output("alerts", behind=2, delivered=40, failed=1, last_error="connection refused")
    meters.trouble("mail.burst: division by zero", at(95))
    return meters


def test_the_status_has_the_keys_that_its_readers_know_and_json_holds_it() -> None:
    status = filled().status(at(100))
    assert json.loads(json.dumps(status, allow_nan=False)) == status
    assert status["started_at"] == "2025-03-01T09:00:00Z"
    assert status["events"] == {
        "read": 1500, "accepted": 1490, "late": 6, "duplicate": 3, "conflict": 0, "future": 0, "rejected": 1, "per_second": 150.0,
    }  # fmt: skip
    assert status["latency_ms"] == {"p50": 20.0, "p99": 60.0, "batches": 2}
    assert (status["watermark"], status["watermark_lag_seconds"]) == ("2025-03-01T09:00:40Z", 60.0)
    (rule,) = status["rules"]
    assert rule == {
        "id": "mail.burst", "version": 2, "events": 1490, "scored": 1400, "fired": 5, "findings": 4, "suppressed": 1,
        "unscored": {"no_history": 80, "error": 10}, "errors": 10, "error": "division by zero",
    }  # fmt: skip
    assert status["snapshot"] == {
        "number": 17,
        "kind": "delta",
        "at": "2025-03-01T09:01:30Z",
        "bytes": 8192,
        "seconds": 0.25,
    }
    assert status["state"] == {"entities": {"user_id": 120, "src_ip": 30}, "ids": 9000, "waiting": 12, "bytes": 1 << 20}
    assert status["trouble"] == [{"at": "2025-03-01T09:01:35Z", "what": "mail.burst: division by zero", "times": 1}]


def test_a_new_run_knows_nothing_and_says_so_without_zeros_for_what_is_unknown() -> None:
    status = Meters("0.1.0", 1, START).status(START)
    assert status["mode"] == "recovering"
    assert status["latency_ms"] == {"p50": None, "p99": None, "batches": 0}
    assert status["watermark"] is status["watermark_lag_seconds"] is status["snapshot"] is None
    assert status["rules"] == status["sources"] == status["outputs"] == status["trouble"] == []


@given(
    st.lists(st.tuples(st.floats(0.01, 40), st.integers(1, 5000), st.floats(0.001, 5)), min_size=1, max_size=60),
    st.floats(0, 90),
)
def test_quantiles_are_of_the_last_minute_and_rates_of_the_last_ten_seconds(
    batches: list[tuple[float, int, float]], pause: float
) -> None:
    meters, now, seen = Meters("0.1.0", 1, START), 100.0, []
    for wait, rows, seconds in batches:
        now += wait
        meters.batch(rows, seconds, {}, 0, at(now))
        seen.append((now, rows, seconds))
    now += pause
    status = meters.status(at(now))
    edge = 1e-4  # of times that went through microseconds
    recent = sorted(s for t, _, s in seen if t > now - 60 + edge)
    blurred = {t for t, _, _ in seen if abs(t - now + 60) <= edge}
    if not blurred:
        assert status["latency_ms"]["batches"] == len(recent)
        for part, key in ((0.5, "p50"), (0.99, "p99")):
            expected = recent[math.ceil(part * len(recent)) - 1] if recent else None
            assert status["latency_ms"][key] == (None if expected is None else round(1000 * expected, 3))
    slack = 0.1 + edge  # rates are kept by tenths of a second
    low = sum(r for t, r, _ in seen if t > now - 10 + slack) / 10
    high = sum(r for t, r, _ in seen if t > now - 10 - slack) / 10
    assert low - 0.06 <= status["events"]["per_second"] <= high + 0.06
    assert status["events"]["read"] == sum(r for _, r, _ in seen)


def test_memory_is_bounded_however_many_batches_and_troubles_there_are() -> None:
    meters = Meters("0.1.0", 1, START)
    for i in range(5000):
        meters.batch(1, 0.001, {"accepted": 1}, 0, at(i * 0.001))
        meters.trouble(f"trouble {i} {'x' * 10_000}", at(i))
    status = meters.status(at(5))
    assert (status["batches"], status["latency_ms"]["batches"]) == (5000, 1000)
    assert len(status["trouble"]) == MOST_TROUBLES
    assert max(len(told["what"]) for told in status["trouble"]) <= 500
    assert status["trouble"][-1]["what"].startswith("trouble 4999")
    assert status["events"]["per_second"] == 1000.0


def test_partitions_that_nobody_speaks_of_any_more_go_once_there_are_too_many() -> None:
    meters = Meters("0.1.0", 1, START)
    for i in range(MOST_SOURCES + 5):
        meters.source("drop", f"file {i}", behind=0, unit="bytes")
        meters.source("drop", "file 0", behind=i, unit="bytes")
    told = {s["partition"]: s["behind"] for s in meters.status(START)["sources"]}
    assert len(told) == MOST_SOURCES
    assert told["file 0"] == MOST_SOURCES + 4
    assert "file 1" not in told


def test_the_same_trouble_again_moves_to_now_and_pushes_no_other_out() -> None:
    meters = Meters("0.1.0", 1, START)
    meters.trouble("disk full", at(0))
    for i in range(100):
        meters.trouble("connection refused", at(i))
    assert [(t["what"], t["times"]) for t in meters.status(at(100))["trouble"]] == [
        ("disk full", 1),
        ("connection refused", 100),
    ]
    meters.trouble("disk full", at(200))
    assert [t["what"] for t in meters.status(at(200))["trouble"]] == ["connection refused", "disk full"]


def test_threads_lose_no_batch_and_a_status_is_nobody_elses() -> None:
    meters = Meters("0.1.0", 1, START)

    def work() -> None:
        for i in range(500):
            meters.batch(2, 0.001, {"accepted": 2}, 1, at(i))
            meters.status(at(i))["events"]["read"] = -1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    status = meters.status(at(500))
    assert (status["events"]["read"], status["events"]["accepted"], status["findings"]) == (4000, 4000, 2000)


# ---- /metrics


def samples(page: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found = [s for family in text_string_to_metric_families(page.decode()) for s in family.samples]
    keys = [(s.name, tuple(sorted(s.labels.items()))) for s in found]
    assert len(keys) == len(set(keys)), "twins: Prometheus would refuse the page"
    return dict(zip(keys, (s.value for s in found), strict=True))


DOOR = {"answers": {200: 5, 401: 1}, "events": {"accepted": 900, "review": 2}, "bytes": 12345, "spool_refusals": 1}


def test_every_number_of_the_status_is_there_in_base_units_with_help_and_type() -> None:
    page, content_type = exposition(filled().status(at(100)), DOOR)
    assert content_type.startswith("text/plain")
    families = {f.name: f for f in text_string_to_metric_families(page.decode())}
    assert all(name.startswith("tocsin_") and f.documentation and f.type != "unknown" for name, f in families.items())
    got = samples(page)
    told = {(name, *(value for _, value in labels)): number for (name, labels), number in got.items()}
    assert told["tocsin_up",] == 1
    assert told["tocsin_mode", "live"] == 1
    assert told["tocsin_mode", "stopped"] == 0
    assert {fate: told["tocsin_events_total", fate] for fate in FATES} == {
        "accepted": 1490, "late": 6, "duplicate": 3, "conflict": 0, "future": 0, "rejected": 1,
    }  # fmt: skip
    assert told["tocsin_events_per_second",] == 150
    assert (told["tocsin_batch_seconds", "0.5"], told["tocsin_batch_seconds", "0.99"]) == (0.02, 0.06)
    assert (told["tocsin_batch_seconds_count",], told["tocsin_batch_seconds_sum",]) == (2, 0.08)
    assert told["tocsin_watermark_timestamp_seconds",] == at(40).timestamp()
    assert told["tocsin_watermark_lag_seconds",] == 60
    assert told["tocsin_source_behind_bytes", "mail.jsonl", "mail"] == 4096
    assert told["tocsin_source_behind_messages", "events/0", "bus"] == 7
    assert told["tocsin_partition_watermark_timestamp_seconds", "events/0", "bus"] == at(50).timestamp()
    assert told["tocsin_partition_idle", "events/0", "bus"] == 1
    assert told["tocsin_rule_unscored_total", "no_history", "mail.burst"] == 80
    assert told["tocsin_rule_errors_total", "mail.burst"] == 10
    assert told["tocsin_rule_findings_total", "mail.burst"] == 4
    assert told["tocsin_rule_skipped", "mail.geo"] == 1
    assert told["tocsin_state_entities", "user_id"] == 120
    assert told["tocsin_state_bytes",] == 1 << 20
    assert told["tocsin_snapshot_age_seconds",] == 10
    assert (told["tocsin_snapshot_bytes",], told["tocsin_snapshot_write_seconds",]) == (8192, 0.25)
    assert told["tocsin_dead_letters",] == 3
    assert told["tocsin_output_behind_findings", "alerts"] == 2
    assert told["tocsin_output_failed_total", "alerts"] == 1
    assert told["tocsin_http_answers_total", "401"] == 1
    assert told["tocsin_http_events_total", "review"] == 2
    assert told["tocsin_http_spool_refusals_total",] == 1


def test_a_reader_that_asks_for_openmetrics_gets_it() -> None:
    page, content_type = exposition(filled().status(at(100)), DOOR, "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert "tocsin_events" in {f.name for f in open_families(page.decode())}


@pytest.mark.parametrize(
    "accept", ["", "*/*", "application/openmetrics-text; version=x", "text/plain; version=1;;;q", "é" * 99, ";,;,"]
)
def test_no_accept_header_keeps_the_page_away(accept: str) -> None:
    page, content_type = exposition({}, None, accept)
    assert b"tocsin_up 1.0" in page
    assert ("openmetrics" in content_type) == page.endswith(b"# EOF\n")


def test_what_is_unknown_is_absent_and_no_zero() -> None:
    names = {name for name, _ in samples(exposition(Meters("0.1.0", 1, START).status(START))[0])}
    assert "tocsin_events_total" in names
    assert not [n for n in names if "watermark" in n or "snapshot" in n]
    assert samples(exposition(None)[0]) == {("tocsin_up", ()): 0.0}


HOSTILE = [
    'a"} 1\nevil_metric{x="',
    "\x1b[2J\u202egnp.exe",
    "back\\slash",
    "\ud800 half",
    "",
    "x" * 100_000,
    "line\nbreak",
]


@given(st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=20)), max_size=8, unique=True))
def test_no_name_of_a_partition_breaks_the_page_or_its_neighbours(names: list[str]) -> None:
    meters = filled()
    for name in names:
        meters.source(name, name, behind=1, unit="messages")
    page = exposition(meters.status(at(100)))[0]
    got = samples(page)
    assert not [name for name, _ in got if not name.startswith("tocsin_")]
    assert sum(n for (name, _), n in got.items() if name == "tocsin_source_behind_messages") == 7 + len(names)
    for (_, labels), _value in got.items():
        assert all(len(text) <= LONGEST_LABEL and not has_unsafe(text) for _, text in labels)


def test_partitions_beyond_the_first_hundred_are_summed_as_other_with_the_least_watermark() -> None:
    meters = Meters("0.1.0", 1, START)
    for i in range(MOST_PARTITIONS + 50):
        meters.source("bus", f"p{i:03}", behind=2, unit="messages", watermark=at(i if i < 120 else i - 30))
    got = samples(exposition(meters.status(at(100)))[0])
    behind = {labels: n for (name, labels), n in got.items() if name == "tocsin_source_behind_messages"}
    other = (("partition", "other"), ("source", "other"))
    assert len(behind) == MOST_PARTITIONS + 1
    assert behind[other] == 100
    assert got["tocsin_partition_watermark_timestamp_seconds", other] == at(90).timestamp()


@pytest.mark.parametrize("tail", ["a", "b"])
def test_two_long_names_that_differ_at_their_end_stay_two(tail: str) -> None:
    assert label("x" * 500 + tail) != label("x" * 500)
