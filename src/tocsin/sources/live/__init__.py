"""Live sources: what grows while it is read, from a position that can be saved, and again from there.

Enters: a growing file, a folder of dropped files, stdin, HTTP, Kafka. Leaves: `Piece` values, each a run of records of one
partition between two positions. Layer: sources.
"""

from tocsin.sources.live.pieces import Letter, LiveSource, LostError, Piece, Position, Span

__all__ = ["Letter", "LiveSource", "LostError", "Piece", "Position", "Span"]
