"""Explain: why a finding fired, in one sentence from its own evidence, with the events and the history behind it.

Enters: a finding, the events it came from, reference data, the rules. Leaves: an `Answer`. Layer: questions.

The sentence and the evidence are read off the finding alone. Events and history come from one pass of the rule over the
whole log, up to the finding's window, so what is shown is what the engine saw, for rules against the population too.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from tocsin.answers import Answer
from tocsin.calendars import Calendar, duration_us, instant_us, moment
from tocsin.engine.findings import RULE_ERROR
from tocsin.errors import RuleError, did_you_mean
from tocsin.fits import Limit
from tocsin.measures import Previous, Spanned
from tocsin.questions.timelines import of_events, of_windows
from tocsin.questions.watch import Watch, calendar_of, with_band, with_times
from tocsin.readable import against_words, measure_words, readable
from tocsin.tables import Table
from tocsin.views.page import cell

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tocsin.detection import Detection
    from tocsin.references import References
    from tocsin.sources import Events

MOST_EVENTS = 20
HISTORY_WINDOWS = 14
LONGEST_SCORE = 60


def find(findings: pl.DataFrame, finding_id: str) -> dict[str, Any]:
    """Return the finding with this id, or with an id that begins like this.

    Raises:
        RuleError: None begins so, or more than one.

    >>> find(pl.DataFrame({"finding_id": ["0a1b", "0c2d"]}), "0a")
    {'finding_id': '0a1b'}
    """
    if "finding_id" not in findings.columns:
        raise RuleError(
            "This is no table of findings: it has no column finding_id. `tocsin backtest --out` writes one."
        )
    ids = findings["finding_id"]
    hits = findings.filter(ids == finding_id)
    hits = hits if hits.height else findings.filter(ids.str.starts_with(finding_id))
    if hits.height != 1:
        what = f"{hits.height} findings begin with" if hits.height else "There is no finding"
        hint = "" if hits.height else did_you_mean(finding_id, ids.head(20_000).to_list())
        raise RuleError(f'{what} "{finding_id}" among {findings.height:,}.{hint}')
    return hits.row(0, named=True)


def explain(
    finding: Mapping[str, Any] | pl.DataFrame,
    events: Events,
    refs: References | None = None,
    rules: Iterable[Detection] | None = None,
    *,
    gaps: Sequence[tuple[datetime, datetime]] = (),
) -> Answer:
    """Say why a finding fired: one sentence, its evidence, the contributing events, the entity's nearest history.

    Args:
        finding: A row of ``Backtest.findings``, as a mapping or a frame of one row.
        events: What it was found in.
        refs: The reference data of the backtest.
        rules: Where its rule is looked up; by default the rules that ship.
        gaps: As in the backtest.

    Returns:
        An answer whose ``definition`` is the sentence and whose table is the evidence; ``more`` holds the contributing
        events, newest first and at most 20, and the entity's last 14 windows (or events).

    Raises:
        RuleError: Not one finding, or its rule is not among ``rules``.
    """
    row = _one(finding)
    if row["detection_id"] == RULE_ERROR:
        return _of_error(row)
    detection = _rule_of(row, rules)
    end = moment(instant_us(row["window_end"])) if row["window_end"] else moment(instant_us(row["time"]) + 1)
    watch = Watch(
        with_band(detection),
        events,
        refs,
        pl.col(detection.entity).cast(pl.String) == row["entity"],
        until=None if detection.closes else end,  # a window is closed by what comes after it
        gaps=gaps,
    )
    seen = watch.collect()
    seen = seen.filter(pl.col("timestamp") < end) if seen.height else seen
    evidence = _evidence(row)
    sentence = sentence_of(row, detection, refs)
    notes = _notes(row, detection)
    title = f"Why {row['detection_id']} fired for {row['entity']}"
    if not seen.height:
        told = (
            *notes,
            f"{events.name} holds no event of this entity up to the finding: is it the source that it came from?",
        )
        return Answer(title, sentence, evidence, told)
    part = _contributing(seen, row, detection)
    history = _history(seen, watch.detection, row["entity"])
    shown = _shown(part, detection)
    what = "The window as it closed" if detection.closes else f"Contributing events: {part.height:,}, newest first"
    caption = what + (f", the last {MOST_EVENTS}" if part.height > MOST_EVENTS else "")
    label = "windows" if detection.windowed else "events"
    more = {caption: shown, f"Nearest history: the last {HISTORY_WINDOWS} {label}": history.table.tail(HISTORY_WINDOWS)}
    facts = {"finding_id": row["finding_id"], "events": part.height}
    return Answer(title, sentence, evidence, notes, more=more, chart=history.chart, facts=facts)


def _one(finding: Mapping[str, Any] | pl.DataFrame) -> dict[str, Any]:
    if isinstance(finding, pl.DataFrame):
        if finding.height != 1:
            raise RuleError(f"explain takes one finding, not {finding.height}. Filter the findings by finding_id.")
        return finding.row(0, named=True)
    return dict(finding)


def _rule_of(row: Mapping[str, Any], rules: Iterable[Detection] | None) -> Detection:
    if rules is None:
        from tocsin.rules import ALL

        rules = ALL
    known = {d.id: d for d in rules}
    if row["detection_id"] not in known:
        hint = did_you_mean(row["detection_id"], known)
        raise RuleError(
            f'The finding is of the rule "{row["detection_id"]}", which is not among the rules given.{hint}'
        )
    return known[row["detection_id"]]


def _of_error(row: Mapping[str, Any]) -> Answer:
    error = json.loads(row["evidence"]).get("error", "")
    sentence = f"The rule {row['entity']} raised an error on event {row['event_id']} of {_time(row['time'])}: {error}"
    return Answer(f"Why {RULE_ERROR} fired for {row['entity']}", sentence, _evidence(row))


def _evidence(row: Mapping[str, Any]) -> pl.DataFrame:
    """Return the finding's own columns and its evidence as pairs of name and value."""
    told = {k: v for k, v in row.items() if k != "evidence" and v is not None}
    told |= {f"evidence: {k}": v for k, v in json.loads(row["evidence"] or "{}").items()}
    pairs = [(name, cell(value)) for name, value in told.items()]
    return pl.DataFrame(pairs, schema={"name": pl.String, "value": pl.String}, orient="row")


def _notes(row: Mapping[str, Any], detection: Detection) -> tuple[str, ...]:
    notes = []
    if row["version"] != detection.version:
        notes.append(
            f"The rule has changed since: the finding is of version {row['version']}, events and history below are of {detection.version}."
        )
    if row["suppressed_by"]:
        notes.append(f"It is suppressed by the allow-list: {row['suppressed_by']}.")
    return tuple(notes)


def sentence_of(row: Mapping[str, Any], detection: Detection, refs: References | None = None) -> str:
    """Return why a finding fired, in one sentence: value, baseline, score, threshold, and the date of the table."""
    evidence = json.loads(row["evidence"] or "{}")
    told = _measured(row, detection, evidence)
    told += _compared(detection, evidence)
    expression = readable(detection.score)
    score = f"score {expression}" if len(expression) <= LONGEST_SCORE else "score"
    relation = {">": "above", ">=": "at or above", "<": "below", "<=": "at or below", "==": "equal to"}[
        detection.when.operator
    ]
    told += f", so its {score} was {cell(row['score'])}, {relation} the threshold {cell(row['threshold'])}"
    if detection.when.extra is not None:
        told += f" (and {readable(detection.when.extra)})"
    if row["peak_score"] is not None and row["peak_score"] != row["score"]:
        told += f", and reached {cell(row['peak_score'])} within the window"
    return (
        f"{row['detection_id']} ({detection.title}) fired for {row['entity_kind']} {row['entity']} at {_time(row['time'])}: {told}; "
        f"{_table_date(row, detection, refs)}."
    )


def _measured(row: Mapping[str, Any], detection: Detection, evidence: Mapping[str, Any]) -> str:
    if isinstance(detection.measure, Previous):
        before = {k.removeprefix("prev."): v for k, v in evidence.items() if k.startswith("prev.") and v is not None}
        if "timestamp" not in before:
            return "it had no previous event"
        at = _time(datetime.fromisoformat(before.pop("timestamp")))
        return f"its previous event was at {at}{_with(before)}, this one has{_with(_shown_of(detection, evidence)).removeprefix(' with')}"
    if detection.measure is None:
        return f"one event{_with(_shown_of(detection, evidence))}"
    reached = "at its close was" if detection.closes else "had reached"
    return f"the {measure_words(detection.measure)} {reached} {cell(row['value'])}"


def _shown_of(detection: Detection, evidence: Mapping[str, Any]) -> dict[str, Any]:
    return {c: evidence[c] for c in detection.evidence if evidence.get(c) is not None}


def _with(values: Mapping[str, Any]) -> str:
    return " with " + ", ".join(f"{name} {cell(value)}" for name, value in values.items()) if values else ""


def _compared(detection: Detection, evidence: Mapping[str, Any]) -> str:
    refs = {k.removeprefix("ref."): v for k, v in evidence.items() if k.startswith("ref.")}
    if not refs:
        return ""
    values = ", ".join(f"{name} {cell(value)}" for name, value in refs.items())
    return f", against {values} ({against_words(detection)})"


def _table_date(row: Mapping[str, Any], detection: Detection, refs: References | None) -> str:
    """Return which table the value was compared with, and since when that was valid."""
    digest = f"digest {row['table_digest'][:12]}" if row["table_digest"] else "no digest"
    if isinstance(detection.against, Table):
        since = detection.against.valid_from
        return (
            f"the table {detection.against.name} is valid from {_time(since)} ({digest})"
            if since
            else f"the table has no date ({digest})"
        )
    limits = [f for f in detection.fits.values() if isinstance(f, Limit)]
    if limits:
        days = Calendar("1d", limits[0].zone)
        begin = int(days.begin(int(days.number(pl.Series([instant_us(row["time"])]).to_numpy())[0])))
        return f"the table was fitted on the days before {_time(moment(begin))} ({digest})"
    if detection.fits and row["window_start"]:
        return f"the table was fitted on windows before {_time(row['window_start'])}, when this one began ({digest})"
    if detection.tier == 2:
        dates = sorted({t.valid_from for t in refs.geo if t.valid_from}) if refs else []
        known = f", geo tables valid from {', '.join(_time(d) for d in dates)}" if dates else ""
        return f"looked up in the reference data of {digest}{known}"
    return f"constants of the rule's version {row['version']}"


def _time(value: Any) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if hasattr(value, "strftime") else str(value)


def _contributing(seen: pl.DataFrame, row: Mapping[str, Any], detection: Detection) -> pl.DataFrame:
    """Return the events that made the value, newest first: of the window, of the sliding span, the last two, or the one."""
    upto = seen.filter(pl.col("timestamp") <= row["time"]).sort("timestamp", "event_id", descending=True)
    measure = detection.measure
    if detection.windowed:
        return upto.filter(pl.col("timestamp") >= row["window_start"])
    if isinstance(measure, Spanned) and measure.sliding:
        return upto.filter(pl.col("timestamp") > moment(instant_us(row["time"]) - duration_us(measure.sliding)))
    this = upto.filter(pl.col("event_id") == row["event_id"])
    if measure is None:
        return this
    before = upto.filter(pl.col("event_id") != row["event_id"])
    return pl.concat([this, before.head(1) if isinstance(measure, Previous) else before])


def _shown(part: pl.DataFrame, detection: Detection) -> pl.DataFrame:
    """Return the events as a person reads them: what the rule reads and shows, and the running value."""
    named = ["timestamp", "event_id", *dict.fromkeys([*detection.reads, *detection.evidence])]
    columns = [c for c in dict.fromkeys(named) if c in part.columns]
    running = [pl.col(c).alias(c.removeprefix("@")) for c in ("@value",) if c in part.columns]
    return part.head(MOST_EVENTS).select(*columns, *running, score="@score", fired="@fired")


def _history(seen: pl.DataFrame, detection: Detection, entity: str) -> Answer:
    if not detection.windowed:
        return of_events(seen, detection, entity, None)
    rows = Watch.windows_of(seen, detection)
    return of_windows(with_times(rows.sort("@window"), calendar_of(detection)), detection, entity, None)
