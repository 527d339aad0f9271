"""The bare scan: read the columns that each analysis needs and do nothing with them. The floor for anyone.

Enters: the made data. Leaves: no answers, only the time. Layer: none (outside the package).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from benchmarks import analyses as an
from benchmarks.data import CHUNK_EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.analyses import Answers
    from benchmarks.data import Data


class Rival:
    """Polars' streaming Parquet reader, batch by batch."""

    def prepare(self, data: Data) -> None:
        """Remember the file."""
        self.events = pl.scan_parquet(data.events)

    def steps(self) -> dict[str, Callable[[], Answers]]:
        """Each analysis' own columns, and all of them in one pass: the least that a single pass can cost."""
        union = list(dict.fromkeys(column for columns in an.COLUMNS.values() for column in columns))
        return {name: partial(self._read, columns) for name, columns in (an.COLUMNS | {"one pass": union}).items()}

    def _read(self, columns: list[str]) -> Answers:
        for batch in self.events.select(columns).collect_batches(chunk_size=CHUNK_EVENTS):
            if batch.height == 0:
                break
        return {}
