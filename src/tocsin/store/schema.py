"""The tables: the columns of `lifecycle.frames`, and a number that says in which order rows were learnt.

Enters: nothing. Leaves: SQLAlchemy tables to build queries of. They are made by `store.migrations`, never from here; a
test holds that both say the same. Layer: store.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import sqlalchemy as sa

from tocsin.lifecycle.frames import SCHEMAS, TIME

if TYPE_CHECKING:
    from collections.abc import Mapping

IDENTITY: Final[Mapping[str, str]] = MappingProxyType(
    {"alert": "alert_id", "activity": "key", "finding": "finding_id", "journal": "key"}
)
"""The column of each table whose value may occur once only; a second row with it is not written."""

_TYPES: Final[Mapping[Any, Any]] = {
    pl.String: sa.Text(),
    TIME: sa.BigInteger(),  # microseconds UTC since 1970
    pl.Float64: sa.Double(),
    pl.Int8: sa.SmallInteger(),
    pl.Boolean: sa.Boolean(),
}

_metadata = sa.MetaData()
TABLES: Final[Mapping[str, sa.Table]] = MappingProxyType(
    {
        name: sa.Table(
            name,
            _metadata,
            sa.Column("seq", sa.BigInteger(), primary_key=True),
            *(sa.Column(column, _TYPES[dtype]) for column, dtype in schema.items()),
        )
        for name, schema in SCHEMAS.items()
    }
)
