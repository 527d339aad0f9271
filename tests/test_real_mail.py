"""docs/real-mail.md says of the real mail what the rules say of it.

Layer: tests.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import tocsin as tc

PAGE = Path(__file__).parent.parent / "docs" / "real-mail.md"


@pytest.mark.needs("shared-data")
def test_the_page_on_real_mail_counts_as_the_backtest_does(shared_data: Path) -> None:
    events = tc.read(shared_data / "spamassassin-mail.jsonl.gz")
    refs = tc.reference(geo="country", threats=shared_data / "ipsum-level3.txt")
    past = tc.backtest(tc.rules.ALL, events, refs)
    labels = events.frame().select("event_id", spam=pl.col("label").str.starts_with("spam")).collect()
    found = past.findings.join(labels, on="event_id")
    page = PAGE.read_text(encoding="utf-8")
    rules = ("mail.many-recipients", "mail.rate-vs-population", "mail.rate-outside-population", "mail.hourly-volume-vs-self",
             "network.outside-home")  # fmt: skip
    for rule in rules:
        mine = found.filter(pl.col("detection_id") == rule)
        cells = f"| `{rule}` | {mine.height:,} | {mine['entity'].n_unique():,} | {int(mine['spam'].sum()):,} |"
        assert cells in page
    assert set(found["detection_id"]) == set(rules), "what is not on the page did not fire"
    assert (events.counts.accepted, events.counts.rejected, events.counts.cells) == (5974, 72, 211)
