"""Sources: anything that holds events -> validated event batches in time order.

Enters: files, folders, URLs, queries, frames, and mappings. Leaves: `read` and what it returns. Layer: sources.
"""

from __future__ import annotations

from tocsin.sources.events import Counts, Events, read
from tocsin.sources.mapping import Mapping, load_mapping, parse_mapping
from tocsin.sources.propose import MappingProposal, propose_mapping

__all__ = ["Counts", "Events", "Mapping", "MappingProposal", "load_mapping", "parse_mapping", "propose_mapping", "read"]
