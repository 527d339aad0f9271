"""`tocsin simulate`: events, geography and a threat list with planted stories, and the truth about them.

Enters: sizes and a seed. Leaves: a folder of files; the same seed gives the same bytes. Layer: faces.
"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tocsin.faces.options import Flag, UsageError, instant
from tocsin.faces.terminal import new_console, safe, spinner, whole


def simulate(
    folder: Annotated[Path, Parameter(name="FOLDER", help="Where the files go; made if it is not there.")],
    /,
    *,
    users: Annotated[int, Parameter(help="How many users; each has about 12 events a day.")] = 1000,
    days: Annotated[int, Parameter(help="How many days.")] = 90,
    seed: Annotated[int, Parameter(help="The same seed gives the same bytes.")] = 7,
    start: Annotated[str | None, Parameter(help="First day, a midnight in UTC.", metavar="DATE")] = None,
    stories: Annotated[bool, Parameter(help="Plant stories for rules to find; without them nothing happens.")] = True,
    truth: Annotated[
        bool, Parameter(help="Write truth.json and population.parquet: what a detector must not see.")
    ] = True,
    jsonl: Annotated[bool, Flag, Parameter(help="Write the events as JSONL too.")] = False,
) -> int:
    """Simulate mail and logins of users with habits of their own, with planted stories and innocent look-alikes."""
    from tocsin.errors import SourceError
    from tocsin.sources.simulate.run import DEFAULT_START, simulate_to

    try:
        with spinner(f"simulating {whole(users)} users over {whole(days)} days"):
            begin = instant(start, "--start") or DEFAULT_START
            written = simulate_to(folder, users, days, seed, start=begin, stories=stories, truth=truth, jsonl=jsonl)
    except SourceError as error:
        raise UsageError(str(error)) from None
    files = ", ".join(sorted(p.name for p in folder.iterdir() if p.is_file()))
    new_console().print(f"{whole(written)} events written to {safe(folder)}: {safe(files)}")
    return 0
