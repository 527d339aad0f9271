"""What is measured of a running engine is read rightly from its notes, and the contestants' work is the same. No timing is asserted."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import harness, live_process, live_rules, live_subset, report, report_live
from benchmarks.data import Size
from tocsin.runners.live.settings import load_settings
from tocsin.runners.rulefiles import load_rules

if TYPE_CHECKING:
    from pathlib import Path

TINY = Size(events=12_000, users=400, days=6, ranges=1_000)


def ran(batches: list[list[float]], snapshots: list[list[Any]], live_at: float = 102.5) -> live_process.Ran:
    """Return a run that was started at 100 with these notes: when durable, events, latency, findings, CPU seconds, bytes."""
    return live_process.Ran(
        100.0, {"modes": [[102.0, "recovering"], [live_at, "live"]], "batches": batches, "snapshots": snapshots}
    )


def test_settings_are_written_so_that_they_are_read_as_they_were(tmp_path: Path) -> None:
    source = {"kind": "file", "name": "mail", "path": '/a/b "c"/mail.jsonl', "follow": False, "zone": None}
    settings = live_process.settings_of(tmp_path, source, batches={"rows": 7}, rules={"files": ["/r.py"]})
    settings["outputs"] = [{"kind": "jsonl", "path": "/out.jsonl"}]
    path = live_process.write_toml(settings, tmp_path / "s.toml")
    assert tomllib.loads(path.read_text())["sources"][0] == {k: v for k, v in source.items() if v is not None}
    read = load_settings(path)
    assert (read.batches.rows, str(read.sources[0].path), str(read.outputs[0].path)) == (
        7,
        source["path"],
        "/out.jsonl",
    )  # type: ignore[union-attr]


def test_the_clock_runs_from_the_first_batch_after_the_run_in_to_the_last_snapshot() -> None:
    batches = [[103.0, 100, 0.5, 9, 1.0, 1e6], [104.0, 100, 0.5, 1, 2.0, 2e6], [106.0, 200, 1.5, 2, 4.0, 3e6]]
    measured = ran(batches, [[107.5, "full", 5, 0.5]]).measured(100)
    assert (measured["events"], measured["findings"], measured["batches"]) == (300, 3, 2)
    assert measured["seconds"] == {"durable": 2.5, "with the last snapshot": 4.0}
    assert (measured["events_per_second"], measured["cpu_seconds"], measured["start_seconds"]) == (75.0, 3.0, 2.5)
    assert measured["p99_ms"] == pytest.approx(1490)


def test_resident_memory_is_that_of_the_batch_with_which_a_count_was_reached() -> None:
    batches = [[1.0, 100, 0.1, 0, 0.0, 5e6], [2.0, 100, 0.1, 0, 0.0, 9e6], [3.0, 100, 0.1, 0, 0.0, 7e6]]
    assert ran(batches, []).resident([100, 150, 300]) == {"100": 5.0, "150": 9.0, "300": 7.0, "most": 9.0}


def test_a_rule_that_cannot_run_makes_no_figure(tmp_path: Path) -> None:
    source = {"kind": "file", "name": "mail", "path": str(tmp_path / "mail.jsonl"), "follow": False}
    event = {"event_id": "a", "timestamp": "2025-01-01T00:00:00Z", "kind": "mail", "user_id": "u"}
    (tmp_path / "mail.jsonl").write_text(json.dumps(event) + "\n")
    with pytest.raises(AssertionError, match="rules that cannot run"):
        live_process.run(live_process.settings_of(tmp_path, source), tmp_path)


def test_the_six_rules_are_a_rule_file() -> None:
    assert len(load_rules(live_rules.__file__)) == 6


@pytest.mark.parametrize("form", live_subset.FORMATS)
def test_the_running_engine_finds_in_the_common_subset_what_the_batch_finds(form: str, tmp_path: Path) -> None:
    target, events = live_subset.prepared(TINY, tmp_path)
    expected = live_subset.batch_answer(target)
    assert all(expected.values())
    (tmp_path / "run").mkdir()
    measured, answer = live_subset.by_tocsin(target, form, tmp_path / "run", TINY.events - events)
    assert live_subset.counted(answer, target) == expected
    assert measured["seconds"] > 0


def made_result() -> dict[str, Any]:
    """Return a result as `live.run` shapes it."""
    one = {
        "batch": 10_000, "events": 100, "events_per_second": 250_000.0, "events_per_second_without_the_last_snapshot": 3e5,
        "p50_ms": 90.0, "p99_ms": 200.0, "cpu_seconds": 1.0, "start_seconds": 2.0,
    }  # fmt: skip
    names = [
        f"{rules}, {source}, 10000" for rules in ("six rules", "all shipped rules") for source in ("Parquet", "JSONL")
    ]
    soak = {
        "events": 10,
        "events_per_second": 2e5,
        "p99_ms": 9.0,
        "ids": 7,
        "resident_mb": {"5": 500.0, "10": 510.0, "most": 520.0},
    }
    delays = {f"{key} p{p}_ms": 40.0 for key in ("log", "jsonl") for p in (50, 95, 99)} | {"events_per_second": 2000.0}
    contestant = {"events_per_second": 100.0, "seconds": 1.0, "cpu_seconds": 1.0, "start_seconds": 1.0}
    contestants = {f"{who}, {form}": contestant for who in ("Spark", "Bytewax") for form in ("parquet", "jsonl")}
    contestants |= {
        f"tocsin, {form}": contestant | {"events_per_second": n} for form, n in (("parquet", 600.0), ("jsonl", 400.0))
    }
    return {
        "taken": "2026-01-01", "machine": harness.machine(), "runs": 1, "load_before": 0.1, "missing": [],
        "throughput": {
            "users": 9, "days": 3, "throughput": dict.fromkeys(names, one), "soak": {"all": soak, "all, ids kept 2d": soak},
        },
        "latency": {"rate": 2000, "seconds": 30.0, "file": delays, "http": delays | {"log p50_ms": 60.0}},
        "recovery": {"entities": {"user_id": 5}, "state_mb": 1.0, "ways": {"stop": {"seconds": 3.0, "of these before the state": 1.0}}},
        "subset": {
            "events": 5, "users": 5, "days": 5, "rows": {"daily": 3}, "versions": {"pyspark": "4"}, "contestants": contestants,
            "left_out": {"Bytewax": "no network"},
        },
    }  # fmt: skip


def test_goals_about_the_running_engine_take_the_worse_of_two() -> None:
    results = {"live": made_result()}
    rows = {goal.text: goal.row(results)[2:] for goal in report.GOALS}
    subset = "The common subset, as a multiple of the fastest rival, the worse of Parquet and JSONL"
    assert rows[subset] == ("4 ×", "**missed**")
    assert rows["A stateless alert at 2,000 events/s, median, the slower of file and HTTP"] == ("60 ms", "**missed**")
    assert rows["Running, all shipped rules, the same"] == ("250 k events/s", "met")
    assert rows["Resident memory after 10 M events as a multiple of that after 5 M, ids kept two days"][1] == "met"


def test_the_page_names_who_was_left_out_and_shows_parts_that_are_there() -> None:
    result = made_result()
    del result["recovery"]
    page = report.render({"live": result})
    assert "Left out: Bytewax (no network)." in page
    assert "### Coming back" not in page
    assert report_live.section(result) in page


def test_without_a_rival_there_is_no_multiple() -> None:
    result = made_result()
    result["subset"]["contestants"] = {
        k: v for k, v in result["subset"]["contestants"].items() if k.startswith("tocsin")
    }
    goal = next(g for g in report.GOALS if g.measure is report_live.times_the_fastest_rival)
    assert goal.row({"live": result})[2] == report.NOT_MEASURED
