"""Networks of addresses: AS numbers where a table has them, the /24 or /48 where it has not.

Layer: tests.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tocsin as tc
from tocsin.addresses import parse_addresses
from tocsin.networks import prefixes, read_networks

NETWORKS = pl.DataFrame(
    {"lo_addr": ["192.0.2.0", "2001:db8::"], "hi_addr": ["192.0.2.127", "2001:db8:0:ffff:ffff:ffff:ffff:ffff"],
     "asn": ["AS64500", "64501"], "organisation": ["One", "Two"]}
)  # fmt: skip


@settings(deadline=None)  # the first example compiles kernels
@given(st.lists(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6), st.none()), min_size=1, max_size=30))
def test_the_prefix_is_the_network_that_the_standard_library_names(addresses: list[Any]) -> None:
    def network(address: Any) -> str | None:
        if address is None:
            return None
        mapped = getattr(address, "ipv4_mapped", None) or address
        return str(ipaddress.ip_network((mapped, 24 if mapped.version == 4 else 48), strict=False))

    text = pl.Series([None if a is None else str(a) for a in addresses], dtype=pl.String)
    assert prefixes(parse_addresses(text)).to_list() == [network(a) for a in addresses]


def test_an_as_number_names_the_network_where_the_table_knows_it() -> None:
    frame = pl.DataFrame({"src_ip": ["192.0.2.9", "192.0.2.200", "2001:db8::9", "junk", None]})
    found = tc.reference(networks=NETWORKS).attach(frame, ["src_asn", "src_network"])
    assert found["src_asn"].to_list() == [64500, None, 64501, None, None]
    assert found["src_network"].to_list() == ["AS64500", "192.0.2.0/24", "AS64501", None, None]


def test_a_rule_over_networks_needs_no_reference_data() -> None:
    rows = {"event_id": ["a", "b", "c"], "timestamp": [datetime(2026, 3, d, tzinfo=UTC) for d in (2, 3, 4)], "kind": "login",
            "user_id": "ann", "src_ip": ["192.0.2.9", "192.0.2.10", "198.51.100.1"]}  # fmt: skip
    past = tc.backtest([tc.rules.login.FIRST_NETWORK], tc.read(pl.DataFrame(rows)))
    assert past.findings["event_id"].to_list() == ["c"]


def test_a_rule_that_needs_a_table_nobody_gave_is_listed_as_not_run() -> None:
    rows = {"timestamp": [datetime(2026, 3, 2, tzinfo=UTC)], "kind": "login", "user_id": "ann", "src_ip": "192.0.2.9"}
    past = tc.backtest([tc.rules.login.FIRST_COUNTRY], tc.read(pl.DataFrame(rows)), tc.reference(networks=NETWORKS))
    assert past.by_detection()["note"].item().startswith("not run: needs src_country: give reference data")


def test_a_table_of_networks_is_read_from_csv_and_parquet(tmp_path: Path) -> None:
    NETWORKS.write_csv(tmp_path / "n.csv")
    NETWORKS.write_parquet(tmp_path / "n.parquet")
    tables = [read_networks(tmp_path / "n.csv"), read_networks(tmp_path / "n.parquet")]
    assert tables[0].frame.equals(tables[1].frame)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (NETWORKS.drop("asn"), 'no column "asn"'),
        (NETWORKS.with_columns(asn=pl.lit("AS-1")), r"row 0, column \"asn\": 'AS-1' is no AS number"),
        (NETWORKS.with_columns(asn=pl.lit(2**32)), "is no AS number"),
        (NETWORKS.drop("hi_addr"), 'no column "hi_addr"'),
        (pl.concat([NETWORKS, NETWORKS]), "overlap"),
    ],
)
def test_a_wrong_table_of_networks_is_refused(frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(tc.TableError, match=message):
        read_networks(frame)
