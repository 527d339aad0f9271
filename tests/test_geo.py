"""Claims about geo tables from every source, and about the country table that ships."""

from __future__ import annotations

import gzip
import ipaddress
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.errors import TableError
from tocsin.geo import GEO_VALUES, country_table, geo_from_frame, geo_import, merge_neighbours, read_geo
from tocsin.tables import RANGE_KEY, range_text

CSV = """lo_addr,hi_addr,latitude,longitude,country_iso_code,city_name
16777216,16777471,-27.4,153.0,AU,"Brisbane, North"
1.0.1.0,1.0.3.255,,,NA,
42540766411282592856903984951653826560,42540766490510755371168322545197776895,52.5,13.4,DE,Berlin
"""
ASKED = pl.DataFrame({"ip": ["1.0.0.7", "1.0.2.1", "2001:db8::5", "9.9.9.9"]})
PLACES = {
    "latitude": [-27.4, None, 52.5, None],
    "longitude": [153.0, None, 13.4, None],
    "country_iso_code": ["AU", "NA", "DE", None],
    "city_name": ["Brisbane, North", None, "Berlin", None],
}


def places(table) -> dict:
    return table.join_range(ASKED, on="ip").select(GEO_VALUES).to_dict(as_series=False)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "geo.csv"
    path.write_text(CSV, encoding="utf-8")
    return path


def test_a_csv_with_numbers_text_and_both_families_is_read_and_namibia_is_not_null(csv: Path) -> None:
    assert places(read_geo(csv)) == PLACES


def test_compressed_csv_and_parquet_read_like_the_csv(csv: Path, tmp_path: Path) -> None:
    (tmp_path / "geo.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    pl.read_csv(csv, infer_schema=False).cast({"latitude": pl.Float64}).write_parquet(tmp_path / "geo.parquet")
    assert places(read_geo(tmp_path / "geo.csv.gz")) == PLACES
    assert places(read_geo(tmp_path / "geo.parquet")) == PLACES


def test_an_imported_table_loads_as_it_was_read_with_the_same_digest(csv: Path, tmp_path: Path) -> None:
    reports = []
    written = geo_import(csv, tmp_path / "out.parquet", progress=lambda done, total: reports.append((done, total)))
    loaded = read_geo(tmp_path / "out.parquet")
    assert places(loaded) == PLACES
    assert loaded.digest == written.digest
    assert reports[-1] == (3, 3)


def test_only_the_range_columns_are_required(tmp_path: Path) -> None:
    table = read_geo(pl.DataFrame({"lo_addr": ["1.0.0.0"], "hi_addr": ["1.0.0.255"], "country_iso_code": ["FJ"]}))
    assert table.join_range(ASKED, on="ip").row(0) == ("1.0.0.7", None, None, "FJ", None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lo_adr,hi_addr\n1,2\n", 'no column "lo_addr".*Did you mean "lo_adr"'),
        ("lo_addr,hi_addr\n1,x\n", "1 values in column \"hi_addr\" are no addresses: row 0 \\('x'\\)"),
        ("lo_addr,hi_addr\n1,\n", "no addresses: row 0"),
        ("lo_addr,hi_addr\n9,5\n", "inverted"),
        ("lo_addr,hi_addr\n1,5\n5,9\n", "1 overlapping ranges: row 0 .0.0.0.1 to 0.0.0.5. and row 1"),
        ("lo_addr,hi_addr,latitude\n1,5,91\n", "column \"latitude\": '91' is not within ±90 degrees"),
        ("lo_addr,hi_addr,longitude\n1,5,east\n", "column \"longitude\": 'east'"),
        ("lo_addr,hi_addr,longitude\n1,5,NaN\n", "column \"longitude\": 'NaN'"),
        ("", "cannot be read as CSV"),
    ],
)
def test_a_wrong_csv_is_reported_with_row_and_column(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TableError, match=words):
        read_geo(path)


@pytest.mark.parametrize(
    ("name", "words"), [("x.mmdb", "damaged or is none"), ("x.parquet", "damaged"), ("x.txt", "a geo table is .csv")]
)
def test_files_of_rubbish_are_named(tmp_path: Path, name: str, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x00rubbish" * 50)
    with pytest.raises(TableError, match=rf"{name}.*{words}"):
        read_geo(path)
    with pytest.raises(TableError, match="there is no such geo file"):
        read_geo(tmp_path / f"no-{name}")


def test_a_table_of_another_kind_is_no_geo_table(csv: Path) -> None:
    table = read_geo(csv)
    with pytest.raises(TableError, match="is no geo table"):
        read_geo(type(table)("t", table.frame, RANGE_KEY, ("city_name",)))


def test_valid_from_makes_it_one_version_of_several(csv: Path) -> None:
    march = datetime(2026, 3, 1, tzinfo=UTC)
    assert read_geo(csv, valid_from=march).valid_from == march


RUNS = st.lists(
    st.tuples(st.integers(1, 4), st.booleans(), st.sampled_from([None, "AU", "NZ"])), min_size=1, max_size=20
)


@settings(deadline=None)
@given(RUNS, st.sampled_from([0, (0xFFFF << 32) - 20, 2**64 - 20, (0x10000 << 32) - 20]))
def test_merging_neighbours_changes_no_answer_and_leaves_none_to_merge(runs, at) -> None:
    rows, truth = [], {}
    for width, gap, country in runs:
        family_end = 0xFFFF_0000_0000 if at < 0xFFFF_0000_0000 else 0x1_0000_0000_0000
        last = min(at + width, family_end) - 1 if at < family_end else at + width - 1
        rows.append((str(ipaddress.IPv6Address(at)), str(ipaddress.IPv6Address(last)), country))
        truth |= dict.fromkeys(range(at, last + 1), country)
        at = last + 1 + gap
    frame = pl.DataFrame(rows, schema=["lo_addr", "hi_addr", "country_iso_code"], orient="row")
    merged = merge_neighbours(geo_from_frame(frame, name="g").frame)
    table = geo_from_frame(range_text(merged), name="g")
    asked = [number for number in range(rows and min(truth) - 1, max(truth) + 2) if number >= 0]
    text = pl.DataFrame({"ip": [str(ipaddress.IPv6Address(number)) for number in asked]})
    assert table.join_range(text, on="ip")["country_iso_code"].to_list() == [truth.get(number) for number in asked]
    assert merge_neighbours(merged).equals(merged)
    assert merged.height <= frame.height


def mmdb(path: Path, records: dict[str, object], version: int = 6) -> Path:
    from mmdb_writer import MMDBWriter
    from netaddr import IPSet

    writer = MMDBWriter(version, "Test-City", languages=["en"], ipv4_compatible=version == 6)
    for network, record in records.items():
        writer.insert_network(IPSet([network]), record)
    writer.to_db_file(str(path))
    return path


NESTED = {
    "country": {"iso_code": "AU"},
    "city": {"names": {"de": "X", "en": "Perth"}},
    "location": {"latitude": -31.9, "longitude": 115.8},
}
FLAT = {"country_code": "DE", "city": "Berlin", "latitude": 52.5, "longitude": 13.4}


@pytest.mark.needs("mmdb-writer")
@pytest.mark.parametrize("version", [4, 6])
def test_an_mmdb_file_is_converted_whole_with_nested_or_flat_records(tmp_path: Path, version: int) -> None:
    records = {"1.0.0.0/25": NESTED, "1.0.0.128/25": NESTED, "1.0.2.0/24": {"country": {"iso_code": "NA"}}}
    if version == 6:
        records["2001:db8::/32"] = FLAT
    source = mmdb(tmp_path / "city.mmdb", records, version)
    reports = []
    table = geo_import(source, tmp_path / "city.parquet", progress=lambda done, total: reports.append((done, total)))
    asked = pl.DataFrame({"ip": ["1.0.0.1", "1.0.0.255", "1.0.1.0", "1.0.2.9", "2001:db8::1"]})
    found = read_geo(tmp_path / "city.parquet").join_range(asked, on="ip").rows()
    assert found[0][1:] == found[1][1:] == (-31.9, 115.8, "AU", "Perth")
    assert found[2][1:] == (None, None, None, None)
    assert found[3][1:] == (None, None, "NA", None)
    assert found[4][1:] == ((52.5, 13.4, "DE", "Berlin") if version == 6 else (None,) * 4)
    assert table.frame.height == (3 if version == 6 else 2)  # the two halves of 1.0.0.0/24 became one range
    assert reports
    assert all(done <= total for done, total in reports)


@pytest.mark.needs("mmdb-writer")
def test_an_mmdb_file_cut_off_is_refused(tmp_path: Path) -> None:
    whole = mmdb(tmp_path / "city.mmdb", {"1.0.0.0/24": NESTED, "2001:db8::/32": FLAT}).read_bytes()
    for size in range(0, len(whole), max(len(whole) // 10, 1)):
        (tmp_path / "cut.mmdb").write_bytes(whole[:size])
        with pytest.raises(TableError, match="damaged"):
            read_geo(tmp_path / "cut.mmdb")


def test_the_country_table_that_ships_knows_well_known_addresses_and_says_whose_it_is() -> None:
    table = country_table()
    asked = pl.DataFrame(
        {"ip": ["193.0.6.139", "2001:67c:2e8:22::c100:68b", "133.11.0.1", "10.0.0.1", "::1", "127.0.0.1"]}
    )
    assert table.join_range(asked, on="ip")["country_iso_code"].to_list() == ["NL", "NL", "JP", None, None, None]
    assert "https://db-ip.com" in table.notes["attribution"]
    assert "CC BY 4.0" in table.notes["licence"]
    assert table.frame["country_iso_code"].str.contains("^[A-Z]{2}$").all()


def test_the_attribution_ships_beside_the_country_table() -> None:
    from importlib import resources

    folder = resources.files("tocsin") / "data"
    assert "https://db-ip.com" in (folder / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert len((folder / "country.parquet").read_bytes()) < 3_000_000
