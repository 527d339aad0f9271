"""Histories of alerts: files of other systems as one `History`, with everything that was left out and why.

Enters: exports, audit logs, folders of raw answers, OCSF findings. Leaves: `read_history` and what it returns.
Layer: sources.
"""

from __future__ import annotations

from tocsin.sources.histories.cleaning import BUILT_IN, CleaningRule
from tocsin.sources.histories.mapping import HistoryMapping
from tocsin.sources.histories.mapping_read import load_history_mapping, parse_history_mapping, shipped_histories
from tocsin.sources.histories.propose import HistoryProposal, propose_history_mapping
from tocsin.sources.histories.read import Imported, read_history

__all__ = [
    "BUILT_IN", "CleaningRule", "HistoryMapping", "HistoryProposal", "Imported", "load_history_mapping", "parse_history_mapping",
    "propose_history_mapping", "read_history", "shipped_histories",
]  # fmt: skip
