"""Draw the two pictures of the README and the docs as plain SVG: `python -m tools.pictures`.

Enters: the numbers of the README's example. Leaves: `docs/images/one-step.svg` and `docs/images/burst.svg`.
Layer: none (outside the package). Both read well on a light and on a dark page: they bring their own background.
"""

from __future__ import annotations

from pathlib import Path

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
INK, SOFT, LINE, PAPER, ACCENT, CALM = "#1d2733", "#5b6b7c", "#c9d2dc", "#fbfcfd", "#c8372d", "#3f77b5"
# The README's example: mails a day of one user, the last day a burst.
MAILS_A_DAY = (5, 4, 6, 5, 0, 7, 5, 4, 6, 5, 4, 19)
AT_LEAST, FACTOR = 7, 3.0
FONT = "font-family='ui-sans-serif, system-ui, Helvetica, Arial, sans-serif'"


def svg(width: int, height: int, title: str, parts: list[str]) -> str:
    """Return a whole picture."""
    frame = f"<rect width='{width}' height='{height}' rx='10' fill='{PAPER}' stroke='{LINE}'/>"
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' role='img' {FONT}>"
    return "\n".join([head, f"<title>{title}</title>", frame, *parts, "</svg>"]) + "\n"


def text(x: float, y: float, words: str, size: int = 14, colour: str = INK, more: str = "") -> str:
    """Return one line of text; `y` is its baseline."""
    return f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' fill='{colour}' {more}>{words}</text>"


def box(x: float, y: float, width: float, height: float, head: str, words: list[str], colour: str = INK) -> list[str]:
    """Return a box with a bold first line and soft lines under it."""
    parts = [f"<rect x='{x}' y='{y}' width='{width}' height='{height}' rx='7' fill='white' stroke='{colour}'/>"]
    parts.append(text(x + 12, y + 24, head, 15, colour, "font-weight='600'"))
    parts += [text(x + 12, y + 44 + 17 * i, line, 12, SOFT) for i, line in enumerate(words)]
    return parts


def arrow(x0: float, y0: float, x1: float, y1: float) -> str:
    """Return an arrow that ends at (x1, y1), straight along an axis."""
    across = y0 == y1
    points = (
        f"{x1},{y1} {x1 - 8},{y1 - 4} {x1 - 8},{y1 + 4}" if across else f"{x1},{y1} {x1 - 4},{y1 + 8} {x1 + 4},{y1 + 8}"
    )
    line = f"<line x1='{x0}' y1='{y0}' x2='{x1}' y2='{y1}' stroke='{SOFT}' stroke-width='1.5'/>"
    return line + f"<polygon points='{points}' fill='{SOFT}'/>"


def one_step() -> str:
    """Draw the five stages and the four kinds of table."""
    stages = [
        ("arrive", ["future, duplicate,", "late, in order"]),
        ("slots", ["entity", "→ small number"]),
        ("measure", ["running counts,", "by entity"]),
        ("close, fit", ["windows that are", "over → tables"]),
        ("score", ["one number, then", "the predicate"]),
    ]
    parts = [text(24, 36, "step(state, batch) → (state, findings)", 17, INK, "font-weight='600'")]
    parts.append(text(936, 36, "history or live: the same step", 13, SOFT, "text-anchor='end'"))
    for i, (head, words) in enumerate(stages):
        x = 112 + i * 152
        parts += box(x, 62, 128, 82, head, words, CALM)
        parts.append(arrow(x - 22, 103, x - 3, 103))
    parts += [text(24, 108, "events", 14), arrow(848, 103, 868, 103), text(874, 108, "findings", 14)]
    tables = [
        ("1 stateless", ["constants in the rule"]),
        ("2 joined", ["places, threat lists"]),
        ("3 partitioned", ["the entity's own history"]),
        ("4 unpartitioned", ["everyone's history"]),
    ]
    for i, (head, words) in enumerate(tables):
        parts += box(112 + i * 188, 214, 170, 62, head, words)
    parts += [
        f"<line x1='197' y1='190' x2='784' y2='190' stroke='{SOFT}' stroke-width='1.5'/>",
        *(f"<path d='M{x} 190V214' stroke='{SOFT}' stroke-width='1.5'/>" for x in (197, 385, 573, 761)),
        arrow(784, 190, 784, 147),
        text(24, 250, "a table", 14),
    ]  # fmt: skip
    return svg(
        960, 300, "Events pass five stages; four kinds of rule differ only in the table they are joined with", parts
    )


def limits() -> list[float | None]:
    """Return what each day is compared with: three times the mean of the days before, once there are seven."""
    return [
        FACTOR * sum(MAILS_A_DAY[:day]) / day if day >= AT_LEAST else None
        for day in range(len(MAILS_A_DAY))
    ]  # fmt: skip


def burst() -> str:
    """Draw the example's days, what each is compared with, and the finding."""
    left, base, wide, scale = 64, 250, 66, 9.2
    parts = [text(24, 34, "mail.volume-vs-self: three times the user's own daily mean", 16, INK, "font-weight='600'")]
    for level in (0, 10, 20):
        y = base - level * scale
        parts.append(f"<line x1='{left}' y1='{y:.1f}' x2='{left + wide * 12}' y2='{y:.1f}' stroke='{LINE}'/>")
        parts.append(text(left - 10, y + 4, str(level), 12, SOFT, "text-anchor='end'"))
    for day, (mails, limit) in enumerate(zip(MAILS_A_DAY, limits(), strict=True)):
        x = left + day * wide + 10
        over = limit is not None and mails > limit
        colour = ACCENT if over else CALM
        height = mails * scale
        parts.append(f"<rect x='{x}' y='{base - height:.1f}' width='46' height='{height:.1f}' rx='2' fill='{colour}'/>")
        parts.append(text(x + 23, base + 18, f"Mar {day + 1}", 12, SOFT, "text-anchor='middle'"))
        if limit is not None:
            y = base - limit * scale
            parts.append(
                f"<line x1='{x - 10}' y1='{y:.1f}' x2='{x + 56}' y2='{y:.1f}' stroke='{INK}' stroke-width='2'/>"
            )
        if over:
            parts.append(
                text(x + 46, base - mails * scale - 10, "finding at the 14th mail", 13, ACCENT, "text-anchor='end'")
            )
    parts.append(
        text(
            left + 12, base - 15.5 * scale, "no limit yet: fewer than seven days known, so these are unscored", 12, SOFT
        )
    )
    parts.append(text(left + wide * 7 + 4, base - 15.9 * scale, "3 × the mean of the days before", 12, INK))
    return svg(
        880, 296, "One user's mails a day, the limit fitted from the days before, and the day that crosses it", parts
    )


def main() -> None:
    """Write both pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    (IMAGES / "one-step.svg").write_text(one_step(), encoding="utf-8")
    (IMAGES / "burst.svg").write_text(burst(), encoding="utf-8")


if __name__ == "__main__":
    main()
