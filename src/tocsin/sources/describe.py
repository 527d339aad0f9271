"""`events.describe()`: what is in each column, as numbers, top values, histogram and rate per day.

Enters: `Events`. Leaves: a `Description` of plain frames and numbers, ready for any chart. At most two passes over the
batches, memory bounded by `VALUES_BOUND` values a column: a column with fewer distinct values is described exactly; for
one with more, top values and their counts are those of the commonest kept on the way, counted anew in the second pass,
and quantiles are read off `FINE_BINS` bins of about equal weight, counted exactly. Layer: sources.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from tocsin.errors import SourceError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tocsin.sources.events import Events

VALUES_BOUND: Final = 10_000
FINE_BINS: Final = 4_096
HISTOGRAM_BINS: Final = 30
QUANTILES: Final = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_SAMPLE_BOUND: Final = 200_000
_TOP_SHOWN: Final = 100


@dataclass(slots=True)
class ColumnSummary:
    """One column.

    Attributes:
        name, dtype: Of the column.
        count, null_count: Rows with and without a value.
        distinct: Number of distinct values; at least that many when `exact` is false. For lists, of their items.
        exact: The column has at most `VALUES_BOUND` distinct values.
        mean, sd, min, max: Of numbers (sample standard deviation); min and max of times too.
        quantiles: Level -> value, for numbers.
        top: value (text), count: the commonest values, at most 100.
        histogram: low, high, count: equal bins from min to max, the last one closed; for numbers.
        per_day: day, count: rows with a value on each UTC day.
    """

    name: str
    dtype: pl.DataType
    count: int = 0
    null_count: int = 0
    distinct: int = 0
    exact: bool = True
    mean: float | None = None
    sd: float | None = None
    min: Any = None
    max: Any = None
    quantiles: dict[float, float] = field(default_factory=dict)
    top: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema={"value": pl.String, "count": pl.Int64}))
    histogram: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(schema={"low": pl.Float64, "high": pl.Float64, "count": pl.Int64})
    )
    per_day: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema={"day": pl.Date, "count": pl.Int64}))


@dataclass(frozen=True, slots=True)
class Description:
    """What `Events.describe` returns.

    Attributes:
        name: The source's name.
        rows: Number of events.
        columns: Column -> summary.
    """

    name: str
    rows: int
    columns: dict[str, ColumnSummary]

    @property
    def per_day(self) -> pl.DataFrame:
        """Events on each UTC day that has any: day, count."""
        return self.columns["timestamp"].per_day

    def to_frame(self) -> pl.DataFrame:
        """Return one row a column: the table a person reads first."""
        quantile_names = {q: f"q{round(q * 100):02}" for q in QUANTILES}
        rows = []
        for c in self.columns.values():
            top = c.top.row(0) if len(c.top) else (None, None)
            rows.append(
                {
                    "column": c.name, "type": str(c.dtype), "count": c.count, "nulls": c.null_count, "distinct": c.distinct,
                    "exact": c.exact,
                    "mean": c.mean, "sd": c.sd, "min": _show(c.min), **{n: c.quantiles.get(q) for q, n in quantile_names.items()},
                    "max": _show(c.max), "top": top[0], "top_count": top[1],
                }
            )  # fmt: skip
        text = dict.fromkeys(("column", "type", "min", "max", "top"), pl.String)
        return pl.DataFrame(rows, schema_overrides=text, infer_schema_length=None)


def describe(events: Events, columns: Sequence[str] | None = None) -> Description:
    """Describe the columns of a source (all, unless named).

    Raises:
        SourceError: A name that is no column, with "did you mean".

    >>> from tocsin.sources import read
    >>> events = read(pl.DataFrame({"timestamp": ["2026-01-01T00:00Z"] * 3, "user_id": ["a", "b", "a"], "n": [1, 2, 9]}))
    >>> description = describe(events)
    >>> description.columns["n"].mean, description.columns["user_id"].top.row(0), description.per_day["count"].to_list()
    (4.0, ('a', 2), [3])
    """
    have = events.columns
    for name in columns or ():
        if name not in have:
            raise SourceError(
                f"{events.name} has no column {name!r}.{did_you_mean(name, have)} It has: {', '.join(have)}."
            )
    wanted = list(dict.fromkeys(["timestamp", *(columns if columns is not None else have)]))
    first = {name: _FirstPass(name, have[name]) for name in wanted}
    for batch in events.batches(wanted):
        days = batch["timestamp"].dt.date()
        for name, state in first.items():
            state.add(batch[name], days)
    second = {name: _SecondPass(state) for name, state in first.items()}
    again = {name: state for name, state in second.items() if state.needed}
    if again:
        for batch in events.batches(list(again)):
            for name, counter in again.items():
                counter.add(batch[name])
    return Description(events.name, len(events), {name: state.summary() for name, state in second.items()})


def _show(value: Any) -> str | None:
    if value is None:
        return None
    return f"{value:%Y-%m-%d %H:%M:%S}" if hasattr(value, "strftime") else f"{value:g}"


def _numeric(dtype: pl.DataType) -> bool:
    return dtype.is_numeric()


def _flat(values: pl.Series) -> pl.Series:
    """The values that are counted: items of lists, text of anything nested or binary, all else as it is."""
    values = values.drop_nulls()
    if isinstance(values.dtype, pl.List):
        values = values.list.explode(keep_nulls=False, empty_as_null=False)
    if values.dtype.is_nested() or values.dtype == pl.Binary:
        return pl.Series(values.name, [str(v) for v in values.to_list()], dtype=pl.String)
    return values


class _FirstPass:
    """Counts, moments, extremes, counts of values up to the bound, and an even sample of numbers."""

    def __init__(self, name: str, dtype: pl.DataType) -> None:
        self.summary = ColumnSummary(name, dtype)
        self.values: pl.DataFrame | None = None
        self.sample: list[np.ndarray] = []
        self._stride, self._seen, self._sampled = 1, 0, 0
        self._mean, self._m2 = 0.0, 0.0
        self._days: pl.DataFrame | None = None

    def add(self, values: pl.Series, days: pl.Series) -> None:
        s = self.summary
        before = s.count
        s.count += len(values) - values.null_count()
        s.null_count += values.null_count()
        self._add_days(values, days)
        flat = _flat(values)
        if _numeric(s.dtype) or s.dtype.is_temporal():
            self._add_extremes(flat)
        if _numeric(s.dtype) and len(flat):
            self._add_moments(flat.cast(pl.Float64), before)
        if s.dtype.is_temporal():
            s.exact = False
        else:
            self._add_values(flat)

    def _add_days(self, values: pl.Series, days: pl.Series) -> None:
        counted = pl.DataFrame({"day": days.filter(values.is_not_null())}).group_by("day").len("count")
        counted = counted.with_columns(pl.col("count").cast(pl.Int64))
        self._days = counted if self._days is None else pl.concat([self._days, counted]).group_by("day").sum()
        self.summary.per_day = self._days.sort("day")

    def _add_extremes(self, flat: pl.Series) -> None:
        s, low, high = self.summary, flat.min(), flat.max()
        s.min = low if s.min is None else s.min if low is None else min(s.min, low)
        s.max = high if s.max is None else s.max if high is None else max(s.max, high)

    def _add_moments(self, numbers: pl.Series, before: int) -> None:
        """Merge the batch's mean and squared deviations (Chan, Golub and LeVeque 1983)."""
        n = len(numbers)
        mean = float(numbers.mean())  # type: ignore[arg-type]
        m2 = float(((numbers - mean) ** 2).sum())
        total, delta = before + n, mean - self._mean
        self._m2 += m2 + delta * delta * before * n / total
        self._mean += delta * n / total
        self.summary.mean = self._mean
        self.summary.sd = math.sqrt(self._m2 / (total - 1)) if total > 1 else None
        self._add_sample(numbers.to_numpy())

    def _add_sample(self, numbers: np.ndarray) -> None:
        """Keep every k-th number; k doubles whenever the sample is full."""
        start = -self._seen % self._stride
        picked = numbers[start :: self._stride]
        self._seen += len(numbers)
        self.sample.append(picked)
        self._sampled += len(picked)
        if self._sampled > _SAMPLE_BOUND:
            thinned = np.concatenate(self.sample)[::2]
            self.sample, self._sampled, self._stride = [thinned], len(thinned), self._stride * 2

    def _add_values(self, flat: pl.Series) -> None:
        counted = flat.rename("value").value_counts(name="count").with_columns(pl.col("count").cast(pl.Int64))
        if self.values is not None:
            counted = pl.concat([self.values, counted]).group_by("value").sum()
        s = self.summary
        s.distinct = max(s.distinct, len(counted))
        if len(counted) > VALUES_BOUND:
            s.exact = False
            counted = counted.sort("count", "value", descending=[True, False]).head(VALUES_BOUND)
        self.values = counted


class _SecondPass:
    """For columns beyond the bound: exact counts of the candidates and of the bins that the first pass chose."""

    def __init__(self, first: _FirstPass) -> None:
        self._first = first
        self._summary = first.summary
        self.needed = not first.summary.exact and not first.summary.dtype.is_temporal() and first.summary.count > 0
        numeric = _numeric(first.summary.dtype)
        self._edges = (
            _equal_weight_edges(np.concatenate(first.sample), first.summary) if numeric and self.needed else None
        )
        self._fine = np.zeros(len(self._edges) - 1, np.int64) if self._edges is not None else None
        self._wide = np.zeros(HISTOGRAM_BINS, np.int64)
        self._candidates: pl.DataFrame | None = None
        if self.needed and first.values is not None:
            self._candidates = (
                first.values.sort("count", "value", descending=[True, False])
                .head(_TOP_SHOWN)
                .with_columns(count=pl.lit(0, pl.Int64))
            )

    def add(self, values: pl.Series) -> None:
        flat = _flat(values)
        if self._candidates is not None:
            counted = flat.rename("value").to_frame().join(self._candidates.select("value"), on="value", how="semi")
            both = pl.concat(
                [self._candidates, counted.group_by("value").len("count").with_columns(pl.col("count").cast(pl.Int64))]
            )
            self._candidates = both.group_by("value").sum()
        if self._edges is not None and self._fine is not None and len(flat):
            numbers = flat.cast(pl.Float64).to_numpy()
            self._fine += np.histogram(numbers, self._edges)[0]
            self._wide += _bin(numbers, np.ones(len(numbers), np.int64), self._summary)

    def summary(self) -> ColumnSummary:
        """Return the finished summary."""
        s = self._summary
        counts = self._candidates if self.needed else self._first.values
        if counts is not None and len(counts):
            shown = counts.sort("count", "value", descending=[True, False]).head(_TOP_SHOWN)
            s.top = shown.select(pl.col("value").cast(pl.String), "count")
        if not _numeric(s.dtype) or not s.count or self._first.values is None:
            return s
        if s.exact:
            ordered = self._first.values.sort("value")
            numbers, weights = ordered["value"].cast(pl.Float64).to_numpy(), ordered["count"].to_numpy()
            s.quantiles = {q: exact_quantile(numbers, weights, q) for q in QUANTILES}
            self._wide = _bin(numbers, weights, s)
        elif self._edges is not None and self._fine is not None:
            reached = np.concatenate([[0], np.cumsum(self._fine)]) / max(self._fine.sum(), 1)
            s.quantiles = {q: float(np.interp(q, reached, self._edges)) for q in QUANTILES}
        edges = _wide_edges(s)
        s.histogram = pl.DataFrame({"low": edges[:-1], "high": edges[1:], "count": self._wide})
        return s


def _equal_weight_edges(sample: np.ndarray, s: ColumnSummary) -> np.ndarray:
    inner = np.quantile(sample, np.linspace(0, 1, FINE_BINS + 1))
    edges = np.unique(np.concatenate([[float(s.min)], inner, [float(s.max)]]))
    return edges if len(edges) > 1 else np.array([float(s.min), float(s.min) + 1.0])


def _wide_edges(s: ColumnSummary) -> np.ndarray:
    low, high = float(s.min), float(s.max)
    return np.linspace(low, high if high > low else low + 1.0, HISTOGRAM_BINS + 1)


def _bin(numbers: np.ndarray, weights: np.ndarray, s: ColumnSummary) -> np.ndarray:
    return np.histogram(numbers, _wide_edges(s), weights=weights)[0].astype(np.int64)


def exact_quantile(numbers: np.ndarray, weights: np.ndarray, q: float) -> float:
    """Hyndman-Fan type 7 over values with counts."""
    reached = np.cumsum(weights)
    at = q * (reached[-1] - 1)
    low, high = (numbers[np.searchsorted(reached, k, side="right")] for k in (math.floor(at), math.ceil(at)))
    return float(low + (high - low) * (at - math.floor(at)))
