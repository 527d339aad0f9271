"""The eight analyses that all contestants compute, in words and numbers, and what makes two answers equal.

Enters: the answers of two contestants. Leaves: what differs, or nothing. Layer: none (outside the package).

A1  mails with more than 10 recipients and an attached .exe: event_id, score = recipients
A2  user-days with an event from outside the home countries: user_id, day, score = the number of such events
A3  events whose source or destination address is listed: event_id, score = 1
A4  user-days with more than 3 times the user's own mean of mails a day: user_id, day, score = n / mean
    (the mean of the up to 28 days before, from the user's first mail on, 7 at least; days without mail count as zero)
A5  user-days after which attachments have grown: user_id, day, score = recent - before
    (days with mail; means of the daily sums of nr_attachments: the 7 days before, and the up to 28 before those, from
    the user's first mail on; all 7 and at least 14; days without mail count as zero)
A6  user-days above the mean + 3 sd of the population's day before: user_id, day, score = (n - mean) / sd
    (the population: users with at least one mail that day; 30 users at least)
A7  events that would have needed more than 900 km/h since the user's previous event: event_id, score = km/h
    (between the places of the source addresses; spherical earth projected to a plane; 1 s at least)
A8  user-days after a night shift: user_id, day, score = yesterday - before
    (days with an event; the share of a day's events that fell between 22:00 and 06:00 UTC: yesterday's, and its mean
    over those of the 28 days before yesterday that had events, 7 at least)

Days are UTC days, numbered from 1970-01-01. Users of the made-up data live in ten countries, evenly; home is nine of
them, so a tenth of the users and few events of the others are outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import polars as pl

from benchmarks.data import Data

Answers = dict[str, pl.DataFrame]

MAX_RECIPIENTS = 10
HOME_COUNTRIES = ("US", "DE", "FR", "BR", "IN", "JP", "GB", "CA", "AU")
OWN_FACTOR = 3.0
OWN_WINDOWS = 28
OWN_AT_LEAST = 7
RECENT_WINDOWS = 7
BEFORE_WINDOWS = 28
BEFORE_AT_LEAST = 14
# Hundredths in the limits of differences: no quotient of small numbers lies on them, so rounding decides nothing.
MORE_ATTACHMENTS = 2.01
NIGHT_BEGINS_US = 22 * 3_600_000_000
NIGHT_ENDS_US = 6 * 3_600_000_000
SHIFT_WINDOWS = 28
SHIFT_AT_LEAST = 7
MORE_AT_NIGHT = 0.31
POPULATION_SD = 3.0
POPULATION_AT_LEAST = 30
SPEED_KMH = 900.0
EARTH_RADIUS_KM = 6371.009
US_PER_DAY = 86_400_000_000

KEYS = {
    "A1": ["event_id"],
    "A2": ["user_id", "day"],
    "A3": ["event_id"],
    "A4": ["user_id", "day"],
    "A5": ["user_id", "day"],
    "A6": ["user_id", "day"],
    "A7": ["event_id"],
    "A8": ["user_id", "day"],
}
FIVE = ("A1", "A3", "A4", "A6", "A7")  # those that were measured first; goals about them stay
# The columns of the file that each analysis has to read: what the bare scan reads.
COLUMNS = {
    "A1": ["event_id", "kind", "nr_recipients", "attachments"],
    "A2": ["timestamp", "user_id", "src_ip"],
    "A3": ["event_id", "src_ip", "dst_ip"],
    "A4": ["timestamp", "kind", "user_id"],
    "A5": ["timestamp", "kind", "user_id", "nr_attachments"],
    "A6": ["timestamp", "kind", "user_id"],
    "A7": ["event_id", "timestamp", "user_id", "src_ip"],
    "A8": ["timestamp", "user_id"],
}
SCORE_TOLERANCE = 1e-9  # engines add floats in different orders


class Contestant(Protocol):
    """One way to compute the analyses. `prepare` (loading references) is not timed; each step is."""

    def prepare(self, data: Data) -> None:
        """Load the references and whatever else is kept between runs."""

    def steps(self) -> dict[str, Callable[[], Answers]]:
        """What is timed, one after another: label -> computation from the Parquet file to answers (keys and score)."""


def differences(expected: Answers, found: Answers) -> list[str]:
    """Return a line for each expected analysis that differs: rows on one side only, or scores off by more than rounding."""
    lines = []
    for name in expected:
        keys = KEYS[name]
        if name not in found:
            lines.append(f"{name}: no answer")
            continue
        left, right = (_canonical(answers[name], keys) for answers in (expected, found))
        if left.height != right.height or not left.select(keys).equals(right.select(keys)):
            missing, extra = (a.join(b, on=keys, how="anti") for a, b in ((left, right), (right, left)))
            lines.append(
                f"{name}: {left.height} rows expected, {right.height} found; "
                f"missing {missing.head(2).rows()}, extra {extra.head(2).rows()}"
            )
            continue
        off = ((left["score"] - right["score"]).abs() / left["score"].abs().clip(lower_bound=1e-300)).max()
        if off is not None and not float(off) < SCORE_TOLERANCE:  # type: ignore[arg-type]
            lines.append(f"{name}: equal rows, but scores up to {off:.1e} apart")
    return lines


def _canonical(answer: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    types = {"event_id": pl.String, "user_id": pl.String, "day": pl.Int64, "score": pl.Float64}
    return answer.select(pl.col(c).cast(types[c]) for c in [*keys, "score"]).sort(keys)
