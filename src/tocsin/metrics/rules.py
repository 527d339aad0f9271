"""Rules: what each costs and brings, and which waste most.

Enters: a scope. Leaves: an `Answer`. Layer: metrics.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from tocsin.answers import Answer
from tocsin.calendars import MINUTE
from tocsin.lifecycle.frames import TIME
from tocsin.metrics.coverage import BEFORE_UNKNOWN, feeds, known_before
from tocsin.metrics.deeds import ACTED_WORDS, deeds, first_acts, work
from tocsin.stats.rates import rate_ratio, wilson
from tocsin.stats.survival import kaplan_meier
from tocsin.views import Chart

if TYPE_CHECKING:
    from tocsin.metrics.scope import Scope

DRAWN = 15
COUNTED = ("true_positive", "false_positive", "benign_true_positive", "inconclusive", "unjudged")


def rules(scope: Scope, *, versions: bool = False) -> Answer:
    """Return one row a rule, or with ``versions`` a rule and version, those that surely waste most on top.

    Precision is of alerts judged true or false; benign ones are right and of no use, and stand apart. Waste is minutes of
    work times the share of false alerts, between what is sure if every unjudged alert were true and what is possible if
    each were false; without recorded work it is counted in alerts. A rule's minutes are null, not zero, where nobody
    recorded work.

    >>> from datetime import UTC, datetime
    >>> from tocsin.lifecycle import History
    >>> from tocsin.metrics import Scope
    >>> at = [datetime(2026, 1, 5, h, tzinfo=UTC) for h in range(4)]
    >>> alerts = pl.DataFrame({"alert_id": list("abcd"), "created_at": at, "rule_id": ["r"] * 4})
    >>> judged = {"alert_id": list("abc"), "at": at[1:], "type": ["verdict"] * 3, "value": ["true_positive"] + ["false_positive"] * 2}
    >>> row = rules(Scope(History.of(alerts, pl.DataFrame(judged)))).table.row(0, named=True)
    >>> row["alerts"], round(row["precision"], 3), row["unjudged"], row["minutes"]
    (4, 0.333, 1, None)
    """
    title = "What does each rule cost, and what does it bring?"
    keys = ["rule", "version"] if versions else ["rule"]
    earlier = known_before(scope)
    table = _counted(scope, keys)
    untouched = int(table["untouched"].sum())
    past = _volume(earlier, keys).rename({"alerts": "alerts_before"}) if earlier is not None else None
    table = _against(table, past, keys, scope, earlier)
    measured = int(table["minutes_known"].sum()) > 0
    table = _judged(table, measured=measured)
    unit = "minutes" if measured else "alerts"
    total, worst = int(table["alerts"].sum()), f"waste_{unit}_at_least"
    table = table.sort([worst, "alerts", *keys], descending=[True, True, *[False] * len(keys)], nulls_last=True)
    definition = (
        "Precision is true positives over true and false ones, with Wilson's 95 % interval; benign, inconclusive and unjudged alerts "
        "stand apart. Minutes are those of recorded work (minutes_known: of how many alerts); two alerts worked on at once count twice. "
        f"Waste is {unit} times the share of false alerts among true, false and unjudged ones: at least counts unjudged as true and takes "
        "the lower end of the interval, at most counts them as false and takes the upper end. The median wait is Kaplan-Meier's to the "
        f"first act ({ACTED_WORDS}), waiting alerts counted as waiting. {scope.words()}"
    )
    data = table.head(DRAWN).select(label=pl.concat_str(pl.col(keys), separator=" v"), count=pl.col(worst).round(1))
    judged = int(table["alerts"].sum()) - int(table["unjudged"].sum()) > 0
    words = f"{unit} surely spent on false alerts"
    if not judged:  # without a verdict nothing is known of waste
        data, words = (
            table.head(DRAWN).select(label=pl.concat_str(pl.col(keys), separator=" v"), count="alerts"),
            "alerts (none is judged yet)",
        )
    chart = Chart("bars", title, data.drop_nulls(), x=words)
    facts = {"rules": table.height, "alerts": total, "nobody acted yet": untouched, "excluded": dict(scope.excluded)}
    return Answer(
        title, definition, table, _notes(scope, earlier, table, measured=measured), chart=chart,
        empty="" if total else "No alert was raised in this span.", facts=facts, n=total, as_of=scope.as_of,
    )  # fmt: skip


def _notes(scope: Scope, earlier: Scope | None, table: pl.DataFrame, *, measured: bool) -> tuple[str, ...]:
    notes = [] if earlier is not None else [BEFORE_UNKNOWN]
    if not measured:
        notes.append(
            "Nobody recorded work (work_started, work_ended): minutes are unknown, and waste is counted in alerts."
        )
    unjudged = int(table["unjudged"].sum())
    if unjudged:
        notes.append(f"{unjudged:,} alerts are unjudged: precision says nothing about them.")
    gaps = sum(len(feed.gaps) for feed in feeds(scope))
    if gaps:
        notes.append(f"Feeds had {gaps} gaps in this span: alerts a day are of all days, see `coverage`.")
    return tuple(notes)


def _named(rows: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    names = {"rule": "rule_id", "version": "rule_version"}
    return rows.with_columns(pl.col(names[key]).fill_null("-").alias(key) for key in keys)


def _volume(scope: Scope, keys: list[str]) -> pl.DataFrame:
    return _named(scope.alerts, keys).group_by(keys).agg(pl.len().cast(pl.Int64).alias("alerts"))


def _counted(scope: Scope, keys: list[str]) -> pl.DataFrame:
    """Return one row a rule: alerts, verdicts, work, escalations, the median wait."""
    marks = deeds(scope.history, "escalated", "promoted")
    promoted = pl.col("type") == "promoted"
    handed = marks.group_by("alert").agg(
        promoted.any().alias("promoted"), pl.col("value").filter(promoted).drop_nulls().alias("incident")
    )
    columns = ["alert", "rule_id", "rule_version", "created_at", "verdict", "state"]
    rows = scope.alerts.select(columns)
    for part in (handed, work(scope.history), first_acts(scope.history)):
        rows = rows.join(part, on="alert", how="left", maintain_order="left")
    end = pl.coalesce("acted_at", pl.lit(scope.as_of, TIME))
    waited = ((end - pl.col("created_at")).dt.total_microseconds() / MINUTE).clip(0)
    rows = _named(rows.with_columns(waited.alias("waited")), keys)
    counted = rows.group_by(keys).agg(
        pl.len().cast(pl.Int64).alias("alerts"),
        pl.col("minutes").count().cast(pl.Int64).alias("minutes_known"),
        pl.when(pl.col("minutes").count() > 0).then(pl.col("minutes").sort().sum()).alias("minutes"),
        *((pl.col("verdict") == verdict).sum().cast(pl.Int64).alias(verdict) for verdict in COUNTED),
        pl.col("promoted").is_not_null().sum().cast(pl.Int64).alias("escalated"),
        pl.col("incident").explode(keep_nulls=False, empty_as_null=False).n_unique().cast(pl.Int64).alias("incidents"),
        pl.col("acted_at").null_count().cast(pl.Int64).alias("untouched"),
        "waited", pl.col("acted_at").is_not_null().alias("acted"),
    )  # fmt: skip
    share = pl.col("alerts") / max(rows.height, 1)
    return counted.with_columns(
        _medians(counted), share.alias("share"),
        (pl.col("alerts") / scope.days if scope.days else pl.lit(None, pl.Float64)).alias("per_day"),
    ).drop("waited", "acted")  # fmt: skip


def _medians(counted: pl.DataFrame) -> pl.Series:
    """Return the median wait of each rule until a person acted; null where fewer than half were acted on."""
    found = []
    for waited, acted in zip(counted["waited"], counted["acted"], strict=True):
        median = kaplan_meier(waited.to_numpy(), acted.to_numpy()).quantile(0.5)[0]
        found.append(median if math.isfinite(median) else None)
    return pl.Series("median_wait_minutes", found, dtype=pl.Float64)


def _against(
    table: pl.DataFrame, past: pl.DataFrame | None, keys: list[str], scope: Scope, earlier: Scope | None
) -> pl.DataFrame:
    """Set each rule's volume beside that of the span before: the ratio of daily rates, with its interval.

    A rule that was silent then has no ratio; one that is silent now still has its row.
    """
    if past is None or earlier is None or not scope.days or not earlier.days:
        nothing = [pl.lit(None, pl.Float64).alias(name) for name in ("trend", "trend_low", "trend_high")]
        return table.with_columns(pl.lit(None, pl.Int64).alias("alerts_before"), *nothing)
    counts = [name for name, kind in table.schema.items() if kind == pl.Int64 and name not in keys]
    both = table.join(past, on=keys, how="full", coalesce=True).with_columns(
        pl.col(*counts, "share", "per_day").fill_null(0), pl.col("alerts_before").fill_null(0)
    )
    if not both.height:
        return both.with_columns(pl.lit(None, pl.Float64).alias(name) for name in ("trend", "trend_low", "trend_high"))
    ratio, _ = rate_ratio(both["alerts"].to_numpy(), scope.days, both["alerts_before"].to_numpy(), earlier.days)
    told = {"trend": ratio.estimate, "trend_low": ratio.low, "trend_high": ratio.high}
    series = [pl.Series(name, values) for name, values in told.items()]
    return both.with_columns(pl.when(s.is_finite()).then(s).alias(s.name) for s in series)


def _judged(table: pl.DataFrame, *, measured: bool) -> pl.DataFrame:
    """Add precision with its interval, and the waste that is sure and the one that is possible."""
    true, false, open_ = (table[name].to_numpy() for name in ("true_positive", "false_positive", "unjudged"))
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = wilson(true, true + false)
        best, least = wilson(true + open_, true + false + open_), wilson(true, true + false + open_)
    cost = table["minutes"].to_numpy() if measured else table["alerts"].to_numpy().astype(np.float64)
    unit = "minutes" if measured else "alerts"
    told = {
        "precision": precision.estimate, "precision_low": precision.low, "precision_high": precision.high,
        f"waste_{unit}_at_least": cost * (1 - best.high), f"waste_{unit}_at_most": cost * (1 - least.low),
    }  # fmt: skip
    series = [pl.Series(name, values, dtype=pl.Float64, nan_to_null=True) for name, values in told.items()]
    order = [
        *(name for name in ("rule", "version") if name in table.columns), "alerts", "share", "per_day", "alerts_before", "trend",
        "trend_low", "trend_high", "minutes", "minutes_known", "precision", "precision_low", "precision_high", *COUNTED,
        "escalated", "incidents", "median_wait_minutes", f"waste_{unit}_at_least", f"waste_{unit}_at_most",
    ]  # fmt: skip
    return table.with_columns(series).select(order)
