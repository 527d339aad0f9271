"""Named breaks of clocks, response times, targets and simulated triage, for `make mutants`; see `tools/mutations.py`.

Enters: nothing. Leaves: MUTATIONS. Layer: none (outside the package).
"""

from __future__ import annotations

from functools import partial

from tools.mutants import Mutation

METRICS = "src/tocsin/metrics/"
SIMULATE = "src/tocsin/sources/simulate/"
QUEUE = "src/tocsin/kernels/triage.py"


def _in(tests: str, name: str, file: str, old: str, new: str, test: str) -> Mutation:
    return Mutation(f"response.{name}", file, old, new, f"tests/{tests}.py::test_{test}")


_clock = partial(_in, "test_clocks")
_asked = partial(_in, "test_response")
_made = partial(_in, "test_simulate_alerts")

# fmt: off
MUTATIONS: tuple[Mutation, ...] = (
    _clock("waiting-is-zero", METRICS + "clocks.py", "np.where(end == NEVER, instant_us(scope.as_of), end)", "np.where(end == NEVER, start, end)",
           "an_untouched_alert_waits_and_is_neither_minus_one_nor_absent"),
    _clock("automation-is-human", METRICS + "clocks.py", 'pl.col("actor_kind").is_in(clock.actors) if clock.actors else pl.lit(value=True)', "pl.lit(value=True)",
           "the_earliest_human_activity_ends_the_clock_and_automation_has_its_own"),
    _clock("reopened-stays-closed", METRICS + "clocks.py", "np.where(reopened > row, NEVER, end)", "end",
           "a_reopened_alert_is_not_closed_for_good"),
    _clock("skew-is-clipped", METRICS + "clocks.py", "minutes = ((until - begun - paused) / MINUTE)[number]", "minutes = (np.maximum(until - begun - paused, 0) / MINUTE)[number]",
           "times_that_run_backwards_are_counted_and_never_clipped"),
    _clock("skew-counts", METRICS + "clocks.py", 'BACKWARDS: pl.col("ended_at") < pl.col("started_at")', "BACKWARDS: pl.lit(value=False)",
           "times_that_run_backwards_are_counted_and_never_clipped"),
    _clock("a-hold-never-ends", METRICS + "clocks.py", "inside = np.minimum(high, until[alert])", "inside = np.minimum(until[alert], until[alert])",
           "time_on_hold_can_be_left_out_and_an_open_hold_lasts_until_now"),
    _clock("summaries-do-for-all", METRICS + "clocks.py", 'whole = clock.needs == "full" or', "whole = False and",
           "a_clock_that_needs_every_activity_refuses_summaries_and_says_why"),
    _clock("ends-before-it-starts", METRICS + "clocks.py", '(begun != NEVER) & (_us(ending["at"]) >= begun)', "begun != NEVER",
           "expels_and_thehives_clocks_measure_between_the_moments_they_name"),
    _clock("notebook-rounds-otherwise", METRICS + "clocks.py", "[round(m, 2) for m in exact.tolist()]", "np.floor(exact * 100 + 0.5) / 100",
           "the_notebooks_halves_are_rounded_as_python_rounds_them"),
    _clock("notebook-takes-the-earliest", METRICS + "clocks.py", 'if clock.pick == "earliest":', 'if clock.pick != "last":',
           "the_notebooks_clock_equals_the_notebooks_arithmetic_to_the_last_digit"),
    _asked("waiting-is-dropped", METRICS + "groups.py", 'counted = rows.filter(pl.col("excluded").is_null())', 'counted = rows.filter(pl.col("excluded").is_null() & pl.col("ended"))',
           "attainment_is_within_two_points_of_the_truth_however_many_wait"),
    _asked("waiting-is-over", METRICS + "groups.py", "kaplan_meier(self.minutes, self.ended)", "kaplan_meier(self.minutes, self.ended | True)",
           "attainment_is_within_two_points_of_the_truth_however_many_wait"),
    _asked("on-the-minute-is-late", METRICS + "response.py", "late = group.minutes > 1", "late = group.minutes >= 1",
           "on_the_minute_is_in_time"),
    _asked("certain-of-three", METRICS + "response.py", "if share in (0, 1):", "if share in (0,) and False:",
           "shares_of_all_or_none_have_an_interval_with_a_width"),
    _asked("severities-by-alphabet", METRICS + "groups.py", "{severity: -i for i, severity in enumerate(SEVERITIES)} if by", "{} if by",
           "severities_stand_from_critical_down_and_the_group_of_all_last"),
    _asked("two-people-are-many", METRICS + "groups.py", "LEAST_PEOPLE: Final = 3", "LEAST_PEOPLE: Final = 1",
           "single_people_are_not_shown_unless_asked_for"),
    _made("low-goes-first", SIMULATE + "analysts.py", "enumerate(reversed(SEVERITIES))", "enumerate(SEVERITIES)",
          "other_peoples_alerts_can_be_triaged_too"),
    _made("cut-work-goes-to-the-tail", QUEUE, "_put(i, urgency, head, tail, following, True)", "_put(i, urgency, head, tail, following, False)",
          "the_compiled_queue_serves_as_the_slow_one"),
    _made("the-freshest-analyst", QUEUE, "idle_since[a] < idle_since[best]", "idle_since[a] > idle_since[best]",
          "the_compiled_queue_serves_as_the_slow_one"),
)
