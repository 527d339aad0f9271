"""The HTTP door, asked by real clients over real sockets: what is acknowledged is on disk, whatever they send."""

from __future__ import annotations

import errno
import gzip
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from door_fixtures import JSON, LINES, NOW, TOKEN, Client, opened
from prometheus_client.parser import text_string_to_metric_families

from tocsin.errors import SettingsError, SourceError
from tocsin.faces.live import server
from tocsin.faces.live.door import MOST_BODIES_HELD, Door
from tocsin.faces.live.tokens import MOST_FAILURES
from tocsin.runners.live.settings import Door as DoorSettings

EVENT = b'{"event_id": "a", "timestamp": "2025-03-01T08:59:00Z", "user_id": "ada"}'


@pytest.fixture
def client(tmp_path: Path):
    with opened(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory):
    """A door that nobody gets anything through, so that many tests can knock at it."""
    with opened(tmp_path_factory.mktemp("refusing")) as made:
        yield made
        assert made.spool.records() == []


def wait_until(holds, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---- what is taken


@pytest.mark.parametrize(
    ("kind", "body", "records"),
    [
        (JSON, EVENT, [EVENT]),
        (JSON, b"[" + EVENT + b',\r\n {"b":\n 1.50}]', [EVENT, b'{"b":  1.50}']),
        (JSON, b" [] ", []),
        (f"{LINES}; charset=utf-8", EVENT + b"\r\n\n" + EVENT, [EVENT, EVENT]),
        ("application/jsonl", b"", []),
    ],
    ids=["object", "array", "empty array", "lines", "nothing"],
)
def test_events_reach_the_spool_byte_for_byte_before_they_are_acknowledged(
    client: Client, kind: str, body: bytes, records: list[bytes]
) -> None:
    answer = client.push(body, kind)
    assert (answer.status, answer.json["accepted"], answer.json["rejected"]) == (200, len(records), [])
    assert client.spool.records() == records
    assert client.spool.stamps == ([NOW] if records else [])


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("gzip", lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])),
        ("zstd", lambda data: pa.compress(data, "zstd", asbytes=True)),
    ],
    ids=["gzip", "gzip in two members", "zstd"],
)
def test_packed_bodies_are_unpacked(client: Client, encoding: str, pack) -> None:
    answer = client.push(pack((EVENT + b"\n") * 5000), Content_Encoding=encoding)
    assert answer.json["accepted"] == 5000
    assert client.spool.records() == [EVENT] * 5000


def test_a_record_that_is_no_event_goes_to_the_spool_as_it_stands_and_the_sender_is_told(client: Client) -> None:
    poison = [b"nonsense", b"[1]", b"\xff\xfe", b'{"a": 1, "a": 2}', b'{"half": "\\ud800"}', b"[" * 20_000]
    answer = client.push(b"\n".join([EVENT, *poison])).json
    assert (answer["accepted"], answer["accepted_for_review"], answer["rejected"]) == (7, 6, [])
    assert [told["record"] for told in answer["review"]] == [2, 3, 4, 5, 6, 7]
    assert client.spool.records() == [EVENT, *poison]
    in_array = client.push(b'[1, {"a": 1}, null]', JSON).json
    assert (in_array["accepted"], in_array["accepted_for_review"]) == (3, 2)
    assert client.spool.records()[-3:] == [b"1", b'{"a": 1}', b"null"]


def test_an_event_that_is_too_large_is_rejected_with_its_place_and_the_others_are_taken(tmp_path: Path) -> None:
    large = b'{"x": "' + b"x" * 2000 + b'"}'
    with opened(tmp_path, max_event_bytes=1024) as client:
        answer = client.push(b"\n".join([EVENT, large, EVENT]))
        assert (answer.status, answer.json["accepted"], answer.json["rejected_count"]) == (200, 2, 1)
        assert answer.json["rejected"] == [{"record": 2, "reason": f"{len(large):,} bytes; an event may have 1,024"}]
        assert client.spool.records() == [EVENT, EVENT]
        assert client.push(large).status == 413
        assert len(client.spool.records()) == 2


# ---- what is refused whole


@pytest.mark.parametrize(
    ("kind", "body", "encoding"),
    [
        (JSON, b'{"a": 1', None),
        (JSON, b'[{"a": 1},]', None),
        (JSON, b'[{"a": 1}] x', None),
        (JSON, b'{"a": 1} {"b": 2}', None),
        (JSON, b'{"a": NaN}', None),
        (JSON, b'{"a": "line\nend"}', None),
        (JSON, b'{"a": "\xff"}', None),
        (JSON, b"42", None),
        (JSON, b"", None),
        (JSON, b"[" * 100_000, None),
        (JSON, b'{"a": ' + b"9" * 10_000 + b"}", None),
        (LINES, b"no gzip", "gzip"),
        (LINES, b"no zstd", "zstd"),
        (LINES, gzip.compress(EVENT)[:-9], "gzip"),
        (LINES, gzip.compress(EVENT) + b"tail", "gzip"),
        (LINES, gzip.compress(b"") * 2000, "gzip"),
        (LINES, pa.compress(EVENT * 99, "zstd", asbytes=True)[:-9], "zstd"),
        (LINES, b"", "gzip"),
    ],
)
def test_a_broken_body_is_refused_whole_as_a_json_problem(
    refusing: Client, kind: str, body: bytes, encoding: str | None
) -> None:
    answer = refusing.push(body, kind, **({"Content_Encoding": encoding} if encoding else {}))
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == 400


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", f"{JSON}; charset=utf-16"])
def test_other_content_types_are_refused_so_no_form_in_a_browser_can_push(refusing: Client, kind: str) -> None:
    assert refusing.push(EVENT, kind).status == 415


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "deflate"])
def test_other_encodings_are_refused_and_those_that_are_taken_named(refusing: Client, encoding: str) -> None:
    answer = refusing.push(EVENT, Content_Encoding=encoding)
    assert (answer.status, answer.headers["accept-encoding"]) == (415, "gzip, zstd")


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("zstd", lambda data: pa.compress(data, "zstd", asbytes=True))]
)
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, encoding: str, pack) -> None:
    bomb = pack(b" " * 50_000_000)
    assert len(bomb) < 1 << 16
    with opened(tmp_path, max_body_bytes=1 << 16) as client:
        answer = client.push(bomb, Content_Encoding=encoding)
        assert answer.status == 413
        assert "when unpacked" in answer.json["detail"]
        assert client.spool.records() == []


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused_whether_or_not_it_says_its_size(tmp_path: Path, chunked: bool) -> None:
    with opened(tmp_path, max_body_bytes=4096) as client, client.raw() as connection:
        size = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 5000"
        body = b"1388\r\n" + b" " * 5000 + b"\r\n" if chunked else b" " * 5000
        connection.sendall(
            b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n" + size + b"\r\n\r\n"
        )
        connection.sendall(body + b"0\r\n\r\n" * chunked)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413")
        assert client.spool.records() == []


@pytest.mark.parametrize(("size", "code"), [(6_000_000, 413), (3_000_000, 401)])
def test_a_client_that_sends_all_before_it_reads_still_sees_why_it_was_refused(
    tmp_path: Path, size: int, code: int
) -> None:
    with opened(tmp_path, max_body_bytes=4_000_000, token_env="T", environ={"T": TOKEN}) as client:
        token = TOKEN if code == 413 else "wrong"
        try:
            assert client.push(b" " * size, Authorization=f"Bearer {token}").status == code
        except OSError:
            assert code == 401  # who is unknown is not listened to for long


def test_other_paths_and_methods_get_404_and_405(refusing: Client) -> None:
    assert refusing.ask("GET", "/").status == 404
    assert refusing.ask("GET", "/<script>alert(1)</script>").body.find(b"<") == -1
    answer = refusing.ask("GET", "/events")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert refusing.ask("DELETE", "/health").status == 405
    assert refusing.push(EVENT, path="/events/").status == 404


# ---- several sources


def test_with_several_sources_the_path_names_which(tmp_path: Path) -> None:
    with opened(tmp_path, names=("mail", "login")) as client:
        assert client.push(EVENT, path="/events/login").json["accepted"] == 1
        assert client.spools["login"].records() == [EVENT]
        assert client.push(EVENT).status == 404
        assert client.push(EVENT, path="/events/mial").status == 404
        assert client.spools["mail"].records() == []


# ---- tokens


def test_only_the_token_opens_the_door_and_nothing_is_read_before(tmp_path: Path) -> None:
    with opened(tmp_path, token_env="T", environ={"T": TOKEN}) as client:
        for wrong in (
            {},
            {"Authorization": f"Bearer {TOKEN}x"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": "Bearer é"},
        ):
            answer = client.push("broken {", "text/plain", **wrong)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert client.push(EVENT, Authorization=f"bearer  {TOKEN}").status == 200
        assert client.spool.records() == [EVENT]
        assert client.ask("GET", "/health").status == 200


def test_guessing_is_slowed_down_while_the_right_token_passes(tmp_path: Path) -> None:
    with opened(tmp_path, token_env="T", environ={"T": TOKEN}) as client:
        codes = [client.push(EVENT, Authorization=f"Bearer guess {i}").status for i in range(MOST_FAILURES + 2)]
        assert codes == [401] * MOST_FAILURES + [429] * 2
        assert client.push(EVENT, Authorization="Bearer guess").headers["retry-after"] == "60"
        assert client.push(EVENT, Authorization=f"Bearer {TOKEN}").status == 200


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_without_a_token_other_machines_cannot_reach_it(tmp_path: Path, address: str) -> None:
    with pytest.raises(SettingsError, match="need a token"), opened(tmp_path, listen=address):
        pass
    if address.startswith("0"):
        with opened(tmp_path, listen=address, token_env="T", environ={"T": TOKEN}) as client:
            assert client.door.address[1] > 0


@pytest.mark.parametrize(
    ("settings", "environ", "words"),
    [
        ({"token_env": "T"}, {}, "environment variable T is not set"),
        ({"token_env": "T"}, {"T": "short"}, "fewer than 16"),
        ({"token_env": "T"}, {"T": "0123456789 abcdef\u00e9"}, "no header can carry"),
        ({"token_env": "T", "token_file": "x"}, {"T": TOKEN}, "not both"),
        ({"token_file": "absent"}, {}, "No such file"),
        ({"listen": "127.0.0.1"}, {}, "no address and port"),
        ({"listen": "::1:80"}, {}, "no address and port"),
        ({"listen": "127.0.0.1:99999"}, {}, "no address and port"),
        ({"listen": None}, {}, "say where"),
    ],
)
def test_settings_that_cannot_be_kept_are_refused_in_words(
    tmp_path: Path, settings: dict, environ: dict[str, str], words: str
) -> None:
    with pytest.raises(SettingsError, match=words) as caught, opened(tmp_path, environ=environ, **settings):
        pass
    assert TOKEN not in str(caught.value)


def test_a_token_file_must_be_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"), opened(tmp_path, token_file=path):
        pass
    path.chmod(0o600)
    with opened(tmp_path, token_file=path) as client:
        assert client.push(EVENT, Authorization=f"Bearer {TOKEN}").status == 200


def test_an_address_that_is_taken_is_an_error_that_names_it(tmp_path: Path, client: Client) -> None:
    listen = f"127.0.0.1:{client.door.address[1]}"
    with pytest.raises(SettingsError, match="in use"), opened(tmp_path, listen=listen):
        pass


def test_a_page_that_was_led_here_under_another_name_is_not_answered_without_a_token(refusing: Client) -> None:
    assert refusing.push(EVENT, Host="rebound.example").status == 421
    assert refusing.ask("GET", "/metrics", Host="rebound.example:80").status == 421


# ---- durability


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), SourceError("the spool is full")], ids=str
)
def test_a_full_spool_says_503_and_when_to_come_again_and_is_counted(client: Client, error: Exception) -> None:
    client.spool.error = error
    answer = client.push(EVENT)
    assert (answer.status, answer.headers["retry-after"]) == (503, "10")
    assert client.door.counted()["spool_refusals"] == 1
    client.spool.error = None
    assert client.push(EVENT).status == 200
    assert client.spool.records() == [EVENT]


def test_an_error_of_ours_is_a_500_that_shows_nothing_of_its_inside(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.spool.error = ZeroDivisionError("inside")
    answer = client.push(EVENT)
    assert answer.status == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert b"inside" not in answer.body
    wait_until(lambda: any(record.exc_info for record in caplog.records))


def test_no_answer_comes_before_the_records_are_on_disk(client: Client) -> None:
    client.spool.hold = threading.Event()
    with client.raw() as connection:
        head = (
            f"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: {LINES}\r\nContent-Length: {len(EVENT)}\r\n\r\n"
        )
        connection.sendall(head.encode() + EVENT)
        assert client.spool.arrived.acquire(timeout=30)
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        client.spool.hold.set()
        connection.settimeout(30)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        assert client.spool.records() == [EVENT]


SERVE = """
import sys, time
from pathlib import Path
from door_fixtures import opened
with opened(Path(sys.argv[1])) as client:
    print(client.door.address[1], flush=True)
    time.sleep(600)
"""


def test_what_was_acknowledged_is_there_after_the_process_was_killed_right_then(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    for round_number in range(3):
        folder = tmp_path / str(round_number)
        folder.mkdir()
        process = subprocess.Popen([sys.executable, "-c", SERVE, str(folder)], stdout=subprocess.PIPE, env=env)
        try:
            assert process.stdout
            port = int(process.stdout.readline())
            body = b"\n".join(b'{"event_id": "%d"}' % i for i in range(500))
            head = f"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: {LINES}\r\nContent-Length: {len(body)}\r\n\r\n"
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                connection.sendall(head.encode() + body)
                first = connection.recv(12)
                os.kill(process.pid, signal.SIGKILL)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        assert first == b"HTTP/1.1 200"
        assert (folder / "push.spool").read_bytes().splitlines() == body.splitlines()


# ---- many at once


def test_many_senders_at_once_lose_nothing_and_double_nothing(client: Client) -> None:
    def send(sender: int) -> int:
        bodies = [b"\n".join(b'{"event_id": "%d-%d-%d"}' % (sender, k, i) for i in range(50)) for k in range(5)]
        return sum(client.push(body).json["accepted"] for body in bodies)

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(send, range(12))) == 12 * 5 * 50
    ids = [json.loads(record)["event_id"] for record in client.spool.records()]
    assert sorted(ids) == sorted(f"{s}-{k}-{i}" for s in range(12) for k in range(5) for i in range(50))


def test_appends_of_several_senders_wait_together_so_that_a_sync_can_be_shared(client: Client) -> None:
    client.spool.hold = threading.Event()
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(client.push, EVENT) for _ in range(8)]
        assert all(client.spool.arrived.acquire(timeout=30) for _ in range(8))
        client.spool.hold.set()
        assert [answer.result().status for answer in answers] == [200] * 8


def test_a_slow_sender_delays_nobody_and_is_dropped_in_the_end(tmp_path: Path) -> None:
    with opened(tmp_path, body_seconds=0.5) as client, client.raw() as slow:
        head = f"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: {LINES}\r\nContent-Length: 1000\r\n\r\n"
        slow.sendall(head.encode() + b'{"a":')
        for _ in range(5):
            assert client.push(EVENT).status == 200
        assert slow.recv(1 << 16).startswith(b"HTTP/1.1 408")
        assert client.spool.records() == [EVENT] * 5


def test_a_connection_on_which_no_request_comes_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.2)
    with opened(tmp_path) as client, client.raw() as silent, client.raw() as trickling:
        trickling.sendall(b"POST /events HTTP/1.1\r\nHost: local")
        assert silent.recv(1) == b""
        assert trickling.recv(1 << 16) == b""
        assert client.push(EVENT).status == 200


def test_a_sender_that_goes_away_within_its_body_leaves_nothing(client: Client) -> None:
    with client.raw() as connection:
        head = f"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: {LINES}\r\nContent-Length: 1000\r\n\r\n"
        connection.sendall(head.encode() + EVENT + b"\n")
    assert client.push(EVENT).status == 200
    assert client.spool.records() == [EVENT]


def test_bodies_that_wait_together_are_bounded_and_the_next_is_told_to_come_again(tmp_path: Path) -> None:
    size = 1 << 16
    head = (
        f"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: {LINES}\r\nContent-Length: {size}\r\n\r\n".encode()
    )
    with opened(tmp_path, max_body_bytes=size) as client:
        waiting = [client.raw() for _ in range(MOST_BODIES_HELD + 1)]
        try:
            for connection in waiting:
                connection.sendall(head + b" " * (size - 1))
            wait_until(
                lambda: 429 in client.door.counted()["answers"] or client.door._held > MOST_BODIES_HELD * (size - 1)
            )
            answer = client.push(b" " * size)
            assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        finally:
            for connection in waiting:
                connection.close()
        wait_until(lambda: client.door._held == 0)
        assert client.push(EVENT).status == 200


# ---- what it shows


@pytest.mark.parametrize(
    ("status", "code", "mode"),
    [
        ({}, 200, "live"),
        ({"mode": "recovering"}, 200, "recovering"),
        ({"mode": "stopping"}, 503, "stopping"),
        ({"at": (NOW - timedelta(minutes=2)).isoformat()}, 503, "stuck"),
    ],
)
def test_health_is_that_of_the_engine(client: Client, status: dict[str, str], code: int, mode: str) -> None:
    client.status.update(status)
    answer = client.ask("GET", "/health")
    assert (answer.status, answer.json) == (code, {"mode": mode})


def test_before_the_first_status_the_engine_is_starting(tmp_path: Path) -> None:
    door = Door(DoorSettings(listen="127.0.0.1:0"), {}, lambda: None).start()
    try:
        client = Client(door, {}, {})
        assert (client.ask("GET", "/health").status, client.ask("GET", "/metrics").status) == (503, 200)
        assert client.push(EVENT).status == 404
    finally:
        door.stop()


def test_metrics_count_what_was_pushed_and_what_was_answered(client: Client) -> None:
    client.push(EVENT + b"\nnonsense")
    client.push("", "text/plain")
    answer = client.ask("GET", "/metrics")
    found = {
        (s.name, *s.labels.values()): s.value
        for f in text_string_to_metric_families(answer.body.decode())
        for s in f.samples
    }
    assert found["tocsin_http_events_total", "accepted"] == 1
    assert found["tocsin_http_events_total", "review"] == 1
    assert found["tocsin_http_answers_total", "415"] == 1
    assert found["tocsin_batches_total",] == 3


def test_every_answer_has_safe_headers_and_none_names_the_server(client: Client) -> None:
    for answer in (
        client.push(EVENT),
        client.push("{", JSON),
        client.ask("GET", "/nowhere"),
        client.ask("GET", "/metrics"),
    ):
        assert "server" not in answer.headers
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert not answer.headers["content-type"].startswith("text/html")


def test_metrics_and_health_can_be_turned_off(tmp_path: Path) -> None:
    with opened(tmp_path, metrics=False) as client:
        assert (client.ask("GET", "/metrics").status, client.ask("GET", "/health").status) == (404, 404)


def test_the_log_names_requests_and_never_a_token_or_a_body(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with opened(tmp_path, token_env="T", environ={"T": TOKEN}) as client:
        client.push(EVENT, Authorization=f"Bearer {TOKEN}")
        client.push(EVENT, Authorization=f"Basic {TOKEN}")
        client.push(b'{"secret body', JSON, path=f"/events?token={TOKEN}", Authorization=f"Bearer {TOKEN}")
        client.spool.error = OSError(errno.ENOSPC, "No space left on device")
        client.push(EVENT, Authorization=f"Bearer {TOKEN}")
        client.spool.error = ZeroDivisionError("x")
        client.push(EVENT, Authorization=f"Bearer {TOKEN}")
        assert TOKEN not in repr(vars(client.door)) + repr(vars(client.door._gate))
    told = [record.__dict__["fields"] for record in list(caplog.records) if record.getMessage() == "request"]
    assert [fields["status"] for fields in told] == [200, 401, 400, 503, 500]
    assert told[0]["accepted"] == 1
    everything = caplog.text + repr([record.__dict__ for record in caplog.records])
    assert TOKEN not in everything
    assert "ada" not in everything
    assert "secret body" not in everything


def test_stopping_takes_nothing_more_but_answers_what_is_being_written(tmp_path: Path) -> None:
    with opened(tmp_path) as client:
        client.spool.hold = threading.Event()
        with ThreadPoolExecutor(2) as pool:
            answer = pool.submit(client.push, EVENT)
            assert client.spool.arrived.acquire(timeout=30)
            stopped = pool.submit(client.door.stop)
            client.spool.hold.set()
            stopped.result(30)
            assert answer.result(30).status == 200
        with pytest.raises(OSError):
            client.push(EVENT)
        assert client.spool.records() == [EVENT]
