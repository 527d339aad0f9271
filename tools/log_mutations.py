"""Named breaks of the alert log, for `make mutants`; see `tools/mutations.py`.

Enters: nothing. Leaves: MUTATIONS. Layer: none (outside the package).
"""

from __future__ import annotations

from functools import partial

from tools.mutants import Mutation

ALERTS, STORE = "src/tocsin/alerts/", "src/tocsin/store/"


def _in(tests: str, name: str, file: str, old: str, new: str, test: str) -> Mutation:
    return Mutation(f"log.{name}", file, old, new, f"tests/{tests}.py::test_{test}[sqlite]")


_log = partial(_in, "test_alert_log")
_store = partial(_in, "test_store")

# fmt: off
MUTATIONS: tuple[Mutation, ...] = (
    _log("version-is-not-in-the-group", ALERTS + "grouping.py", '("detection_id", "version", "entity_kind", "entity", "alert_start", "alert_end")',
         '("detection_id", "entity_kind", "entity", "alert_start", "alert_end")', "findings_of_one_detection_entity_and_day_are_one_alert"),
    _log("zone-is-ignored", ALERTS + "grouping.py", "Calendar(window, self.zone)", "Calendar(window)",
         "the_grouping_follows_the_calendar_of_its_zone_and_the_window_of_each_rule"),
    _log("last-finding-raises-the-alert", ALERTS + "grouping.py", '.unique("alert_id", keep="first", maintain_order=True)',
         '.unique("alert_id", keep="last", maintain_order=True)', "an_alert_says_what_its_first_finding_said_and_never_changes"),
    _log("covered-findings-raise-alerts", ALERTS + "grouping.py", 'findings.filter(pl.col("suppressed_by").is_null())', "findings",
         "what_an_allow_list_covers_is_kept_and_counted_and_raises_no_alert"),
    _log("a-live-alert-is-as-old-as-its-event", ALERTS + "log.py", 'pl.col("time") if source == "backtest" else pl.lit(at or now, TIME)',
         'pl.col("time")', "an_alert_says_what_its_first_finding_said_and_never_changes"),
    _log("any-peak-is-higher", ALERTS + "log.py", ".filter(far > reached)", ".filter(far > 0)",
         "adding_the_same_again_changes_nothing"),
    _log("every-step-is-possible", ALERTS + "legal.py", 'found[row["key"]] = error', "del error",
         "every_verb_is_possible_from_exactly_the_states_that_allow_it"),
    _log("a-suppression-never-ends", ALERTS + "legal.py", 'until <= row["at"]', 'until < row["at"] and False',
         "what_was_said_is_how_the_alert_stands"),
    _log("later-steps-are-not-looked-at", ALERTS + "legal.py", 'key=lambda r: r["at"]', "key=lambda r: 0",
         "a_correction_after_which_a_later_step_was_not_possible_is_refused"),
    _log("idempotency-key-is-ignored", ALERTS + "triage.py", "if named is not None:", "if named is None:",
         "saying_it_again_under_the_same_idempotency_key_changes_nothing"),
    _log("a-merge-may-end-in-nothing", ALERTS + "triage.py", 'row["type"] == "merged" and row["key"] not in voided', 'row["type"] == "mergd"',
         "a_merged_alert_goes_on_in_one_that_can_go_on"),
    _log("known-means-happened", ALERTS + "reading.py", "columns.recorded_at <= instant_us(recorded_by)", "columns.recorded_at <= 1 << 62",
         "a_correction_is_a_retraction_and_a_new_row_and_both_pasts_stay"),
    _store("rows-can-go", STORE + "migrations.py", 'for verb in ("UPDATE", "DELETE")', 'for verb in ("UPDATE",)',
           "a_log_of_an_earlier_version_is_brought_forward_with_all_it_holds"),
    _log("a-bulk-load-keeps-duplicates", STORE + "rows.py", "if bulk:\n            plain = plain.unique(", "if not bulk:\n            plain = plain.unique(",
         "a_large_import_is_whole_in_an_empty_log_and_in_one_that_has_rows"),
)
