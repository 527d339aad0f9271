"""Hypothesis strategies: small arrival logs full of trouble, and specs over every measure and fit.

Leaves: `Case`s (a log, its engine settings and specs) for the parity tests. Layer: tests.
Times are clustered on purpose: exact ties, the last microsecond of a day, both sides of every change of a clock.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl
from hypothesis import strategies as st

from tests.oracle import Spec, outputs
from tests.oracle_time import DAY_US, HOUR_US, MINUTE_US, End, Idle, Record, from_us, to_us
from tocsin import fits, measures

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import DrawFn, SearchStrategy

SCHEMA: dict[str, Any] = {
    "event_id": pl.String,
    "timestamp": pl.Datetime("us", "UTC"),
    "received_at": pl.Datetime("us", "UTC"),
    "partition": pl.String,
    "source": pl.String,
    "kind": pl.String,
    "user_id": pl.String,
    "src_ip": pl.String,
    "nr_recipients": pl.Int64,
    "size": pl.Float64,
    "bounced": pl.Boolean,
}
SKEW_US = 10 * MINUTE_US

# A zone, and an instant near which its calendar is difficult.
DIFFICULT = (
    ("UTC", "2024-02-29T00:00:00+00:00"),
    ("UTC", "2025-01-01T00:00:00+00:00"),
    ("America/Denver", "2026-03-08T09:00:00+00:00"),  # 23-hour day
    ("America/Denver", "2026-11-01T08:00:00+00:00"),  # 25-hour day
    ("Australia/Lord_Howe", "2026-04-04T15:00:00+00:00"),  # half an hour back
    ("Australia/Lord_Howe", "2026-10-03T15:30:00+00:00"),  # half an hour forward
    ("Asia/Kathmandu", "2026-05-31T18:15:00+00:00"),  # +05:45, midnight at a quarter past
    ("Pacific/Apia", "2011-12-30T10:00:00+00:00"),  # 30 December 2011 never happened
    ("America/St_Johns", "2010-11-07T02:31:00+00:00"),  # one minute past midnight it is 23:01 again
)

# ---------------------------------------------------------------------------------------------------------------- logs
_STEPS_US = (0, 1, 29 * MINUTE_US, HOUR_US - 1, HOUR_US, 2 * HOUR_US, 11 * HOUR_US, DAY_US - 1)


def instants(anchor_us: int, *, dense: bool = False) -> SearchStrategy[int]:
    """Days around the anchor, at a few steps within the day; sometimes anything, sometimes far away.

    `dense` keeps to a few days in a row, so that baselines fill up.
    """

    def step(i: int) -> int:
        day, step = divmod(i, len(_STEPS_US))
        return anchor_us + day * DAY_US + _STEPS_US[step]

    near = st.integers(-9 * len(_STEPS_US), 3 * len(_STEPS_US)).map(step)
    if dense:
        return st.integers(-5 * len(_STEPS_US), len(_STEPS_US)).map(step)
    nearer = st.integers(-2 * len(_STEPS_US), len(_STEPS_US)).map(step)
    close = st.integers(-200, 200).map(lambda m: anchor_us + m * MINUTE_US)
    any_time = st.integers(-9 * DAY_US, 3 * DAY_US).map(lambda us: anchor_us + us)
    far = st.integers(-400, 40).map(lambda d: anchor_us + d * DAY_US)
    return st.one_of(nearer, nearer, near, near, close, any_time, far)


def picks(**choices: tuple[Any, ...]) -> SearchStrategy[dict[str, Any]]:
    """One value of each tuple, all from a single draw: an event has a dozen of them, and each draw costs time."""
    total = math.prod(len(values) for values in choices.values())

    def decode(code: int) -> dict[str, Any]:
        found = {}
        for name, values in choices.items():
            code, i = divmod(code, len(values))
            found[name] = values[i]
        return found

    return st.integers(0, total - 1).map(decode)


BODIES = picks(
    kind=("mail", "mail", "login", None),
    user_id=("ann", "bob", "cy", "ann", "bob", "ann", None),
    src_ip=("192.0.2.1", "192.0.2.2", "2001:db8::1", "192.0.2.1", "192.0.2.2", None),
    nr_recipients=(1, 2, 3, 5, 0, -2, 2**40, None),
    size=(0.25, 0.35, 2.675, 0.0, -1.5, 1e6, None, math.nan),
    bounced=(True, False, False, None),
)


def _journeys(lateness: int, partitions: tuple[str | None, ...]) -> SearchStrategy[dict[str, Any]]:
    """What happens on the way: how long it takes, by which partition, and how often it is delivered."""
    none = (None,) * 6
    return picks(
        delay=(
            0,
            0,
            0,
            lateness // 2,
            lateness,
            lateness + 1,
            lateness + HOUR_US,
            lateness + DAY_US,
            lateness + 3 * DAY_US,
        ),
        partition=partitions,
        source=("s1", "s1", None),
        received=(None, 0, *none, 0, 0, -SKEW_US, -SKEW_US - 1),
        again=(*none, 0, HOUR_US, 2 * DAY_US, 9 * DAY_US),
        altered=(False, False, True),
    )


@st.composite
def arrivals(draw: DrawFn, anchor_us: int, lateness: int, *, max_events: int = 30, tidy: bool = False) -> list[Record]:
    """An arrival log that ends with `End`. `tidy` leaves out everything but on-time events without repeats."""
    partitions: tuple[str | None, ...] = draw(st.sampled_from(((None,), ("p",), ("p", "q"), (None, "p", "q"))))
    count = max_events - draw(st.integers(0, max_events - 1))  # hypothesis likes small numbers; we like many events
    names = draw(st.permutations(range(count)))
    sent: list[tuple[int, Record]] = []
    moment, journey = instants(anchor_us, dense=draw(st.booleans())), _journeys(lateness, partitions)
    for i in range(count):
        us, body, way = draw(moment), draw(BODIES), draw(journey)
        received = None if way["received"] is None else from_us(us + way["received"])
        row = {
            "event_id": f"e{names[i]:02d}",
            "timestamp": from_us(us),
            "partition": way["partition"],
            "source": way["source"],
            **body,
        }
        if tidy:
            sent.append((us, row | {"partition": None, "source": None, "received_at": None}))
            continue
        sent.append((us + way["delay"], row | {"received_at": received}))
        if way["again"] is not None:
            changed = {"kind": "mail" if body["kind"] is None else None} if way["altered"] else {}
            sent.append((us + way["delay"] + way["again"], row | {"received_at": received} | changed))
    if not tidy:
        for p, after in draw(st.lists(st.tuples(st.sampled_from(partitions), st.integers(-9, 4)), max_size=2)):
            sent.append((anchor_us + after * DAY_US, Idle(p)))
    return [record for _, record in sorted(sent, key=lambda pair: pair[0])] + [End()]


def shuffled_within(log: list[Record], lateness: int, delays: list[int]) -> list[Record]:
    """Another arrival order of an on-time log in which no event comes later than the lateness allows."""
    rows = [r for r in log if isinstance(r, dict)]
    keyed = [
        (to_us(r["timestamp"]) + d % (lateness + 1), i, r) for i, (r, d) in enumerate(zip(rows, delays, strict=True))
    ]
    return [r for _, _, r in sorted(keyed, key=lambda k: k[:2])] + [End()]


# --------------------------------------------------------------------------------------------------------------- specs
IS_MAIL = pl.col("kind") == "mail"
EVERY = pl.col("timestamp").is_not_null()
BOUNCED = pl.col("bounced")
PERIODS = ("1d", "1d", "1d", "1h", "1w", "1mo")


def aggregates(**span: Any) -> list[measures.Measure]:
    """Every aggregate over one span."""
    return [
        measures.Count(**span),
        measures.Count(where=BOUNCED, **span),
        measures.Sum("nr_recipients", **span),
        measures.Sum("size", scale=10, **span),
        measures.Mean("nr_recipients", **span),
        measures.Mean("size", scale=100, **span),
        measures.Ratio(num=BOUNCED, den=IS_MAIL, **span),
        measures.Distinct("src_ip", **span),
        measures.Distinct("nr_recipients", bound=2, **span),
        measures.Min("nr_recipients", **span),
        measures.Max("size", scale=10, **span),
    ]


def special_measures(zone: str) -> list[measures.Measure]:
    """The measures that are not aggregates over a span."""
    columns = ("timestamp", "src_ip", "nr_recipients")
    previous = [measures.Previous(*columns, forget_after=f) for f in (None, "1h", "2d")]
    first = [measures.FirstSeen(c, f) for c in ("src_ip", "kind") for f in (None, "1h", "2d")]
    return [measures.Hours(zone=zone), *previous, *first]


STATS = {"mean": st.booleans(), "sd": st.booleans(), "median": st.booleans(), "mad": st.booleans()}
QUANTILES = st.sampled_from(((), (0.99,), (0.1, 0.5), (0.0, 1.0, 0.75)))


def _made(build: Callable[..., fits.Fit], **more: SearchStrategy[Any]) -> SearchStrategy[fits.Fit]:
    """A fit from drawn options; the mean stands in where no statistic was drawn."""

    def make(options: dict[str, Any]) -> fits.Fit:
        if not options["quantiles"] and not any(options[s] for s in STATS):
            options = options | {"mean": True}
        if "windows" in options:
            options = options | {"at_least": min(options["at_least"], options["windows"])}
        return build(**options)

    return st.fixed_dictionaries({**STATS, "quantiles": QUANTILES, **more}).map(make)


def own_fits(per: str) -> SearchStrategy[fits.Fit]:
    weekdays = st.booleans() if per == "1d" else st.just(False)
    return _made(
        fits.own_history,
        windows=st.sampled_from((1, 2, 5, 28)),
        at_least=st.sampled_from((1, 1, 2, 3)),
        same_weekday=weekdays,
        exclude_alerted=st.booleans(),
        skip=st.sampled_from((0, 0, 1, 3)),
    )


def population_fits(per: str) -> SearchStrategy[fits.Fit]:
    plain = own_fits(per).map(lambda fit: replace(fit, exclude_alerted=False))
    return _made(fits.population, at_least=st.sampled_from((1, 1, 2, 3)), of=st.one_of(st.none(), st.none(), plain))


SHAPES = ("calendar", "sliding", "ever", "special", "own", "population", "several", "limit")
Compared = fits.Fit | dict[str, fits.Fit] | None


def several_fits(per: str) -> SearchStrategy[dict[str, fits.Fit]]:
    """Two baselines and a population at once, of which some may be equal."""
    several = st.fixed_dictionaries({"recent": own_fits(per), "before": own_fits(per), "all": population_fits(per)})

    def agreed(fit_of: dict[str, Any]) -> dict[str, fits.Fit]:
        """Windows that alerted are left out by all or by none."""
        if fit_of["recent"].exclude_alerted and fit_of["all"].of is not None:
            fit_of = fit_of | {"all": replace(fit_of["all"], of=None)}
        return fit_of | {"before": replace(fit_of["before"], exclude_alerted=fit_of["recent"].exclude_alerted)}

    return several.map(agreed)


def shaped(shape: str, zone: str) -> SearchStrategy[tuple[measures.Measure | None, Compared]]:
    """A measure and what it is compared with, of one of the `SHAPES`."""
    if shape == "limit":
        fit = st.builds(
            fits.limit,
            st.sampled_from(("nr_recipients", "size")),
            quantile=st.sampled_from((0.5, 0.999)),
            windows=st.integers(1, 9),
            at_least=st.integers(1, 4),
            zone=st.just(zone),
        )
        return st.tuples(st.none(), fit)
    if shape == "special":
        return st.tuples(st.sampled_from(special_measures(zone)), st.none())
    if shape == "sliding":
        spans = [m for w in ("1s", "30m", "1h", "1d", "2d") for m in aggregates(sliding=w)]
        return st.tuples(st.sampled_from(spans), st.none())
    if shape == "ever":
        spans = [m for f in (None, "1h", "1d", "5d") for m in aggregates(ever=True, forget_after=f)]
        return st.tuples(st.sampled_from(spans), st.none())
    fit_of = {
        "calendar": lambda _: st.none(), "own": own_fits, "population": population_fits, "several": several_fits,
    }[shape]  # fmt: skip
    return st.sampled_from(PERIODS).flatmap(
        lambda per: st.tuples(st.sampled_from(aggregates(per=per, zone=zone)), fit_of(per))
    )


@st.composite
def specs(draw: DrawFn, zone: str, shape: str | None = None, name: str = "r") -> Spec:
    """One spec of the given shape, or of any."""
    on, entity = draw(st.sampled_from((EVERY, IS_MAIL))), draw(st.sampled_from(("user_id", "user_id", "src_ip")))
    measure, fit = draw(shaped(shape or draw(st.sampled_from(SHAPES)), zone))
    if shape != "limit" and draw(st.integers(0, 3)) == 0:  # a limit is shared by rules of every entity
        spec = _beside(draw, Spec(name, on, entity, measure, fit), zone)
    else:
        spec = Spec(name, on, entity, measure, fit)
    return scored(spec, draw(st.sampled_from((1.5, 0.5))))


def _beside(draw: DrawFn, spec: Spec, zone: str) -> Spec:
    """The spec with a measure of another entity beside it, which may decide whether an event takes part."""
    span: dict[str, Any] = draw(st.sampled_from(({"ever": True}, {"sliding": "2d"}, {"per": "1d", "zone": zone})))
    measure = draw(st.sampled_from([measures.Count(**span), measures.Distinct("user_id", **span)]))
    beside = f"{spec.id}_near"  # one name means one thing in a set of rules
    near = Spec(beside, draw(st.sampled_from((EVERY, IS_MAIL))), draw(st.sampled_from(("src_ip", "kind"))), measure)
    on = spec.on & (pl.col(f"@ctx.{beside}") < draw(st.sampled_from((2, 3)))) if draw(st.booleans()) else spec.on
    return replace(spec, on=on, context={beside: near})


def scored(spec: Spec, threshold: float = 1.5) -> Spec:
    """The same spec with a score that fires now and then: the value, over the first statistic if there is one."""
    if spec.measure is None:
        assert isinstance(spec.against, fits.Limit)
        score = pl.col(spec.against.column) - pl.col("@ref.limit")
    elif isinstance(spec.measure, measures.Previous):
        score = (pl.col("timestamp") - pl.col("@prev.timestamp")).dt.total_microseconds()
    elif spec.against is not None:
        score = pl.col("@value") / pl.col(outputs(spec)[len(spec.measure.outputs)])
    else:
        score = pl.col("@value")
    for name in spec.context:
        score = score + pl.col(f"@ctx.{name}") / 64
    return replace(spec, score=score, threshold=threshold)


# --------------------------------------------------------------------------------------------------------------- cases
@dataclass(frozen=True)
class Case:
    """A log, how the engine is set, and what is asked."""

    log: list[Record]
    specs: list[Spec]
    lateness: int
    dedup_horizon: int
    gaps: tuple[tuple[int, int], ...]
    zone: str

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "lateness": self.lateness,
            "dedup_horizon": self.dedup_horizon,
            "future_skew": SKEW_US,
            "gaps": self.gaps,
        }


def _gaps(anchor_us: int) -> SearchStrategy[tuple[tuple[int, int], ...]]:
    gap = st.builds(
        lambda d, s, length: (anchor_us + d * DAY_US + s, anchor_us + d * DAY_US + s + length),
        st.integers(-8, 1),
        st.sampled_from((0, 1, 5 * HOUR_US)),
        st.sampled_from((1, HOUR_US, DAY_US, 3 * DAY_US)),
    )
    return st.lists(gap, max_size=2).map(lambda gaps: tuple(sorted(gaps)))


@st.composite
def cases(
    draw: DrawFn, *, shape: str | None = None, tidy: bool = False, max_events: int = 30, max_specs: int = 3
) -> Case:
    """Any log with specs of any (or one) shape; `tidy` for logs in which every event is on time and comes once."""
    zone, anchor = draw(st.sampled_from(DIFFICULT))
    anchor_us = to_us(dt.datetime.fromisoformat(anchor))
    lateness = draw(st.sampled_from((0, HOUR_US, 6 * HOUR_US, DAY_US)))
    horizon = max(lateness, draw(st.sampled_from((0, DAY_US, 7 * DAY_US))))
    asked = [draw(specs(zone, shape, f"r{i}")) for i in range(draw(st.integers(1, max_specs)))]
    log = draw(arrivals(anchor_us, lateness, tidy=tidy, max_events=max_events))
    return Case(log, asked, lateness, horizon, draw(_gaps(anchor_us)), zone)
