"""Named breaks of what holds the clocks of a stream together, for `make mutants`; see `tools/mutations.py`.

Enters: nothing. Leaves: MUTATIONS. Layer: none (outside the package).
"""

from __future__ import annotations

from tools.mutants import Mutation

ARRIVE, LIVE = "src/tocsin/engine/arrive.py", "src/tocsin/runners/live/live.py"
READER, MACHINE = "src/tocsin/runners/live/reader.py", "src/tocsin/runners/live/machine.py"


def _of(name: str, file: str, old: str, new: str, test: str) -> Mutation:
    return Mutation(f"clocks.{name}", file, old, new, f"tests/test_live_cold_start.py::test_{test}")


HOLDS = "what_is_expected_holds_everything_back_until_it_speaks_or_is_silent"
SILENT = "what_is_expected_and_falls_silent_lets_the_others_go"
UNEQUAL = "a_first_start_over_unequal_backlogs_scores_as_the_replay_of_all_of_them"
GIVES_NOTHING = "a_source_that_never_gives_what_it_has_holds_the_others_until_it_counts_as_silent"
KILLED = "what_is_still_expected_at_a_kill_falls_silent_after_the_next_start"
LEFT = "a_source_that_left_the_settings_holds_nobody_back"
JOINED = "a_source_that_joins_a_state_of_one_source_shares_its_ids_and_that_is_said"

WAITS = "a_small_batch_waits_for_those_before_it_and_takes_up_what_came_meanwhile_in_one_piece"


def _gather(name: str, old: str, new: str, test: str) -> Mutation:
    return Mutation(f"gather.{name}", READER, old, new, f"tests/test_live_gather.py::test_{test}")


# fmt: off
MUTATIONS: tuple[Mutation, ...] = (
    _of("expecting-sets-no-clock", ARRIVE, "            self.clock[number], self.idle[number] = UNHEARD, False", "            pass", HOLDS),
    _of("expecting-turns-a-clock-back", ARRIVE, "if self.clock[number] <= UNHEARD:", "if self.clock[number] <= END_OF_TIME:",
        "expecting_what_was_heard_changes_nothing"),
    _of("once-idle-is-for-ever", ARRIVE, "            self.clock[number], self.idle[number] = UNHEARD, False",
        "            self.clock[number] = UNHEARD", SILENT),
    _of("the-end-is-before-time", ARRIVE, "return last if last > UNHEARD else int(NEVER)", "return last if last > UNHEARD else 0",
        "an_input_that_ends_while_something_is_expected_closes_no_window_that_had_not_passed"),
    _of("nothing-is-expected", READER, "            yield from self._expectations()\n", "", UNEQUAL),
    _of("looked-at-too-late", READER, "        if self._new:\n            self.look()\n", "", UNEQUAL),
    _of("forgotten-before-the-engine", MACHINE, "            self._before.append(partition)", "            pass", UNEQUAL),
    _of("own-names-are-not-the-place", MACHINE, 'if any(n.startswith(f"{name}/") for n in spoken):', "if name in spoken:", UNEQUAL),
    _of("the-batch-counts-for-nothing", MACHINE, "outcome.counts.get(f, 0) + n - before[f]", "n - before[f]", UNEQUAL),
    _of("a-torn-line-holds-for-ever", READER, "if followed.empty_since is None or now - followed.empty_since < self._idle_seconds:",
        "if self._names:", GIVES_NOTHING),
    _of("forgotten-by-the-next-start", READER, ", *waited_for], now)", "], now)", KILLED),
    _of("who-left-holds-on", READER, '            if name.partition("/")[0] not in self._names:', "            if not self._names:", LEFT),
    _of("the-scope-follows-the-settings", LIVE, 'before.get("scope", self._preparer.scope)', "self._preparer.scope", JOINED),
    _gather("nobody-waits", "        if not self._full:\n            self._rest(begun)\n", "", WAITS),
    _gather("full-batches-wait", "        if not self._full:\n            self._rest(begun)\n", "        self._rest(begun)\n",
            "after_a_full_batch_the_next_is_read_at_once_whatever_is_under_way"),
    _gather("each-poll-rests", "            if got_rows < MANY_ROWS:\n                self._rest(linger_until)", "            self._rest(linger_until)",
            "a_source_that_gives_much_is_asked_again_without_a_rest_and_one_that_gives_little_after_it"),
    _gather("nobody-rests", "            if got_rows < MANY_ROWS:\n                self._rest(linger_until)", "            pass",
            "a_source_that_gives_much_is_asked_again_without_a_rest_and_one_that_gives_little_after_it"),
)
