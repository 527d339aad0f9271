"""Small helpers over Polars expressions that rules are made of.

Enters: Polars expressions. Leaves: canonical text (for hashes and for sharing equal work) and the columns an
expression reads. Layer: ground floor.
"""

from __future__ import annotations

import hashlib
import json

import polars as pl

SIGIL = "@"
"""Columns that the engine makes (``@value``, ``@score``, ``@ref.mean``) start with this, so no event column can hide them."""


def canonical(expression: pl.Expr) -> str:
    """Return text that is equal for equal expressions, literals included.

    >>> canonical(pl.col("a") > 1) == canonical(pl.col("a") > 1), canonical(pl.col("a") > 1) == canonical(pl.col("a") > 2)
    (True, False)
    """
    return json.dumps(json.loads(expression.meta.serialize(format="json")), sort_keys=True)


def digest(*parts: object) -> str:
    """Return 16 hex digits that depend on every part and on where one part ends and the next begins."""
    text = json.dumps([str(p) for p in parts])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def columns_read(*expressions: pl.Expr) -> list[str]:
    """Return the event columns that expressions read, sorted, without those the engine makes.

    >>> columns_read(pl.col("b") > pl.col("a"), pl.col("@value"))
    ['a', 'b']
    """
    names = {n for e in expressions for n in e.meta.root_names()}
    return sorted(n for n in names if not n.startswith(SIGIL))
