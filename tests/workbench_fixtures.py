"""A stand-in of the Workbench, a clock that is set by hand, and a sleep that only writes down how long it should have been.

A plugin of pytest: a module that says `pytest_plugins = ["workbench_fixtures"]` has these fixtures.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from workbench_example import ALERTS, NOW, SINCE, UNTIL, ZONE

from tocsin.sources.workbench import ApiKey, Workbench
from tocsin.sources.workbench.fetched import Fetched
from tocsin.testing.workbench import StandIn


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn(ALERTS, now=lambda: NOW) as running:
        yield running


@pytest.fixture
def stranger() -> Iterator[StandIn]:
    """Another server, to which nothing of ours may go."""
    with StandIn(ALERTS) as running:
        yield running


@pytest.fixture
def naps() -> list[float]:
    """How long was slept, had it been slept."""
    return []


@pytest.fixture
def connect(server: StandIn, naps: list[float]):
    """Opens connections that never wait, and closes them."""
    opened: list[Workbench] = []

    def open_one(credentials=None, **options) -> Workbench:
        key = credentials or ApiKey(server.api_key)
        settings = {"url": server.url, "clock": lambda: NOW, "sleep": naps.append, "timeout_seconds": 5.0} | options
        opened.append(Workbench(credentials=key, **settings))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def fetch(connect, tmp_path: Path):
    """Fetches ten days into the folder `raw`."""

    def run(into: str | Path = "raw", *, since: str = SINCE, until: str = UNTIL, zone: str = ZONE, evidence: bool = True,
            progress=None, **options) -> Fetched:  # fmt: skip
        return connect(**options).fetch(since, until, zone, into=tmp_path / into, evidence=evidence, progress=progress)

    return run
