"""Report: several answers as one page, as Markdown, as JSON and as tables.

Enters: answers by name. Leaves: text and frames; nothing in them depends on when or where they were made. Layer: reports.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tocsin.answers import plain
from tocsin.text import escape_terminal
from tocsin.views import page

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from tocsin.answers import Answer

MOST_ROWS = 15
"""Rows of each table in Markdown and on the page; JSON and CSV have them all."""
_ACTIVE = re.compile(r"([\\`*_{}\[\]<>()#+!|~&-])")


@dataclass(frozen=True, eq=False)
class Report:
    """A heading, a few sentences, and answers in reading order.

    inputs: a digest of the log the numbers come from; two reports with the same digest say the same. tiles: the numbers at
    its head. columns: by answer, those of its table that people read first; JSON, CSV and the folded tables have them all.
    """

    title: str
    lead: tuple[str, ...]
    answers: Mapping[str, Answer]
    inputs: str
    tiles: tuple[page.Tile, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def to_html(self) -> str:
        """Return one page that fetches nothing: charts, tables, definitions."""
        sections = [
            self.answers[name].section(columns=self.columns.get(name, ()), most_rows=MOST_ROWS) for name in self.answers
        ]
        return page.whole(*sections, title=self.title, lead=(*self.lead, f"Inputs: {self.inputs}"), tiles=self.tiles)

    def to_markdown(self) -> str:
        r"""Return headings, definitions and tables as Markdown in which no text of an alert can act.

        >>> import polars as pl
        >>> from tocsin.answers import Answer
        >>> answer = Answer("Which?", "All.", pl.DataFrame({"rule": ["a|b"], "alerts": [3]}))
        >>> print(Report("Week", ("Quiet.",), {"rules": answer}, "0f").to_markdown().splitlines()[-1])
        | a\|b | 3 |
        """
        parts = [f"# {_words(self.title)}", *(_words(words) for words in self.lead), f"Inputs: `{self.inputs}`"]
        for name, answer in self.answers.items():
            parts += [f"## {_words(answer.question)}", _words(answer.definition)]
            parts += [f"**{_words(answer.empty)}**"] if answer.empty else []
            parts += [f"- {_words(note)}" for note in answer.notes]
            wanted = self.columns.get(name, answer.table.columns)
            if answer.table.height:
                parts.append(_table(answer.table.select(c for c in wanted if c in answer.table.columns)))
        return "\n\n".join(parts) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the figures as plain values."""
        return {
            "title": self.title,
            "lead": list(self.lead),
            "inputs": self.inputs,
            "numbers": [plain(vars(tile)) for tile in self.tiles],
            "answers": {name: answer.to_dict() for name, answer in self.answers.items()},
        }

    def tables(self) -> dict[str, pl.DataFrame]:
        """Return every table by a name that can be a file's."""
        found = {}
        for name, answer in self.answers.items():
            found[name] = answer.table
            for caption, frame in answer.more.items():
                found[f"{name}-{re.sub('[^a-z0-9]+', '-', caption.lower()).strip('-')}"] = frame
        return found


def _words(text: str) -> str:
    """Return text that Markdown shows as it stands: no link, no heading, no HTML, one line."""
    return _ACTIVE.sub(r"\\\1", escape_terminal(text)) if not _harmless(text) else text


def _harmless(text: str) -> bool:
    return re.fullmatch(r"[\w ,.;:%()'/=×+-]*", text) is not None and not re.match(r"[\s#>+-]|\d+[.)]|={3}", text)


def _table(frame: pl.DataFrame) -> str:
    shown = frame.head(MOST_ROWS)
    right = [t.is_numeric() for t in frame.dtypes]
    rows = [
        "| " + " | ".join(_words(name.replace("_", " ")) for name in frame.columns) + " |",
        "|" + "|".join(" ---: " if r else " --- " for r in right) + "|",
        *(
            "| "
            + " | ".join(page.cell(v) if r else _words(page.cell(v)) for v, r in zip(row, right, strict=True))
            + " |"
            for row in shown.iter_rows()
        ),
    ]
    if frame.height > shown.height:
        rows.append(f"\n{shown.height} of {frame.height:,} rows.")
    return "\n".join(rows)


__all__ = ["MOST_ROWS", "Report"]
