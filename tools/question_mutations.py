"""Named breaks of questions and charts, for `make mutants`; see `tools/mutations.py`.

Enters: nothing. Leaves: MUTATIONS. Layer: none (outside the package).
"""

from __future__ import annotations

from functools import partial

from tools.mutants import Mutation

ROOM = "src/tocsin/questions/"


def _in(tests: str, name: str, file: str, old: str, new: str, test: str) -> Mutation:
    return Mutation(f"ask.{name}", file, old, new, f"tests/{tests}.py::test_{test}")


_ask = partial(_in, "test_questions")
_why = partial(_in, "test_explain")
_draw = partial(_in, "test_views")

# fmt: off
MUTATIONS: tuple[Mutation, ...] = (
    _ask("gap-days-are-zero", ROOM + "changes.py", "counts[:, hidden] = np.nan", "counts[:, hidden] = 0.0",
         "days_are_local_ends_are_whole_lists_are_counted_and_gaps_left_out"),
    _ask("half-a-day-is-a-day", ROOM + "changes.py", "high -= edges[3] - last > (edges[3] - edges[2]) // 24", "high -= 0",
         "days_are_local_ends_are_whole_lists_are_counted_and_gaps_left_out"),
    _ask("everybody-counts-as-changed", ROOM + "changes.py", 'pl.when(pl.col("q_unlike") <= SIGNIFICANT, pl.col("q") <= SIGNIFICANT)',
         'pl.when(pl.col("q") <= SIGNIFICANT)', "the_planted_growth_is_found_and_a_shift_of_everybody_is_no_news"),
    _ask("unknown-is-inside", ROOM + "places.py", 'pl.col("outside") == 0, pl.col("located") > 0', 'pl.col("outside") == 0',
         "an_unknown_address_is_neither_inside_nor_outside"),
    _ask("a-gap-is-zero-in-a-series", ROOM + "timelines.py", "if w not in spared or", "if w not in set() or",
         "a_day_in_a_gap_is_missing_from_a_series_and_any_other_empty_day_is_zero"),
    _ask("limit-without-its-offset", ROOM + "watch.py", "(limit - at[0]) / slope", "limit / slope",
         "a_population_has_everybodys_value_and_the_limit_of_the_day_before"),
    _ask("window-of-today-is-over", ROOM + "timelines.py", "if instant_us(last) >= nearly or high == low else high - 1", "if True else high - 1",
         "the_window_of_a_population_is_the_last_that_was_over"),
    _ask("newsletters-are-people", ROOM + "habits.py", "if strange.mean() <= MOST_STRANGE", "if strange.mean() <= 0",
         "a_newsletter_among_people_is_left_out_and_named"),
    _ask("zeros-were-seen", ROOM + "habits.py", "support=name, at_least=2", 'support="all", at_least=2',
         "what_is_known_of_zeros_is_taken_into_account"),
    _ask("whole-numbers-at-the-edge", ROOM + "binning.py", "edges = low - 0.5 +", "edges = low +",
         "a_whole_number_lies_in_the_middle_of_its_bin"),
    _why("events-after-the-finding", ROOM + "explanation.py", 'upto = seen.filter(pl.col("timestamp") <= row["time"])', "upto = seen",
         "the_sentence_has_value_baseline_score_threshold_and_the_date_of_the_table"),
    _why("events-of-any-window", ROOM + "explanation.py", 'return upto.filter(pl.col("timestamp") >= row["window_start"])', "return upto",
         "a_finding_of_every_rule_that_ships_is_explained"),
    _draw("labels-are-links", "src/tocsin/views/style.py", '.replace("<", "&lt;")', "", "no_text_of_an_event_can_act_in_a_figure"),
    _draw("data-ends-its-script", "src/tocsin/views/page.py", 'for character in "<>&\\u2028\\u2029":', 'for character in "":',
          "a_figure_of_anybodys_making_cannot_end_the_script_that_holds_it"),
    _draw("another-script-is-allowed", "src/tocsin/views/page.py", 'f"{_hash(plotly_js)} {_hash(_START)}"', "\"'unsafe-inline'\"",
          "a_page_fetches_nothing_and_allows_only_its_own_scripts"),
    _draw("line-across-the-date-line", "src/tocsin/views/world.py", "abs(lon - x[-1]) > 180", "abs(lon - x[-1]) > 999",
          "a_great_circle_stays_on_the_map_and_never_jumps"),
)
# fmt: on
