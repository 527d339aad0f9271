"""The bare scan: read the columns that each analysis needs and do nothing with them. The floor for anyone.

Enters: the made data. Leaves: no answers, only the time. Layer: none (outside the package).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from benchmarks import analyses as an
from benchmarks.data import CHUNK_EVENTS

if TYPE_CHECKING:
    from benchmarks.data import Data


class Rival:
    """Polars' streaming Parquet reader, batch by batch."""

    def prepare(self, data: Data) -> None:
        """Remember the file."""
        self.events = pl.scan_parquet(data.events)

    def run(self) -> dict[str, pl.DataFrame]:
        """Read the union of the columns once: the least that a single pass over the file can cost."""
        columns = list(dict.fromkeys(column for columns in an.COLUMNS.values() for column in columns))
        self.rows = sum(b.height for b in self.events.select(columns).collect_batches(chunk_size=CHUNK_EVENTS))
        return {}
