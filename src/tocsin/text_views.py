"""The bytes of a text column as compiled code sees them: Arrow's views, and words at an address.

Enters: a Polars String series. Leaves: its views, which rows have a text, and the addresses of its buffers, for kernels
that read with `word_at` and write with `put_word`. Layer: ground floor (imports nothing of the house).

A view is two words: length and first four bytes, then eight more bytes (up to 12 in all) or buffer number and offset.
Kernels name memory by address because views name their buffers by number, and numba has no list of arrays; whoever calls
one keeps the arrays alive and gives it nothing beyond their ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from numba import njit, types
from numba.extending import intrinsic

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "INLINE_BYTES",
    "TextViews",
    "byte_at",
    "present",
    "put_byte",
    "put_word",
    "text_at",
    "text_views",
    "word_at",
]

INLINE_BYTES: Final = 12

_U4 = np.uint64(4)
_U32 = np.uint64(32)
_LOW32 = np.uint64(0xFFFFFFFF)


def _loads(kind: Any) -> Any:
    def load(_typing: Any, _address: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            pointer = context.get_value_type(types.CPointer(kind))  # type: ignore[no-untyped-call]
            return builder.load(builder.inttoptr(arguments[0], pointer), align=1)

        return kind(types.uint64), generate

    return intrinsic(load)


def _stores(kind: Any) -> Any:
    def store(_typing: Any, _address: Any, _value: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            pointer = context.get_value_type(types.CPointer(kind))  # type: ignore[no-untyped-call]
            builder.store(arguments[1], builder.inttoptr(arguments[0], pointer), align=1)
            return context.get_dummy_value()

        return types.void(types.uint64, kind), generate

    return intrinsic(store)


byte_at: Any = _loads(types.uint8)
word_at: Any = _loads(types.uint64)
put_byte: Any = _stores(types.uint8)
put_word: Any = _stores(types.uint64)


@njit(nogil=True, cache=True)
def text_at(views: Any, views_address: Any, row: Any, buffers: Any) -> Any:  # pragma: no cover - compiled
    """Return the address of a row's text."""
    if views[row, 0] & _LOW32 <= np.uint64(INLINE_BYTES):
        return np.uint64(views_address) + np.uint64(16 * row) + _U4
    second = views[row, 1]
    return np.uint64(buffers[np.int64(second & _LOW32)] + (second >> _U32))


@dataclass(frozen=True)
class TextViews:
    """``views``: two words a row. ``present``: which rows have a text; empty when all have. ``buffers``: addresses."""

    views: NDArray[np.uint64]
    present: NDArray[np.bool_]
    buffers: NDArray[np.uint64]
    owner: Any
    """Keeps the memory alive."""


def _arrow(series: pl.Series) -> Any:
    """Return a column as Arrow has it, without its name: Arrow stops the process at a zero byte in one, and names come from files."""
    return series.alias("").to_arrow(compat_level=pl.CompatLevel.newest())


def present(series: pl.Series) -> NDArray[np.bool_]:
    """Return where a column has a value; free where it has one everywhere, and read off Arrow, without a query, elsewhere."""
    if not series.null_count():
        return np.ones(len(series), np.bool_)
    there: NDArray[np.bool_] = np.ascontiguousarray(_arrow(series).is_valid().to_numpy(zero_copy_only=False))
    return there


def text_views(series: pl.Series) -> TextViews:
    """Return the views of a String column; nothing is copied unless it lies in several chunks."""
    size = len(series)
    array = _arrow(series.rechunk())
    _, views_buffer, *data = array.buffers()
    if size == 0:
        views = np.zeros((0, 2), np.uint64)
    else:
        views = np.frombuffer(views_buffer, np.uint64, count=2 * size, offset=16 * array.offset).reshape(size, 2)
    there = present(series) if series.null_count() else np.zeros(0, np.bool_)
    return TextViews(views, there, np.array([each.address for each in data], np.uint64), array)
