"""Detections over logins: failures, and what an account does for the first time.

Enters: nothing. Leaves: ``DETECTIONS``. Layer: rules.
"""

from __future__ import annotations

from tocsin.detection import Detection, Example, col, known, score, total, value
from tocsin.measures import Count, Distinct, FirstSeen, Hours
from tocsin.rules.examples import at, failed, login

LOGIN = col("kind") == "login"
FAILED = LOGIN & (col("outcome") == "failure")
NOT_REFUSED = col("outcome").is_null() | (col("outcome") != "failure")
"""A failed login shows where somebody tried from, not where the account's owner is."""
SUCCEEDED = LOGIN & NOT_REFUSED

FAILED_BURST = Detection(
    id="login.failed-burst",
    title="Ten failed logins of one account within ten minutes",
    severity="medium",
    on=FAILED,
    entity="user_id",
    measure=Count(sliding="10m"),
    score=value,
    when=score >= 10,
    evidence=("src_ip", "src_country", "device_id"),
    tags=("attack.t1110.001",),
    description="One account's logins failed at least ten times in the last ten minutes, from whatever address.",
    false_positives="A changed password in a mail client that keeps trying. The same device and address as ever tell it apart.",
    grouping="1h",
    examples=(
        Example(True, [failed(i / 2) for i in range(10)]),
        Example(False, [failed(i / 2) for i in range(9)]),
        Example(False, [failed(i * 1.2) for i in range(10)], "ten, but not within ten minutes"),
        Example(False, [login(i / 2) for i in range(10)], "none of them failed"),
    ),
)

PASSWORD_SPRAY = Detection(
    id="login.password-spray",
    title="Failed logins of many accounts from one address",
    severity="high",
    on=FAILED,
    entity="src_ip",
    measure=Distinct("user_id", sliding="1h"),
    score=value,
    when=score >= 10,
    evidence=("user_id", "src_country", "device_id"),
    tags=("attack.t1110.003",),
    description="From one address the logins of at least ten different accounts failed within the last hour.",
    false_positives="A gateway behind which many people work, on a morning when passwords have expired.",
    grouping="1h",
    examples=(
        Example(True, [failed(i, user_id=f"user{i}") for i in range(10)]),
        Example(False, [failed(i, user_id=f"user{i % 9}") for i in range(30)]),
        Example(False, [failed(7 * i, user_id=f"user{i}") for i in range(10)], "spread over more than an hour"),
    ),
)

PASSWORD_SPRAY_NETWORK = Detection(
    id="login.password-spray-network",
    title="Failed logins of many accounts from one network",
    severity="high",
    on=FAILED & col("src_prefix").is_not_null(),
    entity="src_prefix",
    measure=Distinct("user_id", sliding="1d"),
    score=value,
    when=score >= 15,
    evidence=("user_id", "src_ip", "src_country"),
    tags=("attack.t1110.003",),
    description=(
        "From one /24 (IPv6: /48) the logins of at least fifteen different accounts failed within a day: a spray that changes its "
        "address with every try."
    ),
    false_positives="A gateway, or an access network whose customers mistype now and then. Raise the count with the organisation.",
    examples=(
        Example(True, [failed(60 * i, user_id=f"user{i}", src_prefix="198.51.100.0/24") for i in range(15)]),
        Example(False, [failed(60 * i, user_id=f"user{i}", src_prefix="198.51.100.0/24") for i in range(14)]),
        Example(False, [failed(i, user_id=f"user{i}", src_prefix=f"198.51.{i}.0/24") for i in range(40)]),
    ),
)


def _first(what: str, column: str, **about: object) -> Detection:
    """Return the rule for an account's first successful login with a new value of a column."""
    shown: dict[str, object] = {"src_ip": "198.51.100.7", column: "old"}
    new = {column: "new"}
    return Detection(
        id=f"login.first-{what}",
        title=f"First login of an account with this {what}",
        on=SUCCEEDED & col(column).is_not_null(),
        entity="user_id",
        measure=FirstSeen(column, forget_after="180d"),
        score=value,
        when=(score >= 1) & (known >= 1),
        optional=("outcome",),
        evidence=tuple(dict.fromkeys(("src_ip", "src_country", "src_city", column))),
        tags=("attack.t1078",),
        description=(
            f"An account that is known logs in with a {what} not seen with it in the last 180 days. An account's very first {what} "
            "does not fire."
        ),
        examples=(
            Example(True, [login(0, **shown), login(9, **shown | new)]),
            Example(False, [login(0, **shown | new)], "the very first"),
            Example(False, [login(0, **shown), login(9, **shown)], "seen before"),
            Example(False, [login(0, **shown), login(9, **shown | new, outcome="failure")], "it failed"),
        ),
        **about,  # type: ignore[arg-type]
    )


FIRST_COUNTRY = _first(
    "country",
    "src_country",
    severity="medium",
    false_positives="Journeys, and mobile networks that leave the country. Together with login.first-device it weighs more.",
)
FIRST_NETWORK = _first(
    "network",
    "src_network",
    severity="informational",
    false_positives="Hotels, trains, friends. By itself it is context for other findings, no alert.",
)
FIRST_DEVICE = _first(
    "device",
    "device_id",
    severity="low",
    false_positives="A new telephone. It is of interest when the network is new too, or a burst of mail follows.",
)

UNUSUAL_HOUR = Detection(
    id="login.unusual-hour",
    title="Login at an hour of the day at which the account is hardly ever used",
    severity="low",
    on=SUCCEEDED,
    entity="user_id",
    measure=Hours(zone="UTC"),
    score=value / total,
    when=(score < 0.0025) & (total >= 400),
    optional=("outcome",),
    evidence=("src_ip", "src_country", "device_id"),
    tags=("attack.t1078",),
    description=(
        "The share of the account's logins that fell into this hour of the day, this one included, is below one in four hundred, of at "
        "least 400. Whether a user's hours have shifted for good is a question for `tocsin ask hours`, which compares whole days."
    ),
    false_positives="Night work, travel to another time zone, the weeks around a change of the clock: hours are counted in UTC.",
    examples=(
        Example(
            True,
            [login(i / 4, timestamp=at(i // 5, minute=i % 5)) for i in range(410)] + [login(0, timestamp=at(90, 18))],
        ),
        Example(
            False, [login(i / 4, timestamp=at(i // 5, minute=i % 5)) for i in range(410)] + [login(0, timestamp=at(90))]
        ),
        Example(False, [login(i) for i in range(50)] + [login(0, timestamp=at(90, 18))], "too few logins to say"),
    ),
)

GUESSED_PASSWORD = Detection(
    id="login.guessed-password",
    title="Login succeeds after many that failed",
    severity="high",
    on=LOGIN,
    entity="user_id",
    measure=Count(sliding="30m", where=FAILED),
    score=value,
    when=(score >= 10) & SUCCEEDED,
    evidence=("src_ip", "src_country", "device_id"),
    tags=("attack.t1110",),
    description="An account logs in after at least ten of its logins have failed in the last 30 minutes.",
    false_positives="A forgotten password, found again or reset: the same device and address as ever tell it apart.",
    grouping="1d",
    examples=(
        Example(True, [*(failed(i) for i in range(10)), login(10)]),
        Example(False, [*(failed(i) for i in range(9)), login(10)]),
        Example(False, [failed(i) for i in range(20)], "it never succeeds"),
        Example(False, [*(failed(i) for i in range(10)), login(50)], "long after"),
    ),
)

DETECTIONS = (
    FAILED_BURST, GUESSED_PASSWORD, PASSWORD_SPRAY, PASSWORD_SPRAY_NETWORK, FIRST_COUNTRY, FIRST_NETWORK, FIRST_DEVICE, UNUSUAL_HOUR,
)  # fmt: skip
