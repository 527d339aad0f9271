"""Whatever stands in a file of alerts, reading it gives a history or says why not; each row is an alert, dropped, or merged into one."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import history_oracle as oracle
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.errors import TocsinError
from tocsin.lifecycle import ACTIVITIES, VERDICTS
from tocsin.sources.histories import parse_history_mapping, propose_history_mapping, read_history

unhurried = settings(deadline=None, max_examples=30)
AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
NASTY = [
    "",
    "=cmd|'/c calc'!A1",
    "\u202egnp.exe",
    "\x00",
    "a\nb",
    '"',
    "'",
    ",",
    ";",
    "\r",
    "\ufeff",
    "x" * 70_000,
    "?",
    "NaN",
    "-1",
    "1e999",
    "９",
    "\ud7ff",
    "2026-10-05T09:00:00Z",
    "2026-10-05 09:00:00",
    "1796461200",
    "99999-01-01T00:00:00Z",
    "0000-00-00T00:00:00Z",
    "[",
    "{}",
    "closed",
    "CLOSED",
]
cell = st.sampled_from(NASTY) | st.text(max_size=12)


def check(file: Path, mapping: str | None) -> None:
    try:
        read = read_history(file, mapping, as_of=AS_OF)
    except TocsinError:
        return
    history = read.history
    assert read.counts["read"] == read.counts["alerts"] + read.counts["dropped"] or read.mapping.shape != "alerts"
    assert read.counts["alerts"] == history.alerts.height == history.current.height
    assert history.alerts["alert_id"].is_unique().all()
    assert history.activities["key"].is_unique().all()
    assert history.activities["at"].is_sorted()
    assert not history.activities["at"].is_null().any()
    assert set(history.activities["type"]) <= set(ACTIVITIES)
    assert set(history.current["verdict"]) <= set(VERDICTS)
    assert (history.activities["at"].drop_nulls() <= AS_OF).all()
    assert set(read.rejected["reason"].is_null()) <= {False}
    assert set(read.dropped_rows["rule"]) <= set(read.dropped)
    assert history.observables.height >= 0


@unhurried
@given(st.lists(st.lists(cell, min_size=1, max_size=19), max_size=6), st.sampled_from(["\n", "\r\n", "\r"]))
def test_ragged_and_hostile_cells_of_an_export_never_do_more_than_drop_their_row(
    tmp_path_factory, rows, newline
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=newline)
    writer.writerow(oracle.EXPEL_COLUMNS)
    writer.writerows(rows)
    file = tmp_path_factory.mktemp("fuzz") / "export.csv"
    file.write_bytes(text.getvalue().encode("utf-8", "surrogatepass"))
    check(file, "expel-metrics")


@unhurried
@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_are_refused_or_read(tmp_path_factory, data: bytes, headed: bool) -> None:
    head = ",".join(f'"{c}"' for c in oracle.EXPEL_COLUMNS).encode() + b"\n" if headed else b""
    folder = tmp_path_factory.mktemp("fuzz")
    for name in ("a.csv", "a.jsonl", "a.json", "a.parquet", "a.bin"):
        (folder / name).write_bytes(head + data)
        check(folder / name, None)
        check(folder / name, "expel-metrics")


@unhurried
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(
                [
                    "number",
                    "incident_state",
                    "reassignment_count",
                    "opened_at",
                    "sys_updated_at",
                    "priority",
                    "assigned_to",
                ]
            ),
            cell | st.integers() | st.none() | st.lists(cell, max_size=2) | st.floats(),
            min_size=1,
        ),
        max_size=6,
    )
)
def test_updates_of_any_form_never_do_more_than_drop_their_row(tmp_path_factory, rows: list[dict]) -> None:
    file = tmp_path_factory.mktemp("fuzz") / "log.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    check(file, "uci-incident-log")


@unhurried
@given(
    st.lists(cell.filter(lambda c: len(c) < 100), min_size=1, max_size=6),
    st.lists(st.lists(cell, min_size=6, max_size=6), max_size=4),
)
def test_a_mapping_can_be_proposed_for_anything_and_reads_back(names: list[str], rows: list[list[str]]) -> None:
    header = list(dict.fromkeys([*names, "id", "created at"]))
    frame = pl.DataFrame(
        [dict(zip(header, row, strict=False)) for row in rows], schema=dict.fromkeys(header, pl.String)
    )
    proposal = propose_history_mapping(frame)
    if proposal.imported is not None:
        assert parse_history_mapping(proposal.toml) == proposal.mapping


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1", "cp1252", "utf-32"])
def test_files_in_another_encoding_are_refused_or_lose_only_the_rows_that_cannot_be_read(
    tmp_path: Path, encoding: str
) -> None:
    stamp = (AS_OF - timedelta(days=1)).isoformat()
    text = f"Expel Alert ID,Severity,Insert At (T3),Expel Alert Name\na,HIGH,{stamp},café\nb,HIGH,{stamp},tea\n"
    file = tmp_path / "export.csv"
    file.write_bytes(text.encode(encoding))
    if encoding in ("latin-1", "cp1252"):
        read = read_history(file, as_of=AS_OF)
        assert read.history.alerts["external_id"].to_list() == ["b"]
        assert read.rejected["reason"].to_list() == ["not UTF-8 at byte 37"]
    else:
        check(file, "expel-metrics")
        with pytest.raises(TocsinError):
            read_history(file)


def test_a_quote_that_is_never_closed_costs_its_own_line(tmp_path: Path) -> None:
    file = tmp_path / "export.csv"
    file.write_text(
        'Expel Alert ID,Severity,Insert At (T3)\n"a,HIGH,2026-10-05T09:00:00Z\nb,HIGH,2026-10-05T09:00:00Z\n'
    )
    read = read_history(file, as_of=AS_OF)
    assert read.history.alerts["external_id"].to_list() == ["b"]
    assert read.dropped == {"unreadable-row": 1}
    assert read.counts["dropped"] == 1
