"""Claims about the standard columns: each is documented, and found under the names other schemas give it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tocsin.schema import ALWAYS, KINDS, REQUIRED, STANDARD, schema_markdown, standard_name

ISSUE_COLUMNS = {
    "event_id", "timestamp", "kind", "user_id", "src_ip", "dst_ip", "nr_recipients", "attachments", "nr_attachments",
}  # fmt: skip


def test_every_promised_column_is_standard_and_explained() -> None:
    assert not ISSUE_COLUMNS - STANDARD.keys()
    for column in STANDARD.values():
        assert column.kind in KINDS
        assert column.meaning.endswith(".")
        assert column.unit


def test_required_and_ever_present_columns_are_standard() -> None:
    assert set(REQUIRED) | set(ALWAYS) <= STANDARD.keys()


@pytest.mark.parametrize("column", STANDARD.values(), ids=lambda c: c.name)
def test_a_column_is_found_under_its_ecs_and_ocsf_name_and_its_aliases(column) -> None:
    for name in (column.name, column.ecs, column.ocsf, *column.aliases):
        if name:
            found = standard_name(name)
            assert found is not None
            assert found == column.name or name in {STANDARD[found].ecs, STANDARD[found].ocsf}, (name, found)


def test_times_are_microseconds_in_utc() -> None:
    assert STANDARD["timestamp"].dtype == pl.Datetime("us", "UTC")


def test_the_documented_table_is_the_code_s_own() -> None:
    page = Path(__file__).parent.parent / "docs" / "events.md"
    assert schema_markdown() in page.read_text(encoding="utf-8")
