"""Named breaks of the closing of windows, for `make mutants`; see `tools/mutations.py`.

Enters: nothing. Leaves: MUTATIONS. Layer: none (outside the package).
"""

from __future__ import annotations

from functools import partial

from tools.mutants import Mutation

RUNNING, KERNEL, WINDOWS = (
    "src/tocsin/running/closing.py",
    "src/tocsin/kernels/closing.py",
    "src/tocsin/kernels/windows.py",
)
ENGINE, ARRIVE = "src/tocsin/engine/closing.py", "src/tocsin/engine/arrive.py"


def _in(name: str, file: str, old: str, new: str, test: str) -> Mutation:
    return Mutation(f"close.{name}", file, old, new, f"tests/test_live_close.py::test_{test}")


_ANY = "every_close_under_any_cut_is_that_of_the_reference"
_any = partial(_in, test=_ANY)

# fmt: off
MUTATIONS: tuple[Mutation, ...] = (
    _in("an-unfinished-window-closes-at-the-end", ARRIVE, "last = int(self.clock.max(initial=NEVER))", "last = int(self.clock.max(initial=NEVER)) + 86_400_000_000",
        "the_last_day_is_not_silent_at_the_end_of_the_input"),
    _in("a-window-closes-while-it-runs", RUNNING, "self.calendar.number(np.array([instant], np.int64))[0]) - 1)",
        "self.calendar.number(np.array([instant], np.int64))[0]))", "a_silent_day_fires_when_it_is_over_and_not_before"),
    _in("nobody-is-ever-gone", ENGINE, "mine = np.flatnonzero(here & (silent <= patience))", "mine = np.flatnonzero(here)",
        "somebody_gone_is_asked_about_no_more_and_counted_once"),
    _in("gone-a-window-early", ENGINE, "mine = np.flatnonzero(here & (silent <= patience))", "mine = np.flatnonzero(here & (silent < patience))",
        "somebody_gone_is_asked_about_no_more_and_counted_once"),
    _in("a-gap-is-silence", RUNNING, "covered = not self._missing_after(d - 1, d)", "covered = True",
        "a_day_without_cover_is_not_silent_and_makes_nobody_gone"),
    _in("a-gap-makes-gone", RUNNING, "silent -= self._missing_after(heard[slots], d)", "pass",
        "a_day_without_cover_is_not_silent_and_makes_nobody_gone"),
    _in("a-pause-closes-one-window", RUNNING, "        while d <= last:\n", "        if d <= last:\n", "a_pause_of_everybody_closes_every_window_in_it"),
    _in("the-newcomer-is-asked-at-once", KERNEL, "first[s] < d:", "first[s] <= d:", "somebody_new_is_asked_about_from_the_next_window_on"),
    _in("what-fired-is-not-left-out", ENGINE, "self.state.mark_fired(part.slot[fired], part.window[fired])", "pass",
        "days_that_fired_are_left_out_of_the_baseline_where_the_rule_says_so"),
    _in("a-silent-window-that-fired-counts-as-zero", KERNEL, "            advance(s, d, win, acc, ring, fired)\n        fired[s] = d", "            pass\n        fired[s] = d",
        "days_that_fired_are_left_out_of_the_baseline_where_the_rule_says_so"),
    _in("late-events-enter-after-the-value", RUNNING, '        self.close(after)\n        columns["value"]', '        columns["value"]',
        "an_event_late_by_its_own_clock_but_before_the_close_breaks_the_silence"),
    _any("an-empty-mean-is-zero", KERNEL, "0.0 if op in (COUNT, SUM, DISTINCT) else np.nan", "0.0"),
    _any("the-window-of-the-last-event-is-forgotten", KERNEL, "total = most = acc[s, 0]", "total = most = np.int64(0)"),
    _any("windows-before-the-last-event-are-forgotten", KERNEL, "start, stop = d - n, min(last, d)", "start, stop = d - n + 1, min(last, d)"),
    _any("a-late-event-is-not-heard", WINDOWS, "heard[s] = max(heard[s], d)", "heard[s] = heard[s]"),
    _any("the-next-window-has-not-begun", RUNNING, "self.pending[self.pending[:, 2] == d + 1]", "self.pending[self.pending[:, 2] == d]"),
    _any("events-come-before-the-close", RUNNING, "        self.close_through(d - 1)\n", "        self.close_through(d - 2)\n"),
    _in("what-closed-is-forgotten-by-a-restart", RUNNING, '(*WindowState.kept, "heard", "closed")', '(*WindowState.kept, "heard")',
        "a_state_saved_and_loaded_between_any_two_batches_closes_the_same"),
)
# fmt: on
