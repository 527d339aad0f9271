"""Named breaks of kept windows and published tables, for `make mutants`; see `tools/mutations.py`.

Enters: nothing. Leaves: MUTATIONS. Layer: none (outside the package).
"""

from __future__ import annotations

from functools import partial

from tools.mutants import Mutation

KEPT, FIT = "src/tocsin/engine/kept.py", "src/tocsin/engine/batchfit.py"
CLOSING, KERNEL = "src/tocsin/running/closing.py", "src/tocsin/kernels/windows.py"
WINDOWS, TABLES, SINK = (f"src/tocsin/runners/live/{name}.py" for name in ("windows", "tables", "sink"))


def _in(tests: str, name: str, file: str, old: str, new: str, test: str) -> Mutation:
    return Mutation(f"refit.{name}", file, old, new, f"tests/{tests}.py::test_{test}")


_engine, _live = partial(_in, "test_live_refit"), partial(_in, "test_live_tables")
PARITY = "tables_fitted_to_closed_windows_are_what_every_event_was_compared_with"
DENSE = "so_are_tables_of_long_histories_with_gaps_late_events_and_a_date_that_never_was"
ONCE = "windows_and_corrections_are_told_once_however_the_log_is_cut_and_interrupted"
CRASH = "a_run_that_breaks_off_anywhere_leaves_the_same_windows_and_tables"
LATE = "late_data_is_in_the_next_version_whose_note_says_what_the_one_before_should_have_said"
FORGET = "old_windows_are_forgotten_but_not_who_was_there"

# fmt: off
MUTATIONS: tuple[Mutation, ...] = (
    _live("late-in-its-own-window-counts-twice", CLOSING, "aside = window < visible - 1", "aside = window < visible",
          "windows_on_disk_are_read_as_of_any_boundary"),
    _live("left-out-windows-count", CLOSING, "self.fired[:n] == d if self.excludes", "self.fired[:n] == d + 1 if self.excludes",
          "a_window_in_which_the_rule_fired_is_left_out_of_the_tables_also_with_what_comes_late"),
    _engine("first-window-is-not-told", CLOSING, "nobody_before = 0 if self.keep else 1", "nobody_before = 1", DENSE),
    _engine("distinct-values-add-twice", KERNEL, "        p[i] = one\n", "",
            "a_late_event_adds_to_distinct_values_only_what_was_not_there"),
    _engine("corrections-sum-extremes", KEPT, "extremes = {MIN: some.min(), MAX: some.max()}", "extremes = {MIN: some.max(), MAX: some.max()}", PARITY),
    _engine("told-again-after-a-restart", CLOSING, '(*WindowState.kept, "heard", "closed")', '(*WindowState.kept, "heard")', ONCE),
    _engine("zeros-before-the-first", FIT, "first[start:stop, None] <= windows", "first[start:stop, None] <= windows + 10**6", DENSE),
    _engine("uncovered-is-zero", FIT, "absent = {*missing, *measure.calendar.skipped(low, high)}", "absent = set()", DENSE),
    _engine("skip-forgets-its-stride", FIT, "last = boundary - fit.skip * fit.stride", "last = boundary - fit.skip", DENSE),
    _engine("population-of-a-date-that-was-not", FIT, "        before -= 1\n", "        break\n", DENSE),
    _engine("sum-in-pairs", FIT, "np.cumsum(values, axis=1)[:, -1]", "np.sum(values, axis=1)", DENSE),
    _live("a-crash-loses-windows", SINK, "            self._keep_windows(outcome)\n            self.durable = outcome.work.number\n",
          "            self.durable = self.flushed = outcome.work.number\n            self._keep_windows(outcome)\n", CRASH),
    _live("corrections-count-at-once", WINDOWS, "if w <= seen_at and", "if", "windows_on_disk_are_read_as_of_any_boundary"),
    _live("hindsight-knows-nothing-new", TABLES, "as_known_at=boundary", "as_known_at=then", LATE),
    _live("who-was-there-is-forgotten", WINDOWS, "self.read(measure, oldest, reach=0).known)", "self.read(measure, oldest, reach=0).known[:0])", FORGET),
    _live("windows-still-needed-go", WINDOWS, "boundary.next - 2 * measure.reach", "boundary.next", FORGET),
)
