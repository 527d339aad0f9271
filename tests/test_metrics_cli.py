"""`tocsin metrics` and `tocsin report`: what they print is what the metrics say, as of any time, whatever attackers wrote."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from command_line import HOSTILE, assert_inert

from tocsin import metrics, reports
from tocsin.alerts import Alerts
from tocsin.lifecycle import History
from tocsin.sources.simulate import simulate_alerts

pytest_plugins = ["cli_fixtures"]

COMMANDS = {
    "overview": "overview", "funnel": "funnel", "arrivals": "arrivals", "hours": "on_off_hours", "response": "time_to_action",
    "slo": "slo", "assets": "top_assets", "changes": "change_points", "staffing": "staffing", "rules": "rules", "backlog": "backlog",
    "reopened": "reopened", "coverage": "coverage",
}  # fmt: skip


@pytest.fixture(scope="module")
def history() -> History:
    return simulate_alerts(1_500, 35, 5).history


@pytest.fixture(scope="module")
def log(history: History, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("soc") / "soc.db"
    with Alerts(path) as made:
        made.import_history(history)
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_says_what_its_metric_says(
    tocsin, command: str, log: Path, history: History, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    span = ("--since", "2026-06-08", "--until", "2026-06-29", "--zone", "America/Denver")
    done = tocsin("metrics", command, "--log", log, *span, "--json", "--html", page)
    assert (done.code, done.err) == (0, "")
    wish = {"kind": None} if command == "assets" else {}
    m = metrics.of(history, since="2026-06-08", until="2026-06-29", zone="America/Denver")
    expected = json.loads(json.dumps(getattr(m, COMMANDS[command])(**wish).to_dict()))
    told = done.json["answer"]
    assert told["definition"] == expected["definition"]
    assert told["table"] == expected["table"]
    assert told["n"] == expected["n"]
    assert expected["question"].split("?")[0][:20] in page.read_text()
    table = tocsin("metrics", command, "--log", log, *span)
    assert table.code == 0
    assert told["definition"].split(".")[0][:40] in table.out.replace("\n", " ")


def test_a_log_is_seen_as_of_a_time(tocsin, log: Path, history: History) -> None:
    then = tocsin("metrics", "overview", "--log", log, "--as-of", "2026-06-15T12:00", "--json").json["answer"]
    assert then["as_of"] == "2026-06-15T12:00:00Z"
    assert then["n"] < history.alerts.height / 2


def test_a_file_of_alerts_needs_no_log(tocsin, tmp_path: Path) -> None:
    rows = ["Expel Alert ID,Severity,Alert Status,Insert At (T3),First Assigned To User At (T4)"]
    rows += [
        f"a{i},HIGH,CLOSED,2026-10-0{i % 9 + 1}T09:00:00Z,2026-10-0{i % 9 + 1}T09:1{i % 10}:00Z" for i in range(40)
    ]
    file = tmp_path / "export.csv"
    file.write_text("\n".join(rows))
    answer = tocsin("metrics", "response", "--log", file, "--json").json["answer"]
    assert answer["n"] == 40
    assert "first and last times only" in answer["definition"]


def test_what_cannot_be_answered_is_said_in_one_line(
    tocsin, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOCSIN_LOG", raising=False)
    for words, hint in (
        (("metrics", "overview"), "Say --log soc.db, or set TOCSIN_LOG"),
        (("metrics", "overview", "--log", log, "--zone", "Europe/Berln"), 'Did you mean "Europe/Berlin"'),
        (("metrics", "slo", "--log", log, "--target", "hgh=3"), 'Did you mean "high"'),
        (("metrics", "slo", "--log", log, "--target", "high"), "write high=30"),
        (("metrics", "response", "--log", log, "--clock", "first-acton"), 'Did you mean "first-action"'),
        (("metrics", "overview", "--log", log, "--since", "soon"), "is not a time"),
        (("report", "--log", log, "--week", "last"), "is no week"),
    ):
        done = tocsin(*words)
        assert (done.code, done.out) == (2, ""), words
        assert hint in done.err.replace("\n", " "), words
    none = tocsin("metrics", "overview", "--log", tmp_path / "none.db")
    assert (none.code, none.out) == (3, "")
    assert "There is no alert log" in none.err.replace("\n", " ")
    monkeypatch.setenv("TOCSIN_LOG", str(log))
    assert tocsin("metrics", "reopened").code == 0


def test_the_report_is_written_as_page_markdown_json_and_tables(
    tocsin, log: Path, history: History, tmp_path: Path
) -> None:
    folder = tmp_path / "deep" / "report"
    done = tocsin("report", "--log", log, "--week", "2026-W25", "--zone", "America/Denver", "--out", folder)
    assert (done.code, done.err) == (0, "")
    assert "SOC report of week 2026-W25" in done.out
    expected = reports.weekly(history, "2026-W25", zone="America/Denver")
    assert (folder / "report.md").read_text() == expected.to_markdown()
    assert (folder / "report.html").read_text() == expected.to_html()
    assert json.loads((folder / "report.json").read_text())["inputs"] == expected.inputs
    assert {path.stem for path in (folder / "tables").glob("*.csv")} == set(expected.tables())
    again = tmp_path / "again"
    assert tocsin("report", "--log", log, "--week", "2026-06-17", "--zone", "America/Denver", "--out", again).code == 0
    for name in ("report.md", "report.html", "report.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_an_attacker_wrote_acts_on_the_terminal_or_in_a_spreadsheet(
    tocsin, text: str, history: History, tmp_path: Path
) -> None:
    whoever = pl.lit(text)
    alerts = history.alerts.head(60).with_columns(rule_id=whoever, vendor=whoever, entity=whoever, title=whoever)
    path = tmp_path / "soc.db"
    with Alerts(path) as made:
        ids = alerts["alert_id"].implode()
        made.import_history(
            History(alerts, history.activities.filter(pl.col("alert_id").is_in(ids)), journal=history.journal)
        )
    for command in ("rules", "assets", "reopened", "changes"):
        assert_inert(tocsin("metrics", command, "--log", path))
    assert_inert(tocsin("report", "--log", path, "--week", "2026-W23", "--out", tmp_path / "report"))
    for file in (tmp_path / "report" / "tables").glob("*.csv"):
        for line in file.read_text().splitlines():
            assert not line.startswith(("=", "+", "@")), (file.name, line)
