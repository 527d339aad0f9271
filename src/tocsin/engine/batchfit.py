"""Batch fit: tables made from closed windows that were kept, not from the running state.

Enters: what a measure's windows held, and what is asked of them. Leaves: the table of each fit as it holds for a window.
Layer: engine.

This is the batch path. It shares no loop with the running baselines: values are laid out as a matrix with a row for each
entity and a column for each window, and the statistics are read off it for all entities at once. That both paths agree bit
for bit is because both add in the same order, oldest first (a population: smallest first), which ``cumsum`` does too.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tocsin.calendars import Calendar, moment
from tocsin.engine.kept import merged, window_key
from tocsin.fits import OwnHistory, Population
from tocsin.kernels.windows import COUNT, DISTINCT, MEAN, RATIO, SUM
from tocsin.measures import Spanned
from tocsin.running.state import operation
from tocsin.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from tocsin.engine.plan import Plan
    from tocsin.fits import Fit

    Floats = NDArray[np.float64]

CHUNK_ROWS = 50_000
"""Entities whose windows are laid out at a time."""


@dataclass(frozen=True)
class Asked:
    """A table to be fitted: of which detection and version, under which name beside others ("" for the only one)."""

    detection: str
    version: str
    tier: int
    name: str
    fit: OwnHistory | Population

    @property
    def id(self) -> str:
        """What the table is called."""
        return f"{self.detection}.{self.name}" if self.name else self.detection


@dataclass(frozen=True)
class KeptMeasure:
    """A measure whose closed windows are kept, and what is fitted to them. ``op``: its arithmetic, as in the kernels."""

    key: str
    entity: str
    per: str
    zone: str
    rounded: bool
    op: int
    scale: float
    asked: tuple[Asked, ...] = ()

    @cached_property
    def calendar(self) -> Calendar:
        """Its windows."""
        return Calendar(self.per, self.zone, rounded=self.rounded)

    @property
    def reach(self) -> int:
        """How many windows back its fits look; a population looks at the last that was, dates left out by a zone between."""
        spans = [f.span for a in self.asked if (f := own_part(a.fit)) is not None]
        return max([*spans, 2])

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return asdict(self) | {"asked": [asdict(a) | {"fit": _fit_to_json(a.fit)} for a in self.asked]}

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> KeptMeasure:
        """Return what `to_json` gave."""
        asked = tuple(Asked(**{**a, "fit": _fit_from_json(a["fit"])}) for a in said["asked"])
        return cls(**{**said, "asked": asked})


@dataclass(frozen=True)
class History:
    """Closed windows of one measure as of a boundary.

    rows: ``window``, ``entity``, ``lane0``, ``lane1``, ``heard``, ``left_out``, one for each entity and window. known:
    every ``entity`` with its ``first`` window, in the order of their names.
    """

    rows: pl.DataFrame
    known: pl.DataFrame


def kept_measures(plan: Plan) -> dict[str, KeptMeasure]:
    """Return the measures over calendar windows to which some detection fits a table, by key.

    A limit is of single events, and the workshop notebook's mean of running ones: neither can be made from windows.
    """
    found: dict[str, KeptMeasure] = {}
    for p in plan.planned:
        d, measure = p.detection, p.detection.measure
        fits = {
            n: f
            for n, f in d.fits.items()
            if isinstance(f, Population) or (isinstance(f, OwnHistory) and not f.notebook)
        }
        if not (fits and isinstance(measure, Spanned) and measure.per):
            continue
        key, scale = window_key(p.state), float(getattr(measure, "scale", None) or 1)
        asked = tuple(Asked(d.id, d.version, d.tier, n, f) for n, f in fits.items())
        before = found[key].asked if key in found else ()
        found[key] = KeptMeasure(
            key, d.entity, measure.per, measure.zone, measure.rounded, operation(measure), scale, (*before, *asked)
        )
    return found


def history(op: int, closed: pl.DataFrame, corrections: pl.DataFrame, known: pl.DataFrame) -> History:
    """Return closed windows with corrections applied; ``known``: entities with a ``first`` window from before all these."""
    rows = closed.select("window", "entity", "lane0", "lane1", "heard", "left_out")
    if corrections.height:
        late = corrections.select("window", "entity", "lane0", "lane1", heard=True, left_out=False)
        flags = [pl.col("heard").any(), pl.col("left_out").any()]
        rows = pl.concat([rows, late]).group_by("window", "entity").agg(*merged(op), *flags)
    firsts = [known.select("entity", "first"), rows.select("entity", pl.col("window").alias("first"))]
    return History(rows, pl.concat(firsts).group_by("entity").agg(pl.col("first").min()).sort("entity"))


def values_of(op: int, lane0: NDArray[np.int64], lane1: NDArray[np.int64], scale: float) -> Floats:
    """Return the values of accumulators, NaN where there is none."""
    if op in (COUNT, DISTINCT):
        return lane0.astype(np.float64)
    some = lane0 > 0
    if op == RATIO:
        return np.where(some, lane1 / np.where(some, lane0, 1), np.nan)
    if op == MEAN:
        return np.where(some, lane1 / (np.where(some, lane0, 1) * scale), np.nan)
    return lane1 / scale


def fit_tables(measure: KeptMeasure, past: History, boundary: int, missing: Sequence[int] = ()) -> dict[str, Table]:
    """Return the tables that hold for window ``boundary``, made from the windows before it.

    missing: windows in which the source was not covered.
    """
    return {a.id: _table(measure, a, past, boundary, missing) for a in measure.asked}


def own_part(fit: OwnHistory | Population) -> OwnHistory | None:
    """Return what of a fit looks at an entity's own windows."""
    return fit if isinstance(fit, OwnHistory) else fit.of


def _table(measure: KeptMeasure, asked: Asked, past: History, boundary: int, missing: Sequence[int]) -> Table:
    fit, begin = asked.fit, moment(measure.calendar.begin(boundary))
    if isinstance(fit, OwnHistory):
        parts = [_statistics(x, fit) for x in _baselines(measure, fit, past, past.known, boundary, missing)]
        columns = np.concatenate(parts) if parts else np.empty((0, len(fit.columns)))
        frame = past.known.select(pl.col("entity").alias(measure.entity))
        frame = frame.with_columns(_columns(fit, columns)).filter(pl.col("n").is_not_null())
        return Table(asked.detection, frame, (measure.entity,), fit.columns, begin, asked.tier)
    row = _statistics(_population(measure, fit, past, boundary, missing)[None, :], fit)
    frame = pl.DataFrame({"entity_kind": [measure.entity]}).with_columns(_columns(fit, row))
    return Table(asked.detection, frame, ("entity_kind",), fit.columns, begin, asked.tier)


def _columns(fit: Fit, columns: Floats) -> list[pl.Series]:
    return [pl.Series(c, np.ascontiguousarray(columns[:, i])).fill_nan(None) for i, c in enumerate(fit.columns)]


def _population(measure: KeptMeasure, fit: Population, past: History, boundary: int, missing: Sequence[int]) -> Floats:
    """Return one value for each entity heard in the window before, in ascending order."""
    before = boundary - 1
    while measure.calendar.skipped(before, before):
        before -= 1
    there = past.rows.filter((pl.col("window") == before) & pl.col("heard"))
    if fit.of is None:
        values = values_of(measure.op, there["lane0"].to_numpy(), there["lane1"].to_numpy(), measure.scale)
    else:
        known = past.known.join(there.select("entity"), on="entity", how="semi", maintain_order="left")
        parts = [_statistics(x, fit.of)[:, 0] for x in _baselines(measure, fit.of, past, known, boundary, missing)]
        values = np.concatenate([np.empty(0), *parts])
    return np.sort(values[~np.isnan(values)])


def _baselines(
    measure: KeptMeasure, fit: OwnHistory, past: History, known: pl.DataFrame, boundary: int, missing: Sequence[int]
) -> Iterator[Floats]:
    """Yield the values of each entity's baseline, a column for each window from the oldest on, NaN where it has none."""
    last = boundary - fit.skip * fit.stride
    windows = np.arange(last - fit.windows * fit.stride, last, fit.stride)
    low, high = int(windows[0]), int(windows[-1])
    absent = {*missing, *measure.calendar.skipped(low, high)}
    empty = measure.op in (COUNT, SUM, DISTINCT)
    nothing = np.array([0.0 if empty and w not in absent else np.nan for w in windows.tolist()])
    rows = past.rows.filter(pl.col("window").is_between(low, high) & ((low - pl.col("window")) % fit.stride == 0))
    places = known.with_row_index("row").select("entity", "row")
    rows = rows.join(places, on="entity", how="inner").sort("row")
    first = known["first"].to_numpy()
    cuts = np.searchsorted(rows["row"].to_numpy(), np.arange(0, known.height + CHUNK_ROWS, CHUNK_ROWS)).tolist()
    for chunk, start in enumerate(range(0, known.height, CHUNK_ROWS)):
        stop = min(start + CHUNK_ROWS, known.height)
        values = np.where(first[start:stop, None] <= windows, nothing, np.nan)
        part = rows[cuts[chunk] : cuts[chunk + 1]]
        lane0, lane1 = part["lane0"].to_numpy(), part["lane1"].to_numpy()
        found = values_of(measure.op, lane0, lane1, measure.scale)
        place = part["row"].to_numpy().astype(np.int64) - start, (part["window"].to_numpy() - low) // fit.stride
        found = np.where(lane0 > 0, found, values[place])
        values[place] = np.where(part["left_out"].to_numpy(), np.nan, found)
        yield values


def _statistics(values: Floats, fit: Fit) -> Floats:
    """Return the statistics of each row and how many values it has; all NaN where those are too few.

    Sums are plain additions in the order of the columns. Quantiles are definition 7 of Hyndman and Fan ("Sample Quantiles
    in Statistical Packages", The American Statistician 50, 1996), the MAD is without the factor 1.4826.
    """
    there = ~np.isnan(values)
    n = there.sum(axis=1)
    out = np.full((len(values), len(fit.columns)), np.nan)
    enough = (n >= fit.at_least) & (n > 0)
    values, there, n = values[enough], there[enough], n[enough]
    if not n.size:
        return out
    mean = _sum(np.where(there, values, 0.0)) / n
    ordered = np.sort(values, axis=1) if {*fit.stats} & {"median", "mad"} or fit.quantiles else values
    found = [_statistic(s, values, there, ordered, mean) for s in fit.stats]
    found += [_quantile(ordered, n, q) for q in fit.quantiles]
    out[enough] = np.column_stack([*found, n.astype(np.float64)])
    return out


def _statistic(name: str, values: Floats, there: NDArray[np.bool_], ordered: Floats, mean: Floats) -> Floats:
    n = there.sum(axis=1)
    if name == "mean":
        return mean
    if name == "sd":
        return _sd(values, there, n, mean)
    return _median(ordered, n) if name == "median" else _mad(ordered, n)


def _sum(values: Floats) -> Floats:
    total: Floats = np.cumsum(values, axis=1)[:, -1]
    return total


def _sd(values: Floats, there: NDArray[np.bool_], n: NDArray[np.int64], mean: Floats) -> Floats:
    off = np.where(there, values - mean[:, None], 0.0)
    return np.where(n > 1, np.sqrt(_sum(off * off) / np.maximum(n - 1, 1)), np.nan)


def _at(ordered: Floats, place: NDArray[np.int64]) -> Floats:
    return ordered[np.arange(len(ordered)), place]


def _median(ordered: Floats, n: NDArray[np.int64]) -> Floats:
    middle = _at(ordered, n // 2)
    return np.where(n % 2 == 1, middle, (_at(ordered, np.maximum(n // 2 - 1, 0)) + middle) / 2)


def _mad(ordered: Floats, n: NDArray[np.int64]) -> Floats:
    return _median(np.sort(np.abs(ordered - _median(ordered, n)[:, None]), axis=1), n)


def _quantile(ordered: Floats, n: NDArray[np.int64], q: float) -> Floats:
    h = (n - 1) * q
    i = np.floor(h).astype(np.int64)
    low, high = _at(ordered, np.minimum(i, n - 1)), _at(ordered, np.minimum(i + 1, n - 1))
    return np.where(i + 1 >= n, _at(ordered, n - 1), low + (h - i) * (high - low))


def _fit_to_json(fit: Fit) -> dict[str, Any]:
    return asdict(fit) | {"kind": type(fit).__name__}


def _fit_from_json(said: Mapping[str, Any]) -> OwnHistory | Population:
    fields: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in said.items() if k not in ("kind", "of")
    }
    if said["kind"] == "OwnHistory":
        return OwnHistory(**fields)
    own = said["of"]
    return Population(**fields, of=None if own is None else _fit_from_json(own | {"kind": "OwnHistory"}))  # type: ignore[arg-type]
