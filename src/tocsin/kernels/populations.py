"""Populations: one value of each entity that was touched in a window, when that has closed.

Enters: the entities touched, and the arrays of their window state. Leaves: the values in ascending order, of which
``kernels.statistics`` makes a baseline. Layer: kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tocsin.kernels.statistics import summarise
from tocsin.kernels.windows import gather_baseline, value_of


@njit(cache=True, nogil=True)
def population_values(touched: Any, op: Any, scale: Any, acc: Any) -> Any:
    """Return the final values of the entities touched in the window just closed, in ascending order."""
    values, n = np.empty(touched.size), 0
    for s in touched:
        lane1 = acc[s, 1] if acc.shape[1] > 1 else 0
        v = value_of(op, acc[s, 0], lane1, scale)
        if not np.isnan(v):
            values[n] = v
            n += 1
    return np.sort(values[:n])


@njit(cache=True, nogil=True)
def population_baselines(
    touched: Any,
    d: Any,
    span: Any,
    codes: Any,
    quantiles: Any,
    op: Any,
    scale: Any,
    win: Any,
    acc: Any,
    ring: Any,
    first: Any,
    missing: Any,
    fired: Any,
) -> Any:
    """Return the first statistic of each touched entity's own baseline as of window ``d``, in ascending order."""
    result, n = np.empty(touched.size), 0
    values, out = np.empty(span[0]), np.empty(codes.size + 1)
    for s in touched:
        k = gather_baseline(s, d - span[3], span[0], span[1], op, scale, win, acc, ring, first, missing, fired, values)
        summarise(values, k, codes, quantiles, span[2], out)
        if not np.isnan(out[0]):
            result[n] = out[0]
            n += 1
    return np.sort(result[:n])
