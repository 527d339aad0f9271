"""Simulated alerts without events: when they come, which rule raised them, what they name.

Enters: how many, over how many days, a seed. Leaves: an alerts frame, the journal rows around it, and the truth: the
rule whose volume changed and when, the bursts, the hosts that come back. Layer: sources.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from tocsin.calendars import DAY, HOUR, clock_offsets, instant_us, moment
from tocsin.errors import SourceError
from tocsin.lifecycle.frames import JOURNAL, TIME, digest, fit_frame
from tocsin.sources.simulate.population import Purpose, stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Int64s = NDArray[np.int64]
    Floats = NDArray[np.float64]

START: Final = datetime(2026, 6, 1, tzinfo=UTC)
BURST_SHAPE: Final = 4.0
"""Gamma shape of each hour's factor: counts of an hour vary more than chance alone has it."""
DAYS_PER_BURST, BURST_OF_A_DAY = 10, 0.15
ZIPF: Final = 1.1
SYSTEMS: Final = ("Windows 11", "Windows Server 2022", "macOS 15", "Ubuntu 24.04", "Android 16")

OBSERVABLES: Final = (
    '[{{"kind":"host","role":"victim","value":"host-{}"}},{{"kind":"user","role":"victim","value":"user-{}"}},'
    '{{"kind":"os","role":"victim","value":"{}"}},{{"kind":"ip","role":"source","value":"{}"}},'
    '{{"kind":"ip","role":"destination","value":"{}"}}]'
)


@dataclass(frozen=True)
class AlertRule:
    """A rule that raises alerts: its share of them, severity, share of true positives, share that automation closes."""

    id: str
    severity: str
    vendor: str
    share: float
    precision: float
    automated: float = 0.0


RULES: Final = (
    AlertRule("mail.exe-many-recipients", "high", "mail gateway", 0.07, 0.30),
    AlertRule("mail.disguised-program", "medium", "mail gateway", 0.13, 0.15, 0.10),
    AlertRule("mail.hourly-volume-vs-self", "low", "mail gateway", 0.18, 0.03, 0.30),
    AlertRule("login.travel-speed", "high", "identity", 0.06, 0.20),
    AlertRule("login.guessed-password", "critical", "identity", 0.03, 0.45),
    AlertRule("login.first-country", "medium", "identity", 0.14, 0.06),
    AlertRule("login.unusual-hour", "low", "identity", 0.16, 0.02, 0.25),
    AlertRule("network.listed-address", "medium", "firewall", 0.12, 0.12),
    AlertRule("endpoint.ransom-note", "critical", "endpoint", 0.02, 0.60),
    AlertRule("endpoint.new-service", "informational", "endpoint", 0.09, 0.01, 0.40),
)
"""The rules of the simulated SOC; their shares add up to 1."""


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Alerts as they were raised, in order of time, the journal beside them, and what was planted."""

    alerts: pl.DataFrame
    journal: pl.DataFrame
    truth: dict[str, Any]
    rules: tuple[AlertRule, ...] = RULES
    rule: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))


def arrive(
    n: int,
    days: int,
    seed: int = 7,
    *,
    start: datetime = START,
    zone: str = "UTC",
    change: float = 3.0,
    tests: float = 0.01,
    rules: tuple[AlertRule, ...] = RULES,
) -> Arrivals:
    """Return simulated alerts, a pure function of the arguments.

    Args:
        n: How many.
        days: Over how many days of 24 hours from ``start``.
        seed: Of all draws.
        start: When the first may come.
        zone: Whose working hours they follow.
        change: From three fifths of the span on, the third rule raises so many times as many as before; 1: no change.
        tests: Which share are tests (``is_test``).
        rules: The rules, with their shares.

    Raises:
        SourceError: Fewer than one day or alert.

    >>> arrive(1000, 28, 7).alerts["severity"].n_unique()
    5
    """
    if n < 1 or days < 1:
        raise SourceError(f"Simulate at least one alert over at least one day, not {n} over {days}.")
    draw = stream(seed, Purpose.ALERTS)
    first = instant_us(start)
    weights, truth = _weights(draw, first, days, zone, change, rules)
    hour, rule = np.divmod(
        np.repeat(np.arange(weights.size), draw.multinomial(n, weights.ravel() / weights.sum())), len(rules)
    )
    created = first + hour * HOUR + draw.integers(0, HOUR, n)
    order = np.argsort(created, kind="stable")
    created, rule = created[order], rule[order]
    alerts = _alerts(draw, seed, created, rule, rules, tests, since_us=int(truth.pop("changed_us")))
    return Arrivals(alerts, _journal(first, days, truth, rules, alerts), truth, rules, rule)


def _weights(
    draw: np.random.Generator, first: int, days: int, zone: str, change: float, rules: tuple[AlertRule, ...]
) -> tuple[Floats, dict[str, Any]]:
    """Return the expected number in each hour by each rule, up to a factor, and what was planted in it."""
    hours = np.arange(days * 24)
    weights = hour_factor(first + hours * HOUR, zone)[:, None] * np.array([r.share for r in rules])
    weights *= draw.gamma(BURST_SHAPE, 1 / BURST_SHAPE, hours.size)[:, None]
    changed = int(days * 0.6) * 24
    weights[changed:, 2 % len(rules)] *= change
    a_day = weights.sum() / days
    bursts = []
    for _ in range(days // DAYS_PER_BURST):
        at, by = int(draw.integers(0, hours.size)), int(draw.integers(0, len(rules)))
        weights[at, by] += BURST_OF_A_DAY * a_day
        bursts.append({"at": moment(first + at * HOUR), "rule": rules[by].id})
    cause = rules[2 % len(rules)].id
    at = first + changed * HOUR
    return weights, {
        "changed_at": moment(at),
        "changed_us": at,
        "changed_rule": cause,
        "change": change,
        "bursts": bursts,
    }


def hour_factor(us: Int64s, zone: str) -> Floats:
    """Return how busy an instant is: 2 from 9 to 17 local time, 1 around it, 0.5 at night; at weekends 0.5 of that.

    >>> hour_factor(np.array([10 * HOUR, 22 * HOUR]), "UTC").tolist()  # a Thursday
    [2.0, 0.5]
    """
    begins, offsets = clock_offsets(zone, int(us.min()), int(us.max()) + 1)
    local = us + offsets[np.searchsorted(begins, us, "right") - 1]
    hour, weekday = local // HOUR % 24, (local // DAY + 3) % 7
    factor = np.where((hour >= 9) & (hour < 17), 2.0, np.where((hour >= 7) & (hour < 21), 1.0, 0.5))
    return factor * np.where(weekday >= 5, 0.5, 1.0)


def _alerts(
    draw: np.random.Generator,
    seed: int,
    created: Int64s,
    rule: Int64s,
    rules: tuple[AlertRule, ...],
    tests: float,
    *,
    since_us: int,
) -> pl.DataFrame:
    n = created.size
    hosts = max(20, n // 50)
    host = _zipf(draw, hosts, n)
    user = np.where(draw.random(n) < 0.8, host, _zipf(draw, hosts, n))
    columns = {
        "number": np.arange(n), "host": host, "user": user, "system": host % len(SYSTEMS),
        "source": host % 60_000, "destination": _zipf(draw, 500, n),
    }  # fmt: skip
    number = pl.DataFrame(columns)
    system = pl.col("system").replace_strict(dict(enumerate(SYSTEMS)), return_dtype=pl.String)
    source = pl.format(
        "10.{}.{}.{}", pl.col("source") // 62_500 + 1, pl.col("source") // 250 % 250, pl.col("source") % 250 + 1
    )
    destination = pl.format("203.0.{}.{}", pl.col("destination") // 250 + 112, pl.col("destination") % 250 + 1)
    observables = pl.format(OBSERVABLES, "host", "user", system, source, destination)
    named = pl.DataFrame(
        {"rule_id": [r.id for r in rules], "severity": [r.severity for r in rules], "vendor": [r.vendor for r in rules]}
    )
    changed = pl.Series((created >= since_us) & (rule == 2 % len(rules)))
    frame = named[rule].with_columns(
        digest([pl.lit(seed), pl.col("number")], number).alias("alert_id"),
        pl.Series("created_at", created).cast(TIME),
        pl.Series("recorded_at", created).cast(TIME),
        pl.Series("first_activity_at", created - draw.exponential(90e6, n).astype(np.int64)).cast(TIME),
        *number.select(observables.alias("observables"), pl.format("user-{}", "user").alias("entity")),
        rule_version=pl.when(changed).then(pl.lit("2")).otherwise(pl.lit("1")),
        entity_kind=pl.lit("user"), source=pl.lit("simulation"), is_test=pl.Series(draw.random(n) < tests),
    )  # fmt: skip
    title = pl.when("is_test").then(pl.format("TESTING {}", "rule_id")).otherwise("rule_id")
    return fit_frame(frame.with_columns(title=title), "alert")


def _zipf(draw: np.random.Generator, kinds: int, n: int) -> Int64s:
    """Return so many numbers below ``kinds``, the low ones far more often: repeat offenders."""
    edges = np.cumsum(np.arange(1, kinds + 1) ** -ZIPF)
    number: Int64s = np.minimum(np.searchsorted(edges, draw.random(n) * edges[-1]), kinds - 1)
    return number


def _journal(
    first: int, days: int, truth: dict[str, Any], rules: tuple[AlertRule, ...], alerts: pl.DataFrame
) -> pl.DataFrame:
    begin, end = moment(first), moment(first + days * DAY)
    rows = [
        {"kind": "covered", "name": vendor, "at": begin, "until": end} for vendor in sorted({r.vendor for r in rules})
    ]
    rows += [{"kind": "release", "name": r.id, "at": begin, "value": "1"} for r in rules]
    if truth["change"] != 1:
        rows.append({"kind": "release", "name": truth["changed_rule"], "at": truth["changed_at"], "value": "2"})
    per_day = alerts.group_by(pl.col("created_at").dt.truncate("1d"), "vendor").len().sort("created_at", "vendor")
    rows += [
        {"kind": "events", "name": vendor, "at": at, "until": at + timedelta(days=1), "number": 2_000.0 * n}
        for at, vendor, n in per_day.rows()
    ]
    schema: dict[str, Any] = {name: JOURNAL[name] for name in ("kind", "name", "at", "until", "value", "number")}
    return fit_frame(pl.DataFrame(rows, schema=schema).with_columns(recorded_at="at"), "journal")
