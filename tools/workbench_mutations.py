"""Named breaks of the Workbench's client, for `make mutants`; see `tools/mutations.py`.

Enters: nothing. Leaves: MUTATIONS. Layer: none (outside the package).
"""

from __future__ import annotations

from functools import partial

from tools.mutants import Mutation

ROOM = "src/tocsin/sources/workbench/"


def _in(tests: str, name: str, file: str, old: str, new: str, test: str) -> Mutation:
    return Mutation(f"workbench.{name}", ROOM + file, old, new, f"tests/{tests}.py::test_{test}")


_client = partial(_in, "test_workbench_client")
_secret = partial(_in, "test_workbench_secrets")
_NOWHERE = "no_secret_is_in_any_error_file_log_address_or_value"

# fmt: off
MUTATIONS: tuple[Mutation, ...] = (
    _secret("another-port-is-the-same-place", "addresses.py", "return url.scheme, url.host, url.port or", "return url.scheme, url.host, 0 or",
            "links_to_another_host_are_not_followed_and_the_token_stays_here"),
    _secret("redirects-are-followed-blindly", "transport.py", "follow_redirects=False", "follow_redirects=True",
            "redirects_to_another_host_are_not_followed"),
    _secret("http-to-anybody", "addresses.py", 'if base.scheme == "http" and not _is_this_machine(base.host)', "if False",
            "addresses_that_would_give_the_token_away_are_refused"),
    _secret("errors-drag-the-request-along", "transport.py", "            failed = last\n        # Raised",
            "            raise self._given_up(url, tried, last, pause_seconds)\n        # Raised", _NOWHERE),
    _secret("messages-are-not-blackened", "transport.py", 'text = text.replace(written, "[secret]")', "pass", _NOWHERE),
    _secret("a-secret-has-a-repr", "secrets.py", "    def __repr__(self) -> str:\n        return HIDDEN", "    def __repr__(self) -> str:\n        return self.reveal()",
            "a_secret_is_hidden_from_every_way_of_showing_a_value"),
    _secret("answers-show-their-body", "transport.py", "body: bytes = field(repr=False)", "body: bytes = field(repr=True)", _NOWHERE),
    _secret("a-plain-keyring-will-do", "secrets.py", "if guard.priority < TRUSTED_PRIORITY", "if guard.priority < 0",
            "a_keyring_that_keeps_its_secrets_in_a_plain_file_is_given_none"),
    _client("retry-after-is-not-read", "transport.py", "return backoff_seconds * spread if asked is None else asked", "return backoff_seconds * spread",
            "the_wait_that_a_busy_service_asks_for_is_kept_to"),
    _client("the-wait-does-not-grow", "transport.py", "self._pause(answer, attempt.next_wait,", "self._pause(answer, FIRST_WAIT_SECONDS,",
            "trouble_that_passes_is_waited_out_ever_longer"),
    _client("the-end-day-is-included", "export.py", "if moment >= high", "if moment > high",
            "rows_outside_the_range_are_counted_on_both_sides_kept_and_not_asked_for"),
    _client("a-cut-export-is-kept", "export.py", 'if count["rows"] and len(cells) < len(header)', "if False",
            "an_export_that_ends_within_a_row_is_not_kept"),
    _client("only-the-first-page", "client.py", "        following = page.next\n", "        following = None\n",
            "every_page_is_read_of_the_list_and_of_what_hangs_on_an_alert"),
    _client("what-is-here-is-asked-again", "fetch.py", "missing = [i for i in batch if i not in rows]", "missing = list(batch)",
            "one_alert_that_cannot_be_had_is_an_error_beside_the_others_and_is_asked_for_again"),
    _client("a-changed-file-is-trusted", "kept.py", 'digest_of(self.folder / name) == entry["sha256"]', "True",
            "a_file_that_was_changed_is_noticed_and_asked_for_again"),
    _client("after-a-401-others-go-on", "fetch.py", "            self.transport.halt()  # here,", "            pass  # here,",
            "a_session_that_ends_stops_everything_and_what_came_is_not_asked_for_again"),
    _client("what-came-before-a-401-is-lost", "fetch.py", "                        if any(i in rows for i in missing):", "                        if all(i in rows for i in missing):",
            "a_session_that_ends_stops_everything_and_what_came_is_not_asked_for_again"),
    _client("an-id-is-a-path", "client.py", "quote(alert_id, safe='')", "alert_id", "an_id_cannot_lead_to_another_path"),
    _client("local-dates-are-utc", "__init__.py", 'days = Calendar("1d", zone)', 'days = Calendar("1d", "UTC")',
            "everything_inside_the_local_dates_is_kept_as_the_service_has_it"),
)
