"""Draw the charts in the docs: `python -m tools.chart_pictures` (needs Debian's chromium on the PATH).

Enters: what a page's first example makes. Leaves: `docs/images/ask-*.png`, `docs/images/metrics-*.png` and
`docs/images/report.png`, the head of a page.
Layer: none (outside the package).
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs"
WIDTH, HEIGHTS = (
    960,
    {
        "ask-series": 470,
        "ask-travel": 540,
        "metrics-arrivals": 440,
        "metrics-staffing": 460,
        "metrics-response": 470,
        "report": 900,
    },
)
HIDDEN = "h1,h2,p,.tables[tabindex],footer,.modebar{display:none!important}"
STYLE = f"<style>body{{margin:0;background:#fbfcfd;color-scheme:light}}main{{padding:0}}{HIDDEN}</style>"


def log_of_the_page(name: str) -> dict[str, Any]:
    """Run the page's first example in the current folder and return its names."""
    page = (DOCS / name).read_text(encoding="utf-8")
    code = re.search(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert code
    names: dict[str, Any] = {}
    exec(compile(code[1], name, "exec"), names)  # noqa: S102 - our own documentation
    return names


def draw(name: str, html: str, height: int, style: str = STYLE) -> Path:
    """Take a picture of a page; by default with nothing but its chart."""
    page, target = Path(f"{name}.html").resolve(), DOCS / "images" / f"{name}.png"
    page.write_text(html.replace("</head>", f"{style}</head>"), encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars", "--virtual-time-budget=8000"]
    command += [f"--screenshot={target}", f"--window-size={WIDTH},{height}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True)
    return target


def main() -> None:
    """Write all pictures."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        names = log_of_the_page("questions.md")
        ask, events, refs = names["tc"].ask, names["events"], names["refs"]
        answers = {
            "ask-series": ask.series(events, "u33", "mail.volume-vs-self"),
            "ask-travel": ask.fastest_travellers(events, refs, never_outside=()),
        }
        soc = log_of_the_page("metrics-arrivals.md")["soc"]
        answers |= {"metrics-arrivals": soc.arrivals(), "metrics-staffing": soc.staffing()}
        answers["metrics-response"] = log_of_the_page("metrics-response.md")["m"].slo()
        for name, answer in answers.items():
            path = draw(name, answer.to_html(), HEIGHTS[name])
            print(f"{path}: {path.stat().st_size:,} bytes")
        report = log_of_the_page("report.md")["report"]
        draw(
            "report", report.to_html(), HEIGHTS["report"], "<style>body{background:#fbfcfd;color-scheme:light}</style>"
        )
        os.chdir("/")


if __name__ == "__main__":
    main()
