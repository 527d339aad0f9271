"""A history as OCSF findings, and OCSF findings as a history.

Enters: a `History`, or records of the classes Detection Finding (2004) and Incident Finding (2005) of the Open Cybersecurity
Schema Framework (https://schema.ocsf.io, versions 1.4 to 1.8). Leaves: such records, or a `History`. What OCSF has no
place for stands under ``unmapped``, so that a history written and read back is the same. Layer: lifecycle.
"""

from tocsin.lifecycle.ocsf.read import from_ocsf, read_record
from tocsin.lifecycle.ocsf.words import VERSIONS
from tocsin.lifecycle.ocsf.write import to_ocsf

__all__ = ["VERSIONS", "from_ocsf", "read_record", "to_ocsf"]
