"""The weekly report: same inputs, same bytes; nothing an attacker wrote acts in it; nothing is left out silently."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime

import polars as pl
import pytest

from tocsin import metrics
from tocsin.lifecycle import History
from tocsin.metrics import MetricError
from tocsin.reports import Report, week_of, weekly
from tocsin.reports.weekly import CHART_ONLY
from tocsin.sources.simulate.analysts import SimulatedTriage, simulate_alerts

ZONE = "America/Denver"
HOSTILE = "<script>alert(1)</script>|[x](javascript:1)\u202e# `=cmd`"


@pytest.fixture(scope="module")
def made() -> SimulatedTriage:
    return simulate_alerts(2_000, 42, 7)


@pytest.fixture(scope="module")
def report(made: SimulatedTriage) -> Report:
    return weekly(made.history, "2026-W26", zone=ZONE)


def shuffled(history: History, *, recorded: datetime) -> History:
    """The same log, its alerts and journal in another order, learnt at another time."""
    late = pl.lit(recorded, pl.Datetime("us", "UTC")).alias("recorded_at")
    alerts = history.alerts.sample(fraction=1, shuffle=True, seed=3).with_columns(late)
    journal = history.journal.sample(fraction=1, shuffle=True, seed=4)
    return History(alerts, history.activities.with_columns(late), history.findings, journal, history.at)


def test_same_inputs_same_bytes_whatever_the_order_of_the_log_and_whenever_it_was_learnt(
    made: SimulatedTriage, report: Report
) -> None:
    again = weekly(shuffled(made.history, recorded=datetime(2026, 12, 1, tzinfo=UTC)), "2026-W26", zone=ZONE)
    assert again.inputs == report.inputs
    assert again.to_html() == report.to_html()
    assert again.to_markdown() == report.to_markdown()
    assert json.dumps(again.to_dict()) == json.dumps(report.to_dict())


def test_another_log_has_another_digest(made: SimulatedTriage, report: Report) -> None:
    history = made.history
    changed = History(history.alerts, history.activities.head(-1), history.findings, history.journal, history.at)
    assert weekly(changed, "2026-W26", zone=ZONE).inputs != report.inputs


def test_the_five_numbers_are_those_of_the_metrics(made: SimulatedTriage, report: Report) -> None:
    week = metrics.of(made.history, since="2026-06-22", until="2026-06-29", zone=ZONE)
    told = dict(report.answers["numbers"].table.select("number", "this_week").iter_rows())
    assert told["alerts raised"] == week.scope.alerts.height > 100
    assert told["in time"] == week.slo(by=None).table["in_time_share"].item()
    assert told["first action, 9 of 10 within"] == week.time_to_action(by=None).table["p90_minutes"].item()
    waiting = week.backlog(every="1h").table["waiting"]
    row = report.answers["numbers"].table.row(3, named=True)
    assert (row["number"], row["this_week"], row["last_week"]) == ("waiting", waiting[-1], waiting[0])
    assert [t.name for t in report.tiles] == list(told)


def test_every_number_shows_its_definition_what_it_rests_on_and_when_it_was_seen(report: Report) -> None:
    for name, answer in report.answers.items():
        assert answer.definition, name
        assert answer.as_of == datetime(2026, 7, 13, tzinfo=UTC), name
        assert answer.n is not None, name


def test_the_columns_read_first_are_columns_of_the_answers(report: Report) -> None:
    for name, columns in report.columns.items():
        if columns != CHART_ONLY and name in report.answers and report.answers[name].table.height:
            assert set(columns) <= set(report.answers[name].table.columns), name


def test_a_week_is_named_by_its_number_by_a_day_or_is_the_last_whole_one(made: SimulatedTriage) -> None:
    monday = (date(2026, 6, 22), date(2026, 6, 29))
    for name in ("2026-W26", "2026-06-22", "2026-06-28", date(2026, 6, 25)):
        assert week_of(name, made.history, ZONE) == monday
    assert week_of(None, made.history, ZONE) == (date(2026, 6, 29), date(2026, 7, 6)), "it is Sunday evening in Denver"
    assert week_of(None, made.history, "UTC") == (date(2026, 7, 6), date(2026, 7, 13))
    for wrong in ("2026-W60", "last", "2026-13-01"):
        with pytest.raises(MetricError, match="is no week"):
            week_of(wrong, made.history, ZONE)


def test_a_week_that_is_not_over_says_so(made: SimulatedTriage) -> None:
    middle = made.history.as_of(datetime(2026, 6, 25, 12, tzinfo=UTC))
    lead = weekly(middle, "2026-W26", zone=ZONE).lead
    assert any("not over" in words for words in lead)


def test_part_of_a_week_is_compared_with_the_same_part_of_the_week_before(made: SimulatedTriage) -> None:
    wednesday = datetime(2026, 6, 24, 18, tzinfo=UTC)
    numbers = weekly(made.history.as_of(wednesday), "2026-W26", zone="UTC").answers["numbers"].table
    created = made.history.alerts.filter(~pl.col("is_test"))["created_at"]
    week = created.filter((created >= datetime(2026, 6, 22, tzinfo=UTC)) & (created <= wednesday)).len()
    before = created.filter(
        (created >= datetime(2026, 6, 15, tzinfo=UTC)) & (created < datetime(2026, 6, 17, 18, tzinfo=UTC))
    ).len()
    assert numbers.row(0)[2:4] == (week, before)


def test_a_week_after_all_that_the_log_knows_is_refused_and_an_empty_one_has_no_alerts(made: SimulatedTriage) -> None:
    with pytest.raises(MetricError, match="lies after all that the log knows"):
        weekly(made.history, "2027-W05")
    history = made.history
    later = history.alerts.filter(pl.col("created_at") >= datetime(2026, 6, 29, tzinfo=UTC))
    empty = weekly(History(later, history.activities, journal=history.journal, at=history.at), "2026-W26")
    assert empty.tiles[0].value == "0"


def test_times_of_the_tables_are_those_of_the_zones_clock(report: Report) -> None:
    assert report.answers["missed"].table.schema["created_at"].time_zone == ZONE


def test_a_report_of_a_past_time_is_the_one_that_was_written_then(made: SimulatedTriage) -> None:
    then = datetime(2026, 6, 29, 8, tzinfo=UTC)
    history = made.history
    ended = pl.col("until").clip(upper_bound=then)
    cut = History(
        history.alerts.filter(pl.col("created_at") <= then),
        history.activities.filter(pl.col("at") <= then),
        history.findings,
        history.journal.filter(pl.col("at") <= then).with_columns(ended),
        then,
    )
    assert (
        weekly(history.as_of(then), "2026-W26", zone=ZONE).to_markdown()
        == weekly(cut, "2026-W26", zone=ZONE).to_markdown()
    )


def test_an_empty_log_gives_an_empty_report_in_words() -> None:
    nothing = History.of(pl.DataFrame(schema={"alert_id": pl.String, "created_at": pl.Datetime("us", "UTC")}))
    report = weekly(nothing, "2026-W26")
    assert "No alert was raised in this week." in report.to_markdown()
    assert "No alert" in report.to_html()
    assert not report.answers["rules"].table.height
    with pytest.raises(MetricError, match="name the week"):
        weekly(nothing)


def test_nothing_an_attacker_wrote_acts_in_the_page_or_the_markdown(made: SimulatedTriage) -> None:
    alerts = made.history.alerts.with_columns(
        pl.lit(HOSTILE).alias("rule_id"), pl.lit(HOSTILE).alias("vendor"), pl.lit(HOSTILE).alias("entity"),
        pl.lit(json.dumps([{"kind": "host", "role": None, "value": HOSTILE}])).alias("observables"),
    )  # fmt: skip
    history = History(alerts, made.history.activities, made.history.findings, made.history.journal, made.history.at)
    report = weekly(history, "2026-W26", zone=ZONE)
    page, text = report.to_html(), report.to_markdown()
    assert "<script>alert" not in page
    assert "\u202e" not in page + text
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert not re.search(r"(?<!\\)\]\(javascript", text)
    for line in text.splitlines():
        if line.startswith("|"):
            bars = len(re.findall(r"(?<!\\)\|", line))
            assert bars == len(re.findall(r"(?<!\\)\|", line.replace(HOSTILE, "x")))
    widths = [
        len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if "alert" in line and line.startswith("|")
    ]
    assert widths


def test_tables_have_names_that_can_be_files(report: Report) -> None:
    for name in report.tables():
        assert re.fullmatch(r"[a-z0-9_-]+", name), name


def test_a_log_without_handling_times_is_told_so_instead_of_given_invented_ones(made: SimulatedTriage) -> None:
    history = made.history
    bare = history.activities.filter(pl.col("type").is_in(["verdict"]))
    answer = weekly(
        History(history.alerts, bare, history.findings, history.journal, history.at), "2026-W26", zone=ZONE
    ).answers["staffing"]
    assert "handling" in answer.empty
    assert not answer.table.height


@pytest.mark.needs("chromium")
def test_a_browser_draws_all_charts_of_the_page_under_its_policy(report: Report, tmp_path) -> None:
    import subprocess

    page = tmp_path / "report.html"
    page.write_text(report.to_html(), encoding="utf-8")
    charts = sum(a.chart is not None and not a.empty for a in report.answers.values())
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=8000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.count('class="main-svg"') >= charts
    assert charts >= 6
