"""Named breaks of the Kafka source, for `make mutants`; see `tools/mutations.py`.

Enters: nothing. Leaves: MUTATIONS. Layer: none (outside the package).
"""

from __future__ import annotations

from tools.mutants import Mutation

ROOM = "src/tocsin/sources/live/kafka"


def _in(name: str, file: str, old: str, new: str, test: str) -> Mutation:
    return Mutation(f"live_kafka.{name}", f"{ROOM}{file}.py", old, new, f"tests/test_live_kafka.py::test_{test}")


# fmt: off
MUTATIONS: tuple[Mutation, ...] = (
    _in("a-lost-position-is-a-jump", "_client", '"auto.offset.reset": "error"', '"auto.offset.reset": "earliest"',
        "messages_deleted_after_our_position_are_an_error_and_never_a_jump"),
    _in("a-position-beyond-the-log-is-a-jump", "_client", '"auto.offset.reset": "error"', '"auto.offset.reset": "latest"',
        "a_log_that_ends_before_our_position_is_an_error"),
    _in("what-was-taken-back-is-read", "_client", '"read_committed"', '"read_uncommitted"',
        "what_a_transaction_took_back_is_not_seen_and_the_gaps_do_no_harm"),
    _in("promises-can-be-broken", "_client", "if name in _OURS or", "if", "settings_that_would_break_a_promise_are_refused"),
    _in("a-password-can-stand-in-the-options", "_client", "if name in _SECRETS:", "if False:",
        "settings_that_would_break_a_promise_are_refused"),
    _in("the-group-knows-better", "", "for p in self._given if p not in self._at]", "for p in self._given]",
        "a_process_without_positions_begins_where_its_group_committed"),
    _in("the-end-is-not-remembered", "", "self._commit(ends, consumer)", "pass",
        "a_source_that_starts_at_the_end_misses_nothing_after_it_first_looked"),
    _in("new-partitions-begin-at-the-end", "", " and p < self._first_partitions]", "]",
        "a_source_that_starts_at_the_end_misses_nothing_after_it_first_looked"),
    _in("what-comes-twice-is-given-twice", "", 'if offsets[0] < start["offset"] or offsets != sorted(set(offsets)):', "if False:",
        "what_comes_twice_around_a_rebalance_is_given_once"),
    _in("partitions-go-without-a-word", "", "self._revoked |= gone & self._owned", "pass",
        "partitions_that_others_read_are_told_and_one_process_alone_sees_all_again"),
    _in("nobody-is-asked-again", "", "if answered and self._given and not self._settled:", "if False:",
        "a_broker_that_goes_silent_while_it_gives_us_partitions_is_asked_again"),
    _in("a-large-record-stops-everything", "", "(at or not alone)", "True",
        "a_poll_gives_no_more_than_it_was_asked_for_and_a_large_record_comes_alone"),
    _in("an-error-is-raised-once", "", "raise self._watch.failed", "failed, self._watch.failed = self._watch.failed, None; raise failed",
        "messages_deleted_after_our_position_are_an_error_and_never_a_jump"),
    _in("fewer-will-do", "_again", "if len(taken) < count or", "if",
        "messages_that_compaction_took_between_two_positions_are_an_error"),
    _in("any-line-will-do", "_again", "if line is None or line.next != start:", "if line is None:",
        "every_span_is_read_again_byte_for_byte_in_any_order_and_over_several_pieces"),
    _in("a-topic-is-its-name", "_watch", "saved != self.topic_id:", "False:", "a_topic_made_anew_is_another_topic"),
    _in("silence-is-told-again-and-again", "_watch", "if not self._silent:", "if True:",
        "a_broker_that_is_killed_costs_no_message_and_gives_none_twice"),
    _in("numbers-are-guessed", "_pieces", "row = not offsets or", "row = True or", "a_piece_has_each_value_once_under_its_own_offset"),
    _in("a-tombstone-holds-the-position", "_pieces", '"offset": offsets[-1] + 1, "read": start', '"offset": start["offset"], "read": start',
        "messages_without_a_record_move_the_position"),
    _in("newlines-make-two-lines", "_pieces", 'if data.count(b"\\n") > len(lines):', "if False:",
        "what_is_no_line_is_made_one_or_set_aside"),
)
