"""Named breaks of the metrics, for `make mutants`; see `tools/mutations.py`.

Enters: nothing. Leaves: MUTATIONS. Layer: none (outside the package).
"""

from __future__ import annotations

from functools import partial

from tools.mutants import Mutation

ROOM = "src/tocsin/metrics/"
WORK = "src/tocsin/workhours.py"
CALENDARS = "src/tocsin/calendars.py"


def _in(tests: str, name: str, file: str, old: str, new: str, test: str) -> Mutation:
    return Mutation(f"metric.{name}", file, old, new, f"tests/{tests}.py::test_{test}")


_come = partial(_in, "test_arrivals")
_staff = partial(_in, "test_staffing")
_triage = partial(_in, "test_metrics_triage")
_volume = partial(_in, "test_metrics_volume")

# fmt: off
MUTATIONS: tuple[Mutation, ...] = (
    _triage("overview.blank-id-is-a-case", ROOM + "deeds.py", 'return pl.when(text != "").then(text)', "return text",
            "each_number_of_the_overview_is_what_its_definition_says"),
    _triage("overview.untouched-needs-no-action", ROOM + "overview.py", 'action.filter(pl.col("state") == "closed").height', "action.height",
            "each_number_of_the_overview_is_what_its_definition_says"),
    _triage("rules.unjudged-are-surely-false", ROOM + "rules.py", "wilson(true + open_, true + false + open_)", "wilson(true, true + false + open_)",
            "waste_that_is_sure_takes_unjudged_alerts_for_true_and_what_is_possible_takes_them_for_false"),
    _triage("backlog.suppression-never-ends", ROOM + "backlog.py", "new = np.flatnonzero(suppressed & (over < following))", "new = np.flatnonzero(suppressed & (over < 0))",
            "a_wait_goes_on_through_a_break_of_no_length_and_begins_anew_after_a_suppression"),
    _triage("backlog.break-of-no-length-ends-a-wait", ROOM + "backlog.py", "_stretches(created, alert[last], at[last], waits[last])", "_stretches(created, alert, at, waits)",
            "a_wait_goes_on_through_a_break_of_no_length_and_begins_anew_after_a_suppression"),
    _triage("reopened.before-it-was-closed", ROOM + "backlog.py", '(pl.col("type") == "reopened") & after_a_close', '(pl.col("type") == "reopened")',
            "an_opening_without_a_close_before_it_is_no_return"),
    _volume("coverage.dead-feed-is-covered", ROOM + "coverage.py", "complement(covered, begin, until) if", "complement(covered, begin, int(covered.max())) if",
            "a_feed_that_died_is_no_quiet_day_of_the_rules_that_live_on_it"),
    _volume("assets.once-a-mention", ROOM + "assets.py", "pair = pair[np.diff(pair, prepend=-1) > 0]", "pair = pair[np.diff(pair, prepend=-1) >= 0]",
            "an_asset_counts_once_an_alert_however_it_is_spelt"),
    _volume("changes.gap-is-zero", ROOM + "changes.py", "counts[~days.known] = np.nan", "counts[~days.known] = 0",
            "days_without_data_are_missing_and_a_feed_dead_at_the_end_is_seen"),
    _come("work.night-ends-at-midnight", WORK, "return start, end + (DAY_MINUTES if end <= start else 0)", "return start, DAY_MINUTES if end <= start else end",
          "a_night_shift_over_a_change_of_the_clock_has_the_hours_that_the_clock_showed"),
    _come("work.yesterdays-shift-is-forgotten", WORK, "np.arange(low // DAY - 2,", "np.arange(low // DAY,",
          "working_time_is_every_minute_whose_clock_lies_in_an_interval"),
    _come("work.holiday-takes-the-morning-too", WORK, "days = days[~np.isin(days, self._days_off(int(days[0]), int(days[-1])))]",
          "off = self._days_off(int(days[0]), int(days[-1]))\n        days = days[~np.isin(days, np.append(off, off - 1))]",
          "a_holiday_takes_away_the_shifts_that_begin_on_it_and_lets_the_evening_before_go_on"),
    _come("work.week-begins-on-sunday", WORK, "weekday = (days + 3) % 7", "weekday = (days + 4) % 7",
          "working_time_is_every_minute_whose_clock_lies_in_an_interval"),
    _come("work.one-offset-for-all", WORK, "found.append(np.clip(inside, low, high) - offset)", "found.append(np.clip(inside, low, high) - int(offsets[0]))",
          "working_time_is_every_minute_whose_clock_lies_in_an_interval"),
    _come("work.clipped-part-counts-whole", WORK, "part = np.minimum(at, spans[begun, 1]) - spans[begun, 0]", "part = spans[begun, 1] - spans[begun, 0]",
          "working_time_is_every_minute_whose_clock_lies_in_an_interval"),
    _come("span.those-that-touch-are-two", CALENDARS, "order = np.lexsort((-step, edges))", "order = np.lexsort((step, edges))",
          "working_time_is_every_minute_whose_clock_lies_in_an_interval"),
    _come("exposure.repeated-hours-count-once", ROOM + "exposure.py", "inside = np.clip(spans, begin, end) + (offset + _TO_MONDAY)",
          "inside = np.clip(spans, begin, end) + (int(offsets[0]) + _TO_MONDAY)",
          "each_hour_of_the_week_has_the_minutes_that_the_clock_showed_it"),
    _come("exposure.hour-that-is-on-is-whole", ROOM + "exposure.py", "np.add.at(running, cell, part)", "np.add.at(running, cell, HOUR)",
          "each_hour_of_the_week_has_the_minutes_that_the_clock_showed_it"),
    _come("exposure.gap-is-covered", ROOM + "exposure.py", "away += [gap for feed in told for gap in feed.gaps]", "away += []",
          "time_counts_where_every_feed_that_had_begun_delivered"),
    _come("exposure.nothing-recorded-is-nothing", ROOM + "exposure.py", "[] if begun is None else [(since, begun)]", "[]",
          "time_counts_where_every_feed_that_had_begun_delivered"),
    _come("exposure.future-is-seen", ROOM + "exposure.py", "until = max(min(until, instant_us(scope.history.at)), since)", "until = max(until, since)",
          "hours_after_the_time_at_which_the_log_is_looked_at_are_no_exposure"),
    _come("arrivals.rate-of-what-came-in-a-gap", ROOM + "arrivals.py", "exposed = np.bincount(cells[seen.holds(at)], minlength=CELLS)",
          "exposed = np.bincount(cells, minlength=CELLS)",
          "arrivals_and_their_rates_are_those_of_a_walk_through_every_minute"),
    _come("arrivals.before-the-log-is-zero", ROOM + "arrivals.py", "seen = exposure(scope, since_first_alert=before)\n    at", "seen = exposure(scope)\n    at",
          "a_log_that_did_not_exist_yet_saw_nothing_in_the_span_before"),
    _come("arrivals.twice-is-two", ROOM + "scope.py", 'filter(pl.col("alert_id").is_first_distinct())', 'filter(pl.col("alert_id").is_not_null())',
          "an_alert_that_occurs_twice_counts_once"),
    _staff("handling.machines-work", ROOM + "deeds.py", '["automation", "system"]', '["system"]',
           "a_stretch_of_work_runs_to_the_same_persons_end_and_machines_do_not_work"),
    _staff("handling.anybodys-end-is-an-end", ROOM + "deeds.py", '"alert", "person", maintain_order=True', '"alert", maintain_order=True',
           "a_stretch_of_work_runs_to_the_same_persons_end_and_machines_do_not_work"),
    _staff("handling.held-twice-counts-twice", ROOM + "handling.py", "np.maximum(begin[1:], reach[:-1])", "begin[1:]",
           "what_one_person_holds_at_the_same_time_is_counted_once"),
    _staff("staffing.every-minute-is-productive", ROOM + "staffing.py", "minutes = handling.minutes / productive_share", "minutes = handling.minutes",
           "each_block_needs_what_its_rate_and_the_handling_time_ask_for"),
    _staff("staffing.nobody-waits-for-the-free", "src/tocsin/stats/queueing.py", "(servers - loads * (1 - blocked))", "(servers - loads * blocked)",
           "many_rates_need_the_servers_that_each_of_them_needs"),
)
# fmt: on
