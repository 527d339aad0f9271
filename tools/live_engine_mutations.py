"""Named breaks of what lets rules change while the engine runs, for `make mutants`; see `tools/mutations.py`.

Enters: nothing. Leaves: MUTATIONS. Layer: none (outside the package).
"""

from __future__ import annotations

from functools import partial

from tools.mutants import Mutation

REFIT, ADOPT, CORE = "src/tocsin/running/refit.py", "src/tocsin/engine/adopt.py", "src/tocsin/engine/core.py"
ARRIVAL, CLOSING = "src/tocsin/kernels/arrival.py", "src/tocsin/running/closing.py"
VERSIONS, WATCH = "src/tocsin/runners/live/versions.py", "src/tocsin/runners/live/watch.py"


def _in(tests: str, name: str, file: str, old: str, new: str, test: str) -> Mutation:
    return Mutation(f"reload.{name}", file, old, new, f"tests/{tests}.py::test_{test}")


_adopt, _version = partial(_in, "test_live_adopt"), partial(_in, "test_live_versions")
OTHERS = "a_rule_that_did_not_change_says_the_same_whatever_rules_come_and_go_beside_it"
LONGER = "a_longer_baseline_begins_with_the_history_that_was_held_and_counts_nothing_forgotten_as_zero"
POPULATION = "a_population_that_is_new_is_undefined_until_the_next_boundary_and_right_from_there_on"
FIRST_CLOSE = "a_new_rule_about_closed_windows_is_first_asked_about_the_window_at_hand"
STAYS = "a_population_that_stays_holds_through_the_window_at_hand_however_many_statistics_others_ask_for"
WAITING = "events_that_wait_have_no_entity_of_a_new_kind_and_null_in_columns_that_were_not_kept"

# fmt: off
MUTATIONS: tuple[Mutation, ...] = (
    _adopt("aside-forgets-conflicts", CORE, "(fate != OK) & (fate != DUPLICATE)", "(fate == LATE)",
           "events_that_are_late_in_conflict_or_from_the_future_are_told_with_their_row_in_the_batch"),
    _adopt("forgotten-windows-are-zero", REFIT, "np.maximum(old.first, old.win - old.ring.shape[1])", "old.first", LONGER),
    _adopt("ring-keeps-its-places", REFIT, "ring[known, window % size]", "ring[known, window % have % size]", LONGER),
    _adopt("ring-is-one-short", REFIT, "range(1, min(have, size) + 1)", "range(1, min(have, size))", LONGER),
    _adopt("window-at-hand-closes-again", REFIT, "new.current = new.touched_window = latest", "new.current = new.touched_window = latest - 1",
           POPULATION),
    _adopt("population-takes-everybody-ever", REFIT, "np.flatnonzero(heard == latest)", "np.flatnonzero(heard != NEVER)", POPULATION),
    _adopt("population-is-lost", REFIT, "if fit in old.populations:", "if fit not in old.populations:", STAYS),
    _adopt("number-behind-a-population-is-lost", REFIT, "moved[:n_stats], moved[width] = row[:n_stats], row[-1]",
           "moved[:n_stats] = row[:n_stats]", STAYS),
    _adopt("another-layout-is-taken-as-it-is", REFIT,
           "a.own == b.own and a.notebook == b.notebook and a.populations == b.populations", "True", OTHERS),
    _adopt("no-closed-window-is-held", CLOSING, "max(size, 1)", "size", "who_had_an_event_in_the_window_at_hand_is_asked_about_though_another_rule_now_holds_closed_windows"),
    _adopt("who-was-heard-is-forgotten", REFIT, "new.heard = old.win.copy()", "new.heard = np.full(len(old.win), NEVER)", FIRST_CLOSE),
    _adopt("all-windows-close-again", REFIT, "new.closed = int(", "new.first = int(", FIRST_CLOSE),
    _adopt("patience-is-no-matter", REFIT, 'or getattr(a, "patience", 0) != getattr(b, "patience", 0)', "",
           "a_rule_with_more_patience_asks_about_those_who_were_given_up"),
    _adopt("a-new-version-goes-on", ADOPT, "if versions.get(detection.id) == detection.version:", "if detection.id in versions:",
           "a_new_version_fires_and_tallies_anew_and_the_same_version_does_not"),
    _adopt("a-context-is-its-name", ADOPT, "return named, {", "return {", "a_measure_whose_context_means_something_else_now_begins_anew"),
    _adopt("waiting-events-are-of-the-first-entity", ADOPT, 'return -1 if column.startswith("@s.")', 'return 0 if column.startswith("@s.")',
           WAITING),
    _adopt("other-columns-are-other-content", ADOPT, "if _content(engine) != _content(old):", "if False:",
           "a_repeated_event_is_a_duplicate_even_where_the_new_rules_read_other_columns"),
    _adopt("every-content-is-forgotten", ADOPT, "if _content(engine) != _content(old):", "if True:",
           "without_a_change_of_columns_an_altered_repeat_is_still_a_conflict"),
    _adopt("unknown-content-is-another", ARRIVAL, "before in (content[i], UNKNOWN)", "before == content[i]",
           "a_repeated_event_is_a_duplicate_even_where_the_new_rules_read_other_columns"),
    _version("name-is-no-content", VERSIONS, "[[k.what, k.name, k.sha256] for k in self.files]", "[[k.what, k.where, k.sha256] for k in self.files]",
             "equal_contents_are_one_version_wherever_they_lie_and_other_contents_another"),
    _version("a-damaged-copy-is-read", VERSIONS, "if found != kept.sha256:", "if not found:", "a_version_that_is_missing_or_damaged_is_refused"),
    _version("twins-are-stored-twice", VERSIONS, "if not _linked(folder / path.name, folder):", "if True:",
             "each_content_is_stored_once_even_under_two_names"),
    _version("errors-name-the-copy", VERSIONS, "text = text.replace(str(self.path(kept)), kept.where)", "text = str(text)",
             "a_file_that_its_parser_chokes_on_is_broken_under_its_own_name"),
    _version("everything-is-parsed-again", VERSIONS, "self._parsed = {**parsed, key: made}", "self._parsed = {}",
             "references_that_did_not_change_are_not_parsed_again"),
    _version("what-is-being-checked-is-forgotten", VERSIONS, "kept |= self._fresh", "pass",
             "forgetting_keeps_what_is_in_use_and_what_is_about_to_be"),
    _version("a-file-is-read-while-it-is-written", WATCH, "if not at_rest or signatures", "if signatures",
             "a_file_that_is_being_written_waits_for_one_more_look"),
    _version("examples-are-not-run", WATCH, "if not r.passed]", "if r.error]", "a_broken_rule_file_is_found_once_and_changes_nothing"),
    _version("a-broken-file-is-told-with-every-change", WATCH, "if self._broken == (error.file, error.digest or str(error)):", "if self._done is None:",
             "a_broken_list_is_found_under_its_name_and_another_change_does_not_repeat_it"),
    _version("mending-is-not-told", WATCH, "if self._broken is None:", "if True:", "a_mended_file_is_told_whether_it_says_the_old_or_something_new"),
    _version("a-full-disk-is-for-ever", WATCH, "self._done = None  #", "pass  #", "no_room_for_a_copy_is_told_once_and_tried_again"),
)
