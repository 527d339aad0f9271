"""Claims about Parquet files: read where they lie, validated on the way, sorted only when they have to be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest

from tocsin.errors import SourceError
from tocsin.sources import read
from tocsin.sources.parquet import ParquetStore

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def test_sorted_parquet_is_read_where_it_lies_and_its_bad_rows_stay_out(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"timestamp": pl.datetime_range(datetime(2026, 1, 1), datetime(2026, 1, 2), "1m", time_zone="UTC", eager=True)}
    )
    frame = frame.with_columns(src_ip=pl.lit("1.2.3.4"), user=pl.int_range(pl.len()), when=pl.lit(None, pl.Date))
    frame[700, "src_ip"] = "bad"
    frame[701, "src_ip"] = "2001:DB8::1"
    frame.write_parquet(tmp_path / "log.parquet", row_group_size=100)
    events = read(tmp_path / "log.parquet", now=NOW)
    assert type(events._store).__name__ == "ParquetStore"
    assert events.rejected.select("line", "value").rows() == [(701, "bad")]
    out = pl.concat(events.batches(["user"], size=333))
    assert out["user"].to_list() == [n for n in range(1441) if n != 700]
    assert out["event_id"][700] == "log:702"
    assert events.frame().collect().equals(pl.concat(events.batches()))
    assert events.frame().select(pl.len()).collect().item() == 1440
    assert events.filter(pl.col("src_ip") == "2001:db8::1").collect().height == 1
    with pytest.raises(SourceError, match='Did you mean "src_ip"'):
        events.filter(pl.col("src_ipp") == "x")


def minutes(rows: int, start: str = "2026-01-01T00:00:00Z", **columns: pl.Expr) -> pl.DataFrame:
    first = pl.lit(start).str.to_datetime(time_unit="us", time_zone="UTC")
    numbers = pl.DataFrame({"n": range(rows)})
    return numbers.select(timestamp=first + pl.duration(minutes=pl.col("n")), n="n", **columns)


def test_counts_and_rejects_are_the_same_whoever_reads_first(tmp_path: Path) -> None:
    bad = pl.when(pl.col("n") % 97 == 5).then(pl.lit("bad")).otherwise(pl.lit("1.2.3.4"))
    minutes(2_000, src_ip=bad).write_parquet(tmp_path / "log.parquet", row_group_size=300)
    asked, streamed, abandoned = (read(tmp_path / "log.parquet", now=NOW) for _ in range(3))
    assert asked.counts.rejected == 21
    first = pl.concat(streamed.batches(["n"], size=333))
    assert streamed.counts == asked.counts
    assert streamed.rejected.equals(asked.rejected)
    assert pl.concat(streamed.batches(["n"], size=333)).equals(first)
    assert first.equals(pl.concat(asked.batches(["n"], size=333)))
    next(iter(abandoned.batches(["n"], size=10)))
    assert abandoned.counts == asked.counts
    assert len(abandoned) == len(first)


def test_a_range_of_times_is_the_same_before_and_after_validation(tmp_path: Path) -> None:
    minutes(500).write_parquet(tmp_path / "log.parquet")
    events = read(tmp_path / "log.parquet", now=NOW)
    span = {"since": "2026-01-01T01:00", "until": "2026-01-01T02:00"}
    first = pl.concat(events.batches(["n"], **span))
    assert first["n"].to_list() == list(range(60, 120))
    assert pl.concat(events.batches(["n"], **span)).equals(first)
    assert events.counts.accepted == 500


def test_absurd_times_do_not_make_a_file_unsorted(tmp_path: Path) -> None:
    absurd = pl.when(pl.col("n") % 50 == 7).then(pl.datetime(2102, 1, 1, time_zone="UTC")).otherwise("timestamp")
    frame = minutes(200).with_columns(timestamp=absurd)
    frame[11, "timestamp"] = None
    frame.write_parquet(tmp_path / "log.parquet")
    events = read(tmp_path / "log.parquet", now=NOW)
    assert type(events._store).__name__ == "ParquetStore"
    assert events.counts.rejected == 5
    assert pl.concat(events.batches())["timestamp"].is_sorted()


@pytest.mark.parametrize("shuffled", [False, True])
def test_files_of_different_columns_are_read_as_one_log(tmp_path: Path, *, shuffled: bool) -> None:
    early = minutes(60)
    late = minutes(60, "2026-01-02T00:00:00Z", size=pl.col("n") * 2, src_ip=pl.lit("1.1.1.1"))
    if shuffled:
        early, late = early.sample(fraction=1, shuffle=True, seed=1), late.sample(fraction=1, shuffle=True, seed=2)
    early.write_parquet(tmp_path / "b.parquet")  # read after a.parquet by name, before it by time
    late.write_parquet(tmp_path / "a.parquet")
    nothing = minutes(3).with_columns(timestamp=pl.lit(None, pl.Datetime("us", "UTC")))
    nothing.write_parquet(tmp_path / "c.parquet")
    events = read(tmp_path, now=NOW)
    for _ in range(2):
        out = pl.concat(events.batches(size=50))
        assert out["timestamp"].is_sorted()
        assert out["size"].to_list() == [None] * 60 + list(range(0, 120, 2))
        assert out["src_ip"].null_count() == 60
    assert (events.counts.read, events.counts.accepted, events.counts.rejected) == (123, 120, 3)


def test_strict_reading_of_parquet_stops_at_once(tmp_path: Path) -> None:
    minutes(20, src_ip=pl.lit("bad")).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(SourceError, match="not an IP address"):
        read(tmp_path / "log.parquet", now=NOW, strict=True)


def test_arrival_order_keeps_the_order_of_files_and_rows(tmp_path: Path) -> None:
    frame = minutes(100).sample(fraction=1, shuffle=True, seed=3)
    frame.write_parquet(tmp_path / "log.parquet")
    events = read(tmp_path / "log.parquet", now=NOW, order="arrival")
    assert pl.concat(events.batches(["n"], size=7))["n"].to_list() == frame["n"].to_list()
    assert pl.concat(events.batches(["n"], since="2026-01-01T01:00"))["n"].to_list() == [
        n for n in frame["n"] if n >= 60
    ]


def test_the_number_of_records_is_known_without_validating_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pl.DataFrame({"timestamp": ["2026-01-01T00:00Z", "never", "2026-01-02T00:00Z"]})
    frame.write_parquet(tmp_path / "a.parquet")
    events = read(tmp_path / "a.parquet")
    with monkeypatch.context() as patched:
        patched.setattr(ParquetStore, "verdict", lambda *_: pytest.fail("validated"))
        assert events.records == 3
    assert events.counts.accepted == 2
