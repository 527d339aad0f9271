"""`tocsin backtest`: what it says, writes, and does with its options."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from command_line import assert_inert, rule_file
from rich.cells import cell_len

pytest_plugins = ["cli_fixtures"]


# ---- backtest


def test_backtest_says_what_was_read_what_fired_and_who_stands_out(tocsin, simulated: Path, lookups: list[str]) -> None:
    done = tocsin("backtest", simulated / "events.parquet", *lookups)
    assert (done.code, done.err) == (0, ""), "and shows no progress where there is no terminal"
    for text in (
        "events accepted",
        "no mapping",
        "By detection",
        "alerts/day",
        "unscored",
        "no_history",
        "Entities with",
        "Highest scores",
    ):
        assert text in done.out
    fired = [line for line in done.out.splitlines() if line.startswith("mail.exe-many-recipients")]
    assert int(fired[0].split()[4]) > 0


def test_rules_that_cannot_run_or_have_nothing_to_judge_are_listed_with_the_reason(tocsin, simulated: Path) -> None:
    none = tocsin("backtest", simulated / "events.parquet").out
    assert "not run network.listed-address: no threat list was given (--threats FILE)" in none
    assert "not run login.travel-speed: no geo table" in none
    some = tocsin("backtest", simulated / "events.parquet", "--geo", "country").out
    assert "nothing to judge login.travel-speed: no geo table with places was given" in some


def test_backtest_as_json_is_one_document_with_these_keys(
    tocsin, simulated: Path, lookups: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "findings.jsonl"
    done = tocsin("backtest", simulated / "events.parquet", *lookups, "--json", "--out", out, "--top", 2)
    document = done.json
    assert list(document) == [
        "tocsin",
        "format",
        "command",
        "source",
        "references",
        "days",
        "counts",
        "detections",
        "findings",
        "top_entities",
        "top_scores",
        "comparison",
        "log",
    ]
    assert document["log"] is None
    assert list(document["source"]) == [
        "name",
        "mapping",
        "recognised",
        "columns",
        "read",
        "accepted",
        "rejected",
        "values_left_out",
        "skipped",
        "reject_reasons",
    ]
    assert list(document["counts"]) == ["ok", "late", "duplicate", "conflict", "future", "rejected"]
    assert set(document["detections"][0]) == {
        "detection",
        "tier",
        "severity",
        "events",
        "scored",
        "fired",
        "entities",
        "alerts",
        "alerts_a_day",
        "suppressed",
        "unscored",
        "errors",
        "note",
        "unscored_reasons",
        "late",
        "run",
        "idle",
    }
    assert document["findings"] == {"count": len(out.read_text().splitlines()), "file": str(out)}
    assert len(document["top_entities"]) == 2
    assert document["top_entities"][0]["first"].endswith("Z")


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
def test_findings_are_written_whole_in_the_format_of_the_name(
    tocsin, simulated: Path, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"findings{suffix}"
    document = tocsin("backtest", simulated / "events.parquet", "--out", path, "--json").json
    read = {".parquet": pl.read_parquet, ".jsonl": pl.read_ndjson, ".csv": pl.read_csv}[suffix](path)
    assert read.height == document["findings"]["count"] > 0
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "and no temporary file is left"


def test_since_and_until_cut_what_is_reported(tocsin, simulated: Path) -> None:
    span = ("--since", "2026-06-10", "--until", "2026-06-12T00:00Z")
    document = tocsin("backtest", simulated / "events.parquet", *span, "--json").json
    assert 1.9 < document["days"] <= 2


def test_a_gap_makes_days_missing_from_baselines(tocsin, simulated: Path, tmp_path: Path) -> None:
    outage = pl.col("timestamp").is_between(
        datetime(2026, 6, 3, tzinfo=UTC), datetime(2026, 6, 6, tzinfo=UTC), closed="left"
    )
    path = tmp_path / "events.parquet"
    pl.read_parquet(simulated / "events.parquet").filter(~outage).write_parquet(path)

    def scored(*more: str) -> int:
        rows = tocsin("backtest", path, "--json", *more).json["detections"]
        return next(r["scored"] for r in rows if r["detection"] == "mail.volume-vs-self")

    assert scored("--gap", "2026-06-03..2026-06-06") < scored(), "fewer days, so that fewer events have history enough"


def test_compare_shows_findings_gained_and_lost(tocsin, simulated: Path, tmp_path: Path) -> None:
    old, new = rule_file(tmp_path, "old.py", limit=200), rule_file(tmp_path, "new.py", limit=250)
    document = tocsin("backtest", simulated / "events.parquet", "--compare", old, new, "--json").json
    (row,) = document["comparison"]["by_detection"]
    assert (row["gained"], row["lost"]) == (0, row["fired_old"] - row["fired_new"])
    assert row["lost"] == len(document["comparison"]["lost"]) > 0
    assert "Lost:" in tocsin("backtest", simulated / "events.parquet", "--compare", old, new).out


def test_the_notebooks_arithmetic_can_be_asked_for(tocsin, simulated: Path) -> None:
    assert tocsin("backtest", simulated / "events.parquet", "--compat", "notebook").code == 0


def test_events_can_come_from_stdin(simulated: Path) -> None:
    with (simulated / "events.parquet").open("rb") as events:
        done = subprocess.run(
            [sys.executable, "-m", "tocsin", "backtest", "-", "--json"], stdin=events, capture_output=True, check=True
        )
    assert json.loads(done.stdout)["source"]["accepted"] > 0


@pytest.mark.needs("shared-data")
@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_real_mail_reads_well_at_every_width(tocsin, shared_data: Path, width: int) -> None:
    mail, threats = shared_data / "spamassassin-mail.jsonl.gz", shared_data / "ipsum-level3.txt"
    done = tocsin("backtest", mail, "--threats", threats, width=width)
    assert done.code == 0
    assert all(cell_len(line) <= width for line in done.out.splitlines())
    for text in (
        "5,974 of 6,046 events accepted",
        "mapping spamassassin-mail, recognised",
        "72 rows rejected, 211 values",
        "missing time",
        "5,974",
    ):
        assert text in done.out
    assert_inert(done)
