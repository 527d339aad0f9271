"""Receivers, a log, and outputs that lose no time.

A plugin of pytest: a module that says `pytest_plugins = ["output_fixtures"]` has these fixtures.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from log_rows import START, Clock
from receiver import DEADLINE_SECONDS, QUICK, Handler, Receiver, Server

from tocsin.alerts import Alerts
from tocsin.runners.live.delivery import Patience
from tocsin.runners.live.outputs import Outputs
from tocsin.runners.live.settings import JsonlOutput, WebhookOutput


@pytest.fixture
def new_receiver() -> Iterator[Callable[..., Receiver]]:
    """Returns a new receiver each time it is called; with a TLS context it speaks https."""
    servers: list[tuple[Server, Receiver, threading.Thread]] = []

    def start(plan: list[object] | None = None, context: ssl.SSLContext | None = None) -> Receiver:
        receiver = Receiver(plan or [])
        server = Server(("127.0.0.1", 0), type("Planned", (Handler,), {"receiver": receiver}))
        server.daemon_threads = True
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        receiver.url = f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}/alerts?k=hush-hush"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        servers.append((server, receiver, thread))
        return receiver

    yield start
    for server, receiver, thread in servers:
        receiver.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def where(tmp_path: Path) -> str:
    """The place of a new alert log."""
    place = str(tmp_path / "soc.db")
    Alerts(place).disconnect()
    return place


@pytest.fixture
def writer(where: str) -> Iterator[Alerts]:
    with Alerts(where, clock=Clock()) as log:
        yield log


@pytest.fixture
def run(where: str, tmp_path: Path) -> Iterator[Callable[..., Outputs]]:
    """Starts outputs on the log; they are stopped at the end."""
    running: list[Outputs] = []

    def start(*outputs: JsonlOutput | WebhookOutput, patience: Patience = QUICK, **more: object) -> Outputs:
        running.append(Outputs(where, outputs, tmp_path / "outputs", lambda: START, patience=patience, **more).start())
        return running[-1]

    yield start
    for one in running:
        one.stop(DEADLINE_SECONDS)
