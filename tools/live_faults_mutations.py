"""Named breaks of what the fault tests found missing in the running engine, for `make mutants`; see `tools/mutations.py`.

Enters: nothing. Leaves: MUTATIONS. Layer: none (outside the package).
"""

from __future__ import annotations

from functools import partial

from tools.mutants import Mutation

LIVE = "src/tocsin/runners/live/"


def _in(tests: str, name: str, file: str, old: str, new: str, test: str) -> Mutation:
    return Mutation(f"faults.{name}", LIVE + file, old, new, f"tests/{tests}.py::test_{test}")


_faults = partial(_in, "test_live_faults")
_disk = partial(_in, "test_live_faults_disk")
_output = partial(_in, "test_live_faults_output")
_rules = partial(_in, "test_live_faults_rules")

# fmt: off
MUTATIONS: tuple[Mutation, ...] = (
    _disk("half-an-entry-is-one", "batchlog.py", "while view:\n        view = view[file.write(view) :]", "file.write(view)",
          "a_full_disk_is_reported_and_loses_nothing_and_with_more_room_the_engine_goes_on"),
    _faults("recovery-is-not-stopped", "live.py", "            if self._stop.is_set():\n                break\n", "",
            "sigterm_during_recovery_ends_at_once_and_what_was_done_again_is_kept"),
    _output("a-stop-waits-for-ever", "live.py", "        if not self._patience_seconds():\n            raise GaveUpError(LEFT)\n", "",
            "sigterm_ends_at_once_while_postgresql_hangs_and_its_queue_is_full"),
    _output("outputs-are-not-waited-for", "build.py", "            self._deliver()\n", "",
            "a_receiver_that_fails_and_hangs_holds_up_no_alert_and_gets_each_at_least_once_with_its_key"),
    _rules("columns-of-the-start", "live.py", "columns=self._preparer.columns\n", "columns=tuple",
           "rules_that_change_break_and_are_mended_while_the_engine_runs_and_is_killed"),
)
# fmt: on
