"""The workshop's challenges: what the questions answered, beside what is true.

Enters: the answers as the blind process wrote them, the findings, the truth. Leaves: a ``Solved`` for each challenge.
Layer: demo.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from tocsin.questions.changes import UNLIKE
from tocsin.rules.mail import EXE_MANY_RECIPIENTS
from tocsin.rules.network import LISTED_ADDRESS

if TYPE_CHECKING:
    from tocsin.sources.simulate.truth import Truth

SPEED_TOLERANCE = 0.01
"""The truth's speed is that between two cities; an address may lie in a range whose place is rounded."""
HOURS_RECALL, HOURS_PRECISION = 0.8, 0.8


@dataclass(frozen=True, slots=True)
class Solved:
    """One challenge: its name, how it is asked, the answer and the truth in words, and whether they agree."""

    challenge: str
    asked: str
    answer: str
    truth: str
    right: bool


def solve(truth: Truth, findings: pl.DataFrame, answers: dict[str, Any]) -> tuple[Solved, ...]:
    """Compare every challenge's answer with the truth; the first two and the fourth must be exact."""
    return (
        _users("1", EXE_MANY_RECIPIENTS.id, "programs to more than ten", truth, findings),
        _users("2", LISTED_ADDRESS.id, "listed addresses", truth, findings),
        _changes(truth, answers["changes"]),
        _traveller(truth, answers["travellers"]),
        _parameter(truth, answers["parameter"]),
        _hours(truth, answers["hours"]),
    )


def to_frame(solved: tuple[Solved, ...]) -> pl.DataFrame:
    """Return one row a challenge: ``challenge, asked, answer, truth, right``."""
    rows = [(s.challenge, s.asked, s.answer, s.truth, s.right) for s in solved]
    text = dict.fromkeys(("challenge", "asked", "answer", "truth"), pl.String)
    return pl.DataFrame(rows, schema=text | {"right": pl.Boolean}, orient="row")


def _users(name: str, detection: str, what: str, truth: Truth, findings: pl.DataFrame) -> Solved:
    found = set(findings.filter(pl.col("detection_id") == detection)["entity"])
    planted = set(truth.challenges[name])
    return Solved(name, f"{what}: {detection}", f"{len(found)} users", f"{len(planted)} users", found == planted)


def _changes(truth: Truth, answer: dict[str, Any]) -> Solved:
    """The three largest increases, in order, and each of them unlike the rest of the population."""
    asked = [(row["entity"], row["change_per_day"]) for row in answer["table"]]
    planted = list(zip(truth.challenges["3"]["users"], truth.challenges["3"]["increase_per_day"], strict=True))
    same = [u for u, _ in asked] == [u for u, _ in planted]
    close = same and all(abs(a - b) <= 1e-6 * max(1.0, abs(b)) for (_, a), (_, b) in zip(asked, planted, strict=True))
    unlike = all(row["verdict"] == UNLIKE for row in answer["table"])
    shown, true = (", ".join(f"+{x:.1f}" for _, x in pairs) + " files a day" for pairs in (asked, planted))
    return Solved("3", "ask changes", shown, true, close and unlike)


def _traveller(truth: Truth, answer: dict[str, Any]) -> Solved:
    """Who was never outside the US and travelled fastest; without an intruder there, any ordinary user will do."""
    user, speed = truth.challenges["4"]["user"], truth.challenges["4"]["speed_kmh"]
    rows = answer["table"]
    if user is None:
        ordinary = not rows or rows[0]["entity"] in truth.never_outside_us
        return Solved("4", "ask travellers", _speed(rows), "nobody was planted", ordinary)
    said = rows[0]["km"] / rows[0]["hours"] if rows else 0.0
    right = bool(rows) and rows[0]["entity"] == user and abs(said - speed) <= SPEED_TOLERANCE * speed
    return Solved("4", "ask travellers", _speed(rows), f"{speed:,.0f} km/h", right)


def _speed(rows: list[dict[str, Any]]) -> str:
    return f"{rows[0]['km'] / rows[0]['hours']:,.0f} km/h" if rows else "nobody"


def _parameter(truth: Truth, answer: dict[str, Any]) -> Solved:
    """The interval holds the truth for 19 of 20 populations; the demo must be right for all, so it allows twice its width."""
    said, low, high = (answer["facts"][name] for name in ("lambda", "low", "high"))
    true = truth.challenges["B1"]
    shown = f"{said:.2f} ({low:.2f} to {high:.2f})"
    return Solved("B1", "ask poisson", shown, f"{true:g}", abs(said - true) <= high - low)


def _hours(truth: Truth, answer: dict[str, Any]) -> Solved:
    found, planted = {row["entity"] for row in answer["table"]}, set(truth.challenges["B2"])
    hit = len(found & planted)
    right = hit >= HOURS_RECALL * len(planted) and hit >= HOURS_PRECISION * len(found)
    return Solved("B2", "ask hours", f"{hit} of them, {len(found) - hit} others", f"{len(planted)} users", right)
