"""`tocsin simulate`: events, geography, networks and a threat list with planted stories, and the truth about them.

Enters: sizes and a seed. Leaves: a folder of files; the same seed gives the same bytes. Layer: faces.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tocsin.faces import export
from tocsin.faces.options import Flag, UsageError, instant
from tocsin.faces.terminal import Column, make_table, new_console, numeric, progress_bar, safe, whole

if TYPE_CHECKING:
    from tocsin.sources.simulate import Written


def simulate(
    folder: Annotated[Path, Parameter(name="FOLDER", help="Where the files go; made if it is not there.")],
    /,
    *,
    users: Annotated[int, Parameter(help="How many users; each has about 12 events a day.")] = 1000,
    days: Annotated[int, Parameter(help="How many days.")] = 90,
    seed: Annotated[int, Parameter(help="The same seed gives the same bytes.")] = 7,
    start: Annotated[str | None, Parameter(help="First day, a midnight in UTC.", metavar="DATE")] = None,
    stories: Annotated[
        str,
        Parameter(
            help="What is planted: all, none, or kinds with commas between.",
            metavar="KINDS",
        ),
    ] = "all",
    drift: Annotated[
        float, Parameter(help="Standard deviation of the logarithm of everybody's change in attachments, half-way.")
    ] = 0.0,
    truth: Annotated[
        bool, Parameter(help="Write truth.json and population.parquet: what a detector must not see.")
    ] = True,
    jsonl: Annotated[bool, Flag, Parameter(help="Write the events as JSONL too.")] = False,
    json: Annotated[bool, Flag, Parameter(help="Print one JSON document and nothing else.")] = False,
) -> int:
    """Simulate mail and logins of users with habits of their own, with planted stories and innocent look-alikes."""
    from tocsin.errors import SourceError
    from tocsin.sources.simulate import kinds_of, simulate_to
    from tocsin.sources.simulate.run import DEFAULT_START

    try:
        kinds, begin = kinds_of(stories), instant(start, "--start") or DEFAULT_START
        with progress_bar(f"simulating {whole(users)} users", days, "days") as progress:
            written = simulate_to(
                folder,
                users,
                days,
                seed,
                start=begin,
                stories=kinds,
                drift=drift,
                truth=truth,
                jsonl=jsonl,
                progress=progress,
            )
    except SourceError as error:
        raise UsageError(str(error)) from None
    rows = _planted(written)
    if json:
        sizes = {"users": users, "days": days, "seed": seed, "start": begin, "drift": drift}
        files = [folder / name for name in written.files]
        export.print_json("simulate", sizes | {"events": written.events, "files": files, "planted": rows})
    else:
        _show(folder, written, rows)
    return 0


def _planted(written: "Written") -> list[dict[str, object]]:
    from tocsin.sources.simulate import INNOCENT_KINDS

    return [
        {"kind": kind, "innocent": kind in INNOCENT_KINDS, "stories": count, "users": written.users_of[kind]}
        for kind, count in written.planted.items()
    ]


def _show(folder: Path, written: "Written", rows: list[dict[str, object]]) -> None:
    from tocsin.sources.simulate.files import FILES

    console = new_console()
    console.print(f"{whole(written.events)} events written to {safe(folder)}")
    console.print()
    files = [{"file": name, "holds": FILES[name]} for name in written.files]
    console.print(make_table(files, [Column("file", "file", style="bold"), Column("holds", "holds")], console.width))
    for innocent, title in ((False, "Planted stories"), (True, "Innocent look-alikes")):
        some = [row for row in rows if row["innocent"] is innocent]
        if some:
            columns = [Column("kind", "kind", style="bold"), numeric("stories", "times"), numeric("users", "users")]
            console.print()
            console.print(make_table(some, columns, console.width, title))
    if not rows:
        console.print("\nNothing is planted.")
