"""Alert logs to test on, in both databases, and a clock that tests turn by hand.

A plugin of pytest: a module that says `pytest_plugins = ["log_fixtures"]` has these fixtures. PostgreSQL is a real server
of Debian's package, started once a session as the user postgres (root may not run it), reachable through a private socket.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from log_rows import Clock

from tocsin.alerts import Alerts

_numbers = itertools.count()


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


class Server:
    """A PostgreSQL server in a folder of its own, and an empty database in it at `url`."""

    def __init__(self) -> None:
        programs = _programs()
        assert programs is not None
        self._programs = programs
        self._owner = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        self._folder = Path(tempfile.mkdtemp(prefix="tocsin-pg-"))
        if self._owner:
            account = pwd.getpwnam("postgres")
            os.chown(self._folder, account.pw_uid, account.pw_gid)
        self._run("initdb", "-U", "tocsin", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
        self.url = f"postgresql://tocsin@/postgres?host={self._folder}"

    def _run(self, program: str, *arguments: str) -> None:
        with (self._folder.parent / f"{self._folder.name}.log").open("ab") as log:
            subprocess.run(
                [self._programs / program, "-D", self._folder / "data", *arguments], check=True, cwd="/", stdout=log, stderr=log,
                **self._owner,
            )  # fmt: skip

    def start(self) -> None:
        """Start it, and return once it serves."""
        # A stop at once may lose nothing that was committed: synchronous_commit stays on. Disks are not what is tested.
        quick = "-c fsync=off -c full_page_writes=off -c max_connections=60"
        self._run("pg_ctl", "-w", "-o", f"-k {self._folder} -h '' -p 5432 {quick}", "start")

    def stop(self) -> None:
        """End it at once, whoever is connected."""
        self._run("pg_ctl", "-m", "immediate", "stop")

    def pids(self) -> list[int]:
        """Its processes: the one that takes connections, and those that serve them."""
        first = int((self._folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        return [first, *map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())]

    def remove(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self._folder)
        (self._folder.parent / f"{self._folder.name}.log").unlink()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of an empty database of a server that lives as long as the session."""
    server = Server()
    server.start()
    try:
        yield server.url
    finally:
        server.stop()
        server.remove()


@pytest.fixture(scope="module")
def stoppable_postgres() -> Iterator[Server]:
    """A server that a test may stop, if it starts it again."""
    made = Server()
    made.start()
    try:
        yield made
    finally:
        made.stop()
        made.remove()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.needs("postgres", "psycopg"))])
def new_log(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Returns the place of a new log each time it is called: a file, or a schema of its own in PostgreSQL."""
    if request.param == "sqlite":
        return lambda: str(tmp_path / f"log{next(_numbers)}.db")
    import psycopg

    url = request.getfixturevalue("postgres")

    def schema() -> str:
        name = f"log{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(url) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"{url}&options=-csearch_path%3D{name}"

    return schema


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(new_log: Callable[[], str], clock: Clock) -> Iterator[Alerts]:
    """A new log whose clock is `clock`."""
    with Alerts(new_log(), clock=clock) as opened:
        yield opened
