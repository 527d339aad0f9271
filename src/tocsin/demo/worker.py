"""The blind half of the demo: a process that sees events and references, and writes findings, answers and pages.

Enters: a folder with ``events.parquet``, ``geo.csv.gz``, ``networks.csv.gz`` and ``threats.csv``. Leaves:
``findings.parquet``, ``rules.parquet``, ``answers.json`` and a folder of pages there. It knows neither the seed nor the
truth, which is not on disk while it runs. Layer: demo.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

import tocsin as tc
from tocsin import questions
from tocsin.rules import ALL
from tocsin.rules.mail import MAIL
from tocsin.rules.volume import RATE_VS_POPULATION

if TYPE_CHECKING:
    from tocsin.questions import Answer

PAGES = "pages"


def main(folder: Path) -> None:
    """Replay all rules that ship over the folder's events, and ask the workshop's questions."""
    refs = tc.reference(geo=folder / "geo.csv.gz", networks=folder / "networks.csv.gz", threats=folder / "threats.csv")
    past = tc.backtest(ALL, tc.read(folder / "events.parquet"), refs)
    past.findings.write_parquet(folder / "findings.parquet")
    past.by_detection().write_parquet(folder / "rules.parquet")
    answers = ask(tc.read(folder / "events.parquet"), refs, past.findings)
    (folder / PAGES).mkdir(exist_ok=True)
    for name, answer in answers.items():
        answer.to_html(folder / PAGES / f"{name}.html")
    told = {name: answer.to_dict() for name, answer in answers.items()}
    (folder / "answers.json").write_text(json.dumps(told, indent=1), encoding="utf-8")


def ask(events: tc.Events, refs: tc.References, findings: pl.DataFrame) -> dict[str, Answer]:
    """Return the answer to each question of the workshop by the name of its page."""
    loudest = findings.filter(pl.col("detection_id") == RATE_VS_POPULATION.id).sort("peak_score", descending=True)
    asked = {
        "recipients": questions.histogram(events, "nr_recipients", on=MAIL),
        "places": questions.world_map(events, refs),
        "outside": questions.outside(events, refs),
        "changes": questions.largest_changes(events),
        "travellers": questions.fastest_travellers(events, refs),
        "population": questions.population(events, RATE_VS_POPULATION),
        "parameter": questions.poisson_parameter(events),
        "hours": questions.shifted_hours(events),
    }
    if loudest.height:
        asked["series"] = questions.series(events, loudest["entity"][0], "mail.volume-vs-self")
    return asked


if __name__ == "__main__":
    main(Path(sys.argv[1]))
