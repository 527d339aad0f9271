"""Named breaks of the decoder, the drop folder and the dead letters, for `make mutants`; see `tools/mutations.py`.

Enters: nothing. Leaves: MUTATIONS. Layer: none (outside the package).
"""

from __future__ import annotations

from functools import partial

from tools.mutants import Mutation

LIVE = "src/tocsin/sources/live/"
LETTERS = "src/tocsin/runners/live/deadletters.py"


def _in(tests: str, name: str, file: str, old: str, new: str, test: str) -> Mutation:
    return Mutation(f"decode.{name}", file, old, new, f"tests/{tests}.py::test_{test}")


_decode = partial(_in, "test_live_decode")
_folder = partial(_in, "test_live_folder")
_letter = partial(_in, "test_dead_letters")
_CUT = "any_cut_of_a_file_gives_the_events_ids_and_rejects_of_the_whole"
_TAKEN = "spans_can_be_taken_again_before_and_after_opening_in_any_order"

# fmt: off
MUTATIONS: tuple[Mutation, ...] = (
    _decode("careful-lines-come-last", LIVE + "decode.py", "order = rows_of.arg_sort()", "order = pl.Series(range(len(rows_of)))", _CUT),
    _decode("offsets-are-lines", LIVE + "decode.py", "found = found if piece.numbers is None else [_numbered(p, piece.numbers) for p in found]",
            "found = list(found)", "numbers_of_records_are_their_ids_and_find_the_raw_record"),
    _decode("cells-are-letters", LIVE + "decode.py", "                if not kept:", "                if kept or not kept:", _CUT),
    _decode("tomorrow-is-absurd", LIVE + "decode.py", "now=_END_OF_TIME", "now=datetime(2100, 1, 1, tzinfo=UTC)",
            "time_has_no_end_unless_the_mapping_gives_it_one"),
    _decode("long-fields-pass-over", LIVE + "decode.py", "(text.str.len_bytes().max() or 0) > MAX_FIELD_BYTES", "False",
            "poison_ends_byte_for_byte_in_a_letter_and_the_others_go_on"),
    _decode("every-letter-is-whole", LIVE + "decode.py", "whole = whole and len(kept) == len(record)", "whole = bool(kept)",
            "a_record_too_large_to_keep_leaves_its_beginning"),
    _decode("the-batch-stamps-over-the-piece", LIVE + "decode.py", "[piece.received_at or received_at]", "[received_at]",
            "stamps_are_the_pieces_or_the_batchs_unless_the_record_says"),
    _folder("pieces-overlap", LIVE + "dropped.py", "held.given, self.at = last, self.at + last - given", "held.given, self.at = last, self.at + last - given - 1", _TAKEN),
    _folder("faults-come-twice", LIVE + "dropped.py", "and (until is None or fault[0] <= until)", "and bool(fault)", _TAKEN),
    _folder("a-replaced-file-is-the-same", LIVE + "folder.py", "again = self._ledger.knows_name(found.name)", "again = False",
            "a_file_is_read_once_and_one_that_replaces_it_is_another"),
    _folder("the-mark-swallows-newcomers", LIVE + "folder.py", "(found.key <= self._mark and found.ctime_ns <= self._mark_ctime_ns)", "found.key <= self._mark",
            "a_position_stays_small_in_a_folder_that_grows_and_nothing_is_read_twice_or_missed"),
    _folder("no-settling", LIVE + "folder.py", "return not self._follow or unchanged_seconds >= self._settle_seconds", "return True",
            "a_file_is_left_alone_until_it_has_not_changed_for_the_settling_time"),
    _folder("changes-are-not-seen", LIVE + "folder.py", 'return "" if same else', 'return "" if now else',
            "a_file_that_changes_or_goes_while_it_is_read_is_told"),
    _letter("marked-before-sent", LETTERS, "            spool.append([r for _, r in sent], now, partition=partition, source=source)\n            self._mark([key for key, _ in sent], RESENT)",
            "            self._mark([key for key, _ in sent], RESENT)\n            spool.append([r for _, r in sent], now, partition=partition, source=source)",
            "what_the_spool_did_not_take_still_waits"),
    _letter("letters-are-doubled", LETTERS, '"INSERT OR IGNORE INTO letters', '"INSERT OR REPLACE INTO letters',
            "a_letter_is_kept_once_byte_for_byte_and_for_the_owner_alone"),
    _letter("bytes-are-not-bounded", LETTERS, 'while table == "letters" and', 'while table == "letter" and',
            "the_oldest_go_first_by_number_bytes_and_age_and_are_counted"),
    _letter("others-may-read", LETTERS, "os.O_CREAT | os.O_RDWR, 0o600", "os.O_CREAT | os.O_RDWR, 0o644",
            "a_letter_is_kept_once_byte_for_byte_and_for_the_owner_alone"),
)
