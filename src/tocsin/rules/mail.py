"""Mail detections: stateless, against the sender's own history, against the population.

Enters: nothing. Leaves: ``DETECTIONS``. Layer: rules.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from tocsin.detection import Detection, Example, col, ref, score, value
from tocsin.fits import own_history, population
from tocsin.measures import Count

_MAIL = col("kind") == "mail"
_HAS_EXE = col("attachments").list.eval(pl.element().str.to_lowercase().str.ends_with(".exe")).list.any()
_DAY_ONE = datetime(2026, 3, 2, 9, tzinfo=UTC)


def _mails(user: str, day: int, n: int) -> list[dict[str, object]]:
    """Return ``n`` mails of one user on one day of an example."""
    at = _DAY_ONE + timedelta(days=day)
    return [
        {"timestamp": at + timedelta(minutes=i), "kind": "mail", "user_id": user, "nr_recipients": 1} for i in range(n)
    ]


EXE_MANY_RECIPIENTS = Detection(
    id="mail.exe-many-recipients",
    title="Program file mailed to more than 10 recipients",
    severity="high",
    on=_MAIL & _HAS_EXE,
    entity="user_id",
    score=col("nr_recipients"),
    when=score > 10,
    evidence=("src_ip", "nr_recipients", "attachments"),
    tags=("attack.t1566.001",),
    description="One message both carries an attachment that ends in .exe, in any case, and goes to more than ten recipients.",
    false_positives="Software vendors that mail installers. Allow-list the sending account with an owner and an expiry.",
    examples=(
        Example(
            fires=True,
            events=[{"kind": "mail", "user_id": "ann", "nr_recipients": 11, "attachments": ["Invoice.PDF.EXE"]}],
        ),
        Example(
            fires=False, events=[{"kind": "mail", "user_id": "ann", "nr_recipients": 10, "attachments": ["setup.exe"]}]
        ),
        Example(
            fires=False, events=[{"kind": "mail", "user_id": "ann", "nr_recipients": 500, "attachments": ["exe.pdf"]}]
        ),
    ),
)

VOLUME_VS_SELF = Detection(
    id="mail.volume-vs-self",
    title="Sends three times the user's own daily mean",
    severity="medium",
    on=_MAIL,
    entity="user_id",
    measure=Count(per="1d"),
    against=own_history(mean=True, windows=28, at_least=7),
    score=value / ref.mean,
    when=(score > 3) & (value >= 20),
    evidence=("src_ip",),
    tags=("attack.t1586.002",),
    description=(
        "The number of mails an account sent so far today is more than three times its mean over the last 28 days, of which "
        "there must be at least 7. Today is not in the mean, and a day without mail counts as zero. At least 20 mails, so that "
        "a quiet account does not fire at its third."
    ),
    false_positives="Newsletters and end-of-month mailings of one account. Raise the floor of 20 or compare with the same weekday.",
    examples=(
        Example(fires=True, events=[m for d in range(8) for m in _mails("ann", d, 8)] + _mails("ann", 8, 30)),
        Example(
            fires=False,
            events=[m for d in range(8) for m in _mails("ann", d, 8)] + _mails("ann", 8, 24),
            note="exactly three times",
        ),
        Example(
            fires=False,
            events=[m for d in range(3) for m in _mails("ann", d, 8)] + _mails("ann", 3, 90),
            note="too little history",
        ),
    ),
)

RATE_VS_POPULATION = Detection(
    id="mail.rate-vs-population",
    title="Sends more than the population's mean plus three standard deviations",
    severity="medium",
    on=_MAIL,
    entity="user_id",
    measure=Count(per="1d"),
    against=population(mean=True, sd=True, at_least=30),
    score=(value - ref.mean) / ref.sd,
    when=score > 3,
    evidence=("src_ip",),
    tags=("attack.t1586.002",),
    description=(
        "The number of mails an account sent so far today lies more than three standard deviations above the mean of all accounts "
        "that sent anything yesterday, each counted once. There must be at least 30 of them."
    ),
    false_positives="Accounts that send for many people: list servers, ticket systems. They fire every day; allow-list them by name.",
    examples=(
        Example(
            fires=True, events=[m for u in range(40) for m in _mails(f"user{u:02}", 0, 2 + u % 3)] + _mails("ann", 1, 9)
        ),
        Example(
            fires=False,
            events=[m for u in range(40) for m in _mails(f"user{u:02}", 0, 2 + u % 3)] + _mails("ann", 1, 4),
        ),
        Example(
            fires=False,
            events=[m for u in range(20) for m in _mails(f"user{u:02}", 0, 2 + u % 3)] + _mails("ann", 1, 90),
            note="too small a population",
        ),
    ),
)

DETECTIONS = (EXE_MANY_RECIPIENTS, VOLUME_VS_SELF, RATE_VS_POPULATION)
