"""A Kafka topic as a live source, against a real broker that is killed, emptied and asked for passwords."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.errors import SettingsError, SourceError
from tocsin.sources.live import LostError, Piece, Span
from tocsin.sources.live.kafka import KafkaTopic
from tocsin.sources.live.kafka_pieces import make_piece
from tools.kafka import PASSWORD, USER, Kafka

pytestmark = pytest.mark.needs("kafka")

PATIENCE_SECONDS = 40
MOST_ROWS, MOST_BYTES = 10_000, 16 << 20
QUICK = {"session.timeout.ms": 1500, "heartbeat.interval.ms": 200, "topic.metadata.refresh.interval.ms": 300}


class Cluster:
    """The broker, and what a test does to it."""

    def __init__(self, node: Kafka) -> None:
        from confluent_kafka import Producer
        from confluent_kafka.admin import AdminClient

        self.node = node
        quiet = {"bootstrap.servers": node.plain, "log_level": 0, "reconnect.backoff.max.ms": 200}
        self.admin = AdminClient(quiet)
        self.producer = Producer({**quiet, "linger.ms": 5})
        self.topics = 0

    def make(self, partitions: int = 1, **config: str) -> str:
        from confluent_kafka.admin import NewTopic

        self.topics += 1
        topic = f"topic-{self.topics}"
        self.admin.create_topics([NewTopic(topic, partitions, config=config)])[topic].result(PATIENCE_SECONDS)
        return topic

    def make_again(self, topic: str) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import NewTopic

        self.admin.delete_topics([topic])[topic].result(PATIENCE_SECONDS)

        def made() -> bool:
            try:
                self.admin.create_topics([NewTopic(topic, 1)])[topic].result(PATIENCE_SECONDS)
            except KafkaException:
                return False
            return True

        until(made)

    def send(self, topic: str, values: list[bytes | None], partition: int = 0) -> None:
        for value in values:
            self.producer.produce(topic, value, key=b"k", partition=partition)
        assert self.producer.flush(PATIENCE_SECONDS) == 0

    def delete_before(self, topic: str, offset: int) -> None:
        from confluent_kafka import TopicPartition

        for done in self.admin.delete_records([TopicPartition(topic, 0, offset)]).values():
            done.result(PATIENCE_SECONDS)

    def committed(self, topic: str, group: str) -> dict[int, int]:
        from confluent_kafka import ConsumerGroupTopicPartitions

        asked = self.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
        found = asked[group].result(PATIENCE_SECONDS).topic_partitions
        return {p.partition: p.offset for p in found if p.topic == topic}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    node = Kafka(tmp_path_factory.mktemp("kafka"))
    node.start()
    try:
        yield Cluster(node)
    finally:
        node.stop()


@pytest.fixture
def source(cluster: Cluster) -> Iterator[Callable[..., KafkaTopic]]:
    """Makes sources of the plain door; all are closed at the end."""
    with ExitStack() as stack:

        def make(topic: str, **more: object) -> KafkaTopic:
            settings = {"brokers": cluster.node.plain, "group": f"g-{topic}", "options": QUICK, **more}
            return stack.enter_context(KafkaTopic("mail", topic=topic, **settings))

        yield make


def until(holds: Callable[[], object]) -> None:
    late = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < late, "it did not come true"


def values(*numbers: int) -> list[bytes]:
    return [b'{"n": %d}' % n for n in range(*numbers)]


def lines(pieces: list[Piece]) -> list[bytes]:
    return [line for piece in pieces for line in piece.data.splitlines()]


def read(source: KafkaTopic, rows: int, most_rows: int = MOST_ROWS, most_bytes: int = MOST_BYTES) -> list[Piece]:
    """Poll until so many records came; nothing may come beyond them."""
    found: list[Piece] = []

    def enough() -> bool:
        found.extend(source.poll(most_rows, most_bytes))
        return sum(p.rows for p in found) >= rows

    until(enough)
    assert sum(p.rows for p in found) == rows
    return found


def positions(pieces: list[Piece]) -> dict[str, dict[str, object]]:
    return {p.span.partition: p.span.stop for p in pieces}


def what_is_lost(source: KafkaTopic, of_them: Callable[[], object]) -> str:
    with pytest.raises(LostError) as caught:
        until(lambda: of_them() and False)
    return str(caught.value)


def test_messages_come_as_lines_that_are_numbered_by_their_offsets(cluster, source):
    topic = cluster.make(2)
    cluster.send(topic, values(3), partition=0)
    cluster.send(topic, values(3, 5), partition=1)
    follow = source(topic)
    follow.open({})
    pieces = {p.span.partition: p for p in read(follow, 5)}
    assert pieces["0"].data == b'{"n": 0}\n{"n": 1}\n{"n": 2}\n'
    assert (pieces["1"].prefix, pieces["1"].first_line, pieces["1"].numbers) == ("mail-1", 0, None)
    assert (pieces["1"].span.start["offset"], pieces["1"].span.stop["offset"]) == (0, 2)
    assert follow.poll(10, 1000) == []
    assert follow.behind() == {"0": 0, "1": 0}
    assert not follow.ended
    assert follow.told() == []


def test_a_poll_gives_no_more_than_it_was_asked_for_and_a_large_record_comes_alone(cluster, source):
    topic = cluster.make()
    sent = [*values(7), b'"' + b"x" * 5000 + b'"', *values(7, 20)]
    cluster.send(topic, sent)
    follow = source(topic)
    follow.open({})
    pieces = read(follow, 21, most_rows=4, most_bytes=100)
    assert lines(pieces) == sent
    assert max(p.rows for p in pieces) == 4
    assert [p.rows for p in pieces if len(p.data) > 104] == [1]
    assert all(a.span.stop == b.span.start for a, b in pairwise(pieces))


def test_what_is_no_line_is_made_one_or_set_aside(cluster, source):
    topic = cluster.make()
    cluster.send(topic, [b'{"a":\n1}', None, b"", b"\xff\x00 not JSON\r", b"x" * 70_001, b"{}"])
    follow = source(topic, max_record_bytes=70_000)
    follow.open({})
    (piece,) = read(follow, 4)
    assert piece.data == b'{"a": 1}\n\xff\x00 not JSON\r\n{}\n'
    assert piece.numbers == (0, 3, 5)
    ((number, kept, why),) = piece.faults
    assert (number, kept) == (4, b"x" * 65_536)
    assert "70,001 bytes" in why
    assert piece.span.stop["offset"] == 6
    assert follow.take(piece.span) == piece


def test_messages_without_a_record_move_the_position(cluster, source):
    topic = cluster.make()
    cluster.send(topic, [None, None])
    follow = source(topic)
    follow.open({})
    found: list[Piece] = []
    until(lambda: found.extend(follow.poll(10, 1000)) or found)
    assert (found[0].rows, found[0].data, found[-1].span.stop["offset"]) == (0, b"", 2)


def test_a_restart_goes_on_after_the_saved_positions(cluster, source):
    topic = cluster.make(3)
    for partition in range(3):
        cluster.send(topic, values(partition * 100, partition * 100 + 100), partition)
    whole = source(topic, group="other")
    whole.open({})
    expected = lines(read(whole, 300))
    first = source(topic)
    first.open({})
    before = []
    until(lambda: before.extend(first.poll(70, MOST_BYTES)) or sum(p.rows for p in before) >= 140)
    first.close()
    second = source(topic)
    second.open(positions(before))
    after = read(second, 300 - sum(p.rows for p in before))
    assert sorted(lines(before) + lines(after)) == sorted(expected)
    assert all(p.span.start == positions(before).get(p.span.partition, p.span.start) for p in after[:1])


def test_every_span_is_read_again_byte_for_byte_in_any_order_and_over_several_pieces(cluster, source):
    topic = cluster.make(3)
    for partition in range(3):
        cluster.send(topic, [b'{"n": %d, "pad": "%s"}' % (n, b"x" * (n % 50)) for n in range(2000)], partition)
    follow = source(topic)
    follow.open({})
    pieces = read(follow, 6000, most_rows=177)
    again = source(topic)
    assert [again.take(p.span) for p in pieces] == pieces
    again.open(positions(pieces))
    assert again.poll(10, 1000) == []
    order = random.Random(7).sample(pieces, 12)
    assert [again.take(p.span) for p in order] == order
    own = [p for p in pieces if p.span.partition == "1"]
    joined = again.take(Span("mail", "1", own[0].span.start, own[-1].span.stop))
    assert joined.data == b"".join(p.data for p in own)
    assert again.take(Span("mail", "1", None, own[0].span.stop)).data == own[0].data


def test_lines_that_wait_for_their_turn_give_way_when_they_are_too_many(cluster, source, monkeypatch):
    monkeypatch.setattr("tocsin.sources.live.kafka_again._HELD_BYTES", 2000)
    topic = cluster.make(3)
    for partition in range(3):
        cluster.send(topic, values(500), partition)
    follow = source(topic)
    follow.open({})
    pieces = read(follow, 1500, most_rows=100)
    assert [follow.take(p.span) for p in pieces] == pieces


def test_a_broker_that_is_killed_costs_no_message_and_gives_none_twice(cluster, source):
    topic = cluster.make(2)
    follow = source(topic)
    follow.open({})
    cluster.send(topic, values(500), partition=0)
    pieces = read(follow, 500, most_rows=100)
    cluster.send(topic, values(500, 900), partition=1)
    pieces += follow.poll(100, MOST_BYTES)
    cluster.node.kill()
    words: list[str] = []
    until(lambda: pieces.extend(follow.poll(100, MOST_BYTES)) or words.extend(follow.told()) or words)
    cluster.node.start()
    cluster.send(topic, values(900, 1000), partition=0)
    pieces += read(follow, 1000 - sum(p.rows for p in pieces))
    assert sorted(lines(pieces)) == sorted(values(1000))
    follow.release(positions(pieces))
    until(lambda: follow.poll(10, 10) or cluster.committed(topic, f"g-{topic}") == {0: 600, 1: 400})
    words += follow.told()
    assert sum("does not answer" in w for w in words) == 1
    assert sum("answers again" in w for w in words) == 1


def test_partitions_that_others_read_are_told_and_one_process_alone_sees_all_again(cluster, source):
    topic = cluster.make(4)
    one, two = source(topic), source(topic)
    one.open({})
    for partition in range(4):
        cluster.send(topic, values(partition * 100, partition * 100 + 50), partition)
    pieces = read(one, 200)
    assert one.told() == []
    one.release(positions(pieces))
    until(lambda: one.poll(10, 10) or len(cluster.committed(topic, f"g-{topic}")) == 4)
    two.open({})
    until(lambda: one.poll(9, 9) or two.poll(9, 9) or len(one.behind()) == len(two.behind()) == 2)
    gone = one.revoked()
    assert sorted([*gone, *one.behind()]) == ["0", "1", "2", "3"]
    assert len(gone) == 2
    assert set(gone) == set(two.behind())
    (word,) = one.told()
    assert "2 of 4 partitions" in word
    assert "measures cover only those" in word
    for partition in range(4):
        cluster.send(topic, values(partition * 100 + 50, partition * 100 + 100), partition)
    others: list[Piece] = []
    until(
        lambda: (
            pieces.extend(one.poll(100, MOST_BYTES))
            or others.extend(two.poll(100, MOST_BYTES))
            or sum(p.rows for p in [*pieces, *others]) >= 400
        )
    )
    assert sorted(lines([*pieces, *others])) == sorted(values(400))
    two.release(positions(others))
    two.close()
    # What it did not read itself is not in its measures: it is read now.
    until(lambda: pieces.extend(one.poll(100, MOST_BYTES)) or sum(p.rows for p in pieces) >= 400)
    assert sorted(lines(pieces)) == sorted(values(400))
    assert one.revoked() == []


def test_a_process_without_positions_begins_where_its_group_committed(cluster, source):
    topic = cluster.make()
    cluster.send(topic, values(10))
    first = source(topic)
    first.open({})
    pieces = read(first, 10, most_rows=4)
    first.release({"0": pieces[0].span.stop, "7": {"offset": 3, "read": 3}})
    until(lambda: first.poll(10, 10) or cluster.committed(topic, f"g-{topic}") == {0: 4})
    first.close()
    second = source(topic)
    second.open({})
    assert lines(read(second, 6)) == values(4, 10)
    # Its own position comes before the group's, wherever that is.
    third = source(topic)
    second.close()
    third.open({"0": {"offset": 2, "read": 2}})
    assert lines(read(third, 8)) == values(2, 10)


def test_a_source_that_starts_at_the_end_misses_nothing_after_it_first_looked(cluster, source):
    from confluent_kafka.admin import NewPartitions

    topic = cluster.make()
    cluster.send(topic, values(5))
    first = source(topic, start="end")
    first.open({})
    until(lambda: first.poll(10, 10) or cluster.committed(topic, f"g-{topic}") == {0: 5})
    first.close()
    cluster.send(topic, values(5, 8))
    second = source(topic, start="end")
    second.open({})
    assert lines(read(second, 3)) == values(5, 8)
    cluster.admin.create_partitions([NewPartitions(topic, 2)])[topic].result(PATIENCE_SECONDS)
    until(lambda: 1 in cluster.producer.list_topics(topic).topics[topic].partitions)
    cluster.send(topic, values(8, 10), partition=1)
    assert lines(read(second, 2)) == values(8, 10)


def test_a_broker_that_goes_silent_while_it_gives_us_partitions_is_asked_again(cluster, source, monkeypatch):
    from tocsin.sources.live.kafka_watch import Watch

    topic = cluster.make()
    cluster.send(topic, values(5))
    asked, ask = [], Watch.ask

    def silent_at_first(watch: Watch) -> None:
        asked.append(1)
        if len(asked) == 1:
            raise TimeoutError
        ask(watch)

    monkeypatch.setattr(Watch, "ask", silent_at_first)
    follow = source(topic)
    follow.open({})
    assert lines(read(follow, 5)) == values(5)
    assert len(asked) == 2


def test_a_process_that_is_left_with_nothing_says_so(cluster, source):
    topic = cluster.make()
    one, two = source(topic), source(topic)
    one.open({})
    until(lambda: one.poll(9, 9) or one.behind())
    two.open({})
    until(lambda: one.poll(9, 9) or two.poll(9, 9) or any("of 1 partitions" in w for w in one.told() + two.told()))
    until(lambda: one.poll(9, 9) or two.poll(9, 9) or len(one.behind()) + len(two.behind()) == 1)
    assert one.revoked() == ([] if one.behind() else ["0"])
    assert two.revoked() == []


def test_messages_deleted_after_our_position_are_an_error_and_never_a_jump(cluster, source):
    topic = cluster.make()
    cluster.send(topic, values(100))
    first = source(topic)
    first.open({})
    pieces = read(first, 100, most_rows=10)
    first.close()
    cluster.delete_before(topic, 60)
    second = source(topic)
    second.open({"0": pieces[2].span.stop})
    words = what_is_lost(second, lambda: second.poll(10, 1000))
    for part in (topic, "partition 0", "from offset 30", "60 to 99", "retention.ms"):
        assert part in words
    with pytest.raises(LostError):  # and it stays one
        second.poll(10, 1000)
    third = source(topic)
    assert third.take(pieces[7].span) == pieces[7]
    words = what_is_lost(third, lambda: third.take(pieces[5].span))
    assert "from offset 50" in words


def test_a_log_that_ends_before_our_position_is_an_error(cluster, source):
    topic = cluster.make()
    cluster.send(topic, values(10))
    follow = source(topic)
    follow.open({"0": {"offset": 40, "read": 40}})
    assert "0 to 9" in what_is_lost(follow, lambda: follow.poll(10, 1000))
    again = source(topic)
    with pytest.raises(LostError, match="of its 10 messages before offset 15 only 5"):
        again.take(Span("mail", "0", {"offset": 5, "read": 5}, {"offset": 15, "read": 15}))


def test_messages_that_compaction_took_between_two_positions_are_an_error(cluster, source):
    topic = cluster.make()
    cluster.send(topic, values(10))
    follow = source(topic)
    for stop in (8, 10):
        with pytest.raises(LostError, match=f"of its {stop - 2} messages before offset {stop} only {stop - 3}"):
            follow.take(Span("mail", "0", {"offset": 3, "read": 3}, {"offset": stop, "read": stop + 1}))


def test_a_topic_made_anew_is_another_topic(cluster, source):
    topic = cluster.make()
    cluster.send(topic, values(10))
    first = source(topic)
    first.open({})
    (piece,) = read(first, 10)
    first.close()
    watching = source(topic, group="watching")
    watching.open({"0": piece.span.stop})
    until(lambda: watching.poll(10, 1000) or watching.behind())
    cluster.make_again(topic)
    cluster.send(topic, values(20))
    assert "made anew" in what_is_lost(watching, lambda: watching.poll(10, 1000))
    second = source(topic)
    with pytest.raises(LostError, match="made anew"):
        second.open({"0": piece.span.stop})
    third = source(topic)
    with pytest.raises(LostError, match="made anew"):
        third.take(piece.span)


def test_what_a_transaction_took_back_is_not_seen_and_the_gaps_do_no_harm(cluster, source):
    from confluent_kafka import Producer

    topic = cluster.make()
    writer = Producer({"bootstrap.servers": cluster.node.plain, "transactional.id": "t", "log_level": 0})
    writer.init_transactions()
    for at in range(4):
        writer.begin_transaction()
        for value in values(at * 10, at * 10 + 10):
            writer.produce(topic, value, partition=0)
        writer.flush()
        writer.abort_transaction() if at % 2 else writer.commit_transaction()
    follow = source(topic)
    follow.open({})
    pieces = read(follow, 20, most_rows=13)
    assert lines(pieces) == [*values(10), *values(20, 30)]
    numbers = [n for p in pieces for n in p.numbers or range(p.first_line, p.first_line + p.rows)]
    assert numbers == [*range(10), *range(22, 32)]
    assert [follow.take(p.span) for p in pieces] == pieces


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_packed_batches_are_read(cluster, source, codec):
    from confluent_kafka import Producer

    topic = cluster.make()
    writer = Producer({"bootstrap.servers": cluster.node.plain, "compression.type": codec, "linger.ms": 20})
    for value in values(1000):
        writer.produce(topic, value)
    assert writer.flush(PATIENCE_SECONDS) == 0
    follow = source(topic)
    follow.open({})
    assert lines(read(follow, 1000)) == values(1000)


@pytest.mark.parametrize("door", ["SCRAM-SHA-512", "PLAIN", "certificate"])
def test_a_broker_behind_tls_is_read_by_who_may(cluster, source, door):
    node = cluster.node
    if door == "certificate":
        shown = {"certificate_file": node.client_certificate, "key_file": node.client_key}
        more = {"brokers": node.mutual, "security": "ssl", "ca_file": node.certificate, **shown}
    else:
        login = {"sasl_mechanism": door, "user": USER, "password": PASSWORD}
        more = {"brokers": node.secure, "security": "sasl_ssl", "ca_file": node.certificate, **login}
    topic = cluster.make()
    cluster.send(topic, values(10))
    follow = source(topic, **more)
    follow.open({})
    pieces = read(follow, 10)
    assert lines(pieces) == values(10)
    assert [follow.take(p.span) for p in pieces] == pieces


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
def test_a_wrong_password_is_told_and_not_shown(cluster, source, mechanism):
    login = {"user": USER, "password": "wrong-hunter2", "sasl_mechanism": mechanism, "security": "sasl_ssl"}
    follow = source(cluster.make(), brokers=cluster.node.secure, ca_file=cluster.node.certificate, **login)
    with pytest.raises(SourceError, match=r"does not let us in.*user, password and mechanism") as caught:
        follow.open({})
    for shown in (str(caught.value), repr(follow), repr(caught.value), *follow.told()):
        assert "hunter2" not in shown


def test_a_broker_that_nobody_vouches_for_is_not_trusted(cluster, source):
    login = {"user": USER, "password": PASSWORD, "security": "sasl_ssl"}
    stranger = cluster.node.client_certificate
    follow = source(cluster.make(), brokers=cluster.node.secure, ca_file=stranger, **login)
    with pytest.raises(SourceError, match=r"does not let us in.*ca_file"):
        follow.open({})


def test_a_topic_that_is_not_there_is_an_error_and_a_broker_that_is_not_is_waited_for(cluster, source):
    with pytest.raises(SourceError, match=r"no topic 'nowhere'\. Create it"):
        source("nowhere").open({})
    silent = source("nowhere", brokers="127.0.0.1:9", patience_seconds=0.2)
    silent.open({})
    assert silent.poll(10, 1000) == []
    assert any("does not answer" in w for w in silent.told())
    with pytest.raises(SourceError, match="Nothing is lost yet"):
        silent.take(Span("mail", "0", {"offset": 0, "read": 0}, {"offset": 1, "read": 1}))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"options": {"auto.offset.reset": "latest"}}, "'auto.offset.reset' is not free"),
        ({"options": {"sasl.password": "x"}}, "is a secret"),
        ({"options": {"group.id": "x"}}, "'group.id' is not free"),
        ({"security": "sasl_ssl", "user": "x"}, "needs a user and a password"),
    ],
)
def test_settings_that_would_break_a_promise_are_refused(more, words):
    with pytest.raises(SettingsError, match=words):
        KafkaTopic("mail", brokers="x:1", topic="t", **more)


def test_settings_that_the_client_does_not_know_are_an_error_with_words(source):
    with pytest.raises(SourceError, match="Check the settings"):
        source("t", options={"no.such.setting": 1}).open({})
    with pytest.raises(SourceError, match="Check the settings"):
        source("t", security="ssl", ca_file=Path("/nonexistent/ca.pem")).open({})


def test_without_the_client_package_its_name_is_told(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "confluent_kafka", None)
    with pytest.raises(SourceError, match=r"pip install tocsin\[kafka\]"):
        KafkaTopic("mail", brokers="x:1", topic="t")


class Message:
    def __init__(self, offset: int, value: bytes | None) -> None:
        self._offset, self._value = offset, value

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes | None:
        return self._value


def test_what_comes_twice_around_a_rebalance_is_given_once():
    follow = KafkaTopic("mail", brokers="x:1", topic="t")
    sent = [Message(o, b"%d" % o) for o in (3, 4, 5, 4, 5, 6)]
    assert follow._piece(0, sent[:2]).data == b"3\n4\n"
    assert follow._piece(0, sent).data == b"5\n6\n"
    assert follow._piece(0, sent) is None


@given(st.lists(st.tuples(st.integers(1, 3), st.none() | st.binary(max_size=9)), min_size=1), st.integers(1, 9))
def test_a_piece_has_each_value_once_under_its_own_offset(steps, most_bytes):
    offsets = list(accumulate(step for step, _ in steps))
    sent = [value for _, value in steps]
    piece = make_piece("m", 0, {"offset": 1, "read": 0}, list(map(Message, offsets, sent)), most_bytes)
    numbers = piece.numbers or range(piece.first_line, piece.first_line + piece.rows - len(piece.faults))
    got = dict(zip(numbers, piece.data.split(b"\n")[:-1], strict=True)) | {n: kept for n, kept, _ in piece.faults}
    large = {o for o, v in zip(offsets, sent, strict=True) if v and len(v) > most_bytes}
    expected = {o: v if o in large else v.replace(b"\n", b" ") for o, v in zip(offsets, sent, strict=True) if v}
    assert got == expected
    assert piece.rows == len(expected)
    assert {n for n, _, _ in piece.faults} == large
    assert piece.span.stop == {"offset": offsets[-1] + 1, "read": len(sent)}


def test_the_numbers_of_lines_are_left_out_only_where_they_follow_each_other():
    start = {"offset": 0, "read": 0}
    without = [Message(4, b"a"), Message(5, b"b"), Message(6, b"c")]
    assert make_piece("m", 0, start, without, 9).numbers is None
    assert make_piece("m", 0, start, without, 9).first_line == 4
    assert make_piece("m", 0, start, [without[0], without[2]], 9).numbers == (4, 6)
    assert make_piece("m", 0, start, [without[0], Message(5, None), without[2]], 9).numbers == (4, 6)
