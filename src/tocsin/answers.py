"""Answer: the table, the chart, and what the numbers mean.

Enters: what a question or a metric computed. Leaves: a frozen value that shows itself as frame, JSON, figure or page. An answer
without data says so in words in each of them. Layer: answers, above views; questions and metrics return them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tocsin.views import Chart, draw

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import plotly.graph_objects as go
    import polars as pl

    from tocsin.views import page

MOST_MORE = 1_000
"""Rows of each further table that `to_dict` gives; it says how many there are."""


@dataclass(frozen=True)
class Answer:
    """The answer to one question, the result of one metric.

    question: as a title. definition: what the numbers mean, how many they rest on, and what was left out and why.
    table: the answer, units in the names of its columns. notes: what a careful reader must know beside it.
    more: further tables, caption -> frame. chart: what `figure` draws. empty: why there is nothing to show, or "".
    facts: single numbers of the answer, name -> value. n: how many things (alerts, events) it rests on. as_of: the time
    at which it was asked; what was learnt or happened later is not in it.
    """

    question: str
    definition: str
    table: pl.DataFrame
    notes: tuple[str, ...] = ()
    more: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    chart: Chart | None = None
    empty: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    n: int | None = None
    as_of: datetime | None = None

    def to_frame(self) -> pl.DataFrame:
        """Return the table."""
        return self.table

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the figure as plain values that JSON holds: times are ISO text, NaN is null.

        >>> import polars as pl
        >>> Answer("How many?", "Events.", pl.DataFrame({"n": [3]})).to_dict()["table"]
        [{'n': 3}]
        """
        return {
            "question": self.question,
            "definition": self.definition,
            "n": self.n,
            "as_of": plain(self.as_of),
            "empty": self.empty,
            "notes": list(self.notes),
            "facts": plain(dict(self.facts)),
            "table": plain(self.table.to_dicts()),
            "more": {
                caption: {"rows": frame.height, "first": plain(frame.head(MOST_MORE).to_dicts())}
                for caption, frame in self.more.items()
            },
            "chart": None
            if self.chart is None or self.empty
            else {"kind": self.chart.kind, "title": self.chart.title, "data": plain(self.chart.data.to_dicts())},
        }

    def plot(self) -> go.Figure:
        """Return the chart as a plotly figure; without data, one that says why."""
        if self.empty or self.chart is None:
            from tocsin.views.style import nothing

            return nothing(self.question, self.empty or "This answer is a table.")
        return draw(self.chart)

    def to_html(self, path: str | Path | None = None) -> str:
        """Return the answer as a page that stands alone, and write it to ``path`` if there is one.

        The page holds plotly.js (5 MB) and fetches nothing. Without a chart it holds no script.
        """
        from tocsin.views import page

        text = page.whole(self.section())
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def in_zone(self, zone: str) -> Answer:
        """Return the answer with the times of its tables as a clock in ``zone`` shows them."""
        return replace(
            self, table=_in_zone(self.table, zone), more={k: _in_zone(t, zone) for k, t in self.more.items()}
        )

    def section(self, *, columns: Sequence[str] = (), most_rows: int | None = None) -> page.Section:
        """Return the answer as a part of a page.

        Given ``columns``, only these of its table are shown, ``most_rows`` of them, all other tables are folded away, and the
        definition follows in small print.
        """
        from tocsin.views import page

        drawn = None if self.chart is None or self.empty else self.plot()
        tables, folded = self._tables(), {}
        if columns:
            shown = self.table.select(c for c in columns if c in self.table.columns)
            folded = {caption: frame for caption, frame in tables.items() if frame.columns != shown.columns}
            tables = {"Answer": shown}
        tables, folded = (
            {k: t if most_rows is None else t.head(most_rows) for k, t in d.items()} for d in (tables, folded)
        )
        return page.Section(
            self.question, self.definition, self.notes, self.empty, drawn, tables, folded, bool(columns)
        )

    def _tables(self) -> dict[str, pl.DataFrame]:
        """Return all tables by caption; the chart's own data last, where it is none of them."""
        tables = {"Answer": self.table, **self.more}
        if self.chart is not None and not any(self.chart.data.equals(t) for t in tables.values()):
            tables["The chart's data"] = self.chart.data
        return tables

    def _repr_html_(self) -> str:
        from tocsin.views import page

        shown = {"Answer": self.table.head(20), **self.more}
        return page.fragment(page.Section(self.question, self.definition, self.notes, self.empty, tables=shown))

    def _ipython_display_(self) -> None:
        """Show heading and tables, then the figure; a notebook calls this by itself."""
        from IPython.display import HTML, display

        display(HTML(self._repr_html_()))
        if self.chart is not None and not self.empty:
            display(self.plot())

    def __str__(self) -> str:
        """Read as plain text: question, definition, notes, table."""
        lines = [self.question, self.definition, *([self.empty] if self.empty else []), *self.notes]
        return "\n".join([*lines, str(self.table)])


def _in_zone(frame: pl.DataFrame, zone: str) -> pl.DataFrame:
    import polars as pl

    aware = [name for name, t in frame.schema.items() if isinstance(t, pl.Datetime) and t.time_zone not in (None, zone)]
    return frame.with_columns(pl.col(aware).dt.convert_time_zone(zone)) if aware else frame


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it.

    >>> plain({"a": float("nan"), "b": [timedelta(minutes=1)], "c": date(2026, 1, 2)})
    {'a': None, 'b': [60.0], 'c': '2026-01-02'}
    """
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value if value is None or isinstance(value, str | int) else str(value)
