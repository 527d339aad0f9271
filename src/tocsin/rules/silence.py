"""Detections of what did not happen: asked when a window has closed, about everybody known before it.

Enters: nothing. Leaves: ``DETECTIONS``. Layer: rules. They are not in ``tocsin.rules.ALL``: whether a silence means anything is
known only to who knows which sources report without pause, when the office is closed, and when collection stood still.
"""

from __future__ import annotations

from tocsin.detection import Detection, Example, col, ref, score, value
from tocsin.fits import own_history
from tocsin.measures import Count
from tocsin.rules.examples import Row, at, mails
from tocsin.rules.mail import MAIL


def _hours(source: str, first: int, last: int, n: int = 6) -> list[Row]:
    """Return ``n`` events of one source in each of some hours."""
    plain: Row = {"kind": "mail", "user_id": "ann", "source": source}
    return [{"timestamp": at(hour=h, minute=i)} | plain for h in range(first, last) for i in range(n)]


def _weeks(user: str, n: int, weeks: int = 6) -> list[Row]:
    """Return so many mails of one user on each weekday of some weeks."""
    return [m for d in range(7 * weeks) if d % 7 < 5 for m in mails(user, d, n)]


SOURCE_SILENT = Detection(
    id="network.source-silent",
    title="A source that reports every hour went silent",
    severity="high",
    on=col("source").is_not_null(),
    entity="source",
    at="close",
    quiet_after=24,
    measure=Count(per="1h"),
    against=own_history(quantiles=(0.0,), windows=168, at_least=72, exclude_alerted=True),
    score=value / ref.q0,
    when=score < 0.1,
    tags=("attack.t1562.008",),
    description=(
        "A source (a mail gateway, a collector, a host; whatever stands in the column `source`) sent less in the clock hour that "
        "just closed than a tenth of its quietest hour of the last seven days, of which at least three are known. A source that "
        "had an hour without events in that time is not judged: nobody knows what its silence means. Hours that fired do not "
        "enter the baseline; it is said each hour for a day, then the source counts as gone until it returns."
    ),
    false_positives="Maintenance, and a collector that stands still: give such intervals as gaps, in which nobody is silent.",
    examples=(
        Example(True, _hours("gateway", 0, 80) + _hours("other", 0, 82), "the hour after its last is over"),
        Example(False, _hours("gateway", 0, 81) + _hours("other", 0, 81), "the last hour is not over"),
        Example(False, _hours("gateway", 0, 60) + _hours("other", 0, 90), "known for less than three days"),
        Example(
            False,
            _hours("gateway", 0, 40) + _hours("gateway", 41, 80) + _hours("other", 0, 82),
            "it was silent for an hour before",
        ),
    ),
)

VOLUME_COLLAPSE = Detection(
    id="mail.volume-collapse",
    title="Sent next to nothing on a weekday on which the user always sends",
    severity="low",
    on=MAIL,
    entity="user_id",
    at="close",
    quiet_after=7,
    measure=Count(per="1d"),
    against=own_history(quantiles=(0.0,), windows=6, at_least=4, same_weekday=True),
    score=value / ref.q0,
    when=(score < 0.1) & (ref.q0 >= 10),
    tags=("attack.t1531",),
    description=(
        "An account sent less on the day that just closed than a tenth of its quietest same weekday of the last six weeks, of which "
        "there must be at least four with ten mails each: it is locked, its mails go elsewhere, or nobody is there. A day off "
        "enters the baseline, so the same weekday is not said again for six weeks; after seven silent days the user is gone."
    ),
    false_positives="Holidays: one finding a day for a week. Public holidays fire for everybody at once; give them as gaps.",
    grouping="7d",
    examples=(
        Example(True, _weeks("ann", 20) + mails("bob", 43, 1), "nothing on the Monday after"),
        Example(True, _weeks("ann", 20) + mails("ann", 42, 1) + mails("bob", 43, 1), "one of twenty"),
        Example(False, _weeks("ann", 20) + mails("ann", 42, 2) + mails("bob", 43, 1), "a tenth"),
        Example(False, _weeks("ann", 20) + mails("bob", 42, 1), "the Monday is not over"),
        Example(False, _weeks("ann", 9) + mails("bob", 43, 1), "fewer than ten a day"),
        Example(False, _weeks("ann", 20, weeks=3) + mails("bob", 22, 1), "three Mondays are too few"),
    ),
)

DETECTIONS = (SOURCE_SILENT, VOLUME_COLLAPSE)
