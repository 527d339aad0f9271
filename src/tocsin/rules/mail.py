"""Detections over what a mail carries and to how many it goes.

Enters: nothing. Leaves: ``DETECTIONS``, and ``many_recipients`` for a limit of one's own. Layer: rules.
"""

from __future__ import annotations

import polars as pl

from tocsin.detection import Detection, Example, col, ref, score
from tocsin.fits import limit
from tocsin.rules.examples import mails

MAIL = col("kind") == "mail"
# Mail gateways write a file inside an archive as "archive.zip/name", "archive.zip!name" or "archive.zip (name)".
_EXE = r"(?i)\.exe[\s.)\]]*$"
_PROGRAM = r"(?i)\.(exe|scr|com|pif|bat|cmd|vbs|vbe|js|jse|wsf|hta|msi|lnk|jar|ps1)[\s.)\]]*$"
_LOOKS_HARMLESS = (
    r"(?i)\.(pdf|docx?|xlsx?|pptx?|txt|rtf|csv|html?|jpe?g|png|gif|mp[34]|zip)[\s._-]*\.[a-z0-9]{2,4}[\s.)\]]*$"
)
_HIDES_ITS_END = "[\u202a-\u202e\u2066-\u2069]|\\s{5,}\\."


def _any_file(*patterns: str) -> pl.Expr:
    """Whether the name of some attached file matches one of the patterns."""
    name = pl.element().str
    return col("attachments").list.eval(pl.any_horizontal(name.contains(p) for p in patterns)).list.any()


def _one(fires: bool, n: int, *names: str, note: str = "") -> Example:
    return Example(fires, mails("ann", 0, 1, nr_recipients=n, attachments=list(names)), note)


EXE_MANY_RECIPIENTS = Detection(
    id="mail.exe-many-recipients",
    title="Program file mailed to more than 10 recipients",
    severity="high",
    on=MAIL & _any_file(_EXE),
    entity="user_id",
    score=col("nr_recipients"),
    when=score > 10,
    evidence=("src_ip", "nr_recipients", "attachments"),
    tags=("attack.t1566.001",),
    description=(
        "One message both carries an attachment that ends in .exe, in any case, by itself or inside an archive whose listing the "
        "gateway wrote down, and goes to more than ten recipients."
    ),
    false_positives="Software vendors that mail installers. Allow-list the sending account with an owner and an expiry.",
    examples=(
        _one(True, 11, "Invoice.PDF.EXE"),
        _one(True, 11, "notes.txt", "photos.zip/view.exe", note="inside an archive"),
        _one(False, 10, "setup.exe", note="ten is not more than ten"),
        _one(False, 500, "exe.pdf"),
        _one(False, 500, "setup.exe.txt"),
    ),
)

_NAMED_TO_DECEIVE = col("attachments").list.eval(
    pl.element().str.contains(_PROGRAM)
    & (pl.element().str.contains(_LOOKS_HARMLESS) | pl.element().str.contains(_HIDES_ITS_END))
)

DISGUISED_PROGRAM = Detection(
    id="mail.disguised-program",
    title="Program file named like a document",
    severity="high",
    on=MAIL & _NAMED_TO_DECEIVE.list.any(),
    entity="user_id",
    score=_NAMED_TO_DECEIVE.list.sum(),
    when=score >= 1,
    evidence=("src_ip", "nr_recipients", "attachments"),
    tags=("attack.t1036.007", "attack.t1036.002"),
    description=(
        "An attached program has a document's extension before its own (invoice.pdf.exe), hides its end behind spaces, or carries a "
        "character that turns the direction of text, so that photo_[override]gpj.exe is shown as photo_exe.jpg. "
        "The score is how many such files there are."
    ),
    false_positives="Self-extracting archives that keep the old name, such as report.pdf.exe of some backup tools.",
    examples=(
        _one(True, 1, "invoice.pdf.exe"),
        _one(True, 1, "photo_\u202egpj.exe", note="right-to-left override"),
        _one(True, 1, "scan.zip/CV.docx.SCR"),
        _one(False, 1, "setup.exe"),
        _one(False, 1, "report.final.pdf"),
        _one(False, 1, "archive.tar.gz"),
    ),
)


def many_recipients(most: float | None = None) -> Detection:
    """Return the rule for mails to many recipients: with a given limit, or with one that history discovers.

    most: fire above so many recipients. Without it the limit is the 99.9th percentile of all mails of the last 28 days,
    of which there must be at least 1,000.

    >>> many_recipients(60).tier, str(many_recipients(60).when), many_recipients().tier
    (1, 'score > 60', 4)
    """
    fitted = most is None
    threshold = ref.limit if most is None else most
    says = "the 99.9th percentile of all mails of the last 28 days" if fitted else f"the given limit of {most:g}"
    history = [m for d in range(2) for m in mails("bob", d, 600, nr_recipients=3)]
    return Detection(
        id="mail.many-recipients",
        title="Mail to unusually many recipients" if fitted else f"Mail to more than {most:g} recipients",
        severity="low",
        on=MAIL,
        entity="user_id",
        against=limit("nr_recipients", quantile=0.999, windows=28, at_least=1000) if fitted else None,
        score=col("nr_recipients"),
        when=score > threshold,
        evidence=("src_ip", "nr_recipients"),
        tags=("attack.t1566",),
        description=f"The number of recipients of one mail is above {says}.",
        false_positives="Announcements and newsletters. Allow-list the accounts that send them, or give the limit yourself.",
        examples=(
            Example(True, [*history, *mails("ann", 2, 1, nr_recipients=10**4)]),
            Example(False, [*history, *mails("ann", 2, 1, nr_recipients=3 if fitted or most is None else int(most))]),
        ),
    )


MANY_RECIPIENTS = many_recipients()

DETECTIONS = (EXE_MANY_RECIPIENTS, DISGUISED_PROGRAM, MANY_RECIPIENTS)
