"""Named breaks of the growing file, the spool and stdin, for `make mutants`; see `tools/mutations.py`.

Enters: nothing. Leaves: MUTATIONS. Layer: none (outside the package).
"""

from __future__ import annotations

from functools import partial

from tools.mutants import Mutation

LIVE = "src/tocsin/sources/live/"


def _in(tests: str, name: str, file: str, old: str, new: str, test: str) -> Mutation:
    return Mutation(f"live.{name}", LIVE + file, old, new, f"tests/{tests}.py::test_{test}")


_tail = partial(_in, "test_live_tail")
_spool = partial(_in, "test_live_spool")

# fmt: off
MUTATIONS: tuple[Mutation, ...] = (
    _tail("an-inode-is-enough", "tail_files.py", "if file.holds(position):", "if file.inode:",
          "an_inode_that_is_given_out_again_is_not_mistaken_for_the_old_file"),
    _tail("first-bytes-are-not-looked-at", "tail.py", "or not head.startswith(self._head):\n            return True", "or False:\n            return True",
          "a_file_written_anew_and_longer_than_before_is_known_by_its_first_bytes"),
    _tail("a-shorter-file-is-the-same", "tail.py", "facts.st_size < self._place.offset or not", "not",
          "a_file_cut_to_a_part_of_itself_is_begun_anew_too"),
    _tail("a-rotated-file-is-left-at-once", "tail.py", "if following is None and self._follow:", "if False:",
          "a_renamed_file_is_read_to_its_end_before_the_new_one"),
    _tail("an-empty-new-file-is-enough", "tail_files.py", "return path.stat().st_size > 0", "return path.stat().st_size >= 0",
          "a_renamed_file_is_read_to_its_end_before_the_new_one"),
    _tail("counted-files-go-upwards", "tail_files.py", "later.append((0, -number, tag))", "later.append((0, number, tag))",
          "several_rotations_between_two_polls_are_followed_in_their_order"),
    _tail("the-copy-is-not-read", "tail.py", "if (copy := find(self._path, position)) is not None:", "if (copy := None) is not None:",
          "what_was_written_before_a_file_was_copied_and_cut_is_read_from_the_copy"),
    _tail("the-limit-counts-the-newline", "tail.py", "limit = offset + self._max_line + 1", "limit = offset + self._max_line",
          "a_line_that_is_too_long_is_one_fault_and_the_lines_around_it_are_read"),
    _tail("passing-over-is-forgotten", "tail.py", 'saved["line"], saved["passing"])', 'saved["line"], False)',
          "a_line_that_is_too_long_is_one_fault_and_the_lines_around_it_are_read"),
    _tail("the-end-does-not-number-on", "tail.py", "place.line + lines)\n            at +=", "place.line)\n            at +=",
          "beginning_at_the_end_keeps_the_numbers_of_the_lines_and_an_unfinished_line"),
    _tail("the-mark-is-a-record", "tail.py", 'if stop["since"] == 0:', 'if stop["since"] == 1:',
          "what_a_file_holds_is_read_as_the_file_itself_is_read"),
    _tail("a-quiet-poll-reads", "tail.py", "if seen is not None and seen == self._idle:", "if seen is None and seen == self._idle:",
          "a_poll_in_which_nothing_came_looks_once_at_the_path"),
    _spool("a-torn-end-stays", "spool.py", "os.ftruncate(self._fd, offset + whole)", "pass",
           "a_segment_cut_at_any_byte_gives_the_frames_before_it_and_takes_more"),
    _spool("records-are-not-checked", "spool_frames.py", "if zlib.crc32(memoryview(data)[HEADER_BYTES:]) != check:", "if False:",
           "a_segment_with_any_byte_flipped_is_named_as_damaged_and_never_read_wrongly"),
    _spool("damage-is-a-torn-end", "spool_frames.py", "if at + size == len(data) and _has_holes(data, at, at + size):", "if at + size == len(data):",
           "a_segment_with_any_byte_flipped_is_named_as_damaged_and_never_read_wrongly"),
    _spool("a-failed-write-stays", "spool.py", "os.ftruncate(self._fd, end.offset)\n            raise", "raise",
           "a_full_disk_leaves_nothing_of_the_records_and_later_appends_work"),
    _spool("readers-are-ahead-of-the-disk", "spooled.py", "limit = end.offset if place.segment == end.segment else self._size(place)", "limit = self._size(place)",
           "readers_see_nothing_that_is_not_on_the_disk"),
    _spool("each-writer-syncs", "spool.py", "tickets, self._pending = self._pending, []", "tickets, self._pending = self._pending[:1], self._pending[1:]",
           "writers_that_wait_together_share_a_sync"),
    _spool("what-is-needed-goes", "spool.py", "if following > up_to:", "if following > up_to + 5:",
           "segments_that_nobody_needs_go_and_numbers_go_on"),
    _spool("there-is-always-room", "spool.py", "+ ticket.packed.size > self.max_bytes", "+ ticket.packed.size < 0",
           "a_full_spool_takes_nothing_until_something_is_released"),
    _spool("no-turns-between-processes", "spool.py", "fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)", "fcntl.LOCK_SH",
           "two_processes_append_to_one_spool_while_a_third_reads_it"),
    _spool("a-gap-is-passed-in-silence", "spooled.py", "if following != place.number:", "if following == 0:",
           "a_missing_segment_is_named_once_and_reading_goes_on_behind_it"),
    _spool("numbers-are-given-twice", "spooled.py", "            self._spool.skip_to(number)\n", "",
           "a_number_is_never_given_twice_even_if_the_spool_lost_its_end"),
    _spool("all-times-are-one", "spooled.py", "return same and abs(other.received_at - first.received_at) <= TOGETHER", "return same",
           "records_received_together_make_one_piece_and_others_do_not"),
    _spool("stdin-drops-what-has-no-room", "stdin.py", "self._stop.wait(_WAIT_SECONDS)", "return",
           "stdin_waits_while_the_spool_is_full_and_loses_nothing"),
    _spool("the-last-line-needs-its-end", "stdin.py", "if held and not self._stop.is_set():", "if False:",
           "stdin_is_read_line_by_line_to_its_end_with_the_numbers_of_its_lines"),
)
