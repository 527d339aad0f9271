"""The notebook's cells on an export of the stand-in Workbench, fetched, imported and measured: golden numbers, side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from golden_export import GOLDEN, WHY, numbers


@pytest.mark.needs("pandas")
def test_each_cells_numbers_stand_beside_ours_as_they_were_kept_with_the_reason(tmp_path: Path) -> None:
    kept = json.loads(GOLDEN.read_text(encoding="utf-8"))
    found = numbers(tmp_path / "raw")
    assert list(found) == list(kept) == list(WHY)
    for cell in found:
        assert found[cell] == kept[cell], cell
