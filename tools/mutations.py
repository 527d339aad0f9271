"""The named breaks that `make mutants` applies: one entry each, add freely.

Enters: nothing. Leaves: MUTATIONS. A good entry is a mistake that someone could make: an off-by-one at a boundary,
a missing case, an order that no longer holds. Its `old` text must occur exactly once in its file; its test is the one
that states the claim it breaks. Layer: none (outside the package).
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path

from tools.mutants import Mutation

ARRIVE = "src/tocsin/engine/arrive.py"
CORE = "src/tocsin/engine/core.py"
APPLY = "src/tocsin/engine/apply.py"
SAVED = "src/tocsin/engine/saved.py"
WINDOWED = "src/tocsin/running/windowed.py"
EXPRESSIONS = "src/tocsin/expressions.py"
DETECTION = "src/tocsin/detection.py"
HASHING = "src/tocsin/hashing.py"
FINDINGS = "src/tocsin/engine/findings.py"
PLAN = "src/tocsin/engine/plan.py"
SCORE = "src/tocsin/engine/score.py"
ARRIVAL = "src/tocsin/kernels/arrival.py"
WINDOWS = "src/tocsin/kernels/windows.py"
STREAMS = "src/tocsin/kernels/streams.py"
STATISTICS = "src/tocsin/kernels/statistics.py"
CALENDARS = "src/tocsin/calendars.py"
RANGES = "src/tocsin/ranges.py"
ADDRESSES = "src/tocsin/addresses.py"
SIMULATE = "src/tocsin/sources/simulate"
SOURCES = "src/tocsin/sources"
DISTINCT = "src/tocsin/distinct.py"
STATS = "src/tocsin/stats/"


def _in(tests: str, name: str, file: str, old: str, new: str, test: str) -> Mutation:
    return Mutation(name, file, old, new, f"tests/{tests}.py::test_{test}")


_time = partial(_in, "test_time_contract")
_hand = partial(_in, "test_measures_by_hand")
_sliding = partial(_in, "test_sliding_extremes")
_findings = partial(_in, "test_findings_by_hand")
_parity = partial(_in, "test_parity")
_calendar = partial(_in, "test_calendars")
_state = partial(_in, "test_state")
_past = partial(_in, "test_backtest")
_ranges = partial(_in, "test_ranges")
_addresses = partial(_in, "test_addresses")
_distinct = partial(_in, "test_distinct")
_lines = partial(_in, "test_jsonl_fast")
_parquet = partial(_in, "test_sources_parquet")
_simulated = partial(_in, "test_simulate")
_stories = partial(_in, "test_simulate_stories")
_counted = partial(_in, "test_stats_counts")
_hours = partial(_in, "test_stats_circular")
_changes = partial(_in, "test_stats_changepoints")
_methods = partial(_in, "test_stats_changepoints_methods")
_waiting = partial(_in, "test_stats_waiting")

# fmt: off
TIME = (
    _time("late.exactly-at-the-bar", ARRIVAL, "if w != NEVER and t[i] < w:", "if w != NEVER and t[i] <= w:",
          "an_event_exactly_at_the_bar_is_in_time_and_one_microsecond_before_it_is_late"),
    _time("late.bar-without-the-lateness", ARRIVAL, "w = NEVER if c == NEVER else c - lateness", "w = NEVER if c == NEVER else c",
          "an_event_exactly_at_the_bar_is_in_time_and_one_microsecond_before_it_is_late"),
    _time("late.judged-by-the-fastest-partition", ARRIVAL, "clock[p] < low", "clock[p] > low",
          "a_slow_partition_is_judged_by_its_own_clock"),
    _time("late.frontier-is-forgotten", ARRIVAL, "w = max(w, frontier)", "w = max(w, w)",
          "what_is_released_is_released_for_all_partitions"),
    _time("idle.partition-never-wakes", ARRIVAL, "idle[p] = False", "idle[p] = idle[p]",
          "an_idle_partition_holds_nobody_back_and_wakes_with_its_next_event"),
    _time("idle.partition-still-holds-the-others", ARRIVE, "self.idle[self.partitions[record.partition]] = True", "self.idle[self.partitions[record.partition]] = False",
          "an_idle_partition_holds_nobody_back_and_wakes_with_its_next_event"),
    _time("duplicate.forgotten-at-the-horizon", ARRIVAL, "np.int64(entries[e, 3]) <= horizon", "np.int64(entries[e, 3]) < horizon",
          "an_id_is_remembered_through_the_last_microsecond_of_its_horizon"),
    _time("duplicate.remembered-for-ever", ARRIVAL, "np.int64(entries[e, 3]) <= horizon", "np.int64(entries[e, 3]) <= horizon + horizon",
          "an_id_is_remembered_through_the_last_microsecond_of_its_horizon"),
    _time("duplicate.content-is-not-compared", ARRIVAL, "before in (content[i], UNKNOWN)", "before >= 0",
          "the_same_id_with_the_same_content_is_a_duplicate_and_with_other_content_a_conflict"),
    _time("duplicate.moves-the-clock", ARRIVAL, "fate[i] = DUPLICATE if", "clock[p] = max(clock[p], t[i])\n            fate[i] = DUPLICATE if",
          "a_duplicate_from_the_future_moves_no_clock"),
    _time("future.at-exactly-the-skew", ARRIVAL, "t[i] > received[i] + skew", "t[i] >= received[i] + skew",
          "an_event_may_be_ahead_of_its_receipt_by_the_skew_and_no_microsecond_more"),
    _time("order.ties-by-arrival", ARRIVE, 'by = [time, "event_id",', "by = [time,",
          "events_of_one_instant_are_counted_in_the_order_of_their_ids"),
    _time("order.frontier-is-released-too-early", ARRIVE, "if piece.first >= self.frontier:", "if piece.first > self.frontier:",
          "events_at_the_released_frontier_still_wait_for_others_of_the_same_instant"),
)
CALENDAR = (
    _time("calendar.week-begins-on-sunday", CALENDARS, "weeks * 7 - 3)", "weeks * 7 - 4)", "a_week_begins_on_monday"),
    _time("calendar.window-closed-at-its-end", CALENDARS, 'np.searchsorted(self._begins, t, "right")', 'np.searchsorted(self._begins, t, "left")',
          "a_week_begins_on_monday"),
    _time("calendar.day-begins-at-the-second-midnight", CALENDARS, "tzinfo=self._zone, fold=0", "tzinfo=self._zone, fold=1",
          "a_day_begins_at_its_first_midnight_where_the_clock_strikes_twelve_twice"),
)
WINDOW = (
    _hand("window.skipped-days-keep-old-counts", WINDOWS, "ring[s, place, lane] = 0", "ring[s, place, lane] += 0",
          "a_skipped_day_does_not_show_what_an_older_day_left_in_its_place"),
    _hand("window.long-silence-keeps-old-counts", WINDOWS, "            ring[s] = 0\n", "            ring[s] += 0\n",
          "what_the_ring_held_before_a_long_silence_is_gone_after_it"),
    _hand("window.oldest-day-of-a-silence-is-lost", WINDOWS, "if d - last > size:", "if d - last >= size - 1:",
          "a_baseline_reaches_back_exactly_its_windows_even_over_a_silence"),
    _hand("baseline.leaves-out-the-first-day", WINDOWS, "max(d - windows, first[s]), d, op,", "max(d - windows, first[s] + 1), d, op,",
          "days_without_events_count_as_zero_from_the_first_day_on"),
    _hand("baseline.row-contains-today", WINDOWS, "_gather_row(s, max(d - windows, first[s]), d, op,", "_gather_row(s, max(d - windows + 1, first[s]), d + 1, op,",
          "the_day_being_scored_is_not_in_its_own_baseline_and_the_day_before_is"),
    _hand("baseline.row-stops-at-the-end-of-the-ring", WINDOWS, "(0, max(place + stop - start - size, 0))", "(0, 0)",
          "a_skipped_day_does_not_show_what_an_older_day_left_in_its_place"),
    _hand("counts.leave-out-the-first-day", WINDOWS, "n = min(windows, d - first[s])", "n = min(windows, d - first[s] - 1)",
          "days_without_events_count_as_zero_from_the_first_day_on"),
    _hand("counts.begin-a-day-late", WINDOWS, "(d - n) % size", "(d - n + 1) % size",
          "the_day_being_scored_is_not_in_its_own_baseline_and_the_day_before_is"),
    _hand("counts.any-number-is-enough", WINDOWS, "if n < at_least or n <= 0:", "if n <= 0:",
          "fewer_windows_than_asked_for_give_no_baseline_and_exactly_as_many_do"),
    _hand("counts.stop-at-the-end-of-the-ring", WINDOWS, "(0, max(place + n - size, 0))", "(0, 0)",
          "a_skipped_day_does_not_show_what_an_older_day_left_in_its_place"),
    _hand("counts.read-missing-days-as-zero", WINDOWS, "if plain[b] and not missing.size and not fired.size:", "if plain[b]:",
          "uncovered_days_without_events_are_missing_and_not_zero"),
    _hand("baseline.uncovered-days-are-zero", WINDOWS, "and not _is_in(missing, j)", "",
          "uncovered_days_without_events_are_missing_and_not_zero"),
    _hand("baseline.late-event-before-the-first", WINDOWS, "if first[s] == NEVER or d < first[s]:", "if first[s] == NEVER:",
          "a_late_event_before_the_first_one_moves_the_first_day_back"),
    _hand("baseline.alerted-day-stays", WINDOWS, "ring[s, place, 0] = -1 - acc[s, 0]", "ring[s, place, 0] = acc[s, 0]",
          "an_alerted_day_leaves_the_baseline_only_when_asked"),
    _hand("ratio.of-nothing-is-zero", WINDOWS, "if op == RATIO:\n        return np.nan if lane0 == 0", "if op == RATIO:\n        return 0.0 if lane0 == 0",
          "a_ratio_of_nothing_is_null_and_not_zero"),
    _hand("minimum.starts-at-zero", WINDOWS, "lane1 = q if acc[s, 0] == 0 else min(", "lane1 = min(",
          "a_minimum_starts_from_the_first_value_and_not_from_zero"),
    _hand("maximum.starts-at-zero", WINDOWS, "lane1 = q if acc[s, 0] == 0 else max(", "lane1 = max(",
          "a_minimum_starts_from_the_first_value_and_not_from_zero"),
    _hand("distinct.forgets-the-window", WINDOWS, "a = h1 ^ mix(d)", "a = h1",
          "a_value_counts_again_on_another_day_and_once_on_the_same"),
    _hand("population.without-order", "src/tocsin/kernels/populations.py", "    return np.sort(values[:n])", "    return values[:n]",
          "a_populations_mean_is_the_same_to_the_last_bit_in_whatever_order_users_came"),
)
STREAM = (
    _time("sliding.closed-at-its-old-end", STREAMS, "<= t[i] - width:\n            e = queue[tail & m]\n            if op", "< t[i] - width:\n            e = queue[tail & m]\n            if op",
          "a_sliding_window_leaves_out_its_old_end"),
    _hand("sliding-extreme.closed-at-its-old-end", STREAMS, "<= t[i] - width:\n            e = queue[tail & m]\n            if line", "< t[i] - width:\n            e = queue[tail & m]\n            if line",
          "the_extreme_of_a_sliding_window_leaves_it_after_exactly_its_width"),
    _hand("sliding-extreme.never-leaves", STREAMS, "line[e[1], 0] = e[4]", "line[e[1], 0] = tail",
          "when_the_extreme_leaves_a_sliding_window_the_next_one_still_inside_takes_its_place"),
    _hand("sliding-extreme.next-in-line-is-forgotten", STREAMS, "queue[last & m, 4] = head", "queue[last & m, 4] = NOBODY",
          "when_the_extreme_leaves_a_sliding_window_the_next_one_still_inside_takes_its_place"),
    _hand("sliding-extreme.who-left-still-stands-in-line", STREAMS, "        if last >= tail:", "        if last >= 0:",
          "the_extreme_of_a_sliding_window_leaves_it_after_exactly_its_width"),
    _hand("sliding-extreme.oldest-inside-is-not-compared", STREAMS, "while last >= tail and (", "while last > tail and (",
          "when_the_extreme_leaves_a_sliding_window_the_next_one_still_inside_takes_its_place"),
    _sliding("sliding.longer-queue-starts-anew", "src/tocsin/running/spans.py", "longer[old & (size - 1)] = queue", "longer[: old.size] = queue",
             "an_extreme_is_that_of_the_window_under_any_cut_and_restart[True]"),
    _sliding("sliding-extreme.line-is-not-saved", "src/tocsin/running/spans.py", '("queue", "ends", "line")', '("queue", "ends")',
             "an_extreme_is_that_of_the_window_under_any_cut_and_restart[True]"),
    _hand("sliding.distinct-never-leaves", STREAMS, "acc[e[1], 0] -= 1", "acc[e[1], 0] -= 0",
          "a_value_that_left_a_sliding_window_is_no_longer_counted"),
    _time("ever.forgets-at-the-span", STREAMS, "last[s] != NEVER and t[i] - last[s] > forget:", "last[s] != NEVER and t[i] - last[s] >= forget:",
          "a_silence_of_exactly_the_span_is_not_yet_forgotten"),
    _hand("previous.remembers-too-long", STREAMS, "not (forget and t[i] - last[s] > forget)", "True",
          "the_previous_event_is_forgotten_after_its_time_and_not_before"),
    _hand("previous.forgets-at-the-span", STREAMS, "not (forget and t[i] - last[s] > forget)", "not (forget and t[i] - last[s] >= forget)",
          "the_previous_event_is_forgotten_after_its_time_and_not_before"),
    _hand("first-seen.counts-itself-as-known", STREAMS, "out_known[i] = known[s]\n", "out_known[i] = known[s] + 1\n",
          "known_is_what_was_known_before_this_event"),
    _hand("first-seen.never-forgets", STREAMS, "new = free or (forget and", "new = free or (False and",
          "a_value_not_seen_for_long_is_seen_for_the_first_time_again"),
    _hand("hours.total-without-this-event", STREAMS, "out_total[i] = c[24]", "out_total[i] = c[24] - 1",
          "hours_count_this_event_in_its_hour_and_in_the_total"),
)
STATISTIC = (
    _hand("sd.divided-by-n", STATISTICS, "squares / (n - 1)", "squares / n", "statistics_of_four_days_are_those_of_the_textbook"),
    _hand("quantile.of-another-definition", STATISTICS, "h = (n - 1) * q", "h = n * q", "statistics_of_four_days_are_those_of_the_textbook"),
    _hand("median.takes-the-lower-middle", STATISTICS, "(ordered[n // 2 - 1] + ordered[n // 2]) / 2", "ordered[n // 2 - 1]",
          "statistics_of_four_days_are_those_of_the_textbook"),
    _hand("minimum-of-windows.is-ignored", STATISTICS, "if n < at_least or n == 0:", "if n == 0:",
          "fewer_windows_than_asked_for_give_no_baseline_and_exactly_as_many_do"),
    _hand("minimum-of-windows.one-too-many", STATISTICS, "if n < at_least or n == 0:", "if n <= at_least or n == 0:",
          "fewer_windows_than_asked_for_give_no_baseline_and_exactly_as_many_do"),
)
GROUND = (
    Mutation("errors.hints-name-far-words", "src/tocsin/errors.py", "cutoff=0.6", "cutoff=0.0", "src/tocsin/errors.py"),
    _ranges("ranges.last-ipv4-address-is-outside", RANGES, "key > ends[base]", "key >= ends[base]",
            "an_address_is_found_in_the_range_a_linear_scan_finds"),
    _ranges("ranges.last-ipv6-address-is-outside", RANGES, "lo > e_lo[low]", "lo >= e_lo[low]",
            "an_address_is_found_in_the_range_a_linear_scan_finds"),
    _ranges("ranges.sharing-one-address-is-no-overlap", RANGES, "(hi == other_hi) & (lo > other_lo)", "(hi == other_hi) & (lo >= other_lo)",
            "overlapping_and_inverted_ranges_are_reported_with_their_rows"),
    _addresses("addresses.block-of-ipv4-longer-than-32", ADDRESSES, "(given <= np.where(dotted, _V4_BITS, _V6_BITS))", "(given <= _V6_BITS)",
               "what_is_no_address_block_or_range_is_not_valid"),
    _addresses("addresses.range-across-families", ADDRESSES, "(alone | (first.is_v4 == end.is_v4))", "(alone | True)",
               "what_is_no_address_block_or_range_is_not_valid"),
)
READING = (
    _distinct("distinct.long-texts-by-hash-alone", DISTINCT, "(word_at(end - _U8) >> (_U8 * np.uint64(16 - size)))", "np.uint64(0)",
              "texts_that_differ_in_one_byte_have_different_numbers[15]"),
    _lines("json.key-twice-in-objects-of-one-name", f"{SOURCES}/jsonl_kernel.py", "entered[prefix] == stamp or", "",
           "keys_that_stand_twice_are_seen_however_they_are_nested"),
    _lines("json.key-twice", f"{SOURCES}/jsonl_kernel.py", "if fields[field, SEEN] == stamp:", "if fields[field, SEEN] == -1:",
           "keys_that_stand_twice_are_seen_however_they_are_nested"),
    _lines("times.every-fourth-year-leaps", f"{SOURCES}/time_kernel.py", "(year % 4 == 0 and year % 100 != 0)", "(year % 4 == 0)",
           "every_day_of_a_year_is_counted_right[1900]"),
    _parquet("parquet.left-out-rows-come-back", f"{SOURCES}/parquet.py", "keep[out[a:b] - start] = False", "keep[out[a:b] - start] = True",
             "counts_and_rejects_are_the_same_whoever_reads_first"),
)
FINDING = (
    _findings("score.infinity-fires", SCORE, "finite = np.isfinite(values)", "finite = ~np.isnan(values)",
              "a_zero_baseline_is_unscored_and_said_so_and_never_fires"),
    _findings("score.threshold-itself-fires", "src/tocsin/conditions.py", 'Condition(">", ', 'Condition(">=", ', "the_threshold_itself_does_not_fire"),
    _findings("score.no-entity-is-not-counted", APPLY, 'tally.skip("no_entity", part.n_on - len(part))', 'tally.skip("no_entity", 0)',
              "an_event_without_its_entity_is_counted_and_scored_by_nobody"),
    _findings("finding.at-every-crossing-event", STREAMS, "if fired[s] != window[i]:", "if True:",
              "a_window_fires_once_at_its_first_crossing_event_and_keeps_its_peak"),
    _findings("finding.peak-is-the-first-score", STREAMS, "elif score[i] * sign > peak[s] * sign:", "elif False:",
              "the_peak_is_that_of_the_window_whatever_the_batches"),
    _findings("finding.id-without-the-version", FINDINGS, "pl.lit(detection.id), pl.lit(detection.version), *parts", "pl.lit(detection.id), *parts",
              "an_id_changes_with_what_the_rule_says_and_not_with_its_neighbours"),
    _findings("finding.id-without-the-entity", FINDINGS, "pl.lit(detection.entity), entity]", "pl.lit(detection.entity)]",
              "each_window_and_each_entity_has_a_finding_of_its_own_with_an_id_of_its_own"),
    _findings("plan.measures-of-other-events-are-shared", PLAN, "[measure.key, canonical(on), entity, alone]", "[measure.key, entity, alone]",
              "equal_measures_over_different_events_do_not_share_their_state"),
)
# What carries over: saved state, evaluation, versions, and what a backtest reports.
_GOES_ON = "a_run_that_is_saved_and_loaded_between_batches_goes_on_as_if_nothing_had_happened"
CARRIED = (
    _state("save.omits-the-ring", WINDOWED, 'kept: ClassVar[tuple[str, ...]] = (\n        "win", "acc", "ring",', 'kept: ClassVar[tuple[str, ...]] = (\n        "win", "acc",', _GOES_ON),
    _state("save.omits-what-waits", SAVED, "if state.arrival.waiting is not None:", "if False:", _GOES_ON),
    _state("baseline.place-is-that-of-an-earlier-batch", WINDOWS, "if shown[s] <= n_before:", "if shown[s] == 0:", _GOES_ON),
    _state("save.omits-the-peaks", FINDINGS, 'kept = ("fired", "peak", "best", "best_t")', 'kept = ("fired", "best", "best_t")', _GOES_ON),
    _state("load.checksum-is-not-compared", "src/tocsin/engine/parts.py", "if self._check and row.check() != check:", "if check is None:",
           "a_byte_that_was_changed_anywhere_is_noticed_or_of_no_consequence"),
    _state("load.missing-parts-are-no-matter", SAVED, 'if file.facts.get("parts") != str(file.n):', "if False:", "a_file_without_one_of_its_parts_is_refused"),
    _state("load.any-rules-will-do", SAVED, 'if file.facts.get("rules") != engine.rules:', "if False:", "a_state_of_other_rules_or_settings_is_refused"),
    _in("test_rules", "evaluate.a-lone-row-alone", EXPRESSIONS, "if frame.height == 1 else columns", "if False else columns",
        "dividing_by_a_constant_does_not_depend_on_other_rows"),
    _past("evaluate.an-aggregate-is-repeated", EXPRESSIONS, "if len(result) == 1 and not root_names(expression):", "if len(result) == 1:",
          "a_rule_that_gives_another_number_of_values_than_events_is_an_error_of_that_rule"),
    _in("test_detection", "version.without-the-measure", DETECTION, 'self.measure.key if self.measure else ""', '""',
        "the_version_changes_with_what_decides_the_score"),
    _past("since.leaves-out-its-own-instant", CORE, 'frame.filter(pl.col("@t") >= self.report_from)', 'frame.filter(pl.col("@t") > self.report_from)',
          "an_event_exactly_at_since_is_reported_and_exactly_at_until_is_not"),
    _past("notebook.mean-without-today", WINDOWS, "(past[s] + value[i]) / out[1, i]", "past[s] / out[1, i]",
          "compat_notebook_gives_the_numbers_of_the_notebooks_own_pandas_lines"),
    _past("top.high-scores-first-for-every-rule", FINDINGS, 'return -1.0 if detection.when.operator.startswith("<") else 1.0', "return 1.0",
          "the_top_is_the_most_extreme_score_of_each_entity_in_the_direction_of_the_rule"),
    _past("population.is-a-day-old", WINDOWED,
          """            self.begin(d)
            taken = self._fold(rows, part, mask, window, hashes, taken, (out[part], own.values, own.places[part]))
            if self.populations:
                everyone.values[:, :, number] = self.pop
""",
          """            if self.populations:
                everyone.values[:, :, number] = self.pop
            self.begin(d)
            taken = self._fold(rows, part, mask, window, hashes, taken, (out[part], own.values, own.places[part]))
            if self.populations:
""",
          "a_population_holds_the_users_of_the_day_before_and_nothing_of_today"),
    _hand("late.is-dropped", WINDOWED, "self.pending = np.concatenate([self.pending, new])", "self.pending = self.pending[:]",
          "a_late_event_before_the_first_one_moves_the_first_day_back"),
    _time("ever.never-forgets", STREAMS, "if forget and last[s] != NEVER and", "if False and last[s] != NEVER and",
          "a_silence_of_exactly_the_span_is_not_yet_forgotten"),
    _time("order.ties-are-not-looked-at", ARRIVE, "if not ties.size:", "if ties.size >= 0:",
          "events_of_one_instant_are_counted_in_the_order_of_their_ids"),
    _calendar("calendar.hour-before-a-change-is-too-long", CALENDARS, "begins = [np.array(changes, np.int64)]", "begins = []",
              "an_hour_window_is_one_hour_of_the_wall_clock_and_never_longer"),
    _calendar("calendar.skipped-date-is-not-noticed", CALENDARS, "if a == b]", "if a > b]",
              "a_date_that_a_zone_jumped_over_is_skipped_and_holds_no_instant"),
    _in("test_hashing", "table.forgets-what-is-just-old-enough", HASHING, "np.int64(old[i, 3]) >= oldest:", "np.int64(old[i, 3]) > oldest:",
        "growing_forgets_what_is_older_than_asked_and_nothing_else"),
    _in("test_ids", "ids.forgets-what-is-just-young-enough", ARRIVAL, "if np.int64(entries[i, 3]) >= oldest:", "if np.int64(entries[i, 3]) > oldest:",
        "making_room_forgets_what_is_older_than_asked_and_nothing_else_in_place_or_not"),
    _in("test_ids", "ids.half-an-id-is-enough", ARRIVAL, "if entries[e, 0] == id1 and entries[e, 1] == id2:", "if entries[e, 0] == id1:",
        "every_id_is_found_at_its_entry_and_no_other_is"),
    _in("test_findings_by_hand", "findings.keep-their-batch-alive", "src/tocsin/engine/output.py", "own_text(c) if c.dtype == pl.String else c for c", "c for c",
        "findings_and_names_keep_no_more_text_alive_than_their_own"),
    _in("test_hashing", "digest.knows-its-neighbours", HASHING, "_stir(digest[i], _NULL if null.size and null[i] else words[i])", "_stir(digest[i], _NULL if null.size else words[i])",
        "the_digest_of_a_row_does_not_depend_on_its_neighbours_and_tells_null_from_empty"),
    _in("test_verify", "verify.compares-only-what-fired", "src/tocsin/runners/verify_results.py",
        'same = pl.col("score").eq_missing(pl.col("score_got")) & pl', "same = pl",
        "a_rule_that_depends_on_its_batch_fails_by_name_and_the_one_beside_it_is_not_blamed"),
)
SIMULATED = (
    _simulated("simulate.stories-disturb-bystanders", f"{SIMULATE}/plan.py", "others = day.filter(~has_part)", "others = day.filter(~has_part).head(-1)",
               "whoever_has_no_part_lives_the_same_life_whatever_is_planted"),
    _simulated("simulate.stories-share-a-stream", f"{SIMULATE}/casting.py", "own, key = stream(seed, Purpose.STORIES, code, number), (code, number)",
               "own, key = rng, (code, number)", "a_story_is_the_same_whether_others_are_planted_or_not"),
    _simulated("simulate.recipients-may-be-none", f"{SIMULATE}/days.py", "1 + rng.poisson(people.mean_recipients[user] - 1)",
               "rng.poisson(people.mean_recipients[user])", "a_mails_recipients_are_one_and_a_poisson_number_around_the_users_own_mean"),
    _simulated("simulate.events-are-independent", f"{SIMULATE}/days.py", "begins[user, which]", "rng.random(len(user))",
               "events_of_a_day_come_in_sessions_and_are_not_independent"),
    _simulated("simulate.drift-from-the-first-day", f"{SIMULATE}/days.py", "np.where(time_us >= drift_from_us,", "np.where(time_us >= 0,",
               "drift_changes_everybodys_files_from_the_middle_on_and_nothing_else"),
    _stories("simulate.owner-stays-at-the-desk", f"{SIMULATE}/stories.py", "made.silences.append(Silence(user, at - HOUR_US // 2,", "made.silences.append(Silence(-1, at - HOUR_US // 2,",
             "exactly_the_takeovers_move_faster_than_any_aircraft_and_as_fast_as_told[400users-45days-seed20260601]"),
    _stories("simulate.shift-is-a-date-late", f"{SIMULATE}/plan.py", "if day >= one.from_day:", "if day > one.from_day:",
             "a_shift_moves_each_event_of_the_quiet_life_from_the_told_date_on_by_the_told_hours"),
    _stories("simulate.guessers-are-abroad", f"{SIMULATE}/stories.py", "if c != home and city.country_iso_code == CITIES[home].country_iso_code", "if c != home",
             "who_was_never_outside_the_us_is_so_by_the_geo_table_whether_failures_count_or_not[400users-45days-seed20260601]"),
)
STATS_FLOOR = (
    _counted("multiple.not-tested-counts-as-tested", STATS + "multiple.py", "scaled = v[order] * (v.size / np.arange", "scaled = v[order] * (values.size / np.arange",
             "benjamini_hochberg_and_holm_equal_their_definitions_and_keep_nan"),
    _counted("welch.split-day-belongs-to-before", STATS + "welch.py", ">= where[:, None]", "> where[:, None]",
             "welch_equals_scipy_row_by_row_with_missing_days"),
    _counted("poisson.those-at-zero-are-thought-seen", STATS + "poisson.py", 'start = 1.0 if support == "truncated" else 0.0', "start = 0.0",
             "the_population_fit_covers_the_parameter_where_recipients_are_at_least_one[truncated]"),
    _counted("rates.garwood-upper-end", STATS + "rates.py", "special.gammaincinv(k + 1, 1 - tail)", "special.gammaincinv(k, 1 - tail)",
             "garwood_equals_the_published_table"),
    _hours("circular.along-the-mean-is-forgotten", STATS + "circular.py", "return max(x * x, y * y) / (w * (1 - w))", "return x * x / (w * (1 - w))",
           "the_scan_finds_the_split_of_the_slow_statistic"),
    _changes("changes.missing-is-zero", STATS + "changepoints/fit.py", "known = np.where(np.isnan(y), 0.0, 1.0)", "known = np.where(np.isnan(y), 1.0, 1.0)",
             "no_data_is_not_zero_and_changes_no_regime"),
    _changes("changes.spikes-stay-in", STATS + "changepoints/season.py", "if side[t] != 0 and end - t < m:", "if side[t] != 0 and end - t < 0:",
             "a_change_is_reported_with_its_first_day_size_and_interval_and_spikes_apart"),
    _changes("changes.pruned-too-early", STATS + "changepoints/search.py", "if tried[a] <= best[j] + slack:", "if tried[a] <= best[j] - penalty:",
             "the_optimal_partition_over_candidates_is_that_of_the_slow_one_over_the_same"),
    _methods("changes.autocorrelation-is-ignored", STATS + "changepoints/noise.py", "return squares / (n - 2 - parameters), first, 1 + 2 * first / (1 - decay)", "return squares / (n - 2 - parameters), first, 1.0",
             "the_test_for_any_change_keeps_its_level_under_autocorrelation[0.6]"),
    _changes("changes.staircase-is-noise", STATS + "changepoints/fit.py", "elif 0 < run < max(m, 2):", "elif 0 < run < 99 * m:",
             "a_staircase_without_noise_has_every_step_however_small"),
    _changes("changes.season-predicts-itself", STATS + "changepoints/repeats.py", "guess = (values.sum(0) - values) / np.maximum(others, 1)", "guess = values.sum(0) / np.maximum(others + 1, 1)",
             "no_season_is_seen_where_there_is_none[walk]"),
    _changes("changes.noise-is-alike-everywhere", STATS + "changepoints/season.py", "out[t] = max(out[t], near)", "out[t] = max(out[t], 0.0)",
             "noise_that_grew_is_no_change_of_level"),
    _methods("binseg.no-price-for-short-parts", STATS + "changepoints/binseg.py", "+ math.log(n) - np.log(left) - np.log(right)", "",
             "binary_segmentation_is_its_definition"),
    _methods("binseg.small-changes-stay", STATS + "changepoints/binseg.py", "if sizes[smallest] >= effect:", "if sizes[smallest] >= 0:",
             "a_change_below_the_minimum_effect_is_not_reported[binseg]"),
    _methods("binseg.penalty-is-ignored", STATS + "changepoints/binseg.py", "if penalty is None else penalty)", "if penalty is None else 3.0)",
             "a_larger_penalty_never_finds_more"),
    _methods("cusum.small-changes-stay", STATS + "changepoints/cusum.py", "if smallest < 0 or sizes[smallest] >= effect:", "if smallest < 0 or sizes[smallest] >= 0:",
             "a_change_below_the_minimum_effect_is_not_reported[cusum]"),
    _methods("changes.rounding-is-autocorrelated", STATS + "changepoints/fit.py", "first, inflation, noise = 0.0, 1.0, np.zeros((0, 2))", "pass",
             "steps_without_noise_whose_sizes_lie_far_apart_are_all_found"),
    _changes("windows.last-partial-day-counts", STATS + "changepoints/windows.py", "(low >= since) & (high <= until)", "(low >= since) & (high <= until + 10)",
             "a_quiet_day_is_zero_a_gap_is_missing_and_a_partial_day_is_dropped_and_named"),
    _waiting("survival.lost-before-ended", STATS + "survival.py", 'np.searchsorted(np.sort(t[~done]), over, "left") - first', 'np.searchsorted(np.sort(t[~done]), over, "right") - first',
             "kaplan_meier_equals_the_product_over_times_and_scipy"),
    _waiting("queueing.nobody-waits-for-the-free", STATS + "queueing.py", "servers * blocked / (servers - load * (1 - blocked))", "servers * blocked / (servers - load * blocked)",
             "erlang_c_equals_the_sum_of_its_series"),
)
# The comparison with the naive reference has to notice by itself, on random logs, what changes most scores.
RANDOM = (
    _parity("random.baseline-contains-today", WINDOWS, "range(windows, 0, -1)", "range(windows - 1, -1, -1)",
            "the_engine_equals_the_reference_under_any_cut[own]"),
    _parity("random.duplicates-count", ARRIVAL, "np.int64(entries[e, 3]) <= horizon", "np.int64(entries[e, 3]) < 0",
            "the_engine_equals_the_reference_under_any_cut[calendar]"),
    _parity("random.state-of-one-batch-only", WINDOWS, "if win[s] != d:", "if win[s] != d or i == 0:",
            "the_engine_equals_the_reference_under_any_cut[calendar]"),
)
# fmt: on


def _of_other_rooms() -> list[Mutation]:
    """Return the breaks of every file of this folder whose name ends in `_mutations`."""
    files = sorted(Path(__file__).parent.glob("*_mutations.py"))
    return [m for file in files for m in import_module(f"tools.{file.stem}").MUTATIONS]


MUTATIONS: tuple[Mutation, ...] = (
    *GROUND,
    *CALENDAR,
    *TIME,
    *WINDOW,
    *STREAM,
    *STATISTIC,
    *READING,
    *FINDING,
    *CARRIED,
    *SIMULATED,
    *STATS_FLOOR,
    *RANDOM,
    *_of_other_rooms(),
)
