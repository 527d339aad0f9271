"""DuckDB: hand-written SQL, one query after another on the Parquet file; references are loaded tables.

Enters: the made data. Leaves: eight answers. Layer: none (outside the package).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import duckdb

from benchmarks import analyses as an

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.analyses import Answers
    from benchmarks.data import Data

DAILY = f"""
    daily as (
        select user_id, epoch_us(timestamp) // {an.US_PER_DAY} as day, count(*) as n
        from events where kind = 'mail' group by all
    )
"""
PLACES = """
    addresses as (
        select src_ip, (p[1]::bigint << 24) + (p[2]::bigint << 16) + (p[3]::bigint << 8) + p[4]::bigint as address
        from (select src_ip, string_split(src_ip, '.') as p from (select distinct src_ip from events))
    ), places as (
        select a.src_ip, radians(g.latitude) as lat, radians(g.longitude) as lon, g.country_iso_code as country
        from addresses a asof join geo g on a.address >= g.lo_addr
        where a.address <= g.hi_addr
    )
"""
TIME_OF_DAY = f"epoch_us(timestamp) % {an.US_PER_DAY}"
QUERIES = {
    "A1": f"""
        select event_id, nr_recipients as score from events
        where kind = 'mail' and nr_recipients > {an.MAX_RECIPIENTS}
          and len(list_filter(attachments, lambda x: lower(x) like '%.exe')) > 0
    """,
    "A2": f"""
        with {PLACES}
        select user_id, epoch_us(timestamp) // {an.US_PER_DAY} as day, count(*) as score
        from events join places using (src_ip) where country not in {an.HOME_COUNTRIES} group by all
    """,
    "A3": """
        select event_id, 1.0 as score from events
        where src_ip in (select ip from threats) or dst_ip in (select ip from threats)
    """,
    "A4": f"""
        with {DAILY}, history as (
            select *, least({an.OWN_WINDOWS}, day - min(day) over (partition by user_id)) as windows,
                sum(n) over (
                    partition by user_id order by day
                    range between {an.OWN_WINDOWS} preceding and 1 preceding) as before
            from daily
        )
        select user_id, day, n / (before / windows) as score from history
        where windows >= {an.OWN_AT_LEAST} and before > 0 and n / (before / windows) > {an.OWN_FACTOR}
    """,
    "A5": f"""
        with daily as (
            select user_id, epoch_us(timestamp) // {an.US_PER_DAY} as day, sum(nr_attachments)::bigint as n
            from events where kind = 'mail' group by all
        ), history as (
            select user_id, day, day - {an.RECENT_WINDOWS} - min(day) over (partition by user_id) as windows,
                coalesce(sum(n) over recent, 0) / {an.RECENT_WINDOWS} as recent, coalesce(sum(n) over earlier, 0) as before
            from daily
            window recent as (
                partition by user_id order by day range between {an.RECENT_WINDOWS} preceding and 1 preceding),
            earlier as (
                partition by user_id order by day
                range between {an.RECENT_WINDOWS + an.BEFORE_WINDOWS} preceding and {an.RECENT_WINDOWS + 1} preceding)
        ), scores as (
            select user_id, day, recent - before / least({an.BEFORE_WINDOWS}, windows) as score
            from history where windows >= {an.BEFORE_AT_LEAST}
        )
        select * from scores where score > {an.MORE_ATTACHMENTS}
    """,
    "A6": f"""
        with {DAILY}, population as (
            select day + 1 as day, avg(n) as mean, stddev_samp(n) as sd
            from daily group by day having count(*) >= {an.POPULATION_AT_LEAST}
        )
        select user_id, day, (n - mean) / sd as score from daily join population using (day)
        where sd > 0 and (n - mean) / sd > {an.POPULATION_SD}
    """,
    "A7": f"""
        with {PLACES}, steps as (
            select event_id, lat, lon, epoch_us(timestamp) as t,
                lag(lat) over w as lat0, lag(lon) over w as lon0, lag(epoch_us(timestamp)) over w as t0
            from events join places using (src_ip)
            window w as (partition by user_id order by timestamp, event_id)
        ), speeds as (
            select event_id, {an.EARTH_RADIUS_KM}
                * sqrt(pow(lat - lat0, 2) + pow(cos((lat + lat0) / 2) * (lon - lon0), 2))
                / (greatest((t - t0) / 1e6, 1.0) / 3600) as score
            from steps where t0 is not null
        )
        select * from speeds where score > {an.SPEED_KMH}
    """,
    "A8": f"""
        with daily as (
            select user_id, epoch_us(timestamp) // {an.US_PER_DAY} as day,
                count(*) filter ({TIME_OF_DAY} < {an.NIGHT_ENDS_US} or {TIME_OF_DAY} >= {an.NIGHT_BEGINS_US})
                    / count(*) as share
            from events group by all
        ), history as (
            select user_id, day, max(share) over yesterday as last, avg(share) over earlier as mean,
                count(*) over earlier as windows
            from daily
            window yesterday as (partition by user_id order by day range between 1 preceding and 1 preceding),
            earlier as (
                partition by user_id order by day range between {an.SHIFT_WINDOWS + 1} preceding and 2 preceding)
        )
        select user_id, day, last - mean as score from history
        where last is not null and windows >= {an.SHIFT_AT_LEAST} and last - mean > {an.MORE_AT_NIGHT}
    """,
}


class Rival:
    """DuckDB in memory, with its own defaults and as many threads as the machine has cores."""

    def prepare(self, data: Data) -> None:
        """Load geography and threat list into tables; the events stay in their file."""
        self.connection = duckdb.connect()
        self.connection.sql("set TimeZone = 'UTC'")
        self.connection.sql(f"create table geo as from read_parquet('{data.geo}') order by lo_addr")
        listed = f"read_csv('{data.threats}', header = false, columns = {{'ip': 'varchar'}}, comment = '#')"
        self.connection.sql(f"create table threats as from {listed}")
        self.connection.sql(f"create view events as from read_parquet('{data.events}')")

    def steps(self) -> dict[str, Callable[[], Answers]]:
        """The eight queries, one after another."""
        return {name: partial(self._run, name) for name in QUERIES}

    def _run(self, name: str) -> Answers:
        return {name: self.connection.sql(QUERIES[name]).pl()}
