"""Named breaks of the HTTP door, the meters and `tocsin status`, for `make mutants`; see `tools/mutations.py`.

Enters: nothing. Leaves: MUTATIONS. Layer: none (outside the package).
"""

from __future__ import annotations

from functools import partial

from tools.mutants import Mutation

ROOM = "src/tocsin/faces/live/"


def _in(tests: str, name: str, file: str, old: str, new: str, test: str) -> Mutation:
    return Mutation(
        f"door.{name}", file if file.startswith("src/") else ROOM + file, old, new, f"tests/{tests}.py::test_{test}"
    )


_door = partial(_in, "test_live_door")
_body = partial(_in, "test_live_bodies")
_meter = partial(_in, "test_live_meters")
_status = partial(_in, "test_status_cli")
METERS = "src/tocsin/runners/live/meters.py"

# fmt: off
MUTATIONS: tuple[Mutation, ...] = (
    _door("acknowledged-before-it-is-kept", "door.py", "await loop.run_in_executor(self._writers, spool.append, taken.records, self._clock())",
          "loop.run_in_executor(self._writers, spool.append, taken.records, self._clock())", "no_answer_comes_before_the_records_are_on_disk"),
    _door("one-writer-at-a-time", "door.py", "UNPACKERS, WRITERS = 2, 16", "UNPACKERS, WRITERS = 2, 1",
          "appends_of_several_senders_wait_together_so_that_a_sync_can_be_shared"),
    _door("a-full-spool-is-an-error-of-ours", "door.py", "except (OSError, TocsinError) as error:", "except TocsinError as error:",
          "a_full_spool_says_503_and_when_to_come_again_and_is_counted"),
    _door("memory-is-not-counted", "door.py", "held.more(len(part))", "pass", "bodies_that_wait_together_are_bounded_and_the_next_is_told_to_come_again"),
    _door("memory-is-never-let-go", "door.py", "            held.release()", "            pass", "bodies_that_wait_together_are_bounded_and_the_next_is_told_to_come_again"),
    _door("chunks-have-no-limit", "door.py", "if size > most:", "if False:", "a_body_over_the_limit_is_refused_whether_or_not_it_says_its_size"),
    _door("a-stuck-engine-is-well", "door.py", "200 if alive and not stuck else 503", "200 if alive else 503", "health_is_that_of_the_engine"),
    _door("rejected-alone-is-fine", "door.py", "413 if taken.rejected and not taken.records else 200", "200",
          "an_event_that_is_too_large_is_rejected_with_its_place_and_the_others_are_taken"),
    _door("any-scheme-will-do", "tokens.py", ' and scheme.lower() == "bearer"', "", "only_the_token_opens_the_door_and_nothing_is_read_before"),
    _door("guessing-is-free", "tokens.py", "return 401 if count < MOST_FAILURES else 429", "return 401", "guessing_is_slowed_down_while_the_right_token_passes"),
    _door("open-to-the-world", "tokens.py", "if not guarded and not", "if False and not", "without_a_token_other_machines_cannot_reach_it"),
    _door("any-host-is-ours", "server.py", "if self._local_only and not", "if False and not", "a_page_that_was_led_here_under_another_name_is_not_answered_without_a_token"),
    _door("endless-patience", "server.py", "            self.transport.close()", "            pass", "a_connection_on_which_no_request_comes_is_closed"),
    _door("queries-are-logged", "server.py", '"path": scope["path"][:100]', '"path": str(scope)', "the_log_names_requests_and_never_a_token_or_a_body"),
    _body("a-bomb-goes-off", "bodies.py", "    if size > most_bytes:\n", "    if size > 1000 * most_bytes:\n", "unpacking_gives_what_was_packed_up_to_the_limit_and_not_a_byte_beyond"),
    _body("a-cut-gzip-is-whole", "bodies.py", "            if not rest and not part:\n                raise EOFError", "            if not rest and not part:\n                break",
          "a_packed_body_that_was_cut_is_refused"),
    _body("line-ends-stay", "bodies.py", '.replace("\\n", " ")', "", "an_array_comes_out_element_by_element_however_it_is_laid_out"),
    _body("records-without-end", "bodies.py", "if len(found) > MOST_RECORDS:", "if False:", "a_body_of_very_many_tiny_records_is_refused_before_it_fills_memory"),
    _door("what-is-no-event-is-dropped", "bodies.py", "            self.review.append((place, read))\n", "            self.review.append((place, read))\n            return\n",
          "a_record_that_is_no_event_goes_to_the_spool_as_it_stands_and_the_sender_is_told"),
    _meter("old-batches-count", METERS, "self._latencies[0][0] <= now - LATENCY_SECONDS", "self._latencies[0][0] <= now - 2 * LATENCY_SECONDS",
           "quantiles_are_of_the_last_minute_and_rates_of_the_last_ten_seconds"),
    _meter("troubles-grow", METERS, "self._trouble.remove(again)", "pass", "the_same_trouble_again_moves_to_now_and_pushes_no_other_out"),
    _meter("twins-on-the-page", "prometheus.py", "if place >= MOST_PARTITIONS:", "if False:", "partitions_beyond_the_first_hundred_are_summed_as_other_with_the_least_watermark"),
    _meter("labels-are-raw", "prometheus.py", "shown = escape_terminal(str(text))", "shown = str(text)", "no_name_of_a_partition_breaks_the_page_or_its_neighbours"),
    _status("the-dead-are-alive", "seen.py", 'and mode != "stopped" and _is_alive(pid)', 'and mode != "stopped"', "a_process_that_died_a_moment_ago_is_not_taken_for_a_live_one"),
    _status("looking-takes-the-lock", "seen.py", "except BlockingIOError:", "except ConnectionError:", "an_engine_in_another_container_is_known_by_its_lock"),
    _status("old-trouble-fails-for-ever", "seen.py", "<= TROUBLE_SECONDS", "<= 100 * TROUBLE_SECONDS", "recent_trouble_is_told_first_and_fails_while_old_trouble_is_only_listed"),
    _status("secrets-in-the-log", "logging.py", "text = text.replace(secret, HIDDEN)", "pass", "secrets_are_blackened_by_name_and_wherever_they_turn_up"),
)
