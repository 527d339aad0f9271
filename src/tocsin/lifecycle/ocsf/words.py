"""The numbers and names that OCSF has for our words.

Enters: nothing. Leaves: tables. Layer: lifecycle.

What to know of OCSF: status 3 of a Detection Finding says that somebody looked and then suppressed it, so an alert that is
suppressed before anybody looks has status 99; ``comment`` and ``ticket`` are deprecated and not used; times are
milliseconds, so exact ones stand under ``unmapped`` too.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

VERSIONS: Final = ("1.4.0", "1.5.0", "1.6.0", "1.7.0", "1.8.0")
"""The versions whose Detection Finding can say who has it and what was decided (profile "incident")."""

PRODUCT: Final = "tocsin"
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SEVERITY: Final = {"unknown": 0, "informational": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}
VERDICT: Final = {
    "unjudged": (0, "Unknown"), "true_positive": (2, "True Positive"), "benign_true_positive": (5, "Benign"),
    "false_positive": (1, "False Positive"), "inconclusive": (7, "Insufficient Data"), "test": (6, "Test"), "duplicate": (10, "Duplicate"),
}  # fmt: skip
STATUS: Final = {
    "new": (1, "New"), "in_progress": (2, "In Progress"), "on_hold": (2, "In Progress"), "reopened": (2, "In Progress"),
    "closed": (4, "Resolved"), "merged": (4, "Resolved"), "suppressed": (99, "Suppressed"),
}  # fmt: skip
OBSERVABLE: Final = {
    ("host", None): (1, "Hostname", "device.hostname"), ("host", "source"): (1, "Hostname", "src_endpoint.hostname"),
    ("host", "destination"): (1, "Hostname", "dst_endpoint.hostname"), ("ip", None): (2, "IP Address", "device.ip"),
    ("ip", "source"): (2, "IP Address", "src_endpoint.ip"), ("ip", "destination"): (2, "IP Address", "dst_endpoint.ip"),
    ("user", None): (4, "User Name", "user.name"), ("url", None): (6, "URL String", "url.url_string"),
    ("domain", None): (1, "Hostname", "dst_endpoint.domain"), ("os", None): (99, "Other", "device.os.name"),
}  # fmt: skip
SEEN: Final = {name: key for key, (_, _, name) in OBSERVABLE.items()}
BY_TYPE: Final = {
    1: "host",
    2: "ip",
    3: "mac",
    4: "user",
    5: "email",
    6: "url",
    7: "file",
    8: "hash",
    9: "process",
    21: "user",
}
EXACT: Final = ("severity", "rule_id", "rule_version", "title", "vendor", "tenant", "alert_id")
"""The columns of an alert that OCSF says as they are; the others stand under ``unmapped`` as well."""
