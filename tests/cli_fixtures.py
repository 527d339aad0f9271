"""A way to run the command line in this process, small simulated data, and a hostile source.

A plugin of pytest: a module that says `pytest_plugins = ["cli_fixtures"]` has these fixtures.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from command_line import ESCAPE, HOSTILE, Done

from tocsin.faces import cli
from tocsin.sources.simulate.run import simulate_to


@pytest.fixture
def tocsin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Runs a command in this process; `width` is that of the terminal it believes to have."""

    def run(*arguments: object, width: int = 100) -> Done:
        monkeypatch.setenv("COLUMNS", str(width))
        capsys.readouterr()
        code = cli.main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return run


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    simulate_to(folder, users=60, days=14, seed=7)
    return folder


@pytest.fixture
def lookups(simulated: Path) -> list[str]:
    return ["--threats", str(simulated / "threats.csv"), "--geo", str(simulated / "geo.csv.gz")]


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Mails whose every text was written by somebody who means harm; each of them fires."""
    start = datetime(2026, 3, 2, 9, tzinfo=UTC)
    rows = [
        {
            "timestamp": start + timedelta(minutes=i),
            "event_id": f"{text}-{i}",
            "kind": "mail",
            "user_id": text,
            "src_ip": "192.0.2.1",
            "nr_recipients": 50,
            "attachments": [f"{text}.exe"],
            f"field {ESCAPE}": text,
        }
        for i, text in enumerate(HOSTILE)
    ]
    rows.append(rows[1] | {"event_id": "rejected", "src_ip": HOSTILE[1]})
    path = tmp_path / "hostile.parquet"
    pl.DataFrame(rows).write_parquet(path)
    return path
