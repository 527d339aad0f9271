"""Claims about References: what is attached, as of when, and what is suppressed; checked against a linear scan."""

from __future__ import annotations

import ipaddress
import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.errors import TableError
from tocsin.geo import read_geo
from tocsin.references import References, reference

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
GEO = pl.DataFrame(
    {
        "lo_addr": ["10.0.0.0", "10.1.0.0", "2001:db8::"],
        "hi_addr": ["10.0.255.255", "10.1.255.255", "2001:db8::ffff"],
        "latitude": [1.0, None, 3.0],
        "longitude": [-1.0, None, -3.0],
        "country_iso_code": ["AU", "NZ", "DE"],
        "city_name": ["Perth", None, "Berlin"],
    }
)


def events(*addresses: str | None, user: str | None = "u@x.example") -> pl.DataFrame:
    size = len(addresses)
    return pl.DataFrame(
        {
            "event_id": [str(at) for at in range(size)],
            "timestamp": pl.Series([START] * size, dtype=pl.Datetime("us", "UTC")),
            "src_ip": pl.Series(addresses, dtype=pl.String),
            "dst_ip": pl.Series(addresses[::-1], dtype=pl.String),
            "user_id": pl.Series([user] * size, dtype=pl.String),
        }
    )


def listed(*rows: dict) -> pl.DataFrame:
    schema = {"indicator": pl.String, "reason": pl.String} | dict.fromkeys(
        ("first_seen", "expires"), pl.Datetime("us", "UTC")
    )
    return pl.DataFrame(list(rows), schema=schema)


def test_every_column_it_claims_can_be_attached_with_the_type_it_claims() -> None:
    for refs in (References(), reference(geo=GEO, threats=listed(), assets=pl.DataFrame({"indicator": ["a"]}))):
        frame = refs.attach(events("10.0.0.1", None), refs.columns)
        assert {name: frame.schema[name] for name in refs.columns} == refs.columns
        empty = refs.attach(events(), refs.columns)
        assert {name: empty.schema[name] for name in refs.columns} == refs.columns


def test_geography_comes_from_each_side_and_is_null_where_nothing_is_known() -> None:
    asked = ["src_country", "src_city", "src_latitude", "dst_country", "dst_longitude"]
    frame = reference(geo=GEO).attach(events("10.0.0.1", "10.1.0.1", "2001:db8::1", "8.8.8.8", None), asked)
    assert frame.columns[-5:] == asked
    assert frame["src_country"].to_list() == ["AU", "NZ", "DE", None, None]
    assert frame["src_city"].to_list() == ["Perth", None, "Berlin", None, None]
    assert frame["src_latitude"].to_list() == [1.0, None, 3.0, None, None]
    assert frame["dst_country"].to_list() == [None, None, "DE", "NZ", "AU"]
    assert frame["dst_longitude"].to_list() == [None, None, -3.0, None, -1.0]


def test_only_the_asked_columns_are_added_and_the_rest_is_untouched() -> None:
    before = events("10.0.0.1", None)
    after = reference(geo=GEO).attach(before, ["src_country", "src_country"])
    assert after.columns == [*before.columns, "src_country"]
    assert after.drop("src_country").equals(before)
    assert reference().attach(before, []).equals(before)


def test_an_absent_address_is_not_listed_and_without_a_list_nobody_knows() -> None:
    asked = ["src_listed", "src_threat", "user_listed", "user_threat"]
    with_list = reference(threats=listed({"indicator": "10.0.0.0/8", "reason": "x"}))
    frame = with_list.attach(events("10.0.0.1", None, "junk"), asked)
    assert frame["src_listed"].to_list() == [True, False, False]
    assert frame["src_threat"].to_list() == ["x", None, None]
    assert frame["user_listed"].to_list() == [False] * 3
    assert reference().attach(events("10.0.0.1"), asked).row(0)[-4:] == (None,) * 4


def test_a_frame_without_the_column_is_like_one_where_it_is_null() -> None:
    refs = reference(geo=GEO, threats=listed({"indicator": "a@b.example", "reason": None}))
    frame = refs.attach(events("10.0.0.1").drop("dst_ip", "user_id"), ["dst_country", "dst_listed", "user_listed"])
    assert frame.row(0)[-3:] == (None, False, False)


def test_a_listed_entry_without_a_reason_shows_its_source_or_just_listed(tmp_path: Path) -> None:
    frame = pl.DataFrame({"indicator": ["10.0.0.1", "10.0.0.2"], "source": ["feed", None]})
    attached = reference(threats=frame).attach(events("10.0.0.1", "10.0.0.2"), ["src_threat"])
    assert attached["src_threat"].to_list() == ["feed", "listed"]


def test_the_smallest_block_gives_the_reason_whatever_the_order_of_lines() -> None:
    rows = [
        {"indicator": "10.0.0.0/8", "reason": "wide"},
        {"indicator": "10.0.0.0/24", "reason": "narrow"},
        {"indicator": "10.0.0.7", "reason": "exact"},
        {"indicator": "10.0.0.5-10.0.0.9", "reason": "range"},
    ]
    for several in (rows, rows[::-1]):
        frame = reference(threats=listed(*several)).attach(
            events("10.0.0.7", "10.0.0.6", "10.0.0.1", "10.9.9.9"), ["src_threat"]
        )
        assert frame["src_threat"].to_list() == ["exact", "range", "narrow", "wide"]


SMALL = st.integers(0, 15)
MOMENT = st.one_of(st.none(), st.integers(0, 6))


@st.composite
def dated_list(draw: st.DrawFn) -> list[dict]:
    rows = []
    for number in range(draw(st.integers(1, 8))):
        first, last = sorted((draw(SMALL), draw(SMALL)))
        since, until = draw(MOMENT), draw(MOMENT)
        if since is not None and until is not None and since >= until:
            until = None
        v6 = draw(st.booleans())
        text = [str(ipaddress.IPv6Address(n) if v6 else ipaddress.IPv4Address(n)) for n in (first, last)]
        moments = [None if at is None else START + at * DAY for at in (since, until)]
        rows.append(
            {"indicator": "-".join(text), "reason": f"r{number}", "first_seen": moments[0], "expires": moments[1]}
        )
    return rows


def by_scan(rows: list[dict], address: ipaddress.IPv4Address | ipaddress.IPv6Address, at: datetime) -> set[str]:
    """The reasons of the smallest ranges that hold the address at that time."""
    held = []
    for row in rows:
        first, last = (ipaddress.ip_address(text) for text in row["indicator"].split("-"))
        in_time = (row["first_seen"] or at) <= at and (row["expires"] is None or at < row["expires"])
        if first.version == address.version and first <= address <= last and in_time:
            held.append((int(last) - int(first), row["reason"]))
    return {reason for size, reason in held if size == min(held)[0]}


@settings(deadline=None, max_examples=60)
@given(dated_list(), st.randoms(use_true_random=False))
def test_an_entry_holds_from_first_seen_until_just_before_it_expires(rows: list[dict], random) -> None:
    asked = [
        (kind(n), START + day * DAY)
        for kind in (ipaddress.IPv4Address, ipaddress.IPv6Address)
        for n in range(17)
        for day in range(-1, 8)
    ]
    frame = pl.DataFrame(
        {
            "src_ip": [str(a) for a, _ in asked],
            "timestamp": pl.Series([t for _, t in asked], dtype=pl.Datetime("us", "UTC")),
        }
    )
    attached = reference(threats=listed(*rows)).attach(frame, ["src_listed", "src_threat"])
    for (address, at), is_listed, reason in zip(asked, attached["src_listed"], attached["src_threat"], strict=True):
        expected = by_scan(rows, address, at)
        assert is_listed == bool(expected)
        assert reason in (expected or {None})
    shuffled = rows.copy()
    random.shuffle(shuffled)
    assert reference(threats=listed(*shuffled)).attach(frame, ["src_threat"]).equals(attached.drop("src_listed"))


def test_a_user_is_listed_by_address_or_by_domain_or_by_a_parent_domain() -> None:
    rows = [
        {"indicator": "eve@bad.example", "reason": "eve"},
        {"indicator": "bad.example", "reason": "domain"},
        {"indicator": "deep.bad.example", "reason": "deep"},
    ]
    users = ["eve@bad.example", "EVE@Bad.Example", "x@bad.example", "x@deep.bad.example", "x@a.b.bad.example",
             "x@notbad.example", "bad.example.org", "x@example", "eve", None, "bad.example"]  # fmt: skip
    frame = pl.DataFrame({"user_id": users, "timestamp": [START] * len(users)})
    attached = reference(threats=listed(*rows)).attach(frame, ["user_threat", "user_listed"])
    expected = ["eve", "eve", "domain", "deep", "domain", None, None, None, None, None, "domain"]
    assert attached["user_threat"].to_list() == expected
    assert attached["user_listed"].to_list() == [reason is not None for reason in expected]


def test_categorical_columns_are_looked_up_like_text() -> None:
    refs = reference(geo=GEO, threats=listed({"indicator": "u@x.example", "reason": "u"}))
    frame = events("10.0.0.1", None).cast({"src_ip": pl.Categorical, "user_id": pl.Categorical})
    assert refs.attach(frame, ["src_country"])["src_country"].to_list() == ["AU", None]
    assert refs.attach(frame, ["user_threat"])["user_threat"].to_list() == ["u", "u"]


def test_when_a_mail_address_has_expired_its_domain_still_answers() -> None:
    rows = [
        {"indicator": "eve@bad.example", "reason": "eve", "first_seen": None, "expires": START},
        {"indicator": "bad.example", "reason": "domain", "first_seen": START - DAY, "expires": None},
    ]
    times = [START - 2 * DAY, START - DAY, START]
    frame = pl.DataFrame({"user_id": ["eve@bad.example"] * 3 + ["x@bad.example"] * 3, "timestamp": times * 2})
    attached = reference(threats=listed(*rows)).attach(frame, ["user_threat"])
    assert attached["user_threat"].to_list() == ["eve", "eve", "domain", None, "domain", "domain"]


def test_assets_are_known_by_address_and_by_user() -> None:
    assets = pl.DataFrame({"indicator": ["10.0.0.0/24", "alice"], "asset": ["web farm", "Alice's laptop"]})
    frame = reference(assets=assets).attach(
        events("10.0.0.9", "10.9.0.0", user="alice"), ["src_asset", "dst_asset", "user_asset"]
    )
    assert frame.rows()[0][-3:] == ("web farm", None, "Alice's laptop")


def test_several_versions_of_a_geo_table_answer_each_for_its_own_time() -> None:
    moved = GEO.with_columns(country_iso_code=pl.lit("FJ"))[:1]
    refs = reference(geo=[read_geo(moved, valid_from=START + DAY), read_geo(GEO, valid_from=START)])
    times = [START - DAY, START, START + DAY - timedelta(microseconds=1), START + DAY]
    frame = pl.DataFrame({"src_ip": ["10.0.0.1"] * 4 + ["10.1.0.1"] * 4, "timestamp": times * 2})
    attached = refs.attach(frame, ["src_country"])
    # In the second version 10.1.0.0/16 is not there any more: unknown, not taken from the older one.
    assert attached["src_country"].to_list() == [None, "AU", "AU", "FJ", None, "NZ", "NZ", None]


def test_two_geo_tables_for_the_same_time_are_an_error() -> None:
    with pytest.raises(TableError, match="valid from the same time"):
        reference(geo=[GEO, GEO])


def test_an_unknown_column_is_an_error_with_a_hint() -> None:
    with pytest.raises(TableError, match=r'"src_contry".*Did you mean "src_country"'):
        reference().attach(events(), ["src_contry"])


def test_look_ups_that_depend_on_time_need_a_timestamp() -> None:
    rows = {"indicator": "10.0.0.1", "reason": None, "first_seen": START, "expires": None}
    frame = events("10.0.0.1").rename({"timestamp": "time"})
    with pytest.raises(TableError, match='no column "timestamp"'):
        reference(threats=listed(rows)).attach(frame, ["src_listed"])
    with pytest.raises(TableError, match='no column "timestamp"'):
        reference(geo=read_geo(GEO, valid_from=START)).attach(frame, ["src_country"])


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 39), unique=True))
def test_any_cut_into_batches_attaches_the_same(cuts: list[int]) -> None:
    rows = [{"indicator": "10.0.0.0/30", "reason": "a"}, {"indicator": "x.example", "reason": "b"}]
    refs = reference(geo=GEO, threats=listed(*rows))
    frame = events(*[f"10.{n % 3}.0.{n}" for n in range(40)])
    edges = [0, *sorted(cuts), 40]
    parts = [refs.attach(frame[a:b], refs.columns) for a, b in itertools.pairwise(edges)]
    assert pl.concat(parts).equals(refs.attach(frame, refs.columns))


def test_the_digest_follows_the_contents_of_every_part() -> None:
    parts = [
        References(), reference(geo=GEO), reference(geo=GEO[:1]), reference(geo=read_geo(GEO, valid_from=START)),
        reference(threats=listed({"indicator": "1.1.1.1", "reason": None})), reference(allow=allow()),
        reference(assets=listed({"indicator": "1.1.1.1", "reason": None})),
    ]  # fmt: skip
    assert len({refs.digest for refs in parts}) == len(parts)
    assert reference(geo=GEO).digest == reference(geo=GEO[::-1]).digest


def test_rejected_lines_of_all_lists_are_gathered_with_the_lists_name() -> None:
    refs = reference(threats=listed({"indicator": "1.2.3.999", "reason": None}))
    assert refs.rejected.select("list", "file", "line", "value").rows() == [("threats", "<threats>", 1, "1.2.3.999")]


def allow(**changed) -> pl.DataFrame:
    entry = {
        "indicator": "10.0.0.0/24",
        "owner": "ana",
        "reason": "scanner",
        "scope": "login.*",
        "expires": START + DAY,
        "id": "A",
    }
    return pl.DataFrame([entry | changed])


def finding(**changed) -> pl.DataFrame:
    row = {"detection_id": "login.travel", "entity": "alice", "time": START, "evidence": {"src_ip": "10.0.0.9", "n": 1}}
    return pl.DataFrame([row | changed])


@pytest.mark.parametrize(
    ("entry", "found", "by"),
    [
        ({}, {}, "A"),
        ({}, {"evidence": '{"src_ip": "10.0.0.9"}'}, "A"),
        ({}, {"evidence": "", "dst_ip": "10.0.0.1"}, "A"),
        ({}, {"evidence": None, "entity": "10.0.0.200"}, "A"),
        ({}, {"evidence": {"src_ip": "10.0.1.9"}}, None),
        ({}, {"detection_id": "mail.volume"}, None),
        ({}, {"time": START + DAY - timedelta(microseconds=1)}, "A"),
        ({}, {"time": START + DAY}, None),
        ({"first_seen": START + timedelta(hours=1)}, {}, None),
        ({"indicator": "alice", "scope": "*"}, {"detection_id": "any.thing"}, "A"),
        ({"indicator": "alice"}, {"entity": "bob"}, None),
        ({"indicator": "x.example"}, {"entity": "bob@x.example"}, "A"),
        ({"scope": "login.travel"}, {}, "A"),
        ({"scope": "login.tr"}, {}, None),
    ],
)
def test_an_allow_entry_covers_what_it_names_within_its_scope_until_it_expires(entry, found, by) -> None:
    suppressed = reference(allow=allow(**entry)).suppress(finding(**found))
    assert suppressed["suppressed_by"].to_list() == [by]
    assert suppressed.drop("suppressed_by").equals(finding(**found))


def test_suppression_drops_nothing_and_without_an_allow_list_marks_nothing() -> None:
    findings = pl.concat([finding(), finding(entity="bob", evidence={"src_ip": None, "n": 1})])
    assert reference(allow=allow()).suppress(findings)["suppressed_by"].to_list() == ["A", None]
    assert reference().suppress(findings)["suppressed_by"].to_list() == [None, None]
    assert reference(allow=allow()).suppress(findings[:0]).schema["suppressed_by"] == pl.String


def test_findings_without_the_needed_columns_are_named() -> None:
    with pytest.raises(TableError, match='Findings need the column "entity"'):
        reference(allow=allow()).suppress(finding().drop("entity"))


def test_when_several_entries_cover_a_finding_the_answer_does_not_depend_on_their_order() -> None:
    several = pl.concat([allow(), allow(id="B", scope="*"), allow(id="C", indicator="10.0.0.9")])
    answers = {reference(allow=part).suppress(finding())["suppressed_by"].item() for part in (several, several[::-1])}
    assert len(answers) == 1
