"""`tocsin alerts`: triage from a terminal, with whoever did it named, and nothing an attacker wrote acting on it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from command_line import HOSTILE, assert_inert, rule_file
from log_rows import findings, minute

from tocsin.alerts import Alerts
from tocsin.lifecycle import History

pytest_plugins = ["cli_fixtures", "log_fixtures"]


@pytest.fixture
def soc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log of two alerts, named in the environment, and an actor too."""
    path = tmp_path / "soc.db"
    with Alerts(path) as log:
        log.add(
            findings({"evidence": '{"src_ip": "10.0.0.9"}'}, {"entity": "bob", "severity": "high"}), source="backtest"
        )
    monkeypatch.setenv("TOCSIN_LOG", str(path))
    monkeypatch.setenv("TOCSIN_ACTOR", "ann")
    return path


def ids(path: Path) -> dict[str, str]:
    with Alerts(path) as log:
        return dict(log.history().alerts.select("entity", "alert_id").iter_rows())


def test_an_alert_is_listed_worked_on_closed_and_corrected(tocsin, soc: Path) -> None:
    alert = ids(soc)["ann"]
    listed = tocsin("alerts", "list")
    assert (listed.code, listed.err) == (0, "")
    assert alert[:12] in listed.out
    assert "An .exe" in listed.out
    assert [a["entity"] for a in tocsin("alerts", "list", "--severity", "HIGH", "--json").json["alerts"]] == ["bob"]
    assert "with bob" in tocsin("alerts", "assign", alert[:8], "bob").out
    assert "in_progress" in tocsin("alerts", "start", alert[:8], "--actor", "bob").out
    closed = tocsin("alerts", "close", alert, "--verdict", "false_positive", "--reason", "a scanner", "--json").json
    assert closed["alert"] | {"assignee": None} == {
        "alert_id": alert, "state": "closed", "verdict": "false_positive", "assignee": None, "severity_now": "low", "merged_into": None,
    }  # fmt: skip
    refused = tocsin("alerts", "start", alert)
    assert (refused.code, refused.out) == (3, "")
    assert '"start" is not possible. Possible: reopen, merge, and' in refused.err
    shown = tocsin("alerts", "show", alert, "--json").json
    wrong = next(a["key"] for a in shown["activities"] if a["type"] == "verdict")
    corrected = tocsin("alerts", "correct", alert, wrong[:8], "--value", "true_positive", "--reason", "misread")
    assert "closed, true_positive" in corrected.out
    page = tocsin("alerts", "show", alert, width=100).out
    assert wrong[:12] in page
    assert all(word in page for word in ("An .exe", "state", "closed since", "retracted", "misread", "a scanner"))


@pytest.mark.parametrize(
    ("arguments", "stands"),
    [
        (("unassign",), "new"),
        (("stop", "--why", "lunch", "--minutes", "3"), "new"),
        (("hold", "the user"), "on_hold"),
        (("escalate", "INV-1"), "new"),
        (("promote", "INC-1"), "new"),
        (("verdict", "inconclusive", "--reason", "who knows"), "new, inconclusive"),
        (("severity", "critical", "--reason", "an administrator"), "new"),
        (("suppress", "--reason", "known", "--until", "2999-01-01"), "suppressed"),
        (("comment", "asked her"), "new"),
    ],
    ids=lambda x: x[0] if isinstance(x, tuple) else "",
)
def test_each_verb_says_how_the_alert_stands_then(tocsin, soc: Path, arguments: tuple[str, ...], stands: str) -> None:
    alert = ids(soc)["bob"]
    done = tocsin("alerts", arguments[0], alert, *arguments[1:])
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{alert} {stands}")
    again = {"hold": "resume", "suppress": "unsuppress"}.get(arguments[0])
    if again:
        assert tocsin("alerts", again, alert, *(("--reason", "over") if again == "unsuppress" else ())).code == 0


def test_reopen_merge_and_once_do_what_they_say(tocsin, soc: Path) -> None:
    ann, bob = ids(soc)["ann"], ids(soc)["bob"]
    for reason, already in (("x", False), ("y", True)):
        closed = tocsin("alerts", "close", ann, "--reason", reason, "--once", "ticket-7")
        assert (closed.code, "already said under --once ticket-7" in closed.out) == (0, already)
    assert "reopened" in tocsin("alerts", "reopen", ann, "--reason", "again").out
    assert "merged" in tocsin("alerts", "merge", ann, bob[:10], "--reason", "same wave").out
    assert tocsin("alerts", "list", "--state", "merged", "--json").json["alerts"][0]["merged_into"] == bob


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("list", "--limit", "0"), 2, "--limit"),
        (("list", "--state", "open"), 2, "no state"),
        (("list", "--log", "notes.txt"), 3, "no alert log"),
        (("show", "zz"), 3, "there is no alert 'zz'"),
        (("close", "zz"), 2, "--reason"),
        (("export", "x.xlsx"), 2, ".parquet"),
        (("export", "x.csv", "--as-of", "2026-01-01", "--known-at", "2026-01-01"), 2, "ask one"),
        (("export", "x.csv", "--what", "ocsf"), 2, ".jsonl"),
    ],
)
def test_what_makes_no_sense_is_told_with_its_exit_code(
    tocsin, soc: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, words: str
) -> None:
    monkeypatch.chdir(soc.parent)
    Path("notes.txt").write_text("hello\n")
    done = tocsin("alerts", *arguments)
    assert (done.code, done.out) == (code, "")
    assert words in done.err


def test_a_log_and_an_actor_must_be_named_and_no_log_is_made_by_looking(
    tocsin, soc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alert = ids(soc)["ann"]
    monkeypatch.delenv("TOCSIN_ACTOR")
    assert "--actor NAME, or set TOCSIN_ACTOR" in tocsin("alerts", "start", alert).err
    monkeypatch.delenv("TOCSIN_LOG")
    assert "or set TOCSIN_LOG" in tocsin("alerts", "list").err
    missing = tocsin("alerts", "list", "--log", soc.parent / "other.db")
    assert (missing.code, "there is no alert log" in missing.err) == (3, True)
    assert not (soc.parent / "other.db").exists()


def test_what_an_attacker_wrote_is_inert_on_the_terminal_and_in_files(
    tocsin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "soc.db"
    monkeypatch.setenv("TOCSIN_LOG", str(path))
    with Alerts(path) as log:
        log.add(
            findings(
                *(
                    {"entity": text, "title": text, "detection_id": text, "src_ip": text, "evidence": text}
                    for text in HOSTILE
                )
            )
        )
        for alert in log.alerts()["alert_id"]:
            for text in HOSTILE:
                log.assign(alert, text, actor=text)
                log.comment(alert, text, actor=text)
    for width in (60, 200):
        assert_inert(tocsin("alerts", "list", width=width))
        for alert in ids(path).values():
            shown = tocsin("alerts", "show", alert, width=width)
            assert shown.code == 0
            assert_inert(shown)
            assert_inert(tocsin("alerts", "comment", alert, HOSTILE[1], "--actor", HOSTILE[1]))
    assert tocsin("alerts", "export", tmp_path / "x.csv").code == 0
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        assert not [cell for row in csv.reader(file) for cell in row if cell.startswith(("=", "@", "\t"))]


def test_the_log_goes_into_files_as_it_was_at_any_time(tocsin, soc: Path, tmp_path: Path) -> None:
    with Alerts(soc) as log:
        log.comment(ids(soc)["ann"], "hm", actor="ann")
    for what, rows in (("alerts", 2), ("activities", 1), ("findings", 2), ("journal", 0)):
        done = tocsin("alerts", "export", tmp_path / f"{what}.parquet", "--what", what, "--json").json
        assert (done["rows"], pl.read_parquet(tmp_path / f"{what}.parquet").height) == (rows, rows)
    assert (
        tocsin("alerts", "export", tmp_path / "then.jsonl", "--what", "activities", "--as-of", "2026-01-06").code == 0
    )
    assert (tmp_path / "then.jsonl").read_text() == ""
    assert tocsin("alerts", "export", tmp_path / "x.jsonl", "--known-at", "2026-01-06", "--json").json["rows"] == 0


def test_a_backtest_writes_its_findings_into_a_log_once(tocsin, simulated: Path, tmp_path: Path) -> None:
    arguments = (
        "backtest",
        simulated / "events.parquet",
        "--rules",
        rule_file(tmp_path, limit=3),
        "--log",
        tmp_path / "soc.db",
        "--json",
    )
    first, again = tocsin(*arguments).json, tocsin(*arguments).json
    assert first["log"]["findings"] == first["findings"]["count"] > 0
    assert first["log"]["alerts"] == first["detections"][0]["alerts"]
    assert again["log"] == {**dict.fromkeys(first["log"], 0), "known": first["log"]["findings"]}
    with Alerts(tmp_path / "soc.db") as log:
        alert = log.alerts(limit=1)["alert_id"].item()
    explained = tocsin(
        "alerts",
        "explain",
        alert,
        simulated / "events.parquet",
        "--rules",
        rule_file(tmp_path, limit=3),
        "--log",
        tmp_path / "soc.db",
    )
    assert explained.code == 0, explained.err
    assert "Many recipients" in explained.out or "mail.many-recipients" in explained.out


def test_an_alert_without_findings_cannot_be_explained_and_says_why(tocsin, soc: Path) -> None:
    with Alerts(soc) as log:
        log.import_history(History.of(pl.DataFrame({"alert_id": ["imported"], "created_at": [minute(0)]})))
    done = tocsin("alerts", "explain", "imported", "none.jsonl")
    assert (done.code, "was imported" in done.err) == (2, True)


@pytest.mark.needs("postgres", "psycopg")
def test_the_commands_work_on_postgresql_and_show_no_password(
    tocsin, postgres: str, new_log: Callable[[], str]
) -> None:
    where = new_log()
    with Alerts(where) as log:
        log.add(findings({}))
        alert = log.alerts()["alert_id"].item()
    assert (
        tocsin("alerts", "start", alert, "--actor", "ann", "--log", where, "--json").json["alert"]["state"]
        == "in_progress"
    )
    refused = tocsin("alerts", "list", "--log", "postgresql://ann:hunter2@127.0.0.1:1/soc")
    assert (refused.code, "hunter2" in refused.err + refused.out) == (3, False)
    assert json.dumps("***")[1:-1] in refused.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("verdict", "bogus", "--reason", "x"), 2, "no verdict"),
        (("severity", "bogus", "--reason", "x"), 2, "no severity"),
        (("close", "--verdict", "bogus", "--reason", "x"), 2, "no verdict"),
        (("start", "--at", "2999-01-01"), 2, "2999-01-01"),
        (("stop", "--minutes", "-5"), 2, "minutes"),
        (("suppress", "--until", "2020-01-01", "--reason", "x"), 2, "2020-01-01"),
        (("resume",), 3, "Possible: start, hold, close, suppress, merge, and"),
    ],
)
def test_a_verb_that_makes_no_sense_is_told_from_one_that_is_not_possible_now(
    tocsin, soc: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = tocsin("alerts", arguments[0], ids(soc)["ann"], *arguments[1:])
    assert (done.code, done.out) == (code, "")
    assert words in done.err


@pytest.mark.parametrize("command", [("metrics", "hours"), ("report", "--out", "r")])
def test_what_is_no_log_is_an_input_that_cannot_be_read(
    tocsin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("hello\n")
    for place, words in (("notes.txt", "is no alert log and no file of alerts"), ("other.db", "no alert log other.db")):
        done = tocsin(*command, "--log", place)
        assert (done.code, done.out) == (3, "")
        assert words in done.err


def test_a_log_that_may_not_be_written_is_told_in_one_line(tocsin, soc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alert = ids(soc)["ann"]
    monkeypatch.setattr("os.access", lambda *_: False)
    refused = tocsin("alerts", "comment", alert, "hm")
    assert (refused.code, refused.err.count("\n"), "read-only" in refused.err) == (3, 1, True)
    assert [tocsin("alerts", *words).code for words in (("list",), ("show", alert))] == [0, 0]
    assert tocsin("metrics", "hours", "--log", soc).code == 0
