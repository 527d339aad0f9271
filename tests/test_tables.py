"""Claims about Table: its joins, its digest, and the one file it is saved as."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.errors import TableError
from tocsin.tables import RANGE_KEY, Table, range_columns, range_text

unhurried = settings(deadline=None)
MARCH, APRIL = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
NETS = pl.DataFrame(
    {
        "lo_addr": ["10.0.0.0", "2001:db8::", "192.0.2.0"],
        "hi_addr": ["10.255.255.255", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "192.0.2.255"],
        "net": ["office", "lab", "docs"],
    }
)


def nets(valid_from: datetime | None = None, rename: str = "") -> Table:
    frame = range_columns(NETS).with_columns(pl.col("net") + rename)
    return Table("nets", frame, RANGE_KEY, ("net",), valid_from)


def owners(**more) -> Table:
    frame = pl.DataFrame({"host": ["a", "b", None], "owner": ["x", "y", "nobody"], "seats": [1, None, 3]})
    return Table("owners", frame, ("host",), ("owner", "seats"), **more)


CELLS = {
    "whole": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    "real": st.one_of(st.none(), st.floats(allow_nan=False)),
    "text": st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=5)),
    "flag": st.one_of(st.none(), st.booleans()),
    "day": st.one_of(st.none(), st.dates(date(1900, 1, 1), date(2200, 1, 1))),
    "at": st.one_of(st.none(), st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))),
    "names": st.one_of(st.none(), st.lists(st.one_of(st.none(), st.text("ab", max_size=2)), max_size=3)),
}
TYPES = {
    "id": pl.Int64, "whole": pl.Int64, "real": pl.Float64, "text": pl.String, "flag": pl.Boolean, "day": pl.Date,
    "at": pl.Datetime("us", "UTC"), "names": pl.List(pl.String),
}  # fmt: skip
ROWS = st.lists(st.fixed_dictionaries(CELLS), min_size=1, max_size=6)


def made(rows: list[dict]) -> Table:
    frame = pl.DataFrame([{"id": at} | row for at, row in enumerate(rows)], schema=TYPES)
    return Table("any", frame, ("id",), tuple(CELLS))


def test_an_exact_join_adds_the_values_and_null_where_there_is_no_such_key() -> None:
    joined = owners().join(pl.DataFrame({"host": ["b", "z", None, "a"]}))
    assert joined.rows() == [("b", "y", None), ("z", None, None), (None, None, None), ("a", "x", 1)]


def test_a_join_may_rename_the_key_and_prefix_the_values() -> None:
    joined = owners().join(pl.DataFrame({"src_host": ["a"]}), on=["src_host"], prefix="src_")
    assert joined.to_dicts() == [{"src_host": "a", "src_owner": "x", "src_seats": 1}]


def test_joining_twice_replaces_the_columns() -> None:
    once = owners().join(pl.DataFrame({"host": ["a"]}))
    assert owners().join(once).equals(once)


def test_a_range_join_finds_both_families_and_both_ends() -> None:
    asked = ["10.0.0.0", "10.255.255.255", "11.0.0.0", "2001:db8::7", "::ffff:192.0.2.1", "junk", None]
    found = nets().join_range(pl.DataFrame({"ip": asked}), on="ip")["net"].to_list()
    assert found == ["office", "office", None, "lab", "docs", None, None]


def test_range_numbers_and_text_are_two_forms_of_one_thing() -> None:
    assert range_text(range_columns(NETS)).equals(NETS)


def test_an_as_of_join_uses_the_version_valid_at_each_rows_time_and_none_before_the_first() -> None:
    second = Table(
        "owners", pl.DataFrame({"host": ["a"], "owner": ["new"], "seats": [9]}), ("host",), ("owner", "seats"), APRIL
    )
    step = timedelta(microseconds=1)
    times = [MARCH - step, MARCH, APRIL - step, APRIL, APRIL]
    frame = pl.DataFrame({"host": ["a", "a", "a", "a", "b"], "timestamp": times})
    joined = Table.join_asof([second, owners(valid_from=MARCH)], frame)
    assert joined.columns == ["host", "timestamp", "owner", "seats"]
    # "b" is gone from the April version: null, not its March row.
    assert joined["owner"].to_list() == [None, "x", "x", "new", None]


def test_an_as_of_join_of_range_tables_works_alike() -> None:
    frame = pl.DataFrame({"ip": ["10.0.0.1"] * 2, "timestamp": [MARCH, APRIL]})
    joined = Table.join_asof([nets(), nets(APRIL, "-moved")], frame, on=("ip",))
    assert joined["net"].to_list() == ["office", "office-moved"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Table("t", NETS, ("lo_adr",), ("net",)), 'no column "lo_adr".*Did you mean "lo_addr"'),
        (lambda: Table("t", NETS, ("net",), ("net",)), "must not be empty nor share"),
        (lambda: Table("t", NETS, (), ("net",)), "must not be empty"),
        (lambda: Table("t", NETS, ("net",), (), tier=5), "tier 5"),
        (lambda: Table("t", NETS, ("net",), (), datetime(2026, 1, 1)), "no time zone"),
        (lambda: Table("t", pl.DataFrame({"k": [1, 2, 2]}), ("k",), ()), "{'k': 2} is there more than once"),
        (lambda: owners().join(pl.DataFrame({"hots": ["a"]})), 'no column "host".*Did you mean "hots"'),
        (lambda: owners().join(pl.DataFrame({"host": ["a"]}), on=["host", "host"]), "names 2 columns"),
        (lambda: owners().join_range(pl.DataFrame({"ip": ["a"]}), on="ip"), "not by address ranges"),
        (lambda: range_columns(NETS.with_columns(hi_addr=pl.lit("x"))), "Row 0, column \"hi_addr\": 'x'"),
    ],
)  # fmt: skip
def test_a_wrong_table_or_join_says_what_is_wrong(call, words) -> None:
    with pytest.raises(TableError, match=words):
        call()


@unhurried
@given(ROWS, st.randoms(use_true_random=False))
def test_the_digest_does_not_depend_on_the_order_of_rows_or_columns(rows, random) -> None:
    table = made(rows)
    order = list(range(len(rows)))
    random.shuffle(order)
    values = list(table.values)
    random.shuffle(values)
    assert Table("any", table.frame[order].select("id", *values), ("id",), tuple(values)).digest == table.digest


@unhurried
@given(ROWS, st.data())
def test_any_changed_cell_changes_the_digest(rows, data) -> None:
    table = made(rows)
    at, name = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.sampled_from(sorted(CELLS)))
    changed = data.draw(CELLS[name].filter(lambda cell: cell != rows[at][name]))
    other = made([row | {name: changed} if number == at else row for number, row in enumerate(rows)])
    assert other.digest != table.digest


def test_the_digest_tells_name_time_and_tier_apart_but_not_notes() -> None:
    digests = {owners().digest, owners(tier=3).digest, owners(valid_from=MARCH).digest, owners(valid_from=APRIL).digest}
    assert len(digests) == 4
    assert owners(notes={"source": "elsewhere"}).digest == owners().digest


def test_the_digest_is_the_same_in_every_release() -> None:
    # If this fails, every digest kept beside a finding has become meaningless: bump the format instead.
    assert owners(valid_from=MARCH).digest == "808a2072b68b99d6afb2a261219a538d54642153a082a85f51916a3db94bb39b"
    assert nets().digest == "043f838ae78e4c02884e719b88fecb63295dfd515a0f7ac16d3591ff749c425e"


def test_text_cells_cannot_be_shifted_between_rows_without_notice() -> None:
    one = Table("t", pl.DataFrame({"k": [1, 2], "v": ["ab", "c"]}), ("k",), ("v",))
    other = Table("t", pl.DataFrame({"k": [1, 2], "v": ["a", "bc"]}), ("k",), ("v",))
    assert one.digest != other.digest


@unhurried
@given(rows=ROWS)
def test_a_saved_table_loads_as_it_was(rows, tmp_path_factory) -> None:
    table = made(rows)
    loaded = Table.load(table.save(tmp_path_factory.mktemp("table") / "t.parquet"))
    assert loaded.frame.equals(table.frame)
    assert loaded.digest == table.digest


def test_a_saved_table_keeps_its_description_and_any_parquet_reader_can_read_it(tmp_path: Path) -> None:
    table = Table("nets", range_columns(NETS), RANGE_KEY, ("net",), APRIL, 2, {"licence": "CC0"})
    path = table.save(tmp_path / "deep" / "nets.parquet")
    loaded = Table.load(path)
    assert (loaded.name, loaded.key, loaded.values) == (table.name, table.key, table.values)
    assert (loaded.valid_from, loaded.tier, dict(loaded.notes)) == (APRIL, 2, {"licence": "CC0"})
    assert pl.read_parquet(path).equals(table.frame)
    assert [entry.name for entry in path.parent.iterdir()] == ["nets.parquet"]


def test_a_failed_save_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = owners().save(tmp_path / "t.parquet")
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        owners(tier=3).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_cut_off_at_any_point_is_refused_with_advice(tmp_path: Path) -> None:
    whole = nets().save(tmp_path / "t.parquet").read_bytes()
    cut = tmp_path / "cut.parquet"
    for size in [*range(0, len(whole), 97), len(whole) - 1]:
        cut.write_bytes(whole[:size])
        with pytest.raises(TableError, match=r"cut\.parquet: the table file is damaged.*Write it again"):
            Table.load(cut)


def test_a_flipped_byte_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    table = nets()
    whole = bytearray(table.save(tmp_path / "t.parquet").read_bytes())
    flipped = tmp_path / "flipped.parquet"
    refused = 0
    for at in range(0, len(whole), 13):
        changed = whole.copy()
        changed[at] ^= 0x40
        flipped.write_bytes(changed)
        try:
            loaded = Table.load(flipped)
        except TableError:
            refused += 1
        else:
            assert loaded.frame.equals(table.frame)
    assert refused


def test_contents_that_do_not_match_their_digest_are_refused(tmp_path: Path) -> None:
    path = owners().save(tmp_path / "t.parquet")
    arrow = pq.read_table(path)
    forged = arrow.set_column(1, "owner", pa.array(["mallory"] * 3, arrow.schema.field("owner").type))
    pq.write_table(forged.replace_schema_metadata(arrow.schema.metadata), path)
    with pytest.raises(TableError, match="do not match the digest"):
        Table.load(path)


def test_a_foreign_or_missing_file_is_named(tmp_path: Path) -> None:
    NETS.write_parquet(tmp_path / "plain.parquet")
    with pytest.raises(TableError, match=r"plain\.parquet: a Parquet file, but not a saved table"):
        Table.load(tmp_path / "plain.parquet")
    with pytest.raises(TableError, match=r"none\.parquet: there is no such table file"):
        Table.load(tmp_path / "none.parquet")


def test_a_column_type_a_table_cannot_keep_is_refused() -> None:
    frame = pl.DataFrame({"k": [1], "v": [{"deep": 1}]})
    with pytest.raises(TableError, match='Column "v" has type Struct'):
        _ = Table("t", frame, ("k",), ("v",)).digest
