"""The streaming path: follow sources, apply rules as events arrive, survive anything, and score as the replay does.

Enters: settings. Leaves: findings in the alert log, and a state folder from which the next start goes on. Layer: runners.
"""
