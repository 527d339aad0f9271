"""Named breaks of the outputs of a running engine, for `make mutants`; see `tools/mutations.py`.

Enters: nothing. Leaves: MUTATIONS. Layer: none (outside the package).
"""

from __future__ import annotations

from functools import partial

from tools.mutants import Mutation

ROOM = "src/tocsin/runners/live/"


def _in(tests: str, name: str, file: str, old: str, new: str, test: str) -> Mutation:
    return Mutation(f"outputs.{name}", ROOM + file, old, new, f"tests/{tests}.py::test_{test}")


_out = partial(_in, "test_live_outputs")
_to = partial(_in, "test_live_output_addresses")
_JUDGED = "each_address_is_judged_by_what_it_leads_to"
_BAD = "failures_and_slowness_of_a_receiver_lose_nothing_and_change_no_order"
_TORN = "a_torn_last_line_is_cut_and_a_whole_one_ended"

# fmt: off
MUTATIONS: tuple[Mutation, ...] = (
    _out("noted-before-it-is-delivered", "outputs.py", "            if wanted and not self._persist(wanted):\n                return\n            self._note(part[-1])",
         "            self._note(part[-1])\n            if wanted and not self._persist(wanted):\n                return",
         "what_a_kill_came_between_is_delivered_again_under_the_same_key_and_nothing_is_lost"),
    _out("a-new-output-begins-with-the-oldest", "outputs.py", "place = cls(path, *log.last())", "place = cls(path, 0, None)",
         "a_file_gets_each_new_alert_as_a_line_that_its_owner_alone_may_read"),
    _out("the-place-is-a-number-only", "outputs.py", "log.seq_of(alert_id) if alert_id is not None else None", "None",
         "in_another_log_an_output_goes_on_after_the_same_alert_or_at_its_end"),
    _out("a-thread-left-alone-goes-on", "outputs.py", "            if not self._place_is_ours:\n                return", "            pass",
         "a_thread_that_was_left_alone_writes_its_place_down_no_more"),
    _out("a-refused-alert-blocks", "outputs.py", "if refused >= self._patience.tries:", "if refused < 0:",
         "an_alert_that_is_refused_five_times_is_set_aside_and_the_next_ones_come"),
    _out("unknown-severity-is-left-out", "outputs.py", "frozenset({SEVERITIES[0], *SEVERITIES[least:]})", "frozenset(SEVERITIES[least:])",
         "only_alerts_of_at_least_the_severity_are_brought_and_those_of_unknown_severity"),
    _out("backtests-are-delivered", "../../alerts/reading.py", ".where(table.seq > seq, table.source == source)", ".where(table.seq > seq)",
         "a_file_gets_each_new_alert_as_a_line_that_its_owner_alone_may_read"),
    _out("torn-stays", "jsonl.py", "os.ftruncate(file, begin)\n        else", "pass\n        else", _TORN),
    _out("anything-is-cut", "jsonl.py", 'elif tail[: len(_BEGINS)] == _BEGINS[: len(tail)] or not tail.strip(b"\\0"):', "elif tail:",
         "the_last_line_of_somebody_else_is_never_cut"),
    _out("half-a-batch-stays", "jsonl.py", "                    os.ftruncate(file, begin)\n                raise", "                    pass\n                raise",
         "of_a_batch_that_could_not_be_written_whole_nothing_stays"),
    _out("moved-files-are-written-on", "jsonl.py", "return os.path.samestat(self._path.stat(), os.fstat(file))", "return True",
         "a_file_that_was_moved_away_is_begun_anew"),
    _out("retry-after-is-ignored", "delivery.py", "return max(own, min(asked or 0.0, self.longest_asked_seconds))", "return own", _BAD),
    _out("a-cut-answer-counts", "wire.py", "if not got and not self.may_end:", "if False:",
         "stopping_waits_neither_for_a_receiver_that_hangs_nor_for_the_next_attempt"),
    _out("timestamp-is-not-signed", "webhook.py", "timestamp.encode() + b'.' + body", "body",
         "the_receiver_of_the_docs_accepts_what_is_sent_with_either_secret_and_nothing_else"),
    _out("a-file-for-all-is-no-secret", "private.py", "mode & (stat.S_IRWXG | stat.S_IRWXO)", "mode & stat.S_IRWXO",
         "a_secret_that_is_missing_short_or_open_to_others_is_refused_before_anything_runs"),
    _to("mapped-addresses-are-ipv6", "wire.py", "return address.ipv4_mapped or address.sixtofour or address", "return address", _JUDGED),
    _to("translated-addresses-are-ipv6", "wire.py", "if address in _TRANSLATED:", "if False:", _JUDGED),
    _to("multicast-is-allowed", "wire.py", "if address.is_multicast:", "if False:", _JUDGED),
    _to("the-last-address-decides", "wire.py", "        for *_, target in found:\n            why =", "        for *_, target in found[:1]:\n            why =",
        "a_name_of_which_any_address_is_not_public_is_not_connected_to"),
    _to("the-name-is-connected-to", "wire.py", "held.connect(target)", "held.connect((self._url.host, *target[1:]))",
        "the_address_that_was_checked_is_the_one_connected_to_and_the_next_connection_is_checked_again"),
    _to("http-to-anywhere", "wire.py", "if not why and not self._secure and not why_refused(target[0]):", "if False:",
        "over_http_nothing_is_sent_to_a_public_address_whatever_is_allowed"),
    _to("numbers-are-names", "wire.py", "if why := why_refused(address, allow_private=allow_private):", "if False:",
        "numbers_are_refused_when_the_settings_are_read"),
    _to("certificates-are-of-anybody", "wire.py", "server_hostname=self._url.raw_host.decode()", 'server_hostname="soc.example"',
        "https_names_the_host_verifies_its_certificate_and_goes_to_the_checked_address"),
)
# fmt: on
