"""Questions about a rule's numbers: one entity's windows over time, and everybody in one window.

Enters: events, a rule, an entity or a moment. Leaves: an `Answer`; every number in it is one the engine computed.
Layer: questions.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tocsin.answers import Answer
from tocsin.calendars import duration_us, instant_us, moment
from tocsin.detection import Detection, ref, ref_name, score, value
from tocsin.errors import RuleError, did_you_mean
from tocsin.fits import Population, own_history
from tocsin.measures import Count, Distinct, Sum
from tocsin.questions.binning import bins, drawn
from tocsin.questions.watch import BAND, Watch, band, calendar_of, centre_of, fires_at, shipped, with_band, with_times
from tocsin.readable import against_words, condition_words, measure_words, readable
from tocsin.views import Chart, thinned

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tocsin.calendars import Calendar
    from tocsin.measures import Measure
    from tocsin.references import References
    from tocsin.sources import Events

WINDOW_WORDS = {"1h": "hour", "1d": "day", "1w": "week", "1mo": "month"}
MOST_WINDOWS = 20_000
NAMED_POINTS = 20


def volume_rule(
    measure: Measure | None = None, *, on: pl.Expr | None = None, entity: str = "user_id", zone: str = "UTC"
) -> Detection:
    """Return a rule for looking at a measure by itself: it fires three standard deviations above the own mean.

    >>> volume_rule().measure == Count(per="1d")
    True
    """
    return Detection(
        id="ask.series", title="Three standard deviations above the own mean", severity="informational",
        on=pl.lit(value=True) if on is None else on, entity=entity, measure=measure or Count(per="1d", zone=zone),
        against=own_history(mean=True, sd=True), score=(value - ref.mean) / ref.sd, when=score > 3,
    )  # fmt: skip


def series(
    events: Events,
    entity: str,
    rule: Detection | str | None = None,
    refs: References | None = None,
    *,
    measure: Measure | None = None,
    on: pl.Expr | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    gaps: Sequence[tuple[datetime, datetime]] = (),
) -> Answer:
    """Show what a rule saw of one entity: its windows, the running baseline with its band, and where it fired.

    The whole history goes through the engine, so values, baselines and firings are those of a backtest, for rules
    against the population too. Without a ``rule``, ``measure`` (by default events a day) is compared with the entity's own
    mean + 3 sd. ``since`` leaves out earlier windows; they still count as history. Windows without events are shown as zero
    where the measure counts or sums, unless they lie in ``gaps``. Rules without calendar windows show each event's score.

    Raises:
        RuleError: No such rule, it cannot be run on these events, or the entity has no event in it.
    """
    if rule is not None and (measure is not None or on is not None):
        raise RuleError("Give a rule or a measure, not both: a rule brings its own measure and its own `on`.")
    asked = volume_rule(measure, on=on) if rule is None else shipped(rule)
    detection = with_band(asked)
    watch = Watch(detection, events, refs, pl.col(detection.entity).cast(pl.String) == entity, until=until, gaps=gaps)
    if detection.windowed:
        rows = watch.by_window()
        _must_have(rows, entity, watch)
        return of_windows(_filled(rows, detection, gaps), detection, entity, since)
    rows = watch.collect()
    _must_have(rows, entity, watch)
    return of_events(rows, detection, entity, since)


def _must_have(rows: pl.DataFrame, entity: str, watch: Watch) -> None:
    if not rows.height:
        kind = watch.detection.entity
        names = watch.names
        hint = "" if entity in names else did_you_mean(entity, names[:50_000])
        raise RuleError(f'No event of {kind} "{entity}" takes part in {watch.detection.id}.{hint}')


def _filled(rows: pl.DataFrame, detection: Detection, gaps: Sequence[tuple[datetime, datetime]]) -> pl.DataFrame:
    """Add the windows without events as zero, where the source was covered and the measure is a count or a sum."""
    calendar = calendar_of(detection)
    first, last = rows["@window"].min(), rows["@window"].max()
    assert isinstance(first, int)
    assert isinstance(last, int)
    counts = isinstance(detection.measure, Count | Sum | Distinct)
    if not counts or detection.closes or last - first > MOST_WINDOWS:
        return with_times(rows.sort("@window"), calendar)
    spared = {w for a, b in gaps for w in calendar.touched(instant_us(a), instant_us(b))} | set(
        calendar.skipped(first, last)
    )
    every = pl.DataFrame(
        {"@window": [w for w in range(first, last + 1) if w not in spared or w in set(rows["@window"])]}
    )
    joined = every.join(rows, on="@window", how="left", maintain_order="left").with_columns(
        pl.col("events", "@value").fill_null(0), pl.col("@fired").fill_null(value=False)
    )
    return with_times(joined, calendar)


def of_windows(rows: pl.DataFrame, detection: Detection, entity: str, since: datetime | None) -> Answer:
    """Return the answer about windows that a `Watch` has reduced."""
    limits = fires_at(detection, rows)
    told = band(detection, rows.with_columns(limits))
    if since is not None:
        told = told.filter(pl.col("end") > since)
    centre = centre_of(detection)
    count = ref_name(next(iter(detection.fits), ""), "n")
    n = pl.col(count).cast(pl.Int64) if count in told.columns else pl.lit(None, pl.Int64)
    table = told.select(
        "start", value=pl.col("@value").cast(pl.Float64), baseline="baseline", fires_above="limit", score="@score", fired="@fired",
        events="events", low="low", high="high", baseline_n=n, end="end", fired_at="fired_at",
    )  # fmt: skip
    per = calendar_of(detection)
    word = WINDOW_WORDS[per.per]
    fired = int(table["fired"].sum())
    title = f"{detection.id}: {entity} by {word} ({per.zone})"
    definition = (
        f"{_capital(measure_words(detection.measure))} of {detection.entity} {entity}, compared with "
        f"{against_words(detection)}; score {readable(detection.score)}, fires when {condition_words(detection.when)}. "
        f"{table.height:,} windows, of which it fired in {fired:,}. The baseline of a window reads earlier windows only."
    )
    notes = _series_notes(table, detection)
    if not table.height:
        return Answer(title, definition, table, notes, empty="No window lies in the span that was asked for.")
    data = table.select(
        time="start", value="value", baseline="baseline", low="low", high="high", limit="fires_above", fired="fired"
    )
    words = {
        "value": "value of the window",
        "baseline": f"baseline: {centre.removeprefix('@ref.')}" if centre else "baseline",
        "band": f"baseline ± {BAND:g} sd",
        "limit": f"where {condition_words(dataclasses.replace(detection.when, extra=None))}",
    }
    begin = f"begin of the {word}" if per.zone == "UTC" else f"begin of the {word} in {per.zone}"
    chart = Chart("series", title, thinned(data), x=f"{begin} (UTC)", y=_unit(detection), words=words)
    return Answer(title, definition, table, notes, chart=chart, facts={"windows": table.height, "fired": fired})


def _series_notes(table: pl.DataFrame, detection: Detection) -> tuple[str, ...]:
    notes = []
    unscored = table.filter(pl.col("score").is_null() & (pl.col("events") > 0)).height
    if unscored:
        notes.append(f"{unscored:,} windows with events have no score: too little history, or a baseline of zero.")
    empty = table.filter(pl.col("events") == 0).height
    if empty:
        notes.append(
            f"{empty:,} windows have no event and count as zero; a rule is only asked where there is an event."
        )
    if detection.when.extra is not None and table["fires_above"].count():
        notes.append(f"fires_above solves the score alone; the rule also wants {readable(detection.when.extra)}.")
    return tuple(notes)


def _unit(detection: Detection) -> str:
    name = {"Count": "events", "Sum": "sum", "Distinct": "distinct values"}.get(
        type(detection.measure).__name__, "value"
    )
    column = getattr(detection.measure, "column", "")
    return f"{name} of {column}" if column else name


def of_events(rows: pl.DataFrame, detection: Detection, entity: str, since: datetime | None) -> Answer:
    """Return the answer about single events that a `Watch` has handed out."""
    told = rows.sort("timestamp", maintain_order=True)
    if since is not None:
        told = told.filter(pl.col("timestamp") >= since)
    threshold = _threshold(detection)
    made = [c for c in told.columns if c.startswith("@") and c not in {"@score", "@fired"}]
    table = told.select(
        "timestamp", "event_id", score="@score", fired="@fired",
        **{c.removeprefix("@").replace(".", "_"): pl.col(c) for c in made},
    )  # fmt: skip
    fired = int(table["fired"].sum())
    title = f"{detection.id}: {entity}, event by event"
    definition = (
        f"The score of each of the {table.height:,} events of {detection.entity} {entity} that take part in: {detection.title}; "
        f"measure: {measure_words(detection.measure)}; fires when {condition_words(detection.when)}. It fired at {fired:,} events."
    )
    if not table.height:
        return Answer(title, definition, table, empty="No event lies in the span that was asked for.")
    nothing = pl.lit(None, pl.Float64)
    data = table.select(
        time="timestamp", value="score", baseline=nothing, low=nothing, high=nothing,
        limit=pl.lit(threshold, pl.Float64), fired="fired",
    )  # fmt: skip
    shown = thinned(data)
    notes = (
        ()
        if shown.height == data.height
        else (
            f"The chart shows {shown.height:,} of {data.height:,} events: all that fired, and the highest of each run.",
        )
    )
    words = {"value": "score", "limit": f"fires where {condition_words(detection.when)}"}
    chart = Chart("series", title, shown, x="time (UTC)", y="score", words=words)
    return Answer(title, definition, table, notes, chart=chart, facts={"events": table.height, "fired": fired})


def _threshold(detection: Detection) -> float | None:
    """Return the threshold where it is one number."""
    expression = detection.when.threshold
    if expression.meta.root_names():
        return None
    return float(pl.select(expression).item())


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def population(
    events: Events,
    rule: Detection | str,
    refs: References | None = None,
    *,
    at: datetime | None = None,
    gaps: Sequence[tuple[datetime, datetime]] = (),
) -> Answer:
    """Show everybody in one window of a rule: one value an entity, with the limits that held.

    For a rule against the population that is each entity's value, with mean, band and limit. For another windowed rule,
    whose limit differs by entity, it is each entity's score with the threshold. The window is the one that holds ``at``;
    by default the last that was over when the data ends.

    Raises:
        RuleError: The rule has no calendar windows, or cannot be run on these events.
    """
    detection = with_band(shipped(rule))
    calendar = calendar_of(detection)
    number = _window(events, calendar, at)
    begin, end = moment(calendar.begin(number)), moment(calendar.begin(number + 1))
    title = f"{detection.id}: everybody, {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
    inside = (pl.col("timestamp") >= begin) & (pl.col("timestamp") < end)
    watch = Watch(detection, events, refs, inside, until=end, gaps=gaps)
    rows = watch.by_window(detection.entity)
    about = f"{measure_words(detection.measure)}, compared with {against_words(detection)}; fires when {condition_words(detection.when)}"
    if not rows.height:
        return Answer(title, f"{_capital(about)}.", rows, empty="No event takes part in this rule in that window.")
    told = band(detection, rows.with_columns(fires_at(detection, rows)))
    shared = all(isinstance(fit, Population) for fit in detection.fits.values())
    what = "value" if shared else "score"
    table = told.select(
        entity=pl.col(detection.entity).cast(pl.String), value=pl.col("@value").cast(pl.Float64), baseline="baseline", fires_above="limit",
        score="@score", fired="@fired",
    ).sort([what, "entity"], descending=[True, False], nulls_last=True)  # fmt: skip
    drawn_from = table.filter(pl.col(what).is_not_null())
    unscored = int(table["score"].null_count())
    fired = int(table["fired"].sum())
    definition = (
        f"One row for each of the {table.height:,} {detection.entity} with an event in the window: {about}. "
        f"{fired:,} fired; {unscored:,} have no score. The chart shows each one's {what}."
    )
    if not drawn_from.height:
        return Answer(
            title, definition, table, empty="Nobody has a score in that window: there is too little history before it."
        )
    chart, beyond = _distribution(drawn_from, told, detection, title, what)
    notes = (f"{beyond:,} lie beyond the right edge of the chart.",) if beyond else ()
    return Answer(title, definition, table, notes, chart=chart, facts={"entities": table.height, "fired": fired})


def _distribution(
    table: pl.DataFrame, told: pl.DataFrame, detection: Detection, title: str, what: str
) -> tuple[Chart, int]:
    """Return the distribution of one number an entity, with the rule's limits and those who fired."""
    counted = table.group_by(pl.col(what).alias("x")).agg(n=pl.len().cast(pl.Int64)).sort("x")
    whole = what == "value" and isinstance(detection.measure, Count | Sum | Distinct)
    frame, beyond = drawn(bins(counted["x"].to_numpy(), counted["n"].to_numpy(), whole=whole))
    marks: dict[str, float | None] = {}
    if what == "value":
        marks = {
            "fires above": _only(told, "limit"),
            "baseline": _only(told, "baseline"),
            "baseline + 2 sd": _only(told, "high"),
        }
    else:
        marks = {"threshold": _threshold(detection)}
    known: dict[str, float] = {f"{w}: {m:,.6g}": m for w, m in marks.items() if m is not None}
    edge = max([frame["high"][-1], *known.values()])
    fired = table.filter("fired").head(NAMED_POINTS)
    points = {e: v for e, v in fired.select("entity", what).iter_rows() if v <= edge}
    chart = Chart(
        "histogram", title, frame, x=f"{_unit(detection)} of the window" if what == "value" else "score",
        y=f"number of entities ({detection.entity})", marks=known, points=points,
    )  # fmt: skip
    return chart, beyond


def _only(rows: pl.DataFrame, column: str) -> float | None:
    """Return the one value that all rows of a window share."""
    values: Any = rows[column].drop_nulls()
    return float(values[0]) if len(values) else None


def _window(events: Events, calendar: Calendar, at: datetime | None) -> int:
    """Return the window that holds a moment; without one, the last that was over when the data ends."""
    if at is not None:
        return int(calendar.number(np.array([instant_us(at)], np.int64))[0])
    ends = events.frame().select(pl.col("timestamp").min().alias("a"), pl.col("timestamp").max().alias("b")).collect()
    first, last = ends.row(0)
    if first is None:
        raise RuleError(f"{events.name} holds no event.")
    low, high = calendar.number(np.array([instant_us(first), instant_us(last)], np.int64)).tolist()
    nearly = calendar.begin(high + 1) - duration_us("1h")
    return int(high if instant_us(last) >= nearly or high == low else high - 1)
