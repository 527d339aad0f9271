"""The simulated organisation that the whole rule set is run on, written once and kept.

Enters: a size and a folder. Leaves: the files that `tocsin simulate` writes, and how many events there are.
Layer: none (outside the package).

The made-up events of `data.py` have no outcome, device or network; rules that need them would be skipped. The
simulation has all that the shipped rules read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

SCHEMA_VERSION = 1  # raise when the simulation changes, so that kept files are made again


@dataclass(frozen=True)
class Organisation:
    """How large it is: a user has eleven or twelve events a day."""

    users: int
    days: int
    seed: int = 7

    @property
    def name(self) -> str:
        """The folder's name."""
        return f"sim-{self.users}-{self.days}-{self.seed}"

    def make(self, folder: Path) -> Simulated:
        """Return its files, making them first if they are not there."""
        from tocsin.sources.simulate import simulate_to

        target = folder / self.name
        done = target / "done.json"
        if not done.exists() or json.loads(done.read_text())["version"] != SCHEMA_VERSION:
            print(f"  simulating {self.users:,} users over {self.days} days", flush=True)
            written = simulate_to(target, self.users, self.days, self.seed, truth=False)
            done.write_text(json.dumps({"version": SCHEMA_VERSION, "events": written.events}))
        return Simulated(self, target, json.loads(done.read_text())["events"])


FULL = Organisation(users=10_000, days=85)  # 10 M events
QUICK = Organisation(users=300, days=50)
TINY = Organisation(users=40, days=12)


@dataclass(frozen=True)
class Simulated:
    """Where the simulated files lie."""

    size: Organisation
    folder: Path
    rows: int

    @property
    def events(self) -> Path:
        """Mails and logins in time order."""
        return self.folder / "events.parquet"

    @property
    def references(self) -> dict[str, Path]:
        """What `tc.reference` takes."""
        names = {"geo": "geo.csv.gz", "networks": "networks.csv.gz", "threats": "threats.csv"}
        return {name: self.folder / file for name, file in names.items()}
