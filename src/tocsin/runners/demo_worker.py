"""The blind half of the demo: a process that sees events and references, and writes its findings.

Enters: a folder with ``events.parquet``, ``geo.csv.gz`` and ``threats.csv``. Leaves: ``findings.parquet`` there.
It knows neither the seed nor the truth, which is not on disk while it runs. Layer: runners.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tocsin.engine.replay import backtest
from tocsin.references import reference
from tocsin.rules import ALL
from tocsin.sources import read


def main(folder: Path) -> None:
    """Backtest all rules that ship over the folder's events."""
    events = read(folder / "events.parquet")
    refs = reference(geo=folder / "geo.csv.gz", threats=folder / "threats.csv")
    past = backtest(ALL, events, refs)
    past.findings.write_parquet(folder / "findings.parquet")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
