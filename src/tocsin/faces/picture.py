"""A recorded console as an SVG picture for the documentation.

Enters: a console that recorded. Leaves: a file that fetches nothing from anywhere. Layer: faces.
"""

import re
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from tocsin.faces.export import write_text

CELL_WIDTH = 12.2
"""Of rich's SVG: the width of a character at its font size of 20."""
THEME = TerminalTheme(
    (250, 250, 248),
    (36, 41, 47),
    [
        (36, 41, 47),
        (178, 34, 34),
        (17, 99, 41),
        (138, 92, 0),
        (9, 83, 160),
        (115, 60, 150),
        (0, 105, 116),
        (90, 96, 102),
    ],
    [
        (87, 96, 106),
        (178, 34, 34),
        (17, 99, 41),
        (138, 92, 0),
        (9, 83, 160),
        (115, 60, 150),
        (0, 105, 116),
        (36, 41, 47),
    ],
)


def _indented(match: re.Match[str]) -> str:
    """Move a text to the right by its leading blanks: some viewers drop them."""
    blanks = CELL_WIDTH * (len(match[5]) // len("&#160;"))
    x, length = float(match[1]) + blanks, float(match[3]) - blanks
    return f'x="{x:g}" {match[2]} textLength="{length:g}" {match[4]}>'


def save_picture(console: Console, path: Path, title: str) -> None:
    """Write what the console printed as SVG: same text, same bytes; the fonts are the reader's own."""
    svg = console.export_svg(title=title, theme=THEME, unique_id="tocsin")
    svg = re.sub(r'x="([\d.]+)" (y="[\d.]+") textLength="([\d.]+)" (clip-path="[^"]*")>((?:&#160;)+)', _indented, svg)
    svg = re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.DOTALL)  # rich would have them fetched from a CDN
    write_text(svg, path)
