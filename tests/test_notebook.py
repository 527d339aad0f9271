"""The workshop notebook's cells, written again in pandas from what they do, beside the answers of this package.

Layer: tests. docs/notebook.md lists where the two differ and why; test_backtest compares every score of the moving mean.
"""

from __future__ import annotations

import ipaddress
from typing import Any

import polars as pl
import pytest

import tocsin as tc

pytestmark = pytest.mark.needs("pandas")


@pytest.fixture(scope="module")
def sim() -> tc.Simulation:
    return tc.simulate(users=120, days=30, seed=7)


@pytest.fixture(scope="module")
def df(sim: tc.Simulation) -> Any:
    return sim.events.drop("attachments").to_pandas()


def test_describe_gives_the_numbers_of_the_notebooks_describe(sim: tc.Simulation, df: Any) -> None:
    theirs = df["nr_recipients"].describe()
    row = tc.ask.describe(tc.read(sim.events), "nr_recipients").table.row(0, named=True)
    assert row["count"] == theirs["count"]
    assert (float(row["min"]), float(row["max"])) == (theirs["min"], theirs["max"])
    ours = [row[name] for name in ("mean", "sd", "q25", "q50", "q75")]
    assert ours == pytest.approx([theirs[name] for name in ("mean", "std", "25%", "50%", "75%")])


def test_a_given_limit_finds_the_users_of_the_notebooks_filter(sim: tc.Simulation, df: Any) -> None:
    theirs = set(df[df.nr_recipients >= 60]["user_id"].unique())
    found = tc.backtest([tc.rules.mail.many_recipients(59)], tc.read(sim.events)).findings
    assert set(found["entity"]) == theirs
    assert theirs


def test_every_ipv4_address_lies_where_the_notebooks_interval_index_puts_it(sim: tc.Simulation, df: Any) -> None:
    import pandas as pd

    geo = sim.geo.with_columns(pl.col("lo_addr", "hi_addr").cast(pl.UInt128))
    v4 = geo.filter(pl.col("hi_addr") < 2**32).with_columns(pl.col("lo_addr", "hi_addr").cast(pl.Int64)).to_pandas()
    index = pd.IntervalIndex.from_tuples(list(zip(v4.lo_addr, v4.hi_addr, strict=True)), closed="both")
    v4 = v4.set_index(index)
    addresses = [a for a in df.src_ip.unique() if ":" not in a]
    theirs = []
    for address in addresses:
        found = v4.loc[int(ipaddress.ip_address(address))]
        theirs.append((found["latitude"], found["longitude"], found["country_iso_code"], found["city_name"]))
    asked = ["src_latitude", "src_longitude", "src_country", "src_city"]
    ours = tc.reference(geo=sim.geo).attach(pl.DataFrame({"src_ip": addresses}), asked).select(asked).rows()
    assert ours == theirs
    assert len(addresses) > 100


def test_unknown_addresses_are_abroad_for_the_notebook_and_listed_apart_here() -> None:
    import pandas as pd

    rows = {
        "timestamp": ["2026-01-01T00:00Z"] * 3,
        "user_id": ["us", "de", "nowhere"],
        "src_ip": ["10.0.0.1", "10.0.1.1", "10.9.9.9"],
    }
    geo = pl.DataFrame(
        {"lo_addr": ["10.0.0.0", "10.0.1.0"], "hi_addr": ["10.0.0.255", "10.0.1.255"], "country_iso_code": ["US", "DE"]}
    )
    frame = pd.DataFrame({"user_id": rows["user_id"], "country_iso_code": ["US", "DE", None]})
    assert list(frame[frame["country_iso_code"] != "US"]["user_id"]) == ["de", "nowhere"]
    answer = tc.ask.outside(tc.read(pl.DataFrame(rows)), tc.reference(geo=geo))
    assert answer.table["entity"].to_list() == ["de"]
    assert answer.more["Without any located event"]["entity"].to_list() == ["nowhere"]


def test_the_three_users_of_challenge_3_are_those_of_a_pandas_pivot(sim: tc.Simulation, df: Any) -> None:
    daily = df.assign(day=df.timestamp.dt.floor("D")).pivot_table(
        "nr_attachments", "user_id", "day", "sum", fill_value=0
    )
    split = daily.columns[len(daily.columns) // 2]
    change = daily.loc[:, daily.columns >= split].mean(axis=1) - daily.loc[:, daily.columns < split].mean(axis=1)
    theirs = change.sort_values(ascending=False).head(3)
    ours = tc.ask.largest_changes(tc.read(sim.events)).table
    assert ours["entity"].to_list() == list(theirs.index)
    assert ours["change_per_day"].to_list() == pytest.approx(theirs.to_list())
