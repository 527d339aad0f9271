"""The blind half of the demo: a process that sees events and references, and writes its findings.

Enters: a folder with ``events.parquet``, ``geo.csv.gz`` and ``threats.csv``. Leaves: ``findings.parquet`` there.
It knows neither the seed nor the truth, which is not on disk while it runs. Layer: runners.
"""

from __future__ import annotations

import sys
from pathlib import Path

import tocsin as tc


def main(folder: Path) -> None:
    """Backtest all rules that ship over the folder's events."""
    events = tc.read(folder / "events.parquet")
    refs = tc.reference(geo=folder / "geo.csv.gz", threats=folder / "threats.csv")
    past = tc.backtest(tc.rules.ALL, events, refs)
    past.findings.write_parquet(folder / "findings.parquet")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
