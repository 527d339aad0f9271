"""Build the country table that ships in src/tocsin/data from the npm package @ip-location-db/dbip-country.

Usage: python tools/build_country_table.py PACKAGE_FOLDER [TARGET]
PACKAGE_FOLDER holds dbip-country-ipv4.csv and dbip-country-ipv6.csv (rows: first address, last address, country).
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from tocsin.geo import geo_from_frame, merge_neighbours
from tocsin.tables import RANGE_KEY, Table

COLUMNS = ["lo_addr", "hi_addr", "country_iso_code"]
FILES = ("dbip-country-ipv4.csv", "dbip-country-ipv6.csv")
TARGET = Path(__file__).parent.parent / "src" / "tocsin" / "data" / "country.parquet"


def main(folder: Path, target: Path) -> None:
    """Read both families, merge neighbours, save, and print what was written."""
    read = [pl.read_csv(folder / name, has_header=False, new_columns=COLUMNS, infer_schema=False) for name in FILES]
    notes = {
        "source": "DB-IP IP to Country Lite, through npm @ip-location-db/dbip-country 2.3.2026060120",
        "licence": "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)",
        "attribution": "IP Geolocation by DB-IP (https://db-ip.com)",
        "changes": "written as one Parquet table; neighbouring ranges of one country joined where there are any",
    }
    table = geo_from_frame(pl.concat(read), name="country", notes=notes)
    merged = Table("country", merge_neighbours(table.frame), RANGE_KEY, table.values, notes=notes)
    merged.save(target)
    print(f"{target}: {table.frame.height:,} ranges in, {merged.frame.height:,} out, {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else TARGET)
