"""Named breaks of the snapshots, for `make mutants`; see `tools/mutations.py`.

Enters: nothing. Leaves: MUTATIONS. Layer: none (outside the package).
"""

from __future__ import annotations

from tools.mutants import Mutation

ENGINE, BLOCKS = "src/tocsin/engine/", "src/tocsin/kernels/blocks.py"
CHANGES, SNAPSHOTS, MANIFESTS = ENGINE + "changes.py", ENGINE + "snapshots.py", ENGINE + "manifests.py"


def _of(name: str, file: str, old: str, new: str, test: str) -> Mutation:
    return Mutation(f"snapshot.{name}", file, old, new, f"tests/test_live_snapshots.py::test_{test}")


_WENT_ON = "what_was_captured_is_the_state_as_it_was_though_the_state_went_on_before_it_was_written"
_ANYWHERE = "cut_or_changed_anywhere_the_state_is_the_right_one_of_an_older_number_or_refused"
_FAILED = "what_follows_a_snapshot_that_was_not_written_is_not_written_either"

# fmt: off
MUTATIONS: tuple[Mutation, ...] = (
    _of("a-new-block-is-as-it-was", BLOCKS, "if b >= n_known or known[b] != h:", "if b < n_known and known[b] != h:", _WENT_ON),
    _of("the-last-block-is-left-out", BLOCKS, "        count, total = count + more, total + last", "        total = total + last", _WENT_ON),
    _of("facts-are-those-of-later", CHANGES, "deepcopy(facts_of(state))", "facts_of(state)", _WENT_ON),
    _of("whole-arrays-are-shared-with-the-live-state", CHANGES, "x.copy() if copy else x", "x", _WENT_ON),
    _of("texts-never-change", CHANGES, "_addresses(before) != _addresses(x)", "_addresses(before) != _addresses(before)", _WENT_ON),
    _of("released-events-wait-again", CHANGES, 'parts[name].filter(pl.col("@t") >= frontier)', "parts[name]", "of_events_that_waited_only_those_come_back_that_still_wait"),
    _of("waiting-events-are-taken-twice", CHANGES, "if p.serial > taken]", "if p.serial >= taken]", "events_that_wait_are_written_once"),
    _of("files-are-not-compared", MANIFESTS, "if file_check(path) != check:", "if check is None:", _ANYWHERE),
    _of("the-manifest-is-not-compared", MANIFESTS, "if _check(content) != check:", "if check is None:", _ANYWHERE),
    _of("any-base-will-do", MANIFESTS, "if before.check != base[1] or", "if", "a_delta_is_not_put_on_another_base_than_its_own"),
    _of("a-delta-follows-what-was-lost", SNAPSHOTS, "if not self._chain or self._chain[-1].name != captured.base:", "if not self._chain:", _FAILED),
    _of("after-a-failure-only-the-changes", SNAPSHOTS, "if self._failed or self._last is None:", "if self._last is None:", _FAILED),
    _of("a-damaged-base-is-carried-on", SNAPSHOTS, "                verify_files(self.folder / manifest.name, manifest)", "                pass",
        "a_base_that_was_damaged_since_is_not_carried_into_the_next_full_one"),
    _of("nothing-whole-is-a-fresh-start", SNAPSHOTS, "        if wrong:\n            raise", "        if not wrong:\n            return None\n        if False:\n            raise",
        "where_nothing_is_whole_that_is_an_error_and_not_a_fresh_start"),
    _of("old-ones-stay-for-ever", SNAPSHOTS, "if name < full[-self.keep :][0]", "if name < full[0]",
        "several_full_ones_are_kept_with_their_deltas_and_older_ones_go"),
)
