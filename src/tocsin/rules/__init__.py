"""The detections that ship.

Enters: nothing. Leaves: ``ALL``, and one module per kind of log. Layer: rules, above detections, below the engine.
"""

from tocsin.rules import login, mail, network, travel, volume

ALL = (*mail.DETECTIONS, *volume.DETECTIONS, *network.DETECTIONS, *login.DETECTIONS, *travel.DETECTIONS)
"""Every detection that ships, in the order of the catalogue."""

__all__ = ["ALL", "login", "mail", "network", "travel", "volume"]
