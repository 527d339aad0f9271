"""Detections over how much an account mails: against itself, against everybody, and whether it has changed.

Enters: nothing. Leaves: ``DETECTIONS``. Layer: rules.
"""

from __future__ import annotations

from tocsin.detection import Detection, Example, ref, score, value
from tocsin.fits import own_history, population
from tocsin.measures import Count, Sum
from tocsin.rules.examples import Row, mails
from tocsin.rules.mail import MAIL

_TAKEOVER = ("attack.t1586.002",)
_MAD_TO_SD = 1.4826
"""The median absolute deviation of a normal distribution times this is its standard deviation."""


def _week(user: str, n: int, days: int = 8) -> list[Row]:
    """Return so many mails of one user on each of the first days."""
    return [m for d in range(days) for m in mails(user, d, n)]


def _crowd(size: int = 40, day: int = 0) -> list[Row]:
    """Return two to four mails of each of many users on one day."""
    return [m for u in range(size) for m in mails(f"user{u:02}", day, 2 + u % 3)]


VOLUME_VS_SELF = Detection(
    id="mail.volume-vs-self",
    title="Sends three times the user's own daily mean",
    severity="medium",
    on=MAIL,
    entity="user_id",
    measure=Count(per="1d"),
    against=own_history(mean=True, windows=28, at_least=7),
    score=value / ref.mean,
    when=(score > 3) & (value >= 20),
    evidence=("src_ip",),
    tags=_TAKEOVER,
    description=(
        "The number of mails an account sent so far today is more than three times its mean over the last 28 days, of which "
        "there must be at least 7. Today is not in the mean, and a day without mail counts as zero. At least 20 mails, so that "
        "a quiet account does not fire at its third."
    ),
    false_positives="Newsletters and end-of-month mailings of one account. Raise the floor of 20 or compare with the same weekday.",
    examples=(
        Example(fires=True, events=_week("ann", 8) + mails("ann", 8, 30)),
        Example(fires=False, events=_week("ann", 8) + mails("ann", 8, 24), note="exactly three times"),
        Example(fires=False, events=_week("ann", 8, days=3) + mails("ann", 3, 90), note="too little history"),
    ),
)

HOURLY_VOLUME_VS_SELF = Detection(
    id="mail.hourly-volume-vs-self",
    title="Sends in one hour many times the user's own hourly mean",
    severity="medium",
    on=MAIL,
    entity="user_id",
    measure=Count(per="1h"),
    against=own_history(mean=True, quantiles=(1.0,), windows=168, at_least=48),
    score=value / ref.mean,
    when=(score > 3) & (value >= 20) & (value > 2 * ref.q100),
    evidence=("src_ip",),
    tags=_TAKEOVER,
    description=(
        "The number of mails an account sent so far in this clock hour is more than three times its mean over the last 168 hours "
        "(nights included, as zeros; at least 48 of them), at least 20, and more than twice the busiest of those hours. "
        "The last makes up for the nights: people send everything in a few hours of the day."
    ),
    false_positives="Mail merges. The day's rule (mail.volume-vs-self) stays quiet where the burst is small for the day.",
    grouping="1d",
    examples=(
        Example(True, _week("ann", 8) + mails("ann", 8, 100)),
        Example(False, _week("ann", 30) + mails("ann", 8, 60), "twice the usual nine o'clock"),
        Example(False, _week("ann", 1) + mails("ann", 8, 19), "fewer than 20"),
        Example(False, mails("ann", 0, 3) + mails("ann", 1, 90), "too little history"),
    ),
)

RATE_VS_POPULATION = Detection(
    id="mail.rate-vs-population",
    title="Sends more than the population's mean plus three standard deviations",
    severity="medium",
    on=MAIL,
    entity="user_id",
    measure=Count(per="1d"),
    against=population(mean=True, sd=True, at_least=30),
    score=(value - ref.mean) / ref.sd,
    when=score > 3,
    evidence=("src_ip",),
    tags=_TAKEOVER,
    description=(
        "The number of mails an account sent so far today lies more than three standard deviations above the mean of all accounts "
        "that sent anything yesterday, each counted once. There must be at least 30 of them."
    ),
    false_positives="Accounts that send for many people: list servers, ticket systems. They fire every day; allow-list them by name.",
    examples=(
        Example(fires=True, events=_crowd() + mails("ann", 1, 9)),
        Example(fires=False, events=_crowd() + mails("ann", 1, 4)),
        Example(fires=False, events=_crowd(20) + mails("ann", 1, 90), note="too small a population"),
    ),
)

RATE_OUTSIDE_POPULATION = Detection(
    id="mail.rate-outside-population",
    title="Sent yesterday more or less than the population's mean by three standard deviations",
    severity="low",
    on=MAIL,
    entity="user_id",
    measure=Count(per="1d"),
    against={
        "own": own_history(mean=True, windows=1, at_least=1),
        "all": population(mean=True, sd=True, at_least=30),
    },
    score=((ref.own_mean - ref.all_mean) / ref.all_sd).abs(),
    when=score > 3,
    evidence=("src_ip",),
    tags=_TAKEOVER,
    description=(
        "The number of mails an account sent on the whole of yesterday lies more than three standard deviations from the mean of all "
        "accounts that sent anything yesterday, on either side. Too few can only be known when the day is over, so it is said at the "
        "account's next mail; an account that sends no more is the matter of a rule on silence."
    ),
    false_positives="As for mail.rate-vs-population. "
    "Where accounts differ widely, the mean minus three deviations is below zero: only high ones fire.",
    examples=(
        Example(True, _crowd() + mails("ann", 0, 9) + mails("ann", 1, 1), "too many"),
        Example(
            True,
            [m for u in range(40) for m in mails(f"user{u:02}", 0, 20 + u % 3)]
            + mails("ann", 0, 1)
            + mails("ann", 1, 1),
            "too few",
        ),
        Example(False, _crowd() + mails("ann", 0, 4) + mails("ann", 1, 90), "today is not over"),
    ),
)

RATE_VS_MEDIAN = Detection(
    id="mail.rate-vs-median",
    title="Sends far more than the population's median",
    severity="medium",
    on=MAIL,
    entity="user_id",
    measure=Count(per="1d"),
    against=population(median=True, mad=True, at_least=30),
    score=(value - ref.median) / (ref.mad * _MAD_TO_SD),
    when=(score > 8) & (value >= 20),
    evidence=("src_ip",),
    tags=_TAKEOVER,
    description=(
        "The robust form of mail.rate-vs-population: median and median absolute deviation (times 1.4826) of all accounts that sent "
        "anything yesterday. A few accounts that send enormously do not raise the limit for the others, as they do with mean and "
        "standard deviation; the limit of eight is higher because counts have a longer tail than the normal distribution."
    ),
    false_positives="As for mail.rate-vs-population.",
    examples=(
        Example(True, _crowd() + mails("big", 0, 900) + mails("ann", 1, 30), "beside an enormous sender"),
        Example(False, _crowd() + mails("ann", 1, 12)),
        Example(False, _crowd(20) + mails("ann", 1, 90), "too small a population"),
    ),
)


def _change(measure: Count | Sum, what: str, least: float) -> dict[str, object]:
    """Return what the rules about a change have in common: the last 7 closed days against the 28 before them."""
    spread = (ref.recent_sd**2 / ref.recent_n + ref.before_sd**2 / ref.before_n).sqrt()
    difference = ref.recent_mean - ref.before_mean
    return {
        "on": MAIL,
        "entity": "user_id",
        "measure": measure,
        "against": {
            "recent": own_history(mean=True, sd=True, windows=7, at_least=7),
            "before": own_history(mean=True, sd=True, windows=28, skip=7, at_least=14),
        },
        "score": difference,
        "when": (score > least) & (difference > 4 * spread) & (ref.recent_mean > 1.5 * ref.before_mean),
        "evidence": ("src_ip",),
        "tags": _TAKEOVER,
        "description": (
            f"The mean number of {what} a day over the last seven closed days is above that of the 28 days before them: by more than "
            f"{least:g}, by half, and by four standard errors of the difference (Welch's t of daily counts, each day one observation). The "
            "score is the difference, so that sorting by it ranks the largest changes. `tocsin ask changes` compares whole halves of a "
            "history and corrects for the number of users."
        ),
        "grouping": "7d",
    }


ATTACHMENTS_CHANGE = Detection(
    id="mail.attachments-change",
    title="Attaches more files a day than in the weeks before",
    severity="medium",
    **_change(Sum("nr_attachments", per="1d"), "attached files", 5),  # type: ignore[arg-type]
    false_positives="A new job. The change stays, the rule falls silent after five weeks.",
    examples=(
        Example(True, [m for d in range(30) for m in mails("ann", d, 4, nr_attachments=d % 3 + 6 * (d >= 22))]),
        Example(False, [m for d in range(30) for m in mails("ann", d, 4, nr_attachments=d % 3)]),
        Example(
            False, [m for d in range(15) for m in mails("ann", d, 4, nr_attachments=9 * (d >= 7))], "too little history"
        ),
    ),
)

VOLUME_CHANGE = Detection(
    id="mail.volume-change",
    title="Sends more a day than in the weeks before",
    severity="low",
    **_change(Count(per="1d"), "mails", 10),  # type: ignore[arg-type]
    false_positives="A new job or a campaign. A ramp so slow that no day stands out shows here and nowhere else.",
    examples=(
        Example(
            True, [m for d in range(40) for m in mails("ann", d, round(10 * 1.06**d))], "six per cent more each day"
        ),
        Example(False, [m for d in range(40) for m in mails("ann", d, 10 + d % 5)]),
        Example(False, [m for d in range(40) for m in mails("ann", d, 10 + 200 * (d == 36))], "one day is no change"),
    ),
)

DETECTIONS = (
    VOLUME_VS_SELF, HOURLY_VOLUME_VS_SELF, RATE_VS_POPULATION, RATE_OUTSIDE_POPULATION, RATE_VS_MEDIAN, ATTACHMENTS_CHANGE,
    VOLUME_CHANGE,
)  # fmt: skip
