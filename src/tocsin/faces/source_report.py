"""What was read: the mapping, the counts and the rejects, as every command that reads events shows them.

Enters: `Events`, `References`. Leaves: lines for a console, and the same as plain values for JSON. Layer: faces.
"""

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from tocsin.faces.terminal import Column, make_table, numeric, safe, whole

if TYPE_CHECKING:
    from tocsin.references import References
    from tocsin.sources import Events

SHOWN_REASONS = 8


def mapping_line(events: "Events") -> str:
    """Return in words which mapping was used and why."""
    name = events.mapping.name
    if events.recognised:
        return f"mapping {safe(name)}, recognised by the fields"
    return (
        f"mapping {safe(name)}"
        if events.mapping.columns
        else "no mapping: names as in the source (tocsin map init proposes one)"
    )


def show_source(console: Console, events: "Events", refs: "References | None" = None) -> None:
    """Print what was read, with the reasons of rejects, and what is known about the reference data."""
    counts = events.counts
    console.print(
        Text.assemble(
            (safe(events.name), "bold"), f": {whole(counts.accepted)} of {whole(counts.read)} events accepted"
        )
    )
    console.print(mapping_line(events))
    if counts.skipped:
        console.print(f"{whole(counts.skipped)} lines skipped: no events of this source")
    if counts.rejected or counts.cells:
        show_rejects(console, events)
    for text in refs.attributions if refs else ():
        console.print(Text(safe(text), style="dim"))
    if refs is not None and refs.rejected.height:
        console.print(
            f"{whole(refs.rejected.height)} list lines could not be used; the first: {_first_list_reject(refs)}"
        )
    console.print()


def show_rejects(console: Console, events: "Events") -> None:
    """Print how many rows and values were left out, and why."""
    counts, reasons = events.counts, events.reject_reasons
    console.print(
        f"{whole(counts.rejected)} rows rejected, {whole(counts.cells)} values left out of rows that were kept:"
    )
    examples = _examples(events)
    rows = [{"reason": r, "times": n, "example": examples.get(r)} for r, n in list(reasons.items())[:SHOWN_REASONS]]
    columns = [
        numeric("times", "times"),
        Column("reason", "reason", least=30),
        Column("example", "for example", least=36, rank=1),
    ]
    console.print(make_table(rows, columns, console.width))
    if len(reasons) > SHOWN_REASONS:
        console.print(f"and {len(reasons) - SHOWN_REASONS} further reasons")


def _examples(events: "Events") -> dict[str, str]:
    firsts = events.rejected.unique("reason", keep="first", maintain_order=True)
    return {
        row["reason"]: f"{row['file']}:{row['line']} {row['column'] or ''} {safe(row['value'], 40)}"
        for row in firsts.iter_rows(named=True)
    }


def _first_list_reject(refs: "References") -> str:
    row = refs.rejected.row(0, named=True)
    return f"{safe(row['file'])}:{row['line']}: {safe(row['reason'])}: {safe(row['value'], 60)}"


def source_values(events: "Events") -> dict[str, Any]:
    """Return the same for JSON."""
    counts = events.counts
    return {
        "name": events.name,
        "mapping": events.mapping.name,
        "recognised": events.recognised,
        "columns": {n: str(t) for n, t in events.columns.items()},
        "read": counts.read,
        "accepted": counts.accepted,
        "rejected": counts.rejected,
        "values_left_out": counts.cells,
        "skipped": counts.skipped,
        "reject_reasons": events.reject_reasons,
    }


def reference_values(refs: "References | None") -> dict[str, Any] | None:
    """Return what is known about the reference data for JSON."""
    if refs is None:
        return None
    sizes = {
        name: one.entries.height if (one := getattr(refs, name)) is not None else None
        for name in ("threats", "assets", "allow")
    }
    return {
        "digest": refs.digest,
        "geo": [t.name for t in refs.geo],
        **sizes,
        "rejected": refs.rejected.height,
        "attributions": list(refs.attributions),
    }
