"""The six rules that the step alone is measured with, as a rule file for a running engine.

Enters: nothing. Leaves: ``DETECTIONS``. Layer: none (outside the package).
"""

from benchmarks import analyses as an
from benchmarks.rivals.by_tocsin import detections, sixth

DETECTIONS = (*detections(an.FIVE), sixth())
