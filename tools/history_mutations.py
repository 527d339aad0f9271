"""Named breaks of the reading of alert histories, for `make mutants`; see `tools/mutations.py`.

Enters: nothing. Leaves: MUTATIONS. Layer: none (outside the package).
"""

from __future__ import annotations

from functools import partial

from tools.mutants import Mutation

ROOM = "src/tocsin/sources/histories/"
OCSF = "src/tocsin/lifecycle/ocsf/"


def _in(tests: str, room: str, name: str, file: str, old: str, new: str, test: str) -> Mutation:
    return Mutation(f"histories.{name}", room + file, old, new, f"tests/{tests}.py::test_{test}")


_file = partial(_in, "test_histories", ROOM)
_fetched = partial(_in, "test_histories_workbench", ROOM)
_ocsf = partial(_in, "test_ocsf", OCSF)
_ROWS = "the_activities_of_an_export_are_those_of_reading_it_row_by_row"
_LOG = "any_log_of_updates_reads_as_walking_through_it_row_by_row"
_RULES = "each_cleaning_rule_counts_what_it_caught_and_can_be_switched"

# fmt: off
MUTATIONS: tuple[Mutation, ...] = (
    _file("one-close-is-a-reopening", "alerts.py", "pl.when(first < last).then", "pl.when(first <= last).then",
          "a_small_export_gives_these_alerts_whatever_the_order_and_case_of_its_columns"),
    _file("reopened-before-it-was-closed", "alerts.py", "pl.col(name) > first, pl.col(name) <= last", "pl.col(name) <= last", _ROWS),
    _file("who-acts-is-always-human", "alerts.py", '.then(pl.lit("automation"))', '.then(pl.lit("human"))', _ROWS),
    _file("a-condition-of-null-holds", "alerts.py", "told.is_in(words).fill_null(value=False)", "told.is_in(words).fill_null(value=True)", _ROWS),
    _file("the-key-of-what-nobody-timed-has-its-time", "alerts.py", "return keys.scatter(asked.arg_true(), told) if len(told) else keys", "return keys",
          "an_alert_that_is_closed_nobody_knows_when_is_closed_and_counted_and_said_again_by_a_later_export"),
    _file("order-within-a-minute-is-lost", "updates.py", "pl.col(ROW) * _CHANGES_AN_UPDATE + order", "pl.lit(order, pl.Int64)", _LOG),
    _file("another-wait-is-the-same-wait", "updates.py", '("on_hold", "on_hold"): ("resumed", "held")', '("on_hold", "on_hold"): ()', _LOG),
    _file("an-unknown-state-is-new", "updates.py", 'pl.when(known).then(raw).forward_fill().over("@first").fill_null("new")',
          'pl.when(known).then(raw).fill_null("new")', _LOG),
    _file("two-alerts-are-one-log", "updates.py", 'pl.when(pl.col("@first") == pl.col("@first").shift(1)).then(pl.col(name).shift(1))',
          "pl.col(name).shift(1)", _LOG),
    _file("said-twice-in-a-minute-is-once", "alerts.py", 'pl.when(times > 1).then(other).otherwise("key")', 'pl.col("key")',
          "within_one_minute_the_same_can_happen_twice"),
    _file("the-second-of-one-id-counts", "sheet.py", 'sheet.drop("conflicting-id", ~sheet.frame["@id"].is_first_distinct())', "pass", _RULES),
    _file("absurd-times-are-believed", "sheet.py", "return pl.when(told.is_between(pl.lit(self.earliest, TIME), pl.lit(self.latest, TIME))).then(told)",
          "return told", _RULES),
    _file("tests-count", "sheet.py", 'marked = marked | pl.col(f"@test:{rule.name}")', "marked = marked", _RULES),
    _fetched("the-list-overrules-the-export", "workbench.py", 'pl.coalesce(pl.col(column).replace("", None), f"@{column}")',
             'pl.coalesce(f"@{column}", pl.col(column).replace("", None))',
             "a_fetched_folder_is_one_history_seen_from_when_it_was_fetched"),
    _ocsf("suppressed-is-reviewed", "words.py", '"suppressed": (99, "Suppressed")', '"suppressed": (3, "Suppressed")', "the_words_are_those_of_the_framework"),
    _ocsf("a-finding-on-status-three-waits", "read.py", 'or (status == 3 and step["class"] == 2004)', "", "status_three_of_a_finding_was_looked_at_and_of_an_incident_waits"),
    _ocsf("what-is-no-address-is-one", "write.py", "    except ValueError:\n        return False", "    except ValueError:\n        return True",
          "every_state_verdict_and_observable_validates_against_the_published_schema"),
    _ocsf("the-first-record-is-the-last", "read.py", 'steps = sorted(held.steps, key=lambda s: s["at"])', "steps = held.steps",
          "several_records_of_one_finding_are_its_life"),
)
# fmt: on
