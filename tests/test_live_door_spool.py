"""The HTTP door before the real spool: what it acknowledged is read by the next engine, and a full spool empties again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from door_fixtures import LINES, NOW, Client

from tocsin.faces.live.door import Door
from tocsin.runners.live.settings import Door as DoorSettings
from tocsin.sources.live.spool import Spool
from tocsin.sources.live.spooled import SpoolSource


def read_all(folder: Path) -> tuple[list[bytes], list[object]]:
    """What a source reads from a spool: the records, and when each piece was received."""
    spool = Spool(folder)
    source = SpoolSource("push", spool)
    source.open({})
    records: list[bytes] = []
    stamps: list[object] = []
    while pieces := source.poll(10_000, 1 << 20):
        for piece in pieces:
            records += piece.data.splitlines()
            stamps.append(piece.received_at)
    source.close()
    spool.close()
    return records, stamps


def opened(folder: Path, **options: int) -> tuple[Client, Spool]:
    spool = Spool(folder, **options)
    door = Door(DoorSettings(listen="127.0.0.1:0"), {"push": spool}, lambda: None, clock=lambda: NOW)
    return Client(door.start(), {}, {}), spool


def test_records_are_read_as_they_were_sent_with_the_time_they_were_received(tmp_path: Path) -> None:
    client, spool = opened(tmp_path / "spool")
    sent = [b'{"event_id": "a"}', b"no event", b'{"event_id":   "b"}']
    assert client.push(b"\n".join(sent)).json["accepted"] == 3
    client.door.stop()
    spool.close()
    records, stamps = read_all(tmp_path / "spool")
    assert records == sent
    assert set(stamps) == {NOW}


def test_many_senders_at_once_share_the_spool_and_lose_nothing(tmp_path: Path) -> None:
    client, spool = opened(tmp_path / "spool")
    bodies = [b"\n".join(b'{"event_id": "%d-%d"}' % (k, i) for i in range(100)) for k in range(60)]
    with ThreadPoolExecutor(12) as pool:
        assert all(answer.status == 200 for answer in pool.map(client.push, bodies))
    client.door.stop()
    spool.close()
    records, _ = read_all(tmp_path / "spool")
    assert sorted(records) == sorted(line for body in bodies for line in body.splitlines())


def test_a_full_spool_is_a_503_that_passes_once_the_engine_has_let_go(tmp_path: Path) -> None:
    client, spool = opened(tmp_path / "spool", max_bytes=40_000)
    body = b'{"event_id": "x"}\n' * 200
    taken = 0
    while (answer := client.push(body)).status == 200:
        taken += answer.json["accepted"]
        assert taken < 40_000
    assert (answer.status, answer.headers["retry-after"]) == (503, "10")
    spool.release(spool.end.number)
    assert client.push(body).status == 200
    client.door.stop()
    spool.close()


SERVE = """
import sys, time
from pathlib import Path
from test_live_door_spool import opened
client, _ = opened(Path(sys.argv[1]))
print(client.door.address[1], flush=True)
time.sleep(600)
"""


def test_what_was_acknowledged_is_read_after_the_process_was_killed_right_then(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    expected: list[bytes] = []
    for round_number in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(tmp_path / "spool")], stdout=subprocess.PIPE, env=env
        )
        try:
            assert process.stdout
            port = int(process.stdout.readline())
            lines = [b'{"event_id": "%d-%d"}' % (round_number, i) for i in range(500)]
            body = b"\n".join(lines)
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
        expected += lines
        assert read_all(tmp_path / "spool")[0] == expected
