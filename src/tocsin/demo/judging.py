"""Findings against planted stories: who was found, who was flagged without cause, and what floors must hold.

Enters: findings, and who did what on which day. Leaves: a ``StoryResult`` for each kind of story. Layer: demo.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from tocsin.sources.simulate.truth import Label, Truth


@dataclass(frozen=True, slots=True)
class Expected:
    """Which detection answers a kind of story, and the least recall and precision it must reach."""

    story: str
    detection: str
    recall_floor: float = 1.0
    precision_floor: float = 1.0


# The floors of tiers 1 and 2 are exact: these rules can be right or wrong, nothing between. A threshold on a
# noisy count is crossed by chance too (three standard deviations are not rare among a thousand users and seventy
# days), and a newsletter is an outlier by any count; their precision floors say what such rules honestly reach.
EXPECTED: tuple[Expected, ...] = (
    Expected("exe_spray", "mail.exe-many-recipients"),
    Expected("threat_login", "network.listed-address"),
    Expected("threat_mail", "network.listed-address"),
    Expected("volume_burst", "mail.volume-vs-self", precision_floor=0.25),
    Expected("population_outlier", "mail.rate-vs-population", precision_floor=0.1),
    Expected("attachment_growth", "mail.attachments-change", 0.6, precision_floor=0.6),
    Expected("slow_ramp", "mail.volume-change", precision_floor=0.8),
    Expected("password_guessing", "login.failed-burst"),
    Expected("password_spray", "login.password-spray-network"),
    Expected("takeover_travel", "login.travel-speed", precision_floor=0.25),
)


@dataclass(frozen=True, slots=True)
class StoryResult:
    """One kind of story against its detection; all counts are subjects: users, or networks where the rule is about these.

    ``flagged`` have a finding of the detection at all; ``wrong`` have one on a day on which no story explains it,
    and ``innocents`` are those of them that were put there as traps (``trapped`` names the kinds).
    """

    expected: Expected
    planted: int
    found: int
    flagged: int
    wrong: int
    innocents: int
    trapped: tuple[str, ...]
    in_top: int  # planted among the highest-scored, as many as were planted: what sorting by score would show
    missed: tuple[str, ...]  # sorted: where to look first when recall is below its floor

    @property
    def recall(self) -> float | None:
        """Found of planted; None when nothing was planted."""
        return self.found / self.planted if self.planted else None

    @property
    def precision(self) -> float | None:
        """Found of found and wrong; None when nothing was flagged."""
        return self.found / (self.found + self.wrong) if self.found + self.wrong else None

    @property
    def passed(self) -> bool:
        """Whether both floors hold; a story that was never planted proves nothing."""
        if self.recall is None or self.precision is None:
            return False
        return self.recall >= self.expected.recall_floor and self.precision >= self.expected.precision_floor


def judge(truth: Truth, findings: pl.DataFrame, expected: tuple[Expected, ...] = EXPECTED) -> tuple[StoryResult, ...]:
    """Compare findings with the truth, kind by kind.

    A story's subject is *found* when the answering detection has a finding for it on one of the story's days (UTC). A
    finding is *wrong* when no story of any kind has this subject on this day: a burst that also stands out of the
    population is no mistake of the population rule. Suppressed findings do not count.
    """
    stories, traps, fired = subject_days(truth.stories), _trapped(truth), _fired(findings)
    return tuple(_result(e, stories, traps, fired) for e in expected)


def subject_days(stories: tuple[Label, ...]) -> pl.DataFrame:
    """Return one row per kind, subject and day of these stories; the users of a spray have their own rows."""
    rows = [(label.kind, subject, day) for label in stories for subject in _subjects(label) for day in label.days] + [
        ("touched", user, day) for label in stories for user in label.users for day in label.days
    ]
    schema = {"kind": pl.String, "subject": pl.String, "day": pl.Date}
    return pl.DataFrame(rows, schema=schema, orient="row").unique(maintain_order=True)


def judge_traps(truth: Truth, findings: pl.DataFrame) -> pl.DataFrame:
    """Return one row a kind of innocents: ``trap, users, flagged, detections`` (the ids that flagged them, sorted)."""
    quiet = (
        pl.col("severity").is_in(["informational", "low"]) if "severity" in findings.columns else pl.lit(value=False)
    )
    hits = _trapped(truth).join(_fired(findings.filter(~quiet)), on="subject", how="left")
    flagged = pl.col("subject").filter(pl.col("detection_id").is_not_null())
    ids = pl.col("detection_id").drop_nulls().unique().sort()
    return (
        hits.group_by("trap")
        .agg(users=pl.col("subject").n_unique(), flagged=flagged.n_unique(), detections=ids.str.join(", "))
        .with_columns(pl.col("detections").fill_null(""))
        .sort("trap")
    )


def _fired(findings: pl.DataFrame) -> pl.DataFrame:
    """Return the highest score of each (detection, subject, UTC day) with a finding that nobody suppressed."""
    if "suppressed_by" in findings.columns:
        findings = findings.filter(pl.col("suppressed_by").is_null())
    day = pl.col("time").dt.convert_time_zone("UTC").dt.date()
    keys = findings.select("detection_id", "peak_score", subject="entity", day=day)
    return keys.group_by("detection_id", "subject", "day").agg(pl.col("peak_score").max())


def _trapped(truth: Truth) -> pl.DataFrame:
    rows = [(label.kind, user) for label in truth.traps for user in label.users]
    return pl.DataFrame(rows, schema={"trap": pl.String, "subject": pl.String}, orient="row").unique(
        maintain_order=True
    )


def _subjects(label: Label) -> tuple[str, ...]:
    """Return whom a rule can name: the users of a story, or the /24 from which somebody sprays passwords."""
    if label.kind == "password_spray":
        return (str(ipaddress.ip_network(label.details["network"]).supernet(new_prefix=24)),)
    return label.users


def _result(expected: Expected, stories: pl.DataFrame, traps: pl.DataFrame, fired: pl.DataFrame) -> StoryResult:
    mine = fired.filter(pl.col("detection_id") == expected.detection)
    planted = stories.filter(pl.col("kind") == expected.story).select("subject", "day")
    # What another story explains is neither right nor wrong here, so it takes nobody's place at the top.
    others = stories.join(planted, on=["subject", "day"], how="anti")
    own = mine.join(others, on=["subject", "day"], how="anti")
    ranked = own.group_by("subject").agg(pl.col("peak_score").max())
    ranked = ranked.sort("peak_score", "subject", descending=[True, False])
    found = planted.join(mine, on=["subject", "day"], how="semi")
    wrong = mine.join(stories, on=["subject", "day"], how="anti").select("subject").unique()
    trapped = wrong.join(traps, on="subject", how="inner")
    return StoryResult(
        expected=expected,
        planted=planted["subject"].n_unique(),
        found=found["subject"].n_unique(),
        flagged=mine["subject"].n_unique(),
        wrong=wrong.height,
        innocents=trapped["subject"].n_unique(),
        trapped=tuple(sorted(set(trapped["trap"].to_list()))),
        in_top=ranked.head(planted["subject"].n_unique()).join(found, on="subject", how="semi").height,
        missed=tuple(sorted(set(planted["subject"]) - set(found["subject"]))),
    )


def to_frame(results: tuple[StoryResult, ...]) -> pl.DataFrame:
    """Return results as a frame: one row a story kind; rates are null where they mean nothing."""
    rows = [
        {
            "story": r.expected.story,
            "detection": r.expected.detection,
            "planted": r.planted,
            "found": r.found,
            "flagged": r.flagged,
            "wrong": r.wrong,
            "innocents": r.innocents,
            "trapped": ", ".join(r.trapped),
            "in_top": r.in_top,
            "recall": r.recall,
            "recall_floor": r.expected.recall_floor,
            "precision": r.precision,
            "precision_floor": r.expected.precision_floor,
            "passed": r.passed,
        }
        for r in results
    ]
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(("recall", "precision"), pl.Float64))
