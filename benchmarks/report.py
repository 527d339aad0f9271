"""Results as a page: no figure in `docs/benchmarks.md` is typed by hand.

Enters: the JSON files of a results folder and `explanations.md` beside this file. Leaves: Markdown.
Layer: none (outside the package).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import analyses as an
from benchmarks import report_live as live
from benchmarks.data import FULL
from benchmarks.harness import RESULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Results = dict[str, dict[str, Any]]
PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
EXPLANATIONS = Path(__file__).resolve().parent / "explanations.md"
CALLED = {"tocsin_five": "tocsin, A1 A3 A4 A6 A7"}
IMPORT = "import into an empty log"
TOGETHER = "all of them at once, from the frames"
NOT_MEASURED = "not measured yet"


@dataclass(frozen=True)
class Goal:
    """A promise in numbers: what was measured must be at least, or at most, the bound."""

    text: str
    measure: Callable[[Results], float]
    bound: float
    at_least: bool
    unit: str

    def row(self, results: Results) -> tuple[str, str, str, str]:
        """Return the goal's line: text, bound, measured, verdict."""
        sign = "≥" if self.at_least else "≤"
        bound = f"{sign} {_number(self.bound)} {self.unit}".strip()
        try:
            value = self.measure(results)
        except KeyError:
            return self.text, bound, NOT_MEASURED, "–"
        met = value >= self.bound if self.at_least else value <= self.bound
        return self.text, bound, f"{_number(value)} {self.unit}".strip(), "met" if met else "**missed**"


def _one_pass(results: Results, name: str) -> float:
    return float(results["analyses"]["contestants"][name]["seconds"]["one pass"])


def _one_by_one(results: Results, name: str, analyses: Iterable[str]) -> float:
    seconds = results["analyses"]["contestants"][name]["seconds"]
    return sum(float(seconds[analysis]) for analysis in analyses)


def _reading(results: Results, name: str) -> float:
    return float(results["jsonl"]["readers"][name]["seconds"]["read"])


GOALS = (
    Goal("The step alone: six rules, chunks of 500,000, columns prepared",
         lambda r: r["engine"]["chunks"]["events_per_second"] / 1e6, 5, True, "M events/s"),
    Goal("A whole backtest from Parquet: look-ups attached, five rules, findings written",
         lambda r: r["analyses"]["size"]["events"] / _one_pass(r, "tocsin_five") / 1e6, 1.5, True, "M events/s"),
    Goal("That one pass, as a share of DuckDB's five queries one after another",
         lambda r: _one_pass(r, "tocsin_five") / _one_by_one(r, "duckdb", an.FIVE), 1.0, False, "×"),
    Goal("All eight analyses in one pass, as a share of DuckDB's eight queries one after another",
         lambda r: _one_pass(r, "tocsin") / _one_by_one(r, "duckdb", an.KEYS), 1.0, False, "×"),
    Goal("All rules that ship, from Parquet to findings written",
         lambda r: r["rules"]["whole"]["events_per_second"] / 1e6, 1, True, "M events/s"),
    Goal("The step alone with all rules that ship, chunks of 500,000, columns prepared",
         lambda r: r["rules"]["step"]["events_per_second"] / 1e6, 2, True, "M events/s"),
    Goal("A step of 1,000 events with 1 million entities in state, 99th percentile",
         lambda r: r["engine"]["small batches"]["p99_ms"], 10, False, "ms"),
    Goal("Peak memory of the backtest at 10 M events, references included",
         lambda r: r["memory"]["short"]["peak_mb"] / 1e3, 2, False, "GB"),
    Goal("Peak memory at 30 M events, as a multiple of that at 10 M",
         lambda r: r["memory"]["ratio"], 1.3, False, "×"),
    Goal("Address look-ups in 3 M ranges",
         lambda r: r["lookups"]["addresses_per_second"] / 1e6, 10, True, "M addresses/s"),
    Goal("Reading JSONL.gz, time as a multiple of DuckDB's with explicit columns",
         lambda r: _reading(r, "tocsin") / _reading(r, "duckdb"), 1.3, False, "×"),
    Goal("A million alerts with four million activities imported into an empty log",
         lambda r: r["alerts"]["seconds"][IMPORT] * 1e6 / r["alerts"]["alerts"], 60, False, "s"),
    Goal("All metrics over a million alerts with four million activities",
         lambda r: r["metrics"]["ours"][TOGETHER][0] * 1e6 / r["metrics"]["alerts"], 5, False, "s"),
    Goal("Running, six rules, batches of 10,000, 100,000 users, the slower of Parquet and JSONL",
         lambda r: live.slowest(r, "six rules", 10_000) / 1e3, 300, True, "k events/s"),
    Goal("Running, all shipped rules, the same",
         lambda r: live.slowest(r, "all shipped rules", 10_000) / 1e3, 200, True, "k events/s"),
    Goal("Running, all shipped rules, a batch of 10,000 at full load until durable, 99th percentile",
         lambda r: live.longest(r, "all shipped rules", 10_000), 250, False, "ms"),
    Goal("The common subset, as a multiple of the fastest rival, the worse of Parquet and JSONL",
         live.times_the_fastest_rival, 5, True, "×"),
    Goal("A stateless alert at 2,000 events/s, median, the slower of file and HTTP",
         lambda r: live.alert_ms(r, 50), 50, False, "ms"),
    Goal("The same, 95th percentile",
         lambda r: live.alert_ms(r, 95), 100, False, "ms"),
    Goal("Coming back with a million entities, all shipped rules, process start included",
         live.recovery_seconds, 5, False, "s"),
    Goal("Resident memory after 10 M events as a multiple of that after 5 M, ids kept two days",
         live.growth, 1.1, False, "×"),
)  # fmt: skip


def load(folder: Path) -> Results:
    """Return the results that are there, by name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def render(results: Results, explanations: str = "") -> str:
    """Return the whole page."""
    parts = [_head(results), _goals(results)]
    sections = {
        "analyses": _analyses, "rules": _rules, "engine": _engine, "memory": _memory, "jsonl": _jsonl, "lookups": _lookups,
        "alerts": _alerts, "metrics": _metrics, "live": live.section, "snapshots": live.snapshots,
    }  # fmt: skip
    parts += [section(results[name]) for name, section in sections.items() if name in results]
    return "\n\n".join(part.strip() for part in [*parts, explanations] if part.strip()) + "\n"


def write(folder: Path = RESULTS, page: Path = PAGE) -> None:
    """Render the folder's results to the page."""
    explanations = EXPLANATIONS.read_text(encoding="utf-8") if EXPLANATIONS.exists() else ""
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render(load(folder), explanations), encoding="utf-8")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _head(results: Results) -> str:
    text = """# Benchmarks

Made by `make bench`, which writes this page; `make bench-quick` does the same on small data. Every run of every
contestant is a process of its own, and runs are interleaved. Figures are medians. Before the clock starts each
contestant computes everything once on a small file, and has its reference tables loaded; reading the Parquet file is
inside. Answers are checked equal before anything is timed."""
    if not results:
        return text + "\n\nNothing has been measured yet."
    first = next(iter(results.values()))
    m = first["machine"]
    versions = ", ".join(f"{name} {v}" for name, v in m["versions"].items())
    return text + (
        f"\n\nMachine: {m['cpu']}, {m['cores']} cores, {m['ram_gb']} GB of memory, {m['system']}; "
        f"Python {m['python']}, {versions}. Taken {first['taken']}."
    )


def _goals(results: Results) -> str:
    if not results:
        return ""
    note = ""
    if results.get("analyses", {}).get("size", {}).get("events", FULL.events) < FULL.events:
        note = (
            "This is a run on small data: the goals are for 10 M events, and these figures say nothing about them.\n\n"
        )
    return "## Goals\n\n" + note + live.table(["goal", "bound", "measured", ""], (goal.row(results) for goal in GOALS))


def _analyses(result: dict[str, Any]) -> str:
    size, contestants = result["size"], result["contestants"]
    labels = [*an.KEYS, "one pass"]
    rows = []
    for name, measured in contestants.items():
        cells = [_seconds(measured, label) for label in labels]
        seconds = measured["seconds"]
        one_by_one = [label for label in an.KEYS if label in seconds]  # a pass over all columns is no part of a sum
        total = sum(seconds[label] for label in one_by_one or seconds)
        rows.append([CALLED.get(name, name), *cells, f"{total:.2f}", f"{measured['peak_mb']:,.0f}"])
    found = ", ".join(f"{analysis} {n:,}" for analysis, n in result["rows"].items())
    absent = [analysis for analysis in an.KEYS if analysis not in result["rows"]]
    absent_note = f" Not measured yet: {', '.join(absent)}." if absent else ""
    seed = [[name, f"{m['us_per_event']:,.2f}", f"{m['events']:,}"] for name, m in result["seed"].items()]
    return f"""## Eight analyses, {size["events"]:,} events, {size["users"]:,} users, {size["days"]} days

A1 recipients and .exe, A2 outside the home countries, A3 listed address, A4 three times the own daily mean, A5 change
in attachments a day, A6 above the population's mean + 3 standard deviations, A7 travel speed, A8 shift of hours.
Geography ({size["ranges"]:,} ranges) is attached inside the timed part of A2, A7 and the one pass. Wall seconds, CPU
seconds in parentheses; median of {result["runs"]} runs. Rows found by all: {found}.{absent_note}

{live.table(["", *labels, "total s", "peak MB"], rows)}

"scan" reads the columns each analysis needs and does nothing with them. Tocsin's one pass also scores every event as
of its own time, removes duplicates, orders by time and writes findings with evidence; the others compute the same
answers after the fact.

The notebook's own way, on samples (microseconds an event; A2 is one geographic look-up):

{live.table(["", "µs an event", "events in the sample"], seed)}"""


def _rules(result: dict[str, Any]) -> str:
    size, whole, step = result["size"], result["whole"], result["step"]
    rows = [
        [text, f"{part['events']:,}", _number(part["events_per_second"]),
         f"{part['seconds'][label]:.2f} ({part['cpu_seconds'][label]:.2f})", f"{part['peak_mb']:,.0f}"]
        for text, part, label in (("from Parquet to findings", whole, "whole"), ("the step alone", step, "step"))
    ]  # fmt: skip
    return f"""## All {whole["rules"]} rules that ship

A simulated organisation ({size["users"]:,} users, {size["days"]} days) whose events have every column that the rules read, so that
none is skipped. From Parquet to findings: reading and checking the file, look-ups in geography, networks and threat
list (loaded before), hashes, steps, and {whole["findings"]:,} findings written. The step alone: chunks of {step["chunk_events"]:,} whose
columns are prepared. Wall seconds, CPU seconds in parentheses; median of {result["runs"]} runs.

{live.table(["", "events", "events/s", "seconds", "peak MB"], rows)}"""


def _seconds(measured: dict[str, Any], label: str) -> str:
    if label not in measured["seconds"]:
        return ""
    return f"{measured['seconds'][label]:.2f} ({measured['cpu_seconds'][label]:.2f})"


def _engine(result: dict[str, Any]) -> str:
    chunks, small = result["chunks"], result["small batches"]
    rows = [
        [f"chunks of {chunks['chunk_events']:,}", f"{chunks['events']:,}",
         _number(chunks["events_per_second"]), "", ""],
        ["the same with prepare inside", f"{chunks['events']:,}",
         _number(chunks["events_per_second_with_prepare"]), "", ""],
        [f"batches of {small['batch_events']:,}, {small['entities']:,} entities in state",
         f"{small['batch_events'] * small['batches']:,}", _number(small["events_per_second"]),
         f"{small['p50_ms']:.2f}", f"{small['p99_ms']:.2f}"],
    ]  # fmt: skip
    return f"""## The step alone, six rules

Inside the timing: arrival (late, duplicate, order), entity slots, measures, fits, scores, findings. Outside: reading
the file, look-ups, and, in the first row, `prepare`: hashes of ids, contents and entities, which need no state. The
sixth rule counts events in a sliding ten minutes.

{live.table(["", "events", "events/s", "p50 ms", "p99 ms"], rows)}"""


def _memory(result: dict[str, Any]) -> str:
    rows = [
        [f"{r['events']:,} events, {r['days']} days", f"{r['peak_mb']:,.0f}", f"{sum(r['seconds'].values()):.1f}"]
        for r in (result["short"], result["long"])
    ]
    return f"""## Memory of a whole backtest

Peak resident memory of the process, 3 M geographic ranges included.

{live.table(["", "peak MB", "seconds"], rows)}"""


def _jsonl(result: dict[str, Any]) -> str:
    rows = [
        [name, _number(r["events_per_second"]), f"{r['seconds']['read']:.2f}", f"{r['peak_mb']:,.0f}"]
        for name, r in result["readers"].items()
    ]
    return f"""## Reading {result["events"]:,} events of JSONL.gz

Tocsin checks each value (time range, addresses, types, lengths) and keeps count of rejects; the others are told the
columns.

{live.table(["", "events/s", "seconds", "peak MB"], rows)}"""


def _lookups(result: dict[str, Any]) -> str:
    plain = {k: v for k, v in result.items() if isinstance(v, int | float)}
    return "## Address look-ups\n\n" + live.table(
        ["", "value"], ([k.replace("_", " "), _number(v)] for k, v in plain.items())
    )


def _alerts(result: dict[str, Any]) -> str:
    rows = [[name, f"{s:.2f}", f"{result['cpu_seconds'][name]:.2f}"] for name, s in result["seconds"].items()]
    return f"""## The alert log: {result["alerts"]:,} alerts, {result["activities"]:,} activities

SQLite with `synchronous = FULL` on the machine's disk ({result["mb_on_disk"]:,} MB with indexes). "Load" makes frames of all
rows; "how each alert stands" is state, verdict, assignee and severity of every alert. One run, in this order, in one
process: peak memory {result["peak_mb"]:,} MB, of which the history to be imported is a part.

{live.table(["", "seconds", "CPU seconds"], rows)}"""


def _metrics(result: dict[str, Any]) -> str:
    ours = [[name, f"{wall:.2f}", f"{cpu:.2f}"] for name, (wall, cpu) in result["ours"].items()]
    theirs = [[name, f"{wall:.2f}", f"{cpu:.2f}"] for name, (wall, cpu) in result["notebook"].items()]
    return f"""## Metrics: {result["alerts"]:,} alerts, {result["activities"]:,} activities

From frames in memory that nobody looked at yet; what several metrics share is counted once, under its own name. Each
metric also computes the span before. The last row computes all of it anew, metrics beside each other on two cores. One run,
compiled code warm.

{live.table(["", "seconds", "CPU seconds"], ours)}

The notebook's cells, written anew in pandas, on the same alerts. The cells that go row by row were given 20,000 alerts, and their
seconds scaled to all; its assets stop after 101 alerts, and its change points see 365 days.

{live.table(["the notebook's way", "seconds", "CPU seconds"], theirs)}"""
