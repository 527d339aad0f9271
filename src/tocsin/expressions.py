"""Small helpers over Polars expressions that rules are made of.

Enters: Polars expressions. Leaves: canonical text (for hashes and for sharing equal work) the columns an
expression reads, and its value for each row of a frame. Layer: ground floor.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import polars as pl

from tocsin.errors import RuleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SIGIL = "@"
"""Columns that the engine makes (``@value``, ``@score``, ``@ref.mean``) start with this, so no event column can hide them."""


@dataclass(frozen=True, eq=False)
class _Itself:
    """An expression as the key of a memory: known by identity, since its own equality makes another expression."""

    expression: pl.Expr

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.expression is other.expression

    def __hash__(self) -> int:
        return id(self.expression)


def canonical(expression: pl.Expr) -> str:
    """Return text that is equal for equal expressions, literals included.

    >>> canonical(pl.col("a") > 1) == canonical(pl.col("a") > 1), canonical(pl.col("a") > 1) == canonical(pl.col("a") > 2)
    (True, False)
    """
    return _canonical(_Itself(expression))


@lru_cache(maxsize=4096)
def _canonical(itself: _Itself) -> str:
    return json.dumps(json.loads(itself.expression.meta.serialize(format="json")), sort_keys=True)


def root_names(expression: pl.Expr) -> tuple[str, ...]:
    """Return the columns that an expression reads, those the engine makes included, as often as it names them."""
    return _root_names(_Itself(expression))


@lru_cache(maxsize=4096)
def _root_names(itself: _Itself) -> tuple[str, ...]:
    return tuple(itself.expression.meta.root_names())


def digest(*parts: object) -> str:
    """Return 16 hex digits that depend on every part and on where one part ends and the next begins."""
    text = json.dumps([str(p) for p in parts])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def columns_read(*expressions: pl.Expr) -> list[str]:
    """Return the event columns that expressions read, sorted, without those the engine makes.

    >>> columns_read(pl.col("b") > pl.col("a"), pl.col("@value"))
    ['a', 'b']
    """
    names = {n for e in expressions for n in root_names(e)}
    return sorted(n for n in names if not n.startswith(SIGIL))


def own_text(column: pl.Series) -> pl.Series:
    """Return a column of text with a copy of just its text.

    A few rows that were gathered from a batch otherwise keep all the text of the batch in memory, for as long as they live.

    >>> own_text(pl.Series("id", ["a long text of some event", None])).to_list()
    ['a long text of some event', None]
    """
    return pl.Series(column.name, column.to_arrow(compat_level=pl.CompatLevel.oldest()))


def evaluate(frame: pl.DataFrame, expression: pl.Expr) -> pl.Series:
    """Return an expression's value for each row of a frame; a literal is repeated, an aggregate is refused.

    The columns go in as whole arrays in one chunk, a lone row twice. Polars divides an array by a literal through the
    literal's reciprocal, but divides truly where the array (or a chunk of it) is one long or is held as one repeated
    value, so the same row could differ in its last bit with the company it came in.

    >>> frame = pl.DataFrame({"us": [7_200_000_001] * 5})
    >>> evaluate(frame[:1], pl.col("us") / 1e6)[0] == evaluate(frame, pl.col("us") / 1e6)[0]
    True
    """
    n = frame.height
    scope = _scope(frame, [c for c in root_names(expression) if c in frame.columns] or frame.columns[:1])
    result = scope.select_seq(expression.alias("value"))["value"]  # one expression: no other thread could help
    if len(result) == scope.height:
        return result[:n]
    if len(result) == 1 and not root_names(expression):
        return pl.repeat(result[0], n, dtype=result.dtype, eager=True)
    msg = f"gives {len(result)} values for {scope.height} events; an expression of a rule gives one for each."
    raise RuleError(msg)


def evaluate_all(frame: pl.DataFrame, expressions: Sequence[pl.Expr]) -> list[pl.Series]:
    """Return the values of several expressions, as `evaluate` gives them, by one query. Only for those that are `row_wise`.

    >>> [s.to_list() for s in evaluate_all(pl.DataFrame({"a": [1, 2]}), [pl.col("a") > 1, pl.col("a") < 5])]
    [[False, True], [True, True]]
    """
    scope = _scope(frame, [c for e in expressions for c in root_names(e)])
    made = scope.select_seq(e.alias(str(i)) for i, e in enumerate(expressions))
    return [column[: frame.height] for column in made.get_columns()]


def row_wise(expression: pl.Expr, types: Mapping[str, Any]) -> bool:
    """Tell whether an expression reads columns of these types and gives one value for each row, not one for all of them.

    >>> row_wise(pl.col("a") > 1, {"a": pl.Int64}), row_wise(pl.col("a").max() > 1, {"a": pl.Int64})
    (True, False)
    """
    names = dict.fromkeys(root_names(expression))
    if not names or not types.keys() >= names.keys():
        return False
    nothing = pl.DataFrame(schema={c: types[c] for c in names})
    try:
        return nothing.select_seq(expression).height == 0  # an aggregate of nothing is still one value
    except Exception:  # noqa: BLE001 - what is wrong with it is said where it is evaluated by itself
        return False


def _scope(frame: pl.DataFrame, names: Iterable[str]) -> pl.DataFrame:
    columns = [frame[c].rechunk() for c in dict.fromkeys(names)]
    return pl.DataFrame([pl.concat([c, c], rechunk=True) for c in columns] if frame.height == 1 else columns)
