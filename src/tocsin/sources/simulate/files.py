"""Write a simulation to a folder: events, references, and the truth in files of its own.

Enters: frames of events in time order, the truth. Leaves: files; the same rows give the same bytes, however they
were cut. Layer: sources.
"""

from __future__ import annotations

import gzip
import json
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tocsin.sources.simulate.days import SCHEMA
from tocsin.sources.simulate.geography import geo_frame, networks_frame, threats_frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tocsin.sources.simulate.truth import Document

ROWS_PER_GROUP = 250_000
FILES = {
    "events.parquet": "mail and logins",
    "events.jsonl.gz": "the same, one JSON object a line",
    "geo.csv.gz": "which addresses lie where",
    "networks.csv.gz": "whose addresses they are, with AS numbers",
    "threats.csv": "listed addresses, networks and domains",
    "truth.json": "what was planted",
    "population.parquet": "each user's own parameters",
}
TRUTH_FILES = ("truth.json", "population.parquet")


def folder_for(folder: str | Path) -> Path:
    """Return the folder, made if it is not there."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    return target


def write_truth(folder: Path, truth: Document, people: pl.DataFrame) -> None:
    """Write ``truth.json`` and ``population.parquet``: what a detector must not see."""
    (folder / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    people.write_parquet(folder / "population.parquet")


def write_references(folder: Path) -> None:
    """Write ``geo.csv.gz``, ``networks.csv.gz`` and ``threats.csv``."""
    for name, frame in (("geo", geo_frame()), ("networks", networks_frame())):
        with _gzip(folder / f"{name}.csv.gz") as packed:
            packed.write(frame.write_csv().encode())
    (folder / "threats.csv").write_text(threats_frame().write_csv(), encoding="utf-8")


def write_events(chunks: Iterable[pl.DataFrame], folder: Path, *, jsonl: bool) -> int:
    """Write ``events.parquet`` (and ``events.jsonl.gz``); return the number of events."""
    written = 0
    schema = pl.DataFrame(schema=SCHEMA).to_arrow().schema
    with ExitStack() as files:
        parquet = files.enter_context(pq.ParquetWriter(folder / "events.parquet", schema, compression="zstd"))
        lines = files.enter_context(_gzip(folder / "events.jsonl.gz")) if jsonl else None
        for group in regroup(chunks):
            parquet.write_table(_canonical(group, schema), row_group_size=ROWS_PER_GROUP)
            written += group.height
            if lines:
                lines.write(group.write_ndjson().encode())
    return written


def regroup(chunks: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Cut a stream of frames into frames of ROWS_PER_GROUP rows (the last one shorter), however it came."""
    waiting: list[pl.DataFrame] = []
    rows = 0
    for chunk in chunks:
        waiting.append(chunk)
        rows += chunk.height
        if rows >= ROWS_PER_GROUP:
            joined = pl.concat(waiting)
            whole = rows - rows % ROWS_PER_GROUP
            for at in range(0, whole, ROWS_PER_GROUP):
                yield joined[at : at + ROWS_PER_GROUP]
            waiting, rows = [joined[whole:]], rows - whole
    if rows:
        yield pl.concat(waiting)


@contextmanager
def _gzip(path: Path) -> Iterator[gzip.GzipFile]:
    """Open a gzip file whose header names no file and no time: same seed, same bytes."""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=5, fileobj=raw, mtime=0) as packed:
        yield packed


def _canonical(group: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """One chunk per column: Parquet pages are cut at chunk borders, which must not depend on how the rows came."""
    return group.rechunk().to_arrow().cast(schema).combine_chunks()
