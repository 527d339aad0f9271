"""Peak memory of a whole backtest, at one length of log and at three times that length.

Enters: two sizes. Leaves: `memory.json`: peak resident megabytes of the process, references included.
Layer: none (outside the package).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.harness import in_new_process

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.data import Size


def run(short: Size, long: Size, folder: Path) -> dict[str, Any]:
    """Run the backtest once on each; the ratio is what matters."""
    peaks = {}
    for label, size in (("short", short), ("long", long)):
        measured = in_new_process("rival", size, folder, name="tocsin")
        peaks[label] = {"events": size.events, "days": size.days} | {k: measured[k] for k in ("peak_mb", "seconds")}
        print(f"  {size.events:,} events: {measured['peak_mb']:,.0f} MB", flush=True)
    return peaks | {"ratio": peaks["long"]["peak_mb"] / peaks["short"]["peak_mb"]}
