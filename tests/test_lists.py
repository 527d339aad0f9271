"""Claims about threat, asset and allow-lists: what is read, what is refused, and that nothing crashes."""

from __future__ import annotations

import gzip
import ipaddress
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.errors import TableError
from tocsin.lists import read_allow, read_assets, read_threats

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
TEXT = """\ufeff# a comment
1.2.3.4
10.0.0.0/8   # private
192.0.2.1 - 192.0.2.9 ; documentation
::ffff:5.6.7.8\tfive reports

*.Bad.Example.
Someone@Evil.Example # phishing
evil[.]example
2001:db8::/32
1.2.3.999
1.2.3.9-1.2.3.1
two words
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def entries(found) -> dict[str, tuple]:
    return {row["indicator"]: (row["kind"], row["reason"]) for row in found.entries.iter_rows(named=True)}


def test_a_text_list_may_mix_addresses_blocks_ranges_domains_and_mail_addresses(tmp_path: Path) -> None:
    found = read_threats(write(tmp_path / "list.txt", TEXT))
    assert entries(found) == {
        "1.2.3.4": ("address", None),
        "10.0.0.0/8": ("address", "private"),
        "192.0.2.1 - 192.0.2.9": ("address", "documentation"),
        "::ffff:5.6.7.8": ("address", "five reports"),
        "bad.example": ("domain", None),
        "someone@evil.example": ("email", "phishing"),
        "evil.example": ("domain", None),
        "2001:db8::/32": ("address", None),
    }
    assert found.rejected.select("file", "line", "value").rows() == [
        ("list.txt", 11, "1.2.3.999"), ("list.txt", 12, "1.2.3.9-1.2.3.1"), ("list.txt", 13, "two words"),
    ]  # fmt: skip
    assert "first address is after its last" in found.rejected["reason"][1]


def test_a_csv_list_brings_reasons_sources_and_dates_under_any_usual_name(tmp_path: Path) -> None:
    text = (
        "# feed of the day\r\nIP,Threat_Type,malware,feed,first_seen_utc,valid_until\r\n"
        '1.1.1.1,c2,"Emotet, new",abuse,2026-03-01,2026-04-01T12:00:00+02:00\r\n'
        "2.2.2.2,,,,,\r\n3.3.3.3,x,,,01/03/2026,\r\n4.4.4.4,x,,,2026-03-01,2026-02-01\r\n,x,,,,\r\n"
    )
    found = read_threats(write(tmp_path / "feed.csv", text))
    first = found.entries.filter(indicator="1.1.1.1").row(0, named=True)
    assert (first["reason"], first["source"]) == ("c2; Emotet, new", "abuse")
    assert first["first_seen"] == datetime(2026, 3, 1, tzinfo=UTC)
    assert first["expires"] == datetime(2026, 4, 1, 10, tzinfo=UTC)
    assert found.entries.height == 2
    assert found.rejected.select("line", "column", "value").rows() == [
        (5, "first_seen", "01/03/2026"), (6, "expires", "2026-02-01T00:00:00+00:00"), (7, "indicator", ""),
    ]  # fmt: skip


def test_a_csv_without_a_header_is_indicator_reason_source_first_seen_expires(tmp_path: Path) -> None:
    found = read_threats(write(tmp_path / "plain.csv", "1.1.1.1,scan,me,2026-01-01,2027-01-01\n2.2.2.2\n"))
    assert entries(found) == {"1.1.1.1": ("address", "scan"), "2.2.2.2": ("address", None)}


def test_jsonl_lines_may_be_objects_or_plain_text_and_bad_ones_are_kept_aside(tmp_path: Path) -> None:
    lines = [
        '{"ioc": "1.1.1.1", "tags": ["a", "b"], "first_seen": "2026-01-01T00:00:00Z"}',
        '"2.2.2.2"',
        "[1]",
        "{",
        "7",
    ]
    lines += ["[" * 100_000, '{"reason": "none"}', '{"ioc": {"deep": 1}}']
    found = read_threats(write(tmp_path / "feed.jsonl", "\n".join(lines)))
    assert entries(found) == {"1.1.1.1": ("address", "a, b"), "2.2.2.2": ("address", None)}
    assert found.rejected["line"].to_list() == [3, 4, 5, 6, 7, 8]


def test_lists_may_be_compressed_and_several(tmp_path: Path) -> None:
    one = write(tmp_path / "a.txt", "1.1.1.1\n")
    two = tmp_path / "b.txt.gz"
    two.write_bytes(gzip.compress(b"2.2.2.2\n"))
    assert set(entries(read_threats([one, two]))) == {"1.1.1.1", "2.2.2.2"}


def test_a_truncated_gzip_keeps_the_lines_before_the_cut_and_says_so(tmp_path: Path) -> None:
    whole = gzip.compress("\n".join(str(ipaddress.IPv4Address(n * 7919)) for n in range(20_000)).encode(), mtime=0)
    cut = tmp_path / "cut.txt.gz"
    for size in range(0, len(whole), 4001):
        cut.write_bytes(whole[:size])
        found = read_threats(cut)
        assert found.rejected.height or found.entries.height in (0, 20_000)


@settings(deadline=None, max_examples=60)
@given(data=st.binary(max_size=400), suffix=st.sampled_from([".txt", ".csv", ".jsonl", ".txt.gz", ".csv.zst"]))
def test_no_bytes_crash_a_list_and_a_good_last_line_is_never_lost(tmp_path_factory, data: bytes, suffix: str) -> None:
    path = tmp_path_factory.mktemp("list") / f"list{suffix}"
    good = b'\n{"ip": "203.0.113.7"}\n' if suffix == ".jsonl" else b"\n203.0.113.7\n"
    path.write_bytes(data + (b"" if "." in suffix[1:] else good))
    found = read_threats(path)
    for value in found.rejected["value"]:
        assert len(value) <= 1000
    if suffix in (".txt", ".jsonl"):
        assert "203.0.113.7" in found.entries["indicator"].to_list()


def test_a_line_of_ten_megabytes_is_refused_and_the_next_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "long.txt", "1.1.1.1\n" + "x" * 10_000_000 + "\n2.2.2.2\n" + "y" * 5000 + "\n3.3.3.3")
    found = read_threats(path)
    assert set(entries(found)) == {"1.1.1.1", "2.2.2.2", "3.3.3.3"}
    assert found.rejected["line"].to_list() == [2, 4]


def test_the_digest_depends_on_contents_only(tmp_path: Path) -> None:
    one = read_threats(write(tmp_path / "a.txt", "1.1.1.1\n2.2.2.2 # why\n"))
    other = read_threats(write(tmp_path / "b.txt", "# moved\n2.2.2.2 # why\n1.1.1.1\n1.1.1.1\n"))
    changed = read_threats(write(tmp_path / "c.txt", "1.1.1.1\n2.2.2.2 # other\n"))
    assert one.digest == other.digest != changed.digest
    lines = [f"10.0.{n % 50}.{n % 7} # {n % 3}" for n in range(1000)]
    digests = set()
    for at in (0, 17, 500):
        digests.add(read_threats(write(tmp_path / "d.txt", "\n".join(lines[at:] + lines[:at]))).digest)
    assert len(digests) == 1


def test_assets_are_addresses_blocks_hosts_and_users_with_an_owner(tmp_path: Path) -> None:
    text = "address,asset,owner,criticality\n10.0.0.0/24,web farm,ops,high\nmail-gw,gateway,ops,high\nalice,,hr,low\n"
    found = read_assets(write(tmp_path / "assets.csv", text))
    rows = {row["indicator"]: (row["kind"], row["asset"], row["owner"]) for row in found.entries.iter_rows(named=True)}
    assert rows == {
        "10.0.0.0/24": ("address", "web farm", "ops"),
        "mail-gw": ("name", "gateway", "ops"),
        "alice": ("name", "alice", "hr"),
    }


GOOD = {"indicator": "10.0.0.5", "owner": "ana", "reason": "scanner", "scope": "login.*", "expires": "2027-01-01"}


def jsonl(path: Path, *rows: dict) -> Path:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def test_a_complete_allow_entry_has_a_lasting_id_of_its_own(tmp_path: Path) -> None:
    found = read_allow(jsonl(tmp_path / "allow.jsonl", GOOD, GOOD | {"indicator": "bob", "id": "EX-7"}))
    again = read_allow(jsonl(tmp_path / "again.jsonl", GOOD))
    ids = dict(found.entries.select("indicator", "id").rows())
    assert ids["bob"] == "EX-7"
    assert ids["10.0.0.5"] == again.entries["id"].item()
    assert ids["10.0.0.5"].startswith("allow-")


@pytest.mark.parametrize("absent", ["owner", "reason", "scope", "expires"])
def test_an_allow_entry_that_lacks_anything_is_an_error_with_file_and_line(tmp_path: Path, absent: str) -> None:
    path = jsonl(tmp_path / "allow.jsonl", GOOD, {key: value for key, value in GOOD.items() if key != absent})
    with pytest.raises(TableError, match=rf"allow\.jsonl:2: '10\.0\.0\.5' has no {absent}"):
        read_allow(path)


def test_an_allow_entry_that_cannot_be_read_is_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"allow\.jsonl:1: not a date.*'soon'"):
        read_allow(jsonl(tmp_path / "allow.jsonl", GOOD | {"expires": "soon"}))
    with pytest.raises(TableError, match=r"allow\.txt:1: .*has no owner"):
        read_allow(write(tmp_path / "allow.txt", "10.0.0.5\n"))


def test_a_missing_list_or_column_is_named_with_a_hint(tmp_path: Path) -> None:
    write(tmp_path / "threats.txt", "")
    with pytest.raises(TableError, match=r'threat\.txt: there is no such list.*Did you mean "threats\.txt"'):
        read_threats(tmp_path / "threat.txt")
    with pytest.raises(TableError, match=r'no column "indicator".*Did you mean "indicators"'):
        read_threats(pl.DataFrame({"indicators": ["1.1.1.1"]}))


@pytest.mark.needs("shared-data")
def test_a_real_blocklist_is_read_whole() -> None:
    found = read_threats(SHARED / "ipsum-level3.txt")
    lines = [line for line in (SHARED / "ipsum-level3.txt").read_text().splitlines() if line and line[0] != "#"]
    assert found.entries.height + found.rejected.height == len(lines)
    assert found.rejected.height == 0
