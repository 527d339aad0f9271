"""What the tests of the command line share: hostile strings, a rule file, and what a command gave."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from tocsin.text import has_unsafe

ESCAPE, OVERRIDE, MARKUP = "\x1b[31mred\x1b[0m", "invoice\u202egnp.exe", "[bold red]markup[/]"
HOSTILE = ("=cmd|'/c calc'!A1", f"{ESCAPE}{OVERRIDE}{MARKUP}", "\x9b2J", "line\nbreak\ttab\x07")

RULES = """
import tocsin as tc

DETECTIONS = (
    tc.Detection(
        id="mail.many-recipients", title="Many recipients", severity="low", on=tc.col("kind") == "mail", entity="user_id",
        score=tc.col("nr_recipients"), when=tc.score > {limit}, evidence=("src_ip",),
        examples=(
            tc.Example(fires=True, events=[{{"kind": "mail", "user_id": "a", "nr_recipients": {fires}}}]),
            tc.Example(fires=False, events=[{{"kind": "mail", "user_id": "a", "nr_recipients": 1}}]),
        ),
    ),
)
"""


@dataclasses.dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out)


def rule_file(folder: Path, name: str = "mine.py", limit: int = 10, fires: int = 11) -> Path:
    path = folder / name
    path.write_text(RULES.format(limit=limit, fires=fires), encoding="utf-8")
    return path


def assert_inert(done: Done) -> None:
    for line in (done.out + done.err).splitlines():
        assert not has_unsafe(line), repr(line)
