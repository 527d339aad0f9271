"""The loops of the step, compiled: each takes plain arrays and changes the state arrays it is given.

Enters: columns of one batch and the state arrays of one measure. Leaves: output columns, written in place.
Layer: below ``running``, which owns the arrays and says what they mean; above ``hashing``.

Every loop runs in event order over int64 microseconds, window numbers and dense entity slots, holds no lock on the
interpreter (``nogil``) and does the same arithmetic in the same order whatever the cut into batches.
"""
