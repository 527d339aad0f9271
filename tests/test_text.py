"""Claims about strings written by attackers: no face that uses these helpers can be made to act on them."""

from __future__ import annotations

import csv
import io
import unicodedata

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tocsin.text import escape_terminal, escape_terminal_expr, guard_formula, guard_formulas, has_unsafe

ANYTHING = st.text(st.characters(exclude_categories=()), max_size=40)
VALID = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


@given(ANYTHING)
@example("\u07fb")  # a place of the right-to-left block that no character has yet
def test_no_control_ansi_or_bidi_character_survives_escaping(text: str) -> None:
    escaped = escape_terminal(text)
    assert not has_unsafe(escaped)
    assert all(c.isprintable() or unicodedata.category(c) in {"Zs", "Cn", "Co"} or ord(c) > 0x2000 for c in escaped)
    escaped.encode("utf-8")


@pytest.mark.parametrize(
    ("attack", "shown"),
    [
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\nb\rc\td", "a\\nb\\rc\\td"),
        ("gnp\u202eexe", "gnp\\u202eexe"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_an_attacker_hid_is_shown(attack: str, shown: str) -> None:
    assert escape_terminal(attack) == shown


def test_plain_text_of_any_script_is_left_alone() -> None:
    assert escape_terminal("Grüße, 世界, שלום, 🎉") == "Grüße, 世界, שלום, 🎉"


@given(VALID)
def test_the_column_form_escapes_what_the_string_form_escapes(text: str) -> None:
    column = pl.select(escape_terminal_expr(pl.lit(text))).item()
    assert has_unsafe(text) == (column != text)
    assert not has_unsafe(column)


@pytest.mark.parametrize(
    "attack", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "  =cmd|' /C calc'!A0", "=", "\uff1d1+1"]
)
def test_no_spreadsheet_takes_a_guarded_value_for_a_formula(attack: str) -> None:
    assert guard_formula(attack) == "'" + attack
    assert guard_formulas(pl.DataFrame({"a": [attack]}))["a"].item() == "'" + attack


@given(VALID)
def test_guarding_a_frame_and_guarding_its_strings_agree(text: str) -> None:
    assert guard_formulas(pl.DataFrame({"a": [text]}))["a"].item() == guard_formula(text)


def test_numbers_stay_numbers_and_lists_become_text() -> None:
    frame = guard_formulas(pl.DataFrame({"n": ["-12.5", "+3"], "l": [["=1", "b"], []], "s": [{"a": 1}, {"a": 2}]}))
    assert frame["n"].to_list() == ["-12.5", "+3"]
    assert frame["l"].to_list() == ['["=1","b"]', "[]"]
    assert list(csv.reader(io.StringIO(frame.write_csv())))[1][2] == '{"a":1}'
