"""The four append-only tables of the alert log, in SQLite or PostgreSQL.

Enters: a path or a URL; frames to append. Leaves: the same frames, whole or those of some rows. It knows tables, not
triage. Layer: store, beside the reference tables.
"""

from tocsin.store.connect import Store, StoreError
from tocsin.store.rows import append, read

__all__ = ["Store", "StoreError", "append", "read"]
