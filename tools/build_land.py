"""Build the outline of the land that ships in src/tocsin/data from the npm package world-atlas.

Usage: python tools/build_land.py PACKAGE_FOLDER [TARGET]
PACKAGE_FOLDER holds land-110m.json (TopoJSON of Natural Earth's 1:110m land). Written are rings of whole hundredths of
a degree, cut at 180 degrees east and west so that each can be drawn on a flat map.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent.parent / "src" / "tocsin" / "data" / "land.json"
NOTES = {
    "source": "Natural Earth 1:110m land (public domain), through npm world-atlas 2.0.2 (ISC, Michael Bostock)",
    "changes": "rings cut at 180 degrees, whole hundredths of a degree",
}
Point = tuple[float, float]
HALF = 180.0


def arcs_of(topology: dict[str, Any]) -> list[list[Point]]:
    """Return the arcs in degrees: TopoJSON keeps whole numbers, each the difference from the one before."""
    (sx, sy), (tx, ty) = topology["transform"]["scale"], topology["transform"]["translate"]
    arcs = []
    for arc in topology["arcs"]:
        x = y = 0
        points = []
        for dx, dy in arc:
            x, y = x + dx, y + dy
            points.append((x * sx + tx, y * sy + ty))
        arcs.append(points)
    return arcs


def ring_of(numbers: Iterable[int], arcs: list[list[Point]]) -> list[Point]:
    """Put a ring together from its arcs; a negative number is an arc walked backwards."""
    ring: list[Point] = []
    for number in numbers:
        points = arcs[number] if number >= 0 else arcs[~number][::-1]
        ring += points[1:] if ring else points
    return ring


def unwrapped(ring: list[Point]) -> list[Point]:
    """Return a ring without jumps at 180 degrees; one that goes round a pole is closed along the pole."""
    out = [ring[0]]
    for x, y in ring[1:]:
        turn = round((out[-1][0] - x) / 360) * 360
        out.append((x + turn, y))
    if abs(out[-1][0] - out[0][0]) > HALF:
        pole = -90.0 if sum(y for _, y in out) < 0 else 90.0
        out += [(out[-1][0], pole), (out[0][0], pole)]
    return out


def clipped(ring: list[Point], edge: float, *, keep_east: bool) -> list[Point]:
    """Return what of a ring lies on one side of a meridian (Sutherland and Hodgman 1974, one edge)."""
    out: list[Point] = []
    for (x0, y0), (x1, y1) in zip([ring[-1], *ring[:-1]], ring, strict=True):
        inside0, inside1 = ((x >= edge) == keep_east or x == edge for x in (x0, x1))
        if inside0 != inside1:
            out.append((edge, y0 + (y1 - y0) * (edge - x0) / (x1 - x0)))
        if inside1:
            out.append((x1, y1))
    return out


def cut(ring: list[Point]) -> list[list[Point]]:
    """Return the pieces of a ring inside -180 .. 180, each turned there."""
    whole, pieces = unwrapped(ring), []
    for turn in (-360.0, 0.0, 360.0):
        piece = [(x - turn, y) for x, y in whole]
        for edge, keep_east in ((-HALF, True), (HALF, False)):
            piece = clipped(piece, edge, keep_east=keep_east) if piece else piece
        if len(piece) > 2:
            pieces.append(piece)
    return pieces


def whole_hundredths(ring: list[Point]) -> list[int]:
    """Return x, y, x, y ... in hundredths of a degree, points that fall together once."""
    points = [(round(x * 100), round(y * 100)) for x, y in ring]
    kept = [p for before, p in zip([points[-1], *points[:-1]], points, strict=True) if p != before]
    return [number for point in kept for number in point]


def main(folder: Path, target: Path) -> None:
    """Read, cut, write, and print how much that is."""
    topology = json.loads((folder / "land-110m.json").read_text(encoding="utf-8"))
    arcs = arcs_of(topology)
    polygons = [p for g in topology["objects"]["land"]["geometries"] for p in g["arcs"]]
    rings = [whole_hundredths(piece) for p in polygons for numbers in p for piece in cut(ring_of(numbers, arcs))]
    rings = [ring for ring in rings if len(ring) > 4]
    target.write_text(json.dumps({"notes": NOTES, "rings": rings}, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{target}: {len(rings)} rings, {sum(map(len, rings)) // 2:,} points, {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else TARGET)
