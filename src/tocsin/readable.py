"""Rules in words: expressions without Polars' brackets, measures and fits as a sentence.

Enters: expressions, measures, fits, detections. Leaves: text for the catalogue, tables and explanations. Layer: above detections.
"""

import re
from typing import TYPE_CHECKING, Any

import polars as pl

from tocsin.fits import Fit, Limit, OwnHistory, Population, quantile_name
from tocsin.measures import FirstSeen, Hours, Measure, Previous, Ratio, Spanned
from tocsin.tables import Table

if TYPE_CHECKING:
    from tocsin.detection import Condition, Detection, Example

TIERS = {
    1: "stateless",
    2: "joined with reference data",
    3: "against the entity's own history",
    4: "against the population",
}
_UNITS = {"m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month"}
_CLOSING = {"(": ")", "[": "]"}


def readable(expression: pl.Expr) -> str:
    """Return an expression as a person would write it.

    >>> readable((pl.col("@value") - pl.col("@ref.mean")) / pl.col("@ref.sd"))
    '(value - ref.mean) / ref.sd'
    >>> readable((pl.col("kind") == "mail") & (pl.col("n") >= 20))
    '(kind == "mail") & (n >= 20)'
    """
    text = re.sub(r'col\("@?([^"]+)"\)', r"\1", str(expression))
    text = re.sub(r"dyn (?:int|float): ", "", text)
    return _without_brackets(text)


def _without_brackets(text: str) -> str:
    """Turn Polars' `[(a) + (b)]` into `a + b`: brackets become parentheses, and those that hold one thing go."""
    pairs = _pairs(text)
    kept = dict(enumerate(text))
    for start, end in sorted(pairs.items(), reverse=True):
        inner = text[start + 1 : end]
        call = start > 0 and (text[start - 1].isalnum() or text[start - 1] == "_")
        around = start > 0 and text[start - 1] == "(" and pairs.get(start - 1) == end + 1
        if text[start] == "[" and (around or (start == 0 and end == len(text) - 1)):
            kept[start] = kept[end] = ""
        elif text[start] == "[":
            kept[start], kept[end] = "(", ")"
        elif text[start] == "(" and not call and not _has_space(inner) and pairs.get(start + 1) != end - 1:
            kept[start] = kept[end] = ""
    return "".join(kept.values())


def _pairs(text: str) -> dict[int, int]:
    stack, pairs, quoted = [], {}, False
    for i, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif not quoted and character in "([":
            stack.append(i)
        elif not quoted and character in ")]" and stack:
            pairs[stack.pop()] = i
    return pairs


def _has_space(text: str) -> bool:
    """Tell whether there is a space outside brackets and quotes: then it is more than one thing."""
    depth, quoted = 0, False
    for character in text:
        if character == '"':
            quoted = not quoted
        elif not quoted:
            depth += (character in "([") - (character in ")]")
            if character == " " and depth == 0:
                return True
    return False


def condition_words(when: "Condition") -> str:
    """Return when a rule fires, such as `score > 3 and value >= 20`."""
    text = f"score {when.operator} {readable(when.threshold)}"
    return text if when.extra is None else f"{text} and {readable(when.extra)}"


def measure_words(measure: Measure | None) -> str:
    """Return what is counted.

    >>> from tocsin.measures import Count, Distinct
    >>> measure_words(Count(per="1d")), measure_words(Distinct("src_ip", sliding="10m"))
    ('number of events in the calendar day (UTC)', 'distinct values of src_ip in the last 10m')
    """
    if measure is None:
        return "nothing: each event is judged by itself"
    if isinstance(measure, Previous):
        return f"the previous event's {', '.join(measure.columns)}" + _forgetting(measure)
    if isinstance(measure, FirstSeen):
        return f"whether {measure.column} shows a value for the first time" + _forgetting(measure)
    if isinstance(measure, Hours):
        return f"events by clock hour ({measure.zone})"
    if isinstance(measure, Ratio):
        what = f"events with {readable(measure.num)} over events with {readable(measure.den)}"
    else:
        name, column = type(measure).__name__.lower(), getattr(measure, "column", "")
        what = {"count": "number of events", "distinct": f"distinct values of {column}"}.get(
            name, f"{name} of {column}"
        )
        where = getattr(measure, "where", None)
        what += "" if where is None else f" with {readable(where)}"
    return f"{what} {_span(measure)}" if isinstance(measure, Spanned) else what


def _span(measure: Spanned) -> str:
    if measure.per is not None:
        match = re.fullmatch(r"(\d+)(\w+)", measure.per)
        count, unit = (match[1], _UNITS.get(match[2], match[2])) if match else ("1", measure.per)
        return (
            f"in the calendar {unit} ({measure.zone})"
            if count == "1"
            else f"in the calendar window of {count} {unit}s ({measure.zone})"
        )
    return f"in the last {measure.sliding}" if measure.sliding else "so far" + _forgetting(measure)


def _forgetting(measure: Any) -> str:
    return f", forgotten after {measure.forget_after}" if measure.forget_after else ""


def against_words(detection: "Detection") -> str:
    """Return what the value is compared with."""
    if isinstance(detection.against, Table):
        return f"the table {detection.against.name} by {', '.join(detection.against.key)}"
    if not detection.fits:
        return "constants"
    return "; ".join(f"{name}: {fit_words(fit)}" if name else fit_words(fit) for name, fit in detection.fits.items())


def context_words(detection: "Detection") -> str:
    """Return what else of the event is measured."""
    said = [
        f"{name}: {measure_words(c.measure)} by {c.entity}, {readable(c.on)}" for name, c in detection.context.items()
    ]
    return "; ".join(said) or "nothing"


def closing_words(detection: "Detection") -> str:
    """Return when a rule about whole windows is asked, and until when."""
    return (
        f"when the window has closed, also of who had no event in it, until {detection.patience} in a row were silent"
    )


def fit_words(against: Fit) -> str:
    """Return what a fit is made of."""
    if isinstance(against, Limit):
        limit = f"{quantile_name(against.quantiles[0])} of {against.column}"
        return f"{limit} over the events of the last {against.windows} days ({against.zone}), at least {against.at_least:,} of them"
    statistics = ", ".join(c for c in against.columns if c != "n")
    if isinstance(against, OwnHistory):
        which = "same weekdays" if against.same_weekday else "closed windows"
        which += f" before the last {against.skip}" if against.skip else ""
        spared = ", without those it fired in" if against.exclude_alerted else ""
        return f"{statistics} of the entity's own last {against.windows} {which}{spared}, at least {against.at_least} of them"
    assert isinstance(against, Population)
    of = " of each one's own baseline" if against.of else ""
    return f"{statistics}{of} over all entities of the window before, at least {against.at_least} of them"


def example_words(example: "Example") -> str:
    """Return an example's events in one line: the last is the one that decides."""
    last = ", ".join(f"{name} {value!r}" for name, value in example.events[-1].items() if name != "timestamp")
    many = f"{len(example.events):,} events, the last with " if len(example.events) > 1 else ""
    return f"{many}{last}" + (f" ({example.note})" if example.note else "")


def rule_facts(detection: "Detection") -> list[tuple[str, str]]:
    """Return a rule as pairs of a word and a text, in reading order."""
    return [
        ("id", detection.id),
        ("version", detection.version),
        ("severity", detection.severity),
        ("tier", f"{detection.tier}, {TIERS[detection.tier]}"),
        ("about", detection.entity),
        ("reads", ", ".join(detection.reads)),
        ("on", readable(detection.on)),
        ("measure", measure_words(detection.measure)),
        *([("asked", closing_words(detection))] if detection.closes else []),
        ("context", context_words(detection)),
        ("against", against_words(detection)),
        ("score", readable(detection.score)),
        ("when", condition_words(detection.when)),
        ("evidence", ", ".join(detection.evidence) or "nothing more"),
        ("tags", ", ".join(detection.tags) or "none"),
    ]
