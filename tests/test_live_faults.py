"""What may happen to a running engine happens to real ones here, and what they wrote equals the replay.

Layer: tests. The long form (``TOCSIN_SOAK=1``, `make soak`) kills an engine a hundred times over a million events.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from tests.live_process import SOAK, assert_same, engine, log_of, replay, write_log

if TYPE_CHECKING:
    from pathlib import Path

EVENTS, KILLS = (1_000_000, 100) if SOAK else (20_000, 4)
SETTINGS = """
state = "state"
log = "soc.db"
keep_scores = true
[batches]
rows = {rows}
[snapshots]
every_seconds = 0.3
full_every = 5
[[sources]]
kind = "file"
name = "mail"
path = "mail.jsonl"
"""


def settings(folder: Path, rows: int = 500, more: str = "") -> str:
    """A settings file for the log mail.jsonl in the folder; snapshots come often, batches are small."""
    (folder / "soc.toml").write_text(SETTINGS.format(rows=rows) + more)
    return "soc.toml"


def test_an_engine_killed_at_random_moments_and_started_again_ends_with_every_score_of_the_replay(tmp_path):
    seed = random.SystemRandom().randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    path = write_log(tmp_path / "mail.jsonl", log_of(EVENTS))
    asked = settings(tmp_path, 10_000 if SOAK else 500)
    numbers = []
    for _ in range(KILLS):
        with engine(tmp_path, asked) as running:
            running.until(lambda s: s["mode"] == "live", "going on after a kill")
            time.sleep(chance.uniform(0, 1.5))
            running.kill()
            numbers.append(len(list((tmp_path / "state" / "batches").iterdir())))
    with engine(tmp_path, asked, "--finish") as last:
        assert last.wait() == 0, last.tail()
    assert_same(tmp_path, replay(path))
