"""The detections that ship.

Enters: nothing. Leaves: ``ALL``, ``SILENCE``, and one module per kind of log. Layer: rules, above detections, below the
engine.
"""

from tocsin.rules import login, mail, network, silence, travel, volume

ALL = (*mail.DETECTIONS, *volume.DETECTIONS, *network.DETECTIONS, *login.DETECTIONS, *travel.DETECTIONS)
"""Every detection that ships, in the order of the catalogue."""

SILENCE = silence.DETECTIONS
"""What did not happen. Not in ``ALL``: give these beside it where it is known when silence means nothing (``gaps``)."""

__all__ = ["ALL", "SILENCE", "login", "mail", "network", "silence", "travel", "volume"]
