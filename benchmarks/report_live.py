"""The running engine's part of the page: its goals as measures, its section, and that of its snapshots.

Enters: the results named "live" and "snapshots". Leaves: numbers and Markdown. Layer: none (outside the package).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

Results = dict[str, dict[str, Any]]
SOURCES = ("Parquet", "JSONL")
WAYS = {"file": "a growing file", "http": "HTTP push"}


def slowest(results: Results, rules: str, batch: int) -> float:
    """Return the events a second of the slower source."""
    return min(_of(results, rules, source, batch)["events_per_second"] for source in SOURCES)


def longest(results: Results, rules: str, batch: int) -> float:
    """Return the 99th percentile of a batch's latency, of the slower source."""
    return max(_of(results, rules, source, batch)["p99_ms"] for source in SOURCES)


def _of(results: Results, rules: str, source: str, batch: int) -> dict[str, Any]:
    found: dict[str, Any] = results["live"]["throughput"]["throughput"][f"{rules}, {source}, {batch}"]
    return found


def times_the_fastest_rival(results: Results) -> float:
    """Return how many times the fastest rival's events a second ours are, of the format where that is least."""
    contestants = results["live"]["subset"]["contestants"]
    ratios = []
    for form in ("parquet", "jsonl"):
        rivals = [
            c["events_per_second"]
            for name, c in contestants.items()
            if name.endswith(form) and not name.startswith("tocsin")
        ]
        if not rivals:
            raise KeyError(form)  # nobody to be compared with
        ratios.append(contestants[f"tocsin, {form}"]["events_per_second"] / max(rivals))
    return min(ratios)


def alert_ms(results: Results, percentile: int) -> float:
    """Return a percentile of the time until an alert is in the log, of the slower way in."""
    return max(results["live"]["latency"][way][f"log p{percentile}_ms"] for way in WAYS)


def recovery_seconds(results: Results) -> float:
    """Return the longest of the ways to come back."""
    return max(way["seconds"] for way in results["live"]["recovery"]["ways"].values())


def growth(results: Results) -> float:
    """Return resident memory at the last count of a soak whose horizon has closed, as a multiple of that at the count before."""
    soak = next(s for name, s in results["live"]["throughput"]["soak"].items() if "ids kept" in name)
    *_, before, last = [megabytes for at, megabytes in soak["resident_mb"].items() if at != "most"]
    return float(last / before)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table; all columns but the first are numbers."""
    head = list(head)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def section(result: dict[str, Any]) -> str:
    """Return the running engine's section."""
    parts = {"throughput": _throughput, "latency": _latency, "recovery": _recovery, "subset": _subset}
    body = [
        f"""## The running engine

`tocsin run` as a process of its own, findings and snapshots durable inside every figure. Median of {result["runs"]} runs, soaks and
latency once; load average before: {result["load_before"]:.1f}."""
    ]
    body += [parts[name](result[name]) for name in parts if name in result]
    return "\n\n".join(body)


def _throughput(result: dict[str, Any]) -> str:
    rows = [
        [name.rsplit(",", 1)[0], f"{r['batch']:,}", f"{r['events_per_second']:,.0f}",
         f"{r['events_per_second_without_the_last_snapshot']:,.0f}",
         f"{r['p50_ms']:,.0f}", f"{r['p99_ms']:,.0f}", f"{1e6 * r['cpu_seconds'] / r['events']:.2f}", f"{r['start_seconds']:.1f}"]
        for name, r in result["throughput"].items()
    ]  # fmt: skip
    counts = [at for at in next(iter(result["soak"].values()))["resident_mb"] if at != "most"]
    soaks = [
        [name, f"{s['events']:,}", f"{s['events_per_second']:,.0f}", f"{s['p99_ms']:,.0f}", f"{s['ids']:,}",
         *(f"{s['resident_mb'].get(at, s['resident_mb']['most']):,.0f}" for at in counts), f"{s['resident_mb']['most']:,.0f}"]
        for name, s in result["soak"].items()
    ]  # fmt: skip
    return f"""### Events a second, {result["users"]:,} users

A simulated organisation of {result["users"]:,} users over {result["days"]} days; geography, networks and threat list are
looked up. The state is warmed with all but the end of the last day. Then a process is started upon it (its start and recovery
stand in the last column), takes a few batches that do not count, and is measured until the last finding and a last snapshot
are durable. Latency is from a batch's being cut until its findings are durable, at full load: batches also wait for those
before them.

{table(["", "events a batch", "events/s", "without the last snapshot", "p50 ms", "p99 ms", "CPU µs an event", "start s"], rows)}

The soaks that warm it, from an empty state, batches of 10,000, snapshots every 30 s; resident megabytes after so many events:

{table(["", "events", "events/s", "p99 ms", "ids kept at the end", *(f"{int(at):,}" for at in counts), "most"], soaks)}"""


def _latency(result: dict[str, Any]) -> str:
    rows = [
        [
            text,
            target,
            *(f"{result[way][f'{key} p{p}_ms']:.0f}" for p in (50, 95, 99)),
            f"{result[way]['events_per_second']:,.0f}",
        ]
        for way, text in WAYS.items()
        for key, target in (("log", "row in the SQLite log"), ("jsonl", "line of the JSONL output"))
    ]
    return f"""### A stateless alert at {result["rate"]:,} events a second

All shipped rules run. From the event's being written (or handed to the sender) until others see its alert; over
{result["seconds"]:.0f} s, after a run-in.

{table(["", "until", "p50 ms", "p95 ms", "p99 ms", "events/s"], rows)}"""


def _recovery(result: dict[str, Any]) -> str:
    rows = [
        [name, f"{w['seconds']:.2f}", f"{w['of these before the state']:.2f}"] for name, w in result["ways"].items()
    ]
    entities = ", ".join(f"{n:,} {kind}" for kind, n in result["entities"].items())
    return f"""### Coming back

All shipped rules; entities in state: {entities}; {result["state_mb"]:,.0f} MB of state. From the start of the process until
it follows its source.

{table(["", "seconds", "of these before the state is touched"], rows)}"""


def _subset(result: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{c['events_per_second']:,.0f}",
            f"{c['seconds']:.2f}",
            f"{c['cpu_seconds']:.2f}",
            f"{c['start_seconds']:.1f}",
        ]
        for name, c in result["contestants"].items()
    ]
    versions = ", ".join(f"{name} {v}" for name, v in result["versions"].items())
    left_out = "".join(f" Left out: {name} ({why})." for name, why in result["left_out"].items())
    found = ", ".join(f"{name} {n:,}" for name, n in result["rows"].items())
    return f"""### What others can do as well

{result["events"]:,} events of {result["users"]:,} users over {result["days"]} days, in order: a stateless rule (more than 10 recipients
and an .exe) and a daily count for each user against a table of baselines (above 3 times), an hour of lateness. Everyone takes
a first day that does not count, and writes its findings to SQLite. Every answer equals, key by key, what Polars computes from
all events at once ({found}). {versions}.{left_out}

{table(["", "events/s", "seconds", "CPU seconds", "start s"], rows)}"""


def snapshots(result: dict[str, Any]) -> str:
    """Return the section of snapshots by the size of the state."""
    rows = []
    for name, size in result.items():
        if not isinstance(size, dict) or "snapshots" not in size:
            continue
        cells = [
            [f"{s['kind']}, {s['events']:,} events on" if s["events"] else s["kind"], f"{1e3 * s['pause']['wall']:.0f}",
             f"{s['write']['wall']:.2f}", f"{s['bytes'] / 1e6:,.1f}"]
            for s in size["snapshots"]
        ]  # fmt: skip
        rows += [
            [f"{name} ({size['state_bytes'] / 1e6:,.0f} MB)" if not n else "", *cell] for n, cell in enumerate(cells)
        ]
        rows.append(["", "way back", "", f"{size['recovery']['seconds']['wall']:.2f}", ""])
    return f"""## Snapshots

The step stands still for the pause; the rest is written beside it.

{table(["entities (state)", "snapshot", "pause ms", "seconds", "MB"], rows)}"""
