"""`tocsin status`: what a running engine is doing, and whether it runs at all.

Enters: a state folder. Leaves: tables, or the status as JSON; exit code 1 where the engine does not run or is in trouble.
Layer: faces. It reads one file that the engine writes each second, and never speaks to the engine itself.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter
from rich.text import Text

from tocsin.faces import export
from tocsin.faces.live.seen import Seen, look, span, time_of
from tocsin.faces.options import Flag, UsageError
from tocsin.faces.terminal import Column, Trimmed, make_table, new_console, number, numeric, safe, whole

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tocsin.faces.live.seen import Status

WATCH_SECONDS: Final = 2.0


def status(
    *,
    state: Annotated[Path, Parameter(help="The engine's state folder.", metavar="FOLDER")],
    watch: Annotated[bool, Flag, Parameter(help="Show it again every two seconds, until Ctrl-C.")] = False,
    json: Annotated[bool, Flag, Parameter(help="Print one JSON document and nothing else.")] = False,
    svg: Annotated[Path | None, Parameter(show=False)] = None,
) -> int:
    """Show a running engine: events, latency, sources, rules, snapshots, outputs, trouble.

    Exit code 1 if it is not running, is stuck, or noted trouble within the last five minutes.
    """
    if watch and (json or svg):
        raise UsageError("--watch shows tables; leave out --json.")
    export.check_target(svg, (".svg",))
    if watch:
        return _watch(state)
    seen = look(state, datetime.now(UTC))
    if json:
        body = {
            "state": state,
            "verdict": seen.verdict,
            "running": seen.running,
            "why": seen.words,
            "status": seen.status,
        }
        export.print_json("status", body)
        return seen.code
    console = new_console(record=svg is not None)
    for part in _parts(seen, console.width):
        console.print(part)
    if svg:
        from tocsin.faces.picture import save_picture

        save_picture(console, svg, "tocsin status")
    return seen.code


def _watch(folder: Path) -> int:
    import time

    from rich.console import Group
    from rich.live import Live

    console = new_console()
    seen = look(folder, datetime.now(UTC))
    try:
        with Live(console=console, auto_refresh=False, screen=console.is_terminal, vertical_overflow="crop") as live:
            while True:
                live.update(Group(*_parts(seen, console.width)), refresh=True)
                time.sleep(WATCH_SECONDS)
                seen = look(folder, datetime.now(UTC))
    except KeyboardInterrupt:
        return seen.code


# ---- showing


def _parts(seen: Seen, width: int) -> "list[RenderableType]":
    """Return what is printed, from the verdict down to old trouble; what is empty is left out."""
    parts: list[RenderableType] = [Text(safe(seen.words, 500), style="bold" if seen.code == 0 else "bold red")]
    if seen.status is None:
        return parts
    parts += [Text(_about(seen)), "", _facts(seen.status)]
    for rows, columns, title in _tables(seen.status):
        if rows:
            parts += ["", make_table(rows, columns, width, title)]
    return parts


def _about(seen: Seen) -> str:
    found = seen.status or {}
    at, started = time_of(found, "at"), time_of(found, "started_at")
    parts = [
        f"mode {safe(found.get('mode'))}",
        f"process {safe(found.get('pid'))}",
        f"tocsin {safe(found.get('version'))}",
    ]
    if at and started:
        parts.append(f"up {span((at - started).total_seconds())}")
    if at:
        parts.append(f"as of {at:%Y-%m-%d %H:%M:%S} UTC")
    return ", ".join(parts)


def _facts(found: "Status") -> Trimmed:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for word, text in _fact_words(found):
        table.add_row(Text(word), Text(text))
    return Trimmed(table)


def _fact_words(found: "Status") -> list[tuple[str, str]]:
    events, latency = found.get("events") or {}, found.get("latency_ms") or {}
    fates = ("accepted", "late", "duplicate", "conflict", "future", "rejected")
    told = ", ".join(f"{whole(events.get(fate))} {fate}" for fate in fates if events.get(fate) or fate == "accepted")
    rate = "" if found.get("mode") == "stopped" else f", {number(events.get('per_second'))} a second now"
    facts = [("events", f"{whole(events.get('read'))} read since this start{rate}; {told}")]
    words = f"{whole(found.get('batches'))}"
    if latency.get("p50") is not None:
        words += f"; p50 {number(latency['p50'])} ms, p99 {number(latency.get('p99'))} ms"
        words += f" ({whole(latency.get('batches'))} in the last minute)"
    facts.append(("batches", words))
    lag = found.get("watermark_lag_seconds")
    facts.append(
        ("watermark", "none yet" if lag is None else f"{_clock(found.get('watermark'))}, {span(lag)} behind the clock")
    )
    state = found.get("state") or {}
    kept = [f"{whole(n)} {safe(kind)}" for kind, n in (state.get("entities") or {}).items()]
    kept += [
        f"{whole(state.get('ids'))} event ids",
        f"{whole(state.get('waiting'))} events waiting",
        _size(state.get("bytes")),
    ]
    facts.append(("state", ", ".join(kept)))
    snapshot = found.get("snapshot")
    facts.append(("snapshot", _snapshot_words(snapshot, time_of(found, "at")) if snapshot else "none yet"))
    facts.append(("dead letters", whole(found.get("dead_letters"))))
    return facts


def _snapshot_words(snapshot: "Status", at: datetime | None) -> str:
    taken = time_of(snapshot, "at")
    age = f", {span((at - taken).total_seconds())} old" if at and taken else ""
    seconds = number(snapshot.get("seconds"))
    return f"{safe(snapshot.get('kind'))} after batch {whole(snapshot.get('number'))}{age}; {_size(snapshot.get('bytes'))} in {seconds} s"


def _tables(found: "Status") -> "list[tuple[list[dict[str, Any]], list[Column], str]]":
    at = time_of(found, "at")
    sources = [_source_row(told, at) for told in found.get("sources") or ()]
    rules = [_rule_row(told) for told in found.get("rules") or ()]
    trouble = [told | {"at": _clock(told.get("at"))} for told in reversed(found.get("trouble") or ())]
    skipped = [{"id": name, "why": why} for name, why in (found.get("skipped") or {}).items()]
    return [
        (
            sources,
            [
                Column("source", "source", least=10, style="bold"),
                Column("partition", "partition", least=12),
                Column("behind", "unread", right=True),
                Column("watermark", "watermark", rank=2),
                Column("lag", "lag", right=True, rank=1),
                Column("note", ""),
            ],
            "Sources",
        ),
        (
            rules,
            [
                Column("id", "rule", least=32, style="bold"),
                Column("version", "version", right=True, rank=5),
                numeric("scored", "scored", rank=2),
                numeric("findings", "findings"),
                numeric("suppressed", "suppressed", rank=4),
                numeric("left", "unscored"),
                Column("why", "because", least=30, rank=1),
                numeric("errors", "errors"),
            ],
            "Rules, since the state began",
        ),
        (
            [{"id": r["id"], "error": r["error"]} for r in rules if r["error"]],
            [Column("id", "rule", least=24), Column("error", "first error", least=24, fold=True)],
            "Rules that failed",
        ),
        (skipped, [Column("id", "rule", least=24), Column("why", "why", least=24, fold=True)], "Rules that do not run"),
        (
            list(found.get("outputs") or ()),
            [
                Column("name", "output", least=12, style="bold"),
                numeric("behind", "waiting"),
                numeric("delivered", "delivered"),
                numeric("failed", "failed"),
                Column("last_error", "error", least=16),
            ],
            "Outputs",
        ),
        (
            trouble,
            [Column("at", "at"), numeric("times", "times", rank=1), Column("what", "what", least=24, fold=True)],
            "Trouble, the newest first",
        ),
    ]


def _source_row(told: "Status", at: datetime | None) -> dict[str, Any]:
    watermark = time_of(told, "watermark")
    behind, unit = told.get("behind"), told.get("unit")
    return {
        "source": told.get("source"),
        "partition": told.get("partition"),
        "behind": _size(behind) if unit == "bytes" else f"{whole(behind)} {safe(unit)}",
        "watermark": _clock(told.get("watermark")),
        "lag": span((at - watermark).total_seconds()) if at and watermark else "-",
        "note": "idle" if told.get("idle") else "",
    }


def _rule_row(told: "Status") -> dict[str, Any]:
    unscored = {reason: n for reason, n in (told.get("unscored") or {}).items() if n and reason != "error"}
    left = sorted(unscored.items(), key=lambda item: -item[1])
    return dict(told) | {
        "left": sum(unscored.values()),
        "why": ", ".join(f"{reason} {whole(n)}" for reason, n in left),
        "error": told.get("error"),
    }


def _clock(text: object) -> str:
    at = time_of({"at": text}, "at")
    return "-" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _size(size: float | None) -> str:
    """Return a number of bytes in its largest unit.

    >>> _size(999), _size(8192), _size(3_500_000_000), _size(None)
    ('999 B', '8.19 kB', '3.50 GB', '-')
    """
    if size is None:
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit == "B" else f"{size:.2f} {unit}"
        size /= 1000
    return f"{size:.2f} TB"
