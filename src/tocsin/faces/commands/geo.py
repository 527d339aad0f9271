"""`tocsin geo import`: convert a geo source once into the file that loads fastest.

Enters: CSV, Parquet or MMDB. Leaves: one Parquet table. Layer: faces.
"""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from tocsin.faces import export
from tocsin.faces.options import Flag, instant
from tocsin.faces.terminal import new_console, progress_bar, safe, whole

geo = App(name="geo", help="Tables that say where an address is.")


@geo.command(
    name="import",
    help_epilogue="Examples:\n  tocsin geo import city.mmdb city.parquet\n  tocsin backtest mail.jsonl.gz --geo city.parquet",
)
def import_geo(
    source: Annotated[
        Path,
        Parameter(
            name="SOURCE",
            help="CSV (.gz, .zst) with lo_addr, hi_addr, latitude, longitude, country_iso_code, city_name; Parquet; MMDB.",
        ),
    ],
    target: Annotated[Path, Parameter(name="TARGET", help="The file to write: .parquet")],
    /,
    *,
    valid_from: Annotated[
        str | None,
        Parameter(help="The table is one of several versions, to be used from this time on.", metavar="TIME"),
    ] = None,
    json: Annotated[bool, Flag, Parameter(help="Print one JSON document and nothing else.")] = False,
) -> int:
    """Import a geo table: check its ranges, merge neighbours, write one Parquet file."""
    from tocsin.geo import geo_import

    export.check_target(target, (".parquet",))
    since = instant(valid_from, "--valid-from")
    with progress_bar(f"importing {source.name}", None, "ranges") as tick:
        table = geo_import(
            source, target, valid_from=since, progress=None if tick is None else lambda done, _total: tick(done)
        )
    countries, cities = (table.frame[name].n_unique() for name in ("country_iso_code", "city_name"))
    about = {key: text for key in ("attribution", "source") if (text := table.notes.get(key))}
    if json:
        facts = {"file": target, "ranges": table.frame.height, "countries": countries, "cities": cities}
        export.print_json("geo import", {**facts, "valid_from": since, "notes": about})
        return 0
    console = new_console()
    console.print(
        f"{whole(table.frame.height)} ranges, {whole(countries)} countries, {whole(cities)} cities written to {safe(target)}"
    )
    for text in about.values():
        console.print(safe(text))
    return 0
