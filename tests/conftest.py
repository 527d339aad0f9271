"""What a test may need of the machine, and what becomes of it when that is missing.

Locally a test whose component is missing is skipped and named in a section at the end of the run.
Under ``CI=1`` no component may be missing: every skip, of whatever origin, is a failure. Only the folder of real data
that lies beside some checkouts is no component: nobody who clones the project has it, so its tests are skipped by name.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
SHARED_DATA = CHECKOUT.parent / "shared" / "data"


def _absent_package(name: str) -> str:
    return "" if importlib.util.find_spec(name) else f"the Python package {name} is not installed"


def _absent_program(name: str) -> str:
    return "" if shutil.which(name) else f"the program {name} is not on the PATH"


def _absent_postgres() -> str:
    found = shutil.which("initdb") or next(Path("/usr/lib/postgresql").glob("*/bin/initdb"), None)
    return "" if found else "no PostgreSQL server is installed (`make postgres`)"


def _absent_kafka() -> str:
    from tools.kafka import absent

    return absent() or _absent_package("confluent_kafka")


def _absent_mounts() -> str:
    if os.geteuid() != 0 or not shutil.which("mount"):
        return "file systems are mounted by root alone"
    with tempfile.TemporaryDirectory() as folder:
        asked = ["mount", "-t", "tmpfs", "-o", "size=1m", "tocsin-test", folder]
        refused = subprocess.run(asked, check=False, capture_output=True, text=True)
        if refused.returncode:
            return f"no small disk can be mounted here: {refused.stderr.strip()}"
        subprocess.run(["umount", folder], check=True)
    return ""


# component -> a function that returns why it is missing, or the empty string
COMPONENTS = {
    "root": lambda: "" if os.geteuid() == 0 else "not running as root",
    "mounts": _absent_mounts,
    "shared-data": lambda: "" if SHARED_DATA.is_dir() else "no folder shared/data beside the checkout",
    "git": lambda: _absent_program("git"),
    "make": lambda: _absent_program("make"),
    "duckdb": lambda: _absent_package("duckdb"),
    "pandas": lambda: _absent_package("pandas"),
    "fastexcel": lambda: _absent_package("fastexcel"),
    "mmdb-writer": lambda: _absent_package("mmdb_writer"),
    "plotly": lambda: _absent_package("plotly"),
    "chromium": lambda: _absent_program("chromium"),
    "openssl": lambda: _absent_program("openssl"),
    "postgres": _absent_postgres,
    "kafka": _absent_kafka,
    "psycopg": lambda: _absent_package("psycopg"),
}


def in_ci() -> bool:
    """Return True where a missing component must fail the run."""
    return os.environ.get("CI", "").strip().lower() not in {"", "0", "false", "no"}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for component in marker.args:
            if component not in COMPONENTS:
                known = ", ".join(sorted(COMPONENTS))
                raise pytest.UsageError(
                    f"{item.nodeid} needs {component!r}, which tests/conftest.py does not know: {known}"
                )
            if reason := COMPONENTS[component]():
                pytest.skip(f"needs {component}: {reason}")


def _why_skipped(report: pytest.TestReport | pytest.CollectReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def _must_run(report: pytest.TestReport) -> bool:
    """Return whether a skipped test is a failure here."""
    return in_ci() and not hasattr(report, "wasxfail") and not _why_skipped(report).startswith("needs shared-data")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    if report.skipped and _must_run(report):
        report.outcome = "failed"
        report.longrepr = f"under CI=1 nothing may be missing, yet this was skipped: {_why_skipped(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    report = yield
    if report.skipped and in_ci():
        report.outcome = "failed"
        report.longrepr = f"under CI=1 nothing may be missing, yet this was skipped: {_why_skipped(report)}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if not hasattr(r, "wasxfail")]
    if not skipped:
        return
    reasons: dict[str, list[str]] = {}
    for report in skipped:
        reasons.setdefault(_why_skipped(report), []).append(report.nodeid)
    terminalreporter.section("not run on this machine")
    for reason, tests in sorted(reasons.items()):
        terminalreporter.write_line(f"{len(tests):5} {reason}   e.g. {tests[0]}")
    if not in_ci():
        terminalreporter.write_line("(CI=1 makes each of these a failure, save those that need shared-data)")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; tests that use it are marked ``needs("shared-data")``."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs shared-data: no folder shared/data beside the checkout")
    return SHARED_DATA
