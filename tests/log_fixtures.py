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


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of an empty database of a server that lives as long as the session."""
    programs = _programs()
    assert programs is not None
    owner = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="tocsin-pg-"))
    if owner:
        account = pwd.getpwnam("postgres")
        os.chown(folder, account.pw_uid, account.pw_gid)

    def run(program: str, *arguments: str) -> None:
        with (folder.parent / f"{folder.name}.log").open("ab") as log:
            subprocess.run(
                [programs / program, "-D", folder / "data", *arguments], check=True, cwd="/", stdout=log, stderr=log, **owner
            )  # fmt: skip

    run("initdb", "-U", "tocsin", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
    settings = f"-k {folder} -h '' -p 5432 -c fsync=off -c full_page_writes=off -c synchronous_commit=off -c max_connections=60"
    run("pg_ctl", "-w", "-o", settings, "start")
    try:
        yield f"postgresql://tocsin@/postgres?host={folder}"
    finally:
        run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder)
        (folder.parent / f"{folder.name}.log").unlink()


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
