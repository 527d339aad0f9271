"""Backtests: what is history and what is reported, who stands out, what is counted, and the notebook's arithmetic.

Layer: tests. Expectations come from a few lines of plain Python over the same events, or from pandas as the workshop
notebook used it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import tocsin as tc

START = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)
COLUMNS = {"timestamp": pl.Datetime("us", "UTC"), "user_id": pl.String, "nr_recipients": pl.Int64}
IS_MAIL = tc.col("kind") == "mail"


def log(days: int = 14, users: int = 6, seed: int = 1, busiest: int = 9) -> pl.DataFrame:
    """Mails at random moments, some users on most days and some rarely, in time order."""
    rng = np.random.default_rng(seed)
    rows = [
        (
            START + day * DAY + timedelta(microseconds=int(rng.integers(0, 86_400_000_000))),
            f"u{user}",
            int(rng.integers(0, 40)),
        )
        for day in range(days)
        for user in range(users)
        for _ in range(int(rng.integers(0, busiest + user)) if rng.random() < 0.3 + user / users else 0)
    ]
    frame = pl.DataFrame(
        rows,
        schema={"timestamp": pl.Datetime("us", "UTC"), "user_id": pl.String, "nr_recipients": pl.Int64},
        orient="row",
    )
    frame = frame.sort("timestamp").with_row_index("i")
    return frame.select(
        pl.format("e{}", "i").alias("event_id"), "timestamp", "user_id", "nr_recipients", kind=pl.lit("mail")
    )


def rule(**more: Any) -> tc.Detection:
    own = {
        "id": "test.volume", "title": "Volume", "severity": "low", "on": IS_MAIL, "entity": "user_id", "measure": tc.Count(per="1d"),
        "against": tc.own_history(mean=True, at_least=3), "score": tc.value / tc.ref.mean, "when": tc.score > 1.5,
    }  # fmt: skip
    return tc.Detection(**own | more)


def plain(**more: Any) -> tc.Detection:
    """A rule over single events."""
    one = {"id": "test.many", "measure": None, "against": None, "score": tc.col("nr_recipients"), "when": tc.score > 30}
    return rule(**one | more)


RULES = (
    rule(),
    rule(id="test.quiet", when=tc.score < 0.4),
    rule(
        id="test.crowd",
        against=tc.population(mean=True, sd=True, at_least=3),
        score=(tc.value - tc.ref.mean) / tc.ref.sd,
    ),
    rule(id="test.burst", measure=tc.Count(sliding="6h"), against=None, score=tc.value, when=tc.score >= 6),
    plain(),
)


def row(past: tc.Backtest, detection_id: str) -> dict[str, Any]:
    return past.by_detection().row(by_predicate=pl.col("detection") == detection_id, named=True)


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return log()


@pytest.fixture(scope="module")
def past(frame: pl.DataFrame) -> tc.Backtest:
    return tc.backtest(RULES, tc.read(frame), keep_scores=True)


# ------------------------------------------------------------------------------------------------------ since and until
def test_events_before_since_are_history_and_those_from_it_on_are_scored_as_ever(
    frame: pl.DataFrame, past: tc.Backtest
) -> None:
    since = START + 8 * DAY + timedelta(hours=7)
    part = tc.backtest(RULES, tc.read(frame), since=since, keep_scores=True)
    after = frame.filter(pl.col("timestamp") >= since)
    assert 0 < after.height < frame.height
    for detection in RULES:
        kept = past.scores[detection.id].filter(pl.col("event_id").is_in(after["event_id"].implode()))
        assert_frame_equal(part.scores[detection.id], kept)
        assert row(part, detection.id)["events"] == after.height
    assert (part.findings["time"] >= since).all()


def test_a_window_that_fired_before_since_is_reported_at_its_first_event_from_since_on(frame: pl.DataFrame) -> None:
    crossing = tc.backtest([rule()], tc.read(frame)).findings.row(0, named=True)
    since = crossing["time"] + timedelta(microseconds=1)
    again = tc.backtest([rule()], tc.read(frame), since=since).findings.row(0, named=True)
    assert again["finding_id"] == crossing["finding_id"] or again["window_start"] > crossing["window_start"]
    assert again["time"] >= since


def test_an_event_exactly_at_since_is_reported_and_exactly_at_until_is_not(frame: pl.DataFrame) -> None:
    moment = frame["timestamp"][100]
    assert row(tc.backtest([plain()], tc.read(frame), since=moment), "test.many")["events"] == frame.height - 100
    assert row(tc.backtest([plain()], tc.read(frame), until=moment), "test.many")["events"] == 100


def test_what_comes_after_until_changes_nothing(frame: pl.DataFrame) -> None:
    until = START + 9 * DAY + timedelta(hours=5)
    cut = tc.read(frame.filter(pl.col("timestamp") < until))
    a, b = tc.backtest(RULES, tc.read(frame), until=until), tc.backtest(RULES, cut)
    assert_frame_equal(a.findings, b.findings)
    assert_frame_equal(a.by_detection(), b.by_detection())


def test_alerts_a_day_are_over_the_days_reported_on(frame: pl.DataFrame) -> None:
    since = START + 7 * DAY
    part = tc.backtest([plain()], tc.read(frame), since=since)
    times = frame.filter(pl.col("timestamp") >= since)["timestamp"]
    assert part.days == pytest.approx((times.max() - times.min()) / DAY)
    found = row(part, "test.many")
    alerts = {(f["entity"], f["time"].date()) for f in part.findings.to_dicts()}
    assert (found["alerts"], found["alerts_a_day"]) == (len(alerts), pytest.approx(len(alerts) / part.days))


# -------------------------------------------------------------------------------------------------------------- ranking
@pytest.mark.parametrize(
    ("detection_id", "best"), [("test.volume", max), ("test.quiet", min), ("test.crowd", max), ("test.many", max)]
)
def test_the_top_is_the_most_extreme_score_of_each_entity_in_the_direction_of_the_rule(
    frame: pl.DataFrame, past: tc.Backtest, detection_id: str, best: Any
) -> None:
    scores = defaultdict(list)
    users = dict(frame.select("event_id", "user_id").rows())
    for event_id, score in past.scores[detection_id].select("event_id", "score").rows():
        if score is not None:
            scores[users[event_id]].append(score)
    expected = sorted(((best(s), u) for u, s in scores.items()), key=lambda x: (-x[0] if best is max else x[0], x[1]))
    assert past.top(detection_id, 99).select("score", "entity").rows() == expected
    assert past.top(detection_id, 3).height == 3


def test_the_time_of_a_top_entity_is_that_of_its_extreme_event(frame: pl.DataFrame, past: tc.Backtest) -> None:
    top = past.top("test.many", 1).row(0, named=True)
    extreme = frame.filter(pl.col("user_id") == top["entity"], pl.col("nr_recipients") == int(top["score"]))
    assert top["time"] in extreme["timestamp"].to_list()


def test_a_rule_that_was_not_run_has_no_top(past: tc.Backtest) -> None:
    with pytest.raises(tc.RuleError, match=r'No detection "test.volumes" was run. Did you mean "test.volume"'):
        past.top("test.volumes")


# ------------------------------------------------------------------------------------------------------------- findings
def test_a_windowed_rule_has_one_finding_for_each_entity_and_window_that_crossed_with_its_final_peak(
    frame: pl.DataFrame, past: tc.Backtest
) -> None:
    events = {r["event_id"]: r for r in frame.to_dicts()}
    for detection_id, best in (("test.volume", max), ("test.quiet", min), ("test.crowd", max)):
        fired = defaultdict(list)
        for event_id, score, hit in past.scores[detection_id].select("event_id", "score", "fired").rows():
            if hit:
                event = events[event_id]
                fired[event["user_id"], event["timestamp"].date()].append((event["timestamp"], event_id, score))
        mine = past.findings.filter(pl.col("detection_id") == detection_id)
        found = {(f["entity"], f["window_start"].date()): f for f in mine.to_dicts()}
        assert found.keys() == fired.keys()
        assert found
        assert mine.height == len(found)
        for key, crossings in fired.items():
            time, event_id, score = min(crossings)
            assert (found[key]["time"], found[key]["event_id"], found[key]["score"]) == (time, event_id, score)
            assert found[key]["peak_score"] == best(s for _, _, s in crossings)
            assert found[key]["window_end"] - found[key]["window_start"] == DAY


def test_a_rule_without_windows_has_one_finding_for_each_event_that_fires(past: tc.Backtest) -> None:
    for detection_id in ("test.burst", "test.many"):
        mine = past.findings.filter(pl.col("detection_id") == detection_id)
        assert sorted(mine["event_id"]) == sorted(past.scores[detection_id].filter("fired")["event_id"])
        assert mine["peak_score"].equals(mine["score"])
        assert mine["window_start"].null_count() == mine.height


@pytest.mark.parametrize("batch_rows", [1, 7, 10**6])
def test_findings_scores_and_tallies_do_not_depend_on_the_batches(
    frame: pl.DataFrame, past: tc.Backtest, batch_rows: int
) -> None:
    other = tc.backtest(RULES, tc.read(frame), batch_rows=batch_rows, keep_scores=True)
    assert_frame_equal(other.findings, past.findings)
    assert_frame_equal(other.by_detection(), past.by_detection())
    for detection in RULES:
        assert_frame_equal(other.scores[detection.id], past.scores[detection.id], check_exact=True)


def test_findings_do_not_depend_on_the_order_of_the_rows_or_of_the_rules(
    frame: pl.DataFrame, past: tc.Backtest
) -> None:
    other = tc.backtest(RULES[::-1], tc.read(frame.sample(fraction=1.0, shuffle=True, seed=5)))
    assert_frame_equal(other.findings, past.findings)


def test_findings_are_ordered_by_time_and_every_id_is_its_own(past: tc.Backtest) -> None:
    assert past.findings["time"].is_sorted()
    assert past.findings["finding_id"].is_unique().all()
    assert past.findings["finding_id"].str.contains("^[0-9a-f]{32}$").all()


def test_evidence_is_readable_json_whatever_the_columns_hold() -> None:
    hostile = 'a"b\\\n\u202eexe\x00,{}'
    events = log(days=4).with_columns(pl.lit(hostile).alias("subject"), pl.lit(None, pl.String).alias("nothing"))
    events = events.with_columns(attachments=pl.lit(["x.exe", hostile]))
    detection = plain(when=tc.score > 20, evidence=("subject", "nothing", "attachments", "nr_recipients", "absent"))
    findings = tc.backtest([detection], tc.read(events)).findings
    assert findings.height
    for text, score in findings.select("evidence", "score").rows():
        read = json.loads(text)
        assert read == {"subject": hostile, "nothing": None, "attachments": ["x.exe", hostile], "nr_recipients": score}


def test_the_digest_of_the_table_tells_which_baseline_was_compared_with(past: tc.Backtest) -> None:
    crowd = past.findings.filter(pl.col("detection_id") == "test.crowd")
    by_window = crowd.group_by("window_start").agg(pl.col("table_digest").n_unique())
    assert by_window["table_digest"].to_list() == [1] * by_window.height  # one population a day
    assert crowd["table_digest"].n_unique() == by_window.height


# ------------------------------------------------------------------------------------------------- what cannot be scored
def raising() -> tc.Detection:
    """Raises on some events and not on others."""
    return plain(id="test.raises", score=tc.col("note").str.to_integer(strict=True).cast(pl.Float64), when=tc.score > 5)


@pytest.mark.parametrize("batch_rows", [1, 7, 10**6])
def test_a_rule_that_raises_on_some_events_scores_the_others_and_stops_no_other_rule(batch_rows: int) -> None:
    frame = log(days=6).with_columns(
        note=pl.when(pl.col("nr_recipients") % 11 == 0)
        .then(pl.lit("?"))
        .otherwise(pl.col("nr_recipients").cast(pl.String))
    )
    bad = frame.filter(pl.col("note") == "?").height
    past = tc.backtest([raising(), *RULES], tc.read(frame), batch_rows=batch_rows, keep_scores=True)
    found = row(past, "test.raises")
    assert (found["events"], found["errors"], found["scored"]) == (frame.height, bad, frame.height - bad)
    assert found["note"]
    expected = frame.filter(pl.col("note") != "?", pl.col("nr_recipients") > 5)["event_id"].to_list()
    assert past.scores["test.raises"].filter("fired")["event_id"].to_list() == expected
    alone = tc.backtest(RULES, tc.read(frame))
    others = ~pl.col("detection_id").is_in(["test.raises", "tocsin.rule-error"])
    assert_frame_equal(past.findings.filter(others), alone.findings)
    error = past.findings.filter(pl.col("detection_id") == "tocsin.rule-error").row(0, named=True)
    first = frame.filter(pl.col("note") == "?").row(0, named=True)
    assert (error["entity_kind"], error["entity"], error["event_id"], error["time"]) == (
        "detection_id", "test.raises", first["event_id"], first["timestamp"],
    )  # fmt: skip
    assert "integer parsing failed" in json.loads(error["evidence"])["error"]


def test_a_rule_that_raises_leaves_one_finding_whatever_the_batches() -> None:
    frame = log(days=6).with_columns(note=pl.lit("?"))
    found = [
        tc.backtest([raising(), plain()], tc.read(frame), batch_rows=n).findings.filter(
            pl.col("entity") == "test.raises"
        )
        for n in (1, 7, 10**6)
    ]
    assert found[0].height == 1
    assert_frame_equal(found[0], found[1])
    assert_frame_equal(found[0], found[2])


def test_a_rule_that_gives_another_number_of_values_than_events_is_an_error_of_that_rule() -> None:
    wrong = plain(id="test.wrong", score=tc.col("nr_recipients").filter(tc.col("nr_recipients") > 3))
    aggregate = plain(id="test.aggregate", score=tc.col("nr_recipients").max())
    frame = log(days=4)
    passing = frame.filter(pl.col("nr_recipients") > 3).height
    for batch_rows in (1, 7, 10**6):
        past = tc.backtest([wrong, aggregate, plain()], tc.read(frame), batch_rows=batch_rows)
        assert row(past, "test.wrong")["scored"] == passing
        assert "one for each" in row(past, "test.wrong")["note"]
        assert row(past, "test.aggregate")["errors"] == row(past, "test.many")["scored"] == frame.height


def test_a_rule_whose_columns_are_missing_is_listed_as_not_run_with_the_reason(frame: pl.DataFrame) -> None:
    rules = [
        plain(id="test.misspelt", score=tc.col("nr_recipient")),
        plain(id="test.listed", on=tc.col("src_listed"), score=tc.col("nr_recipients")),
        plain(),
    ]
    past = tc.backtest(rules, tc.read(frame))
    notes = dict(past.by_detection().select("detection", "note").rows())
    assert notes["test.misspelt"] == 'not run: the events have no column nr_recipient. Did you mean "nr_recipients"?'
    assert notes["test.listed"].startswith("not run: needs src_listed: give reference data")
    assert row(past, "test.misspelt")["fired"] is None
    assert row(past, "test.many")["fired"] == past.findings.height > 0


def test_infinite_and_undefined_scores_are_counted_and_never_fire_nor_rank() -> None:
    times = [START + day * DAY + timedelta(minutes=i) for day, n in ((0, 3), (3, 4), (4, 1)) for i in range(n)]
    rows = {"event_id": [f"e{i}" for i in range(8)], "timestamp": times}
    events = tc.read(pl.DataFrame(rows | {"user_id": "ann", "kind": "mail", "nr_recipients": 0}))
    zero = rule(against=tc.own_history(mean=True, at_least=2, windows=2))  # two empty days, then 4 in 2
    undefined = plain(id="test.undefined", score=tc.col("nr_recipients") / tc.col("nr_recipients"), when=tc.score >= 0)
    infinite = plain(id="test.infinite", score=1 / tc.col("nr_recipients"), when=tc.score >= 0)
    past = tc.backtest([zero, undefined, infinite], events)
    assert row(past, "test.volume")["unscored_why"] == "no_history 3, zero_baseline 4"
    assert row(past, "test.undefined")["unscored_why"] == row(past, "test.infinite")["unscored_why"] == "undefined 8"
    assert past.findings.is_empty()
    assert past.top("test.infinite").is_empty()
    assert past.top("test.volume")["score"].to_list() == [0.5]


def test_every_event_is_scored_or_unscored_or_an_error(past: tc.Backtest, frame: pl.DataFrame) -> None:
    for found in past.by_detection().to_dicts():
        assert found["scored"] + found["unscored"] + found["errors"] == found["events"] == frame.height


# ------------------------------------------------------------------------------------------------------------ baselines
def naive_scores(frame: pl.DataFrame, at_least: int, gaps: list[datetime]) -> dict[str, float | None]:
    """Each event's count of its UTC day over the mean of the user's earlier days, missing where empty and in a gap."""
    counts: dict[tuple[str, datetime], int] = defaultdict(int)
    first: dict[str, datetime] = {}
    scores: dict[str, float | None] = {}
    for event in frame.sort("timestamp", "event_id").to_dicts():
        user, day = event["user_id"], event["timestamp"].replace(hour=0, minute=0, second=0, microsecond=0)
        counts[user, day] += 1
        first.setdefault(user, day)
        days = [first[user] + i * DAY for i in range((day - first[user]).days)][-28:]
        values = [counts.get((user, d), 0) for d in days if counts.get((user, d), 0) or d not in gaps]
        scores[event["event_id"]] = None if len(values) < at_least else counts[user, day] / (sum(values) / len(values))
    return scores


@pytest.mark.parametrize("down", [[], [3], [3, 4, 9]])
def test_the_default_compares_with_earlier_calendar_days_zeros_included_but_not_those_in_a_gap(
    frame: pl.DataFrame, down: list[int]
) -> None:
    days = [START + d * DAY for d in down]
    past = tc.backtest(
        [rule()],
        tc.read(frame),
        gaps=[(d + timedelta(hours=1), d + timedelta(hours=2)) for d in days],
        keep_scores=True,
    )
    got = dict(past.scores["test.volume"].select("event_id", "score").rows())
    expected = naive_scores(frame, 3, days)
    assert got.keys() == expected.keys()
    assert got == expected  # to the last bit: the same sums in the same order


@pytest.mark.parametrize("batch_rows", [13, 10**6])
def test_a_population_holds_the_users_of_the_day_before_and_nothing_of_today(
    frame: pl.DataFrame, batch_rows: int
) -> None:
    crowd = rule(against=tc.population(mean=True, at_least=2), score=tc.value - tc.ref.mean)
    past = tc.backtest([crowd], tc.read(frame), keep_scores=True, batch_rows=batch_rows)
    counts: dict[datetime, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    expected = {}
    for event in frame.to_dicts():
        day = event["timestamp"].replace(hour=0, minute=0, second=0, microsecond=0)
        counts[day][event["user_id"]] += 1
        before = sorted(counts[day - DAY].values()) if day - DAY in counts else []
        mean = sum(before) / len(before) if len(before) >= 2 else None
        expected[event["event_id"]] = None if mean is None else counts[day][event["user_id"]] - mean
    assert dict(past.scores["test.volume"].select("event_id", "score").rows()) == expected


@pytest.mark.needs("pandas")
def test_compat_notebook_gives_the_numbers_of_the_notebooks_own_pandas_lines() -> None:
    """`days = t.dt.round('d'); counts > 3 * counts.expanding(7).mean()` for each user, over random mails ('d' is 'D' today)."""
    import pandas as pd

    frame = log(days=30, users=5, seed=8, busiest=14)
    threefold = rule(against=tc.own_history(mean=True, at_least=7), when=tc.score > 3)
    past = tc.backtest([threefold], tc.read(frame), compat="notebook", keep_scores=True)
    got = frame.join(past.scores["test.volume"], on="event_id", maintain_order="left")
    df = pd.DataFrame(frame.select("timestamp", "user_id").to_dict(as_series=False))
    compared = 0
    for user_id in list(df.user_id.unique()):
        user = df.loc[df.user_id == user_id]
        days = user.timestamp.dt.round("D")
        counts = user.groupby(days).user_id.count()
        ratio = counts / counts.expanding(7).mean()
        mine = got.filter(pl.col("user_id") == user_id).with_columns(
            day=pl.Series(days.to_list()).cast(pl.Datetime("us", "UTC"))
        )
        last = mine.group_by("day", maintain_order=True).last()
        assert last["day"].to_list() == [d.to_pydatetime() for d in counts.index]
        expected = [None if np.isnan(x) else x for x in ratio.to_list()]
        assert [s is None for s in last["score"]] == [s is None for s in expected]
        assert last["score"].drop_nulls().to_list() == pytest.approx([s for s in expected if s is not None])
        assert last["fired"].to_list() == (counts > 3 * counts.expanding(7).mean()).to_list()
        compared += len(ratio.dropna())
    assert compared > 50


@pytest.mark.needs("pandas")
def test_compat_notebook_fires_on_the_days_on_which_the_notebooks_line_is_true() -> None:
    """A burst after two weeks of little: the line is true on that day alone, and so is the rule."""
    import pandas as pd

    counts = [2, 1, 3, 2, 2, 1, 2, 3, 1, 2, 2, 1, 40, 2]
    times = [START + d * DAY + timedelta(minutes=7 * i) for d, n in enumerate(counts) for i in range(n)]
    frame = pl.DataFrame(
        {"event_id": [f"e{i:03}" for i in range(len(times))], "timestamp": times, "user_id": "ann", "kind": "mail"}
    )
    threefold = rule(against=tc.own_history(mean=True, at_least=7), when=tc.score > 3)
    line = pd.Series(counts, dtype=float)
    true_on = (line > 3 * line.expanding(7).mean()).to_list()
    past = tc.backtest([threefold], tc.read(frame), compat="notebook")
    assert [d for d, yes in enumerate(true_on) if yes] == [12]
    assert past.findings["time"].dt.date().to_list() == [(START + 12 * DAY).date()]
    assert past.findings["peak_score"].item() == pytest.approx(40 / (line[:13].mean()))


def test_the_default_differs_from_the_notebook_where_it_says_so() -> None:
    """Afternoons stay in their day, today is not in its own mean, and days without mail count as zero."""
    counts = [4, 0, 4, 4, 0, 4, 4, 4, 13]
    times = [START + d * DAY + timedelta(hours=15, minutes=i) for d, n in enumerate(counts) for i in range(n)]
    frame = pl.DataFrame(
        {"event_id": [f"e{i:03}" for i in range(len(times))], "timestamp": times, "user_id": "ann", "kind": "mail"}
    )
    seven = rule(against=tc.own_history(mean=True, at_least=7))
    notebook, default = (tc.backtest([seven], tc.read(frame), compat=c) for c in ("notebook", None))
    assert default.top("test.volume", 1)["score"].item() == pytest.approx(13 / (24 / 8))
    assert notebook.top("test.volume", 1)["score"].item() == pytest.approx(13 / (37 / 7))
    assert default.findings["window_start"].item() == START + 8 * DAY
    assert notebook.findings["window_start"].item() == START + 8 * DAY + timedelta(hours=12)


def test_compat_leaves_rules_without_own_history_as_they_are(frame: pl.DataFrame, past: tc.Backtest) -> None:
    others = [d for d in RULES if d.id not in {"test.volume", "test.quiet"}]
    assert_frame_equal(
        tc.backtest(others, tc.read(frame), compat="notebook").findings, tc.backtest(others, tc.read(frame)).findings
    )


def test_an_unknown_compat_and_a_repeated_id_are_refused(frame: pl.DataFrame) -> None:
    with pytest.raises(tc.RuleError, match='compat="pandas" is unknown'):
        tc.backtest([rule()], tc.read(frame), compat="pandas")
    with pytest.raises(tc.RuleError, match=r"the id test.volume is taken by"):
        tc.backtest([rule(), rule()], tc.read(frame))


# ----------------------------------------------------------------------------------------------------------- allow-lists
def test_what_an_allow_list_covers_is_kept_marked_and_counted(
    tmp_path: Path, frame: pl.DataFrame, past: tc.Backtest
) -> None:
    allow = tmp_path / "allow.csv"
    allow.write_text("value,owner,reason,scope,expires\nu5,mail team,list server,test.m*,2026-03-09\n")
    listed = tc.backtest(RULES, tc.read(frame), tc.reference(allow=allow))
    covered = (pl.col("entity") == "u5") & (pl.col("detection_id") == "test.many") & (pl.col("time") < START + 7 * DAY)
    assert_frame_equal(listed.findings.select("finding_id"), past.findings.select("finding_id"))
    assert listed.findings.filter(pl.col("suppressed_by").is_not_null()).equals(listed.findings.filter(covered))
    n = listed.findings.filter(covered).height
    assert n > 0
    before, after = row(past, "test.many"), row(listed, "test.many")
    assert (after["suppressed"], after["fired"]) == (n, before["fired"] - n)
    assert row(listed, "test.volume") == row(past, "test.volume")


# -------------------------------------------------------------------------------------------------------- nothing at all
def test_a_history_without_events_gives_no_findings_and_a_row_for_each_rule() -> None:
    past = tc.backtest(RULES, tc.read(log()), until=START - DAY)
    assert past.findings.is_empty()
    assert past.by_detection()["events"].to_list() == [0] * len(RULES)
    assert past.days == 0


def test_no_rules_are_no_findings(frame: pl.DataFrame) -> None:
    assert tc.backtest([], tc.read(frame)).by_detection().is_empty()


def test_progress_is_told_of_every_event(frame: pl.DataFrame) -> None:
    said: list[int] = []
    tc.backtest([plain()], tc.read(frame), batch_rows=50, progress=said.append)
    assert said == sorted(said)
    assert said[-1] == frame.height


def test_an_error_while_reading_reaches_the_caller(frame: pl.DataFrame) -> None:
    class Breaks:
        columns, lateness = tc.read(frame).columns, timedelta(hours=1)

        def batches(self, *_: Any, **__: Any) -> Any:
            yield frame[:5]
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        tc.backtest([plain()], Breaks())  # type: ignore[arg-type]
