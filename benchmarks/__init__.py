"""Measurements beside their rivals: each analysis is computed by all contestants, checked equal, then timed.

Layer: none (outside the package). `python -m benchmarks --help` says what can be run.
"""
