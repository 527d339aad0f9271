"""What tests of users of this package may need: servers that stand in for services nobody can start at home.

Enters: nothing of the running program. Leaves: `workbench.StandIn` and its example data. Layer: beside the demo; it
imports nothing of the house and nothing but the standard library.
"""
