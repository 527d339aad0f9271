"""Claims about reading events: what is accepted, what is set aside and why, and in which order it all comes out."""

from __future__ import annotations

import gzip
import io
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from tocsin.errors import MappingError, SourceError
from tocsin.sources import parse_mapping, read

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def lines(path: Path, *records: Any) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records), encoding="utf-8")
    return path


def event(n: int, **fields: Any) -> dict[str, Any]:
    when = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=n)
    return {"event_id": f"e{n}", "timestamp": when.isoformat().replace("+00:00", "Z"), "user_id": f"u{n % 3}", **fields}


def ids(events: Any) -> list[str]:
    return [i for batch in events.batches(["event_id"]) for i in batch["event_id"]]


# --- real data


@pytest.mark.needs("shared-data")
def test_real_mail_is_recognised_and_every_hostile_row_is_accounted_for(shared_data: Path) -> None:
    events = read(shared_data / "spamassassin-mail.jsonl.gz", now=NOW)
    assert events.recognised
    assert events.name == "spamassassin-mail"
    assert (events.counts.read, events.counts.accepted, events.counts.rejected) == (6046, 5974, 72)
    mail = events.frame().collect()
    assert mail["kind"].unique().to_list() == ["mail"]
    assert events.counts.cells == events.rejected["kept"].sum() > 200
    assert events.reject_reasons["not an IP address"] == 211
    assert (mail["nr_attachments"] == mail["attachments"].list.len()).all()
    assert mail["timestamp"].is_sorted()
    assert mail["timestamp"].dt.year().max() < 2004


@pytest.mark.needs("shared-data")
def test_a_helpdesk_log_is_read_once_told_its_time_and_zone(shared_data: Path) -> None:
    path = shared_data / "uci-incident-log-half.csv.gz"
    with pytest.raises(MappingError, match="no column timestamp"):
        read(path)
    mapping = parse_mapping('[source]\nzone = "UTC"\nnull_values = ["?"]\n[columns.timestamp]\nfrom = "sys_updated_at"')
    events = read(path, mapping=mapping)
    assert events.counts.read == 71_600
    assert events.columns["reassignment_count"] == pl.Int64
    assert events.columns["number"] == pl.String


# --- rows and cells


def test_each_bad_row_is_told_with_file_line_column_value_and_reason(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "log.jsonl",
        event(0, src_ip="1.2.3.4", nr_recipients=1),
        "{broken",
        event(1, src_ip="5.0.2195.1600"),
        event(2, nr_recipients="many"),
        {"event_id": "x"},
        event(3) | {"timestamp": "0102-02-02T09:39:51+00:00"},
        event(4) | {"timestamp": "2999-01-01T00:00:00Z"},
        event(5) | {"timestamp": "soon"},
        event(6, user_id=["a"]),
        event(7, subject="x" * 70_000),
        "",
        event(8, src_ip="::FFFF:1.2.3.4"),
    )
    events = read(path, now=NOW)
    assert ids(events) == ["e0", "e8"]
    rejected = events.rejected.select("file", "line", "column", "reason", "kept").rows()
    assert rejected == [
        ("log.jsonl", 2, "", "not JSON: Expecting property name enclosed in double quotes at character 2", False),
        ("log.jsonl", 3, "src_ip", "not an IP address", False),
        ("log.jsonl", 4, "nr_recipients", "not a whole number", False),
        ("log.jsonl", 5, "timestamp", "missing time", False),
        ("log.jsonl", 6, "timestamp", "absurd time: before the earliest allowed, 1990-01-01 00:00Z", False),
        ("log.jsonl", 7, "timestamp", "absurd time: after the latest allowed, 2026-06-02 00:00Z", False),
        ("log.jsonl", 8, "timestamp", "not a time", False),
        ("log.jsonl", 9, "user_id", "expected one value, found a list", False),
        ("log.jsonl", 10, "subject", "longer than 65,536 bytes", False),
    ]
    assert events.rejected["value"].to_list()[:3] == ["{broken", "5.0.2195.1600", "many"]
    assert events.counts.read == 11
    assert events.frame().collect()["src_ip"].to_list() == ["1.2.3.4", "1.2.3.4"]


def test_a_mapping_may_keep_a_row_whose_address_is_wrong_and_the_cell_is_counted_apart(tmp_path: Path) -> None:
    path = lines(tmp_path / "log.jsonl", event(0, src_ip="nonsense"), event(1, src_ip="1.1.1.1"))
    mapping = parse_mapping('[columns.src_ip]\non_invalid = "null"')
    events = read(path, mapping=mapping, now=NOW)
    assert (events.counts.accepted, events.counts.rejected, events.counts.cells) == (2, 0, 1)
    assert events.rejected["kept"].to_list() == [True]
    assert events.frame().collect()["src_ip"].to_list() == [None, "1.1.1.1"]


def test_a_wrong_type_in_a_column_nobody_declared_costs_the_cell_and_not_the_row(tmp_path: Path) -> None:
    rows = [event(n, level=n) for n in range(40_000)] + [event(1, level="high") | {"event_id": "late"}]
    events = read(lines(tmp_path / "log.jsonl", *rows), now=NOW)
    assert events.columns["level"] == pl.Int64
    assert events.counts.accepted == 40_001
    assert events.rejected.select("column", "value", "reason", "kept").rows() == [
        ("level", "high", "not a whole number", True)
    ]


def test_a_field_that_first_appears_after_the_sample_is_kept_as_text(tmp_path: Path) -> None:
    rows = [event(n, filler="x" * 200) for n in range(12_000)] + [
        event(0, extra=7, nr_recipients=3) | {"event_id": "late"}
    ]
    events = read(lines(tmp_path / "log.jsonl", *rows), now=NOW)
    late = events.filter(pl.col("event_id") == "late").collect()
    assert late.select("extra", "nr_recipients").row(0) == ("7", 3)


def test_strict_reading_stops_at_the_first_bad_value(tmp_path: Path) -> None:
    path = lines(tmp_path / "log.jsonl", event(0), event(1, src_ip="1.2.3"))
    with pytest.raises(SourceError, match=r"log.jsonl, line 2, column 'src_ip': not an IP address: '1.2.3'"):
        read(path, strict=True, now=NOW)


def test_events_without_ids_get_the_source_and_line_and_numbers_become_text(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "vpn.jsonl",
        {"timestamp": "2026-01-01T00:00Z", "user_id": 7},
        {"timestamp": "2026-01-01T00:00Z", "event_id": 12},
    )
    frame = read(path, now=NOW).frame().collect()
    assert frame["event_id"].to_list() == ["vpn:1", "12"]
    assert frame["user_id"].to_list() == ["7", None]


def test_duplicates_are_left_for_the_engine(tmp_path: Path) -> None:
    assert ids(read(lines(tmp_path / "a.jsonl", event(0), event(0)), now=NOW)) == ["e0", "e0"]


# --- times


def test_naive_times_need_a_zone_and_the_error_says_how(tmp_path: Path) -> None:
    path = lines(tmp_path / "log.jsonl", {"timestamp": "2026-03-01 10:00:00"})
    with pytest.raises(MappingError, match="zone="):
        read(path)
    assert read(path, zone="America/Denver").frame().collect()["timestamp"].item() == datetime(
        2026, 3, 1, 17, tzinfo=UTC
    )
    with pytest.raises(MappingError, match='Did you mean "Europe/Paris"'):
        read(path, zone="Europe/Pari")


def test_a_naive_time_among_zoned_ones_is_rejected_and_a_skipped_hour_does_not_exist(tmp_path: Path) -> None:
    path = lines(tmp_path / "log.jsonl", event(0), event(1), event(2) | {"timestamp": "2026-03-29 02:30:00"})
    assert read(path, now=NOW).reject_reasons == {"time without a zone": 1}
    reasons = read(path, now=NOW, zone="Europe/Paris").reject_reasons
    assert reasons == {"local time does not exist in Europe/Paris (skipped by the change to summer time)": 1}


@pytest.mark.parametrize(
    ("unit", "value"), [("s", 1_767_225_600), ("ms", 1_767_225_600_000), ("us", 1_767_225_600_000_000)]
)
def test_numbers_for_times_need_a_unit_and_the_error_guesses_it(tmp_path: Path, unit: str, value: int) -> None:
    path = lines(tmp_path / "log.jsonl", {"timestamp": value})
    with pytest.raises(MappingError, match=f'unit = "{unit}"'):
        read(path)
    events = read(path, mapping=parse_mapping(f'[columns.timestamp]\nunit = "{unit}"'), now=NOW)
    assert events.frame().collect()["timestamp"].item() == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_missing_time_column_is_an_error_with_did_you_mean() -> None:
    with pytest.raises(MappingError, match='Did you mean "timestmp"'):
        read(pl.DataFrame({"timestmp": ["2026-01-01T00:00Z"]}))
    with pytest.raises(MappingError, match='Did you mean "createdDateTime"'):
        read(pl.DataFrame({"createdDateTime": ["2026-01-01T00:00Z"]}))


# --- order and bounds


@pytest.mark.parametrize("memory_bytes", [1 << 30, 2_000])
def test_unsorted_input_comes_out_in_time_order_also_when_it_is_spilled(tmp_path: Path, memory_bytes: int) -> None:
    rows = [event((n * 7919) % 3000) | {"event_id": f"e{n}"} for n in range(3000)]
    events = read(lines(tmp_path / "log.jsonl", *rows), now=NOW, memory_bytes=memory_bytes, chunk_bytes=4_000)
    out = pl.concat(events.batches(size=700))
    assert out["timestamp"].is_sorted()
    assert sorted(out["event_id"]) == sorted(f"e{n}" for n in range(3000))
    assert out.equals(pl.concat(events.batches(size=131)))
    arrival = read(tmp_path / "log.jsonl", now=NOW, order="arrival", memory_bytes=memory_bytes, chunk_bytes=4_000)
    assert ids(arrival) == [f"e{n}" for n in range(3000)]


def test_spilled_runs_full_of_equal_times_are_merged_in_order_and_none_is_lost() -> None:
    from tocsin.sources import order

    collector = order.Collector(by_time=True, memory_bytes=1000, run_bytes=1000, range_rows=512)
    for n in range(40):
        when = pl.Series(
            [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=(i + n) % 2 * (n % 3)) for i in range(300)]
        )
        collector.add(
            pl.DataFrame(
                {"event_id": [f"{n}-{i}" for i in range(300)], "timestamp": when.cast(pl.Datetime("us", "UTC"))}
            )
        )
    store = collector.finish()
    out = pl.concat(store.batches(["event_id", "timestamp"], 1000, None, None))
    assert out["timestamp"].is_sorted()
    assert out["event_id"].n_unique() == len(out) == 12_000


def test_batches_have_the_asked_size_columns_and_range(tmp_path: Path) -> None:
    events = read(lines(tmp_path / "log.jsonl", *(event(n, kind="mail") for n in range(10))), now=NOW)
    batches = list(events.batches(["kind", "no_such_column"], size=4))
    assert [len(b) for b in batches] == [4, 4, 2]
    assert batches[0].columns == ["event_id", "timestamp", "kind"]
    some = pl.concat(events.batches(since="2026-01-01T00:00:02Z", until="2026-01-01T00:00:05Z"))
    assert some["event_id"].to_list() == ["e2", "e3", "e4"]
    with pytest.raises(SourceError, match="at least one row"):
        next(events.batches(size=0))


def test_temporary_files_go_with_the_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "spill"))
    (tmp_path / "spill").mkdir()
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", None)
    events = read(
        lines(tmp_path / "log.jsonl", *(event(n) for n in range(500))), now=NOW, memory_bytes=1000, chunk_bytes=2000
    )
    assert list((tmp_path / "spill").iterdir())
    del events
    assert not list((tmp_path / "spill").iterdir())


# --- formats and places


def test_the_same_rows_come_out_of_every_format_place_and_packing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [event(n, src_ip="1.2.3.4", nr_recipients=n, ratio=n / 4) for n in (3, 1, 2)]
    frame = pl.DataFrame(rows)
    text = "".join(json.dumps(r) + "\n" for r in rows).encode()
    (tmp_path / "a.jsonl").write_bytes(text)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text[:50]) + gzip.compress(text[50:]))
    import pyarrow as pa

    (tmp_path / "a.jsonl.zst").write_bytes(pa.Codec("zstd").compress(text, asbytes=True))
    frame.write_csv(tmp_path / "a.csv")
    frame.write_csv(tmp_path / "a.tsv", separator="\t")
    frame.write_parquet(tmp_path / "a.parquet")
    (tmp_path / "no_suffix").write_bytes(text)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    folder = tmp_path / "folder"
    folder.mkdir()
    lines(folder / "1.jsonl", *rows[:1])
    lines(folder / "2.jsonl", *rows[1:])
    sources = [
        *sorted(tmp_path.glob("a.*")),
        tmp_path / "no_suffix",
        "-",
        frame,
        frame.lazy(),
        frame.to_arrow(),
        folder,
        folder / "*.jsonl",
    ]
    expected = read(frame, now=NOW).frame().collect()
    assert len(sources) == 13
    for source in sources:
        events = read(source, now=NOW)
        assert events.frame().collect().equals(expected), source
        assert pl.concat(events.batches()).equals(expected), source


@pytest.mark.needs("pandas")
def test_pandas_frames_and_sql_connections_are_sources() -> None:
    import sqlite3

    import pandas as pd

    stamp = pd.Timestamp("2026-01-01", tz="UTC")
    assert ids(read(pd.DataFrame({"event_id": ["a"], "timestamp": [stamp]}), now=NOW)) == ["a"]
    database = sqlite3.connect(":memory:")
    database.execute("create table log as select 'a' event_id, '2026-01-01T00:00:00Z' timestamp")
    assert ids(read(database, query="select * from log", now=NOW)) == ["a"]
    database.close()


def test_http_sources_are_fetched(tmp_path: Path) -> None:
    import threading
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    lines(tmp_path / "log.jsonl", event(0))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert ids(read(f"{url}/log.jsonl", now=NOW)) == ["e0"]
        with pytest.raises(SourceError, match="404"):
            read(f"{url}/absent.jsonl")
        server.shutdown()


def test_unknown_sources_are_errors_that_help(tmp_path: Path) -> None:
    lines(tmp_path / "events.jsonl", event(0))
    with pytest.raises(SourceError, match=r'Did you mean "events\.jsonl"'):
        read(tmp_path / "event.jsonl")
    with pytest.raises(SourceError, match="no file matches"):
        read(tmp_path / "*.csv")
    with pytest.raises(SourceError, match="cannot read events from a dict"):
        read({})
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(SourceError, match="not a readable Parquet"):
        read(tmp_path / "broken.parquet")


def test_describing_events_gives_numbers_top_values_histogram_and_days(tmp_path: Path) -> None:
    rows = [event(n, nr_recipients=n % 5, attachments=["a.exe"] * (n % 2), score=n * 1.5) for n in range(100)]
    description = read(lines(tmp_path / "log.jsonl", *rows), now=NOW).describe()
    recipients = description.columns["nr_recipients"]
    assert (recipients.count, recipients.mean, recipients.min, recipients.max) == (100, 2.0, 0, 4)
    assert recipients.sd == pytest.approx(pl.Series([n % 5 for n in range(100)]).std())
    assert recipients.quantiles[0.5] == 2
    assert recipients.histogram["count"].sum() == 100
    assert description.columns["attachments"].top.rows() == [("a.exe", 50)]
    assert description.columns["user_id"].top.row(0) == ("u0", 34)
    assert description.per_day.rows() == [(datetime(2026, 1, 1).date(), 100)]
    assert description.to_frame()["column"].to_list()[0] == "timestamp"


def test_a_column_of_many_values_is_described_within_bounds() -> None:
    n = 60_000
    values = pl.Series([(i * 7919) % n / 7 for i in range(n)])
    users = ["boss"] * 5_000 + [f"u{i}" for i in range(n - 5_000)]
    events = read(
        pl.DataFrame({"timestamp": [datetime(2026, 1, 1, tzinfo=UTC)] * n, "x": values, "user_id": users}), now=NOW
    )
    description = events.describe()
    x = description.columns["x"]
    assert not x.exact
    for q, value in x.quantiles.items():
        assert value == pytest.approx(values.quantile(q, "linear"), rel=0.01)
    assert x.histogram["count"].sum() == n
    assert description.columns["user_id"].top.row(0) == ("boss", 5_000)


def test_an_integer_that_no_type_holds_is_text_and_its_row_stays(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    huge = -(2**127) - 1
    path.write_text(f'{{"timestamp": "2026-01-01T00:00:00Z", "n": {huge}}}\n')
    events = read(path)
    assert events.frame().collect()["n"].to_list() == [str(huge)]
