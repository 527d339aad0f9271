"""The alert log: findings become alerts, people and programs say what they did, and nothing is ever changed or removed.

Enters: findings, imported histories, what an analyst did. Leaves: `History`, at any time. Layer: alerts.
"""

from tocsin.alerts.grouping import Grouping
from tocsin.alerts.log import Added, Alerts
from tocsin.alerts.triage import NonsenseError

__all__ = ["Added", "Alerts", "Grouping", "NonsenseError"]
