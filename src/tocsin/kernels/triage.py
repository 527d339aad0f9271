"""The queue of alerts and the analysts who take from it, event by event, compiled.

Enters: when alerts come, how urgent they are, how long each piece of their work takes; who is on shift when. Leaves: who
worked on what from when to when. Layer: kernels.

An analyst who is free takes the most urgent alert, of those the one that waits longest. What the end of a shift cuts short
goes back to the head of its queue. All times are int64 microseconds.
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numba import njit

FAR = np.int64(2**62)
ALERT, PIECE, ANALYST, START, END, DONE = 0, 1, 2, 3, 4, 5
"""Columns of the spans of work that `serve` returns; DONE is 0 where the end of a shift cut it short."""


@njit(cache=True, nogil=True)
def _put(i: Any, urgency: Any, head: Any, tail: Any, following: Any, in_front: Any) -> None:
    """Put an alert at the tail of its queue, or at its head."""
    p = urgency[i]
    if head[p] < 0:
        head[p], tail[p], following[i] = i, i, -1
    elif in_front:
        following[i], head[p] = head[p], i
    else:
        following[tail[p]], following[i], tail[p] = i, -1, i


@njit(cache=True, nogil=True)
def _free(now: Any, off_at: Any, busy_until: Any, idle_since: Any) -> Any:
    """Return the analyst on shift who has been idle longest, or -1."""
    best = -1
    for a in range(off_at.size):
        if busy_until[a] == FAR and off_at[a] > now and (best < 0 or idle_since[a] < idle_since[best]):
            best = a
    return best


@njit(cache=True, nogil=True)
def _take(now: Any, i: Any, a: Any, overtime: Any, left: Any, off_at: Any, busy_until: Any) -> Any:
    """Let an analyst work on an alert, to its end or to that of the shift; return when."""
    end = now + left[i]
    if end > off_at[a] + overtime:
        end = off_at[a]
    left[i] -= end - now
    busy_until[a] = end
    return end


@njit(cache=True, nogil=True)
def _next(later: Any, busy_until: Any, created: Any, came: Any, shifts: Any, shift: Any) -> Any:
    """Return when something happens next."""
    now = min(later[0][0], busy_until.min())
    if came < created.size:
        now = min(now, created[came])
    if shift < len(shifts):
        now = min(now, shifts[shift, 0])
    return now


@njit(cache=True, nogil=True)
def serve(created: Any, urgency: Any, work: Any, delay: Any, shifts: Any, analysts: Any, overtime: Any) -> Any:
    """Return the spans of work, (n, 6), in the order in which they began; what nobody came to is not in it.

    created: ascending. urgency: 0 is served first. work, delay: (n, k) pieces of work, 0 where there is none, and how long
    after the piece before each can begin. shifts: (m, 3) begin, end, analyst, in order of begin. analysts: how many.
    overtime: how much longer than the shift somebody stays to finish.
    """
    n, pieces = work.shape
    queues = urgency.max() + 1 if n else 1
    head, tail, following = np.full(queues, -1), np.full(queues, -1), np.full(n, -1)
    piece, left = np.zeros(n, np.int64), work[:, 0].copy()
    off_at, busy_until = np.zeros(analysts, np.int64), np.full(analysts, FAR)
    idle_since, on = np.zeros(analysts, np.int64), np.full(analysts, -1)
    later = [(FAR, np.int64(-1))]
    spans = np.zeros((2 * n + 16, 6), np.int64)
    many, came, shift = 0, 0, 0
    while True:
        now = _next(later, busy_until, created, came, shifts, shift)
        if now >= FAR:
            return spans[:many]
        for a in np.flatnonzero(busy_until == now):
            i = on[a]
            busy_until[a], idle_since[a] = FAR, now
            if left[i] > 0:
                _put(i, urgency, head, tail, following, True)
                continue
            piece[i] += 1
            if piece[i] < pieces and work[i, piece[i]] > 0:
                left[i] = work[i, piece[i]]
                heapq.heappush(later, (now + delay[i, piece[i]], np.int64(i)))
        while shift < len(shifts) and shifts[shift, 0] == now:
            a = shifts[shift, 2]
            off_at[a], idle_since[a] = max(off_at[a], shifts[shift, 1]), now
            shift += 1
        while came < n and created[came] == now:
            if left[came] > 0:
                _put(came, urgency, head, tail, following, False)
            came += 1
        while later[0][0] == now:
            _put(heapq.heappop(later)[1], urgency, head, tail, following, False)
        for p in range(queues):
            while head[p] >= 0:
                a = _free(now, off_at, busy_until, idle_since)
                if a < 0:
                    break
                i = head[p]
                head[p], on[a] = following[i], i
                if many == len(spans):
                    spans = np.concatenate((spans, np.zeros_like(spans)))
                spans[many, 3], spans[many, 4] = now, _take(now, i, a, overtime, left, off_at, busy_until)
                spans[many, 0], spans[many, 1], spans[many, 2], spans[many, 5] = i, piece[i], a, left[i] == 0
                many += 1
