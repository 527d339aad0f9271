"""A broker and an engine that die in turns, and engines that share a topic: together they score every message as the batch does.

Layer: tests.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from tests.live_fixtures import as_lines
from tests.live_process import (
    DEADLINE_SECONDS,
    SOAK,
    assert_same,
    engine,
    few_rules,
    kept_scores,
    log_of,
    replay,
    settings,
    write_log,
)
from tools.kafka import Kafka

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.needs("kafka")
CLOSING = {
    "event_id": "closing",
    "timestamp": "2025-06-01T00:00:00Z",
    "kind": "mail",
    "user_id": "zoe",
    "nr_recipients": 1,
    "size": 1,
}
"""It comes last and lets go all that waits before it."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    node = Kafka(tmp_path_factory.mktemp("kafka"))
    node.start()
    try:
        yield node
    finally:
        node.stop()


def send(node: Kafka, topic: str, events: list[dict[str, Any]], partitions: int = 1) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": node.plain, "log_level": 0, "linger.ms": 5, "enable.idempotence": True})
    for event, value in zip(events, as_lines(events), strict=True):
        producer.produce(topic, value, partition=sum(event["user_id"].encode()) % partitions)
        producer.poll(0)
    assert producer.flush(DEADLINE_SECONDS) == 0


def make(node: Kafka, topic: str, partitions: int) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": node.plain, "log_level": 0})
    admin.create_topics([NewTopic(topic, partitions)])[topic].result(DEADLINE_SECONDS)


def source(node: Kafka, topic: str) -> str:
    return (
        f'[[sources]]\nkind = "kafka"\nname = "mail"\nbrokers = "{node.plain}"\ntopic = "{topic}"\n'
        '[sources.options]\n"session.timeout.ms" = 1500\n"heartbeat.interval.ms" = 200\n"reconnect.backoff.max.ms" = 200\n'
    )


def test_broker_and_engine_are_killed_in_turns_and_every_message_is_scored_once(tmp_path: Path, node: Kafka):
    events = log_of(2_500)
    make(node, "turns", 1)
    asked = settings(tmp_path, sources=source(node, "turns"), more=few_rules(tmp_path), rows=100)
    send(node, "turns", events[:800])
    with engine(tmp_path, asked) as running:
        running.until(lambda s: s["events"]["read"] >= 500, "reading")
        running.kill()
    send(node, "turns", events[800:1_200])
    with engine(tmp_path, asked) as running:
        running.until(lambda s: s["events"]["read"] >= 400, "reading on")
        node.kill()
        node.restart()
        send(node, "turns", [*events[1_200:], CLOSING])
        running.until(lambda s: (s["watermark"] or "") > "2025-05", "reading all")
        running.kill()
    with engine(tmp_path, asked) as running:
        running.until(lambda s: s["mode"] == "live" and (s["watermark"] or "") > "2025-05", "recovering")
        running.stop()
    path = write_log(tmp_path / "mail.jsonl", [*events, CLOSING])
    assert_same(tmp_path, replay(path, tmp_path / "few.py"), without="closing")


def test_two_engines_of_a_group_score_together_what_the_batch_scores(tmp_path: Path, node: Kafka):
    """Partitions move when the second comes and when the first is killed; what a kill leaves unsaid is said again, not lost."""
    events = log_of(20_000 if SOAK else 1_500)
    third = len(events) // 3
    make(node, "shared", 4)
    folders = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        settings(folder, sources=source(node, "shared"), more=few_rules(folder), rows=100)
        folders.append(folder)
    send(node, "shared", events[:third], 4)
    with engine(folders[0], "soc.toml") as first, engine(folders[1], "soc.toml") as second:
        first.until(lambda s: s["events"]["read"] > 0, "reading")
        send(node, "shared", events[third : 2 * third], 4)
        second.until(lambda s: s["mode"] == "live" and s["sources"], "joining")
        time.sleep(0.5)
        first.kill()
        send(node, "shared", events[2 * third :], 4)
        wanted = {e["event_id"] for e in events if e["kind"] == "mail"}
        end = time.monotonic() + DEADLINE_SECONDS
        while scored(folders) != wanted:
            assert time.monotonic() < end, f"{len(wanted - scored(folders))} of {len(wanted)} were never scored"
            time.sleep(0.2)
        second.stop()
    path = write_log(tmp_path / "mail.jsonl", events)
    many = pl.col("detection") == "test.many"
    both = pl.concat([kept_scores(f / "state") for f in folders if (f / "state" / "scores").exists()]).filter(many)
    past = replay(path, folders[0] / "few.py").scores["test.many"].sort("event_id")
    together = both.select("event_id", "score", "fired").unique().sort("event_id")
    assert together.equals(past.select("event_id", "score", "fired"))


def scored(folders: list[Path]) -> set[str]:
    found: set[str] = set()
    for folder in folders:
        if list((folder / "state" / "scores").glob("*.arrow")):
            found |= set(kept_scores(folder / "state").filter(detection="test.many")["event_id"])
    return found
