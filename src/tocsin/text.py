"""Strings written by attackers, made safe for the place they are shown in.

Enters: any string of an event (subject, file name, user agent, address). Leaves: the same string with whatever
could act on a terminal, reorder a line or start a formula made visible and inert. Layer: ground floor.

Escaping belongs to the face that shows a string, never to the data: events keep what was sent.
"""

from __future__ import annotations

import re

import polars as pl

# C0 and C1 controls (tab and newline too: a log line must stay one line), line separators, zero-width and bidi controls,
# tags and lone surrogates. A right-to-left override shows "exe.png" for "gnp.exe".
_UNSAFE = (
    r"\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\U000e0000-\U000e007f\ud800-\udfff"
)
_UNSAFE_RE = re.compile(f"[{_UNSAFE}]")
# The regex engine of Polars has no lone surrogates (its strings cannot hold any) and spells code points in braces.
_UNSAFE_POLARS = (
    r"[\x00-\x1f\x7f-\x{9f}\x{ad}\x{61c}\x{180e}\x{200b}-\x{200f}\x{2028}-\x{202e}\x{2060}-\x{206f}\x{feff}"
    r"\x{fff9}-\x{fffb}\x{e0000}-\x{e007f}]"
)
_FORMULA_START = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NUMBER_RE = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    short = {0x09: r"\t", 0x0A: r"\n", 0x0D: r"\r"}.get(code)
    if short is not None:
        return short
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def escape_terminal(text: str, *, limit: int | None = None) -> str:
    r"""Return `text` with control, ANSI, zero-width and bidi characters written as visible escapes.

    Args:
        text: Any string, lone surrogates included.
        limit: When given, cut to that many characters, ending in an ellipsis.

    >>> escape_terminal("\x1b[31mred\x1b[0m invoice\u202egnp.exe")
    '\\x1b[31mred\\x1b[0m invoice\\u202egnp.exe'
    >>> escape_terminal("a long subject line", limit=7)
    'a long…'
    """
    if limit is not None and len(text) > limit:
        text = text[: max(limit - 1, 0)] + "…"
    return _UNSAFE_RE.sub(_visible, text)


def has_unsafe(text: str) -> bool:
    r"""Tell whether `text` holds a character that :func:`escape_terminal` would replace.

    >>> has_unsafe("plain"), has_unsafe("bell\a")
    (False, True)
    """
    return _UNSAFE_RE.search(text) is not None


def guard_formula(text: str) -> str:
    r"""Return `text` so that a spreadsheet shows it and never runs it: an apostrophe before a formula's first character.

    Plain numbers are left alone, so that a column of negative numbers stays a column of numbers.

    >>> print(guard_formula("=HYPERLINK(1)"))
    '=HYPERLINK(1)
    >>> guard_formula("-12.5"), guard_formula("report.pdf")
    ('-12.5', 'report.pdf')
    """
    if text.lstrip(" ").startswith(_FORMULA_START) and not _NUMBER_RE.fullmatch(text):
        return "'" + text
    return text


def guard_formulas(frame: pl.DataFrame) -> pl.DataFrame:
    """Return `frame` with every String column passed through :func:`guard_formula` (for CSV and spreadsheet exports).

    Lists and structs become JSON text first: CSV has no other way to hold them.

    >>> guard_formulas(pl.DataFrame({"subject": ["=1+1", "hello"], "n": [-1, 2]}))["subject"].to_list()
    ["'=1+1", 'hello']
    """
    starts = "".join(re.escape(c) if c.isascii() and c.isprintable() else f"\\x{{{ord(c):x}}}" for c in _FORMULA_START)
    columns: list[pl.Expr] = []
    for name, dtype in frame.schema.items():
        column = pl.col(name)
        if isinstance(dtype, pl.List | pl.Array):
            column = pl.struct(column.alias("v")).struct.json_encode().str.slice(5).str.strip_suffix("}")
        elif isinstance(dtype, pl.Struct):
            column = column.struct.json_encode()
        elif dtype != pl.String:
            continue
        risky = column.str.contains(f"^ *[{starts}]") & ~column.str.contains(f"^{_NUMBER_RE.pattern}$")
        columns.append(pl.when(risky).then(pl.lit("'") + column).otherwise(column).alias(name))
    return frame.with_columns(columns)


def escape_terminal_expr(column: pl.Expr) -> pl.Expr:
    r"""Return an expression that replaces each unsafe character of a String column by U+FFFD.

    For whole columns, where naming each character costs more than it tells.

    >>> pl.select(escape_terminal_expr(pl.lit("a\x1bb"))).item()
    'a�b'
    """
    return column.str.replace_all(_UNSAFE_POLARS, "\ufffd")
