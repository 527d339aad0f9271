"""Named breaks of the proof over the live process, for `make mutants`; see `tools/mutations.py`.

Enters: nothing. Leaves: MUTATIONS. Layer: none (outside the package).
"""

from __future__ import annotations

from tools.mutants import Mutation

VERIFY, LIVE = "src/tocsin/runners/verify.py", "src/tocsin/runners/verify_live.py"
PROCESS, RESULTS = "src/tocsin/runners/verify_process.py", "src/tocsin/runners/verify_results.py"


def _of(name: str, file: str, old: str, new: str, test: str) -> Mutation:
    return Mutation(f"verify-live.{name}", file, old, new, f"tests/test_verify_live.py::test_{test}")


_BITS = "the_file_holds_the_events_as_they_were_accepted_bit_for_bit"
_HOLD = "what_json_lines_cannot_hold_is_told_before_anything_is_started"
_FILES = "rules_and_references_that_no_file_holds_are_refused"
_PEAK = "the_peak_of_a_finding_is_the_farthest_that_was_told_and_none_where_it_is_suppressed"
_FAILS = "a_process_that_fails_is_told_with_its_exit_code_and_last_words"

# fmt: off
MUTATIONS: tuple[Mutation, ...] = (
    _of("events-twice-are-no-difference", RESULTS, "    if wrong.is_empty() and more:", "    if wrong.is_empty() and more < 0:",
        "a_restart_that_forgot_its_state_is_caught"),
    _of("findings-are-not-compared", RESULTS, "if expected.findings.equals(got.findings, null_equal=True):", "if expected.findings.height == got.findings.height:",
        "findings_that_differ_are_told_where_all_scores_agree"),
    _of("peaks-of-suppressed-findings-count", RESULTS, 'pl.when(pl.col("suppressed_by").is_null()).then("peak_score")', 'pl.col("peak_score")', _PEAK),
    _of("the-first-peak-is-the-peak", LIVE, 'how="inner").sort(farthest)', 'how="inner").sort(farthest, descending=True)', _PEAK),
    _of("a-run-that-failed-passes", RESULTS, "        self._differs(name, why)", "        pass", _FAILS),
    _of("what-was-said-is-swallowed", PROCESS, "told = [words for line in lines if (words := _of_line(line.strip()))]", "told: list[str] = []", _FAILS),
    _of("any-exit-is-a-good-one", PROCESS, "            if self._process.poll() is not None:\n                if done():\n                    return\n", "            if self._process.poll() is not None:\n                return\n                if done():\n                    return\n", _FAILS),
    _of("patience-without-end", PROCESS, "if time.monotonic() >= until:", "if time.monotonic() >= until + 9:", "a_process_without_progress_is_ended_and_told"),
    _of("values-are-not-read-back", LIVE, "if not found[name].equals(log[name], null_equal=True):", "if found[name].dtype != log[name].dtype:", _HOLD),
    _of("events-may-be-missing", LIVE, "    if found.height != log.height:", "    if found.height > log.height:", _HOLD),
    _of("times-in-milliseconds", LIVE, 'pl.col(name).dt.epoch("us") for', 'pl.col(name).dt.epoch("ms") * 1000 for', _BITS),
    _of("any-version-of-a-rule-will-do", LIVE, "if (d.id, d.version) not in there)", "if d.id not in {i for i, _ in there})", _FILES),
    _of("any-reference-will-do", LIVE, "if (refs or References()).digest != ", "if refs is None and References().digest != ", _FILES),
    _of("the-key-is-its-own", LIVE, '        (self._state.path / "key").write_bytes(self._driver.engine.key)\n', "        self._state.key()\n", "the_settings_are_those_of_the_replay"),
    _of("another-lateness", LIVE, '"lateness": f"{engine.lateness}us"', '"lateness": f"{engine.lateness}ms"', "the_settings_are_those_of_the_replay"),
)
