"""Detections: what is refused when they are made, and what their tier and version depend on.

Layer: tests.
"""

from __future__ import annotations

import inspect
from typing import Any

import polars as pl
import pytest

import tocsin as tc
from tocsin.detection import collect_problems

MAIL = tc.col("kind") == "mail"
OWN = tc.own_history(mean=True)
TABLE = tc.Table("quota", pl.DataFrame({"user_id": ["ann"], "most": [5.0]}), ("user_id",), ("most",), None, 2)
STATELESS: dict[str, Any] = {"score": tc.col("nr_recipients"), "when": tc.score > 10}
VOLUME: dict[str, Any] = {
    "measure": tc.Count(per="1d"), "against": OWN, "score": tc.value / tc.ref.mean, "when": tc.score > 3,
}  # fmt: skip


def rule(**more: Any) -> tc.Detection:
    head = {"id": "test.rule", "title": "A rule", "severity": "low", "on": MAIL, "entity": "user_id"}
    return tc.Detection(**head | STATELESS | more)


REFUSED = {
    "an id without a dot": ({"id": "rule"}, 'id "rule" must be lower-case words joined by dots'),
    "an id in capitals": ({"id": "Mail.Rule"}, 'id "Mail.Rule" must be'),
    "an id with a control character": ({"id": "mail.rule\n"}, "must be lower-case words"),
    "a severity that is misspelt": ({"severity": "hihg"}, 'not one of .* Did you mean "high"?'),
    "a condition that does not compare the score": (
        {"when": tc.col("nr_recipients") > 3},
        "when must compare the score",
    ),
    "own history without closed windows": (VOLUME | {"measure": tc.Count(sliding="1h")}, 'give the measure per="1d"'),
    "own history without a measure": ({"against": OWN}, 'give the measure per="1d"'),
    "a population of an endless count": (
        VOLUME | {"measure": tc.Count(ever=True), "against": tc.population(mean=True)},
        "read closed windows",
    ),
    "a limit beside a measure": (
        {
            "measure": tc.Count(per="1d"),
            "against": tc.limit("nr_recipients"),
            "score": tc.ref.limit,
            "when": tc.score > 1,
        },
        "limit is for stateless rules",
    ),
    "a statistic that was not asked for": (
        VOLUME | {"score": tc.value / tc.ref.maen},
        'ref.maen is not made by this rule.* Did you mean "ref.mean"',
    ),
    "a value without a measure": ({"score": tc.value}, "value is not made by this rule's measure or table"),
    "a previous column that is not remembered": (
        {"measure": tc.Previous("src_ip"), "score": tc.prev.src_lp, "when": tc.score > 1},
        'prev.src_lp .* Did you mean "prev.src_ip"',
    ),
    "a grouping of no length": ({"grouping": "0s"}, "groups nothing"),
    "a grouping that is no duration": ({"grouping": "1mo"}, 'grouping: "1mo" is not a duration'),
    "an unknown name in the condition alone": (VOLUME | {"when": tc.score > tc.ref.sd}, "ref.sd is not made"),
}


@pytest.mark.parametrize(("parts", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_detection_refuses(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(tc.RuleError, match=message):
        rule(**parts)


def test_the_message_begins_with_file_and_line_of_the_rule() -> None:
    with pytest.raises(tc.RuleError) as caught:
        tc.Detection(id="x", title="", severity="low", on=MAIL, entity="user_id", **STATELESS)
    line = inspect.currentframe().f_lineno - 1
    assert str(caught.value).startswith(f"{__file__}:{line}: x: ")


def test_all_problems_are_listed_where_they_are_collected() -> None:
    with collect_problems() as found:
        rule(id="x", severity="loud", score=tc.value)
    assert len(found) == 3
    assert {where[0] for where, _, _ in found} == {__file__}
    with pytest.raises(tc.RuleError):  # and afterwards a wrong rule raises again
        rule(id="x")


TIERS = {
    "constants": (rule(), 1),
    "what reference data attaches, in the condition": (rule(when=(tc.score > 1) & tc.col("src_listed")), 2),
    "what reference data attaches, in on": (rule(on=MAIL & (tc.col("dst_country") == "DE")), 2),
    "a given table": (rule(against=TABLE, score=tc.ref.most, when=tc.score > 1), 2),
    "a measure alone": (rule(measure=tc.Count(sliding="1h"), score=tc.value, when=tc.score > 9), 3),
    "the entity's own history": (rule(**VOLUME), 3),
    "the population": (rule(**VOLUME | {"against": tc.population(mean=True)}), 4),
    "a limit over all events": (rule(against=tc.limit("nr_recipients"), score=tc.ref.limit, when=tc.score > 1), 4),
}


@pytest.mark.parametrize(("detection", "tier"), TIERS.values(), ids=TIERS.keys())
def test_the_tier_says_where_the_table_came_from(detection: tc.Detection, tier: int) -> None:
    assert detection.tier == tier


def test_a_table_brings_its_own_tier() -> None:
    fitted = tc.Table("t", TABLE.frame, ("user_id",), ("most",), None, 3)
    assert rule(against=fitted, score=tc.ref.most, when=tc.score > 1).tier == 3


PARTS = {
    "id": {"id": "test.other"},
    "on": {"on": tc.col("kind") == "login"},
    "entity": {"entity": "src_ip"},
    "score": {"score": tc.value - tc.ref.mean},
    "threshold": {"when": tc.score > 3.5},
    "operator": {"when": tc.score >= 3},
    "further condition": {"when": (tc.score > 3) & (tc.value > 20)},
    "measure": {"measure": tc.Count(per="1d", zone="America/Denver")},
    "statistics": {"against": tc.own_history(mean=True, sd=True)},
    "windows": {"against": tc.own_history(mean=True, windows=27)},
    "minimum": {"against": tc.own_history(mean=True, at_least=6)},
}
NO_PARTS = {
    "title": {"title": "Another"},
    "severity": {"severity": "high"},
    "evidence": {"evidence": ("src_ip",)},
    "grouping": {"grouping": "6h"},
    "tags": {"tags": ("attack.t1078",)},
    "description": {"description": "words"},
    "false positives": {"false_positives": "words"},
    "examples": {"examples": (tc.Example(fires=True, events=[{}]),)},
    "place": {"where": ("elsewhere.py", 1)},
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS.keys())
def test_the_version_changes_with_what_decides_the_score(part: dict[str, Any]) -> None:
    assert rule(**VOLUME | part).version != rule(**VOLUME).version


@pytest.mark.parametrize("part", NO_PARTS.values(), ids=NO_PARTS.keys())
def test_the_version_does_not_change_with_what_only_describes(part: dict[str, Any]) -> None:
    assert rule(**VOLUME | part).version == rule(**VOLUME).version


def test_the_version_changes_with_the_contents_of_a_given_table() -> None:
    other = tc.Table("quota", TABLE.frame.with_columns(most=pl.lit(6.0)), ("user_id",), ("most",), None, 2)
    one, two = (rule(against=t, score=tc.ref.most, when=tc.score > 1).version for t in (TABLE, other))
    assert one != two


def test_a_condition_keeps_its_threshold_apart_from_what_else_must_hold() -> None:
    when = (tc.score > 3) & (tc.value >= 20) & tc.col("inside")
    frame = pl.DataFrame(
        {"@score": [4.0, 4.0, 4.0, 3.0, None], "@value": [20, 19, 20, 20, 20], "inside": [True, True, None, True, True]}
    )
    assert frame.select(when.expression).to_series().fill_null(value=False).to_list() == [
        True,
        False,
        False,
        False,
        False,
    ]
    assert pl.select(when.threshold).item() == 3
    assert str(when).startswith("score > 3 and ")


def test_each_comparison_fires_on_its_own_side_of_the_threshold() -> None:
    frame = pl.DataFrame({"@score": [2.0, 3.0, 4.0]})
    fired = [
        frame.select(c.expression).to_series().to_list()
        for c in (tc.score > 3, tc.score >= 3, tc.score < 3, tc.score <= 3)
    ]
    assert fired == [[False, False, True], [False, True, True], [True, False, False], [True, True, False]]


def test_a_threshold_may_be_a_column_and_then_reads_as_its_name() -> None:
    assert str(tc.score > tc.col("quota")) == "score > quota"


def test_a_detection_reads_every_column_its_parts_name_and_none_of_the_engines() -> None:
    detection = rule(
        measure=tc.Sum("size", per="1d"), against=OWN, score=tc.value / tc.ref.mean, when=(tc.score > 3) & tc.col("inside"),
    )  # fmt: skip
    assert detection.reads == ["inside", "kind", "size", "user_id"]


@pytest.mark.parametrize(
    "make",
    [
        tc.Count,
        lambda: tc.Count(per="1d", sliding="1h"),
        lambda: tc.Count(per="1d", forget_after="9d"),
        lambda: tc.Count(sliding="0s"),
        tc.own_history,
        lambda: tc.population(quantiles=(99,)),
    ],
    ids=[
        "no span",
        "two spans",
        "a window that forgets",
        "an empty span",
        "a fit of nothing",
        "a percentage",
    ],
)
def test_measures_and_fits_refuse(make: Any) -> None:
    with pytest.raises(tc.RuleError):
        make()
