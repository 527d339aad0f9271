"""A mapping meets a source: which column of the batch is made from which field, once, before the first row.

Enters: a `Mapping`, the source's fields with the kinds a sample shows, and the caller's options. Leaves: a `Plan`, or an
error that says what to add. Layer: sources.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from tocsin.errors import MappingError, did_you_mean
from tocsin.schema import STANDARD, standard_name
from tocsin.sources import times
from tocsin.sources.clean import Output, Plan
from tocsin.sources.mapping import ColumnRule, Mapping, check_zone

if TYPE_CHECKING:
    from collections.abc import Collection

    import polars as pl

DEFAULT_EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)
DEFAULT_LATEST_AHEAD: Final = timedelta(days=1)


def raw_kinds(mapping: Mapping, sampled: dict[str, str]) -> dict[str, str]:
    """Return the kind each source field is read as: what the rules need of it, else what the sample shows.

    >>> raw_kinds(Mapping(columns=(ColumnRule("src_ip", ("ip",)),)), {"ip": "int", "n": "int"})
    {'ip': 'text', 'n': 'int'}
    """
    kinds = dict(sampled)
    for name in sampled:
        rules = readers(mapping, name, sampled)
        if not rules and name in STANDARD:
            rules = [ColumnRule(name)]
        if rules:
            wanted = {raw_kind(rule) for rule in rules}
            kinds[name] = wanted.pop() if len(wanted) == 1 else "text"
    return kinds


def readers(mapping: Mapping, field: str, present: dict[str, str]) -> list[ColumnRule]:
    """Return the rules that read a source field, given which fields there are."""
    return [rule for rule in mapping.columns if source_of(rule, present) == field]


def source_of(rule: ColumnRule, present: dict[str, str]) -> str | None:
    """Return the source field a rule reads: the first of its candidates that is present, else the first of all."""
    if rule.constant is not None or rule.count_of is not None:
        return None
    candidates = rule.source or (rule.name,)
    return next((c for c in candidates if c in present), candidates[0])


def raw_kind(rule: ColumnRule) -> str:
    """Return the kind a source field is read as for a rule: what the rule has yet to work on stays text."""
    kind = rule.resolved_kind
    if kind == "list":
        return "text" if rule.split else "list"
    return kind if kind in {"int", "float", "bool"} and not (rule.values or rule.pattern) else "text"


def make_plan(
    mapping: Mapping,
    sampled: dict[str, str],
    sample: pl.DataFrame,
    *,
    name: str,
    now: datetime,
    fixed: bool,
    zone: str | None = None,
    year: int | None = None,
    earliest: datetime | None = None,
    latest: datetime | None = None,
    wanted: Collection[str] = (),
) -> Plan:
    """Return the plan for a source.

    Args:
        mapping: The rules; an empty mapping keeps names as they are.
        sampled: Source field -> kind.
        sample: Some rows, to judge the time column by.
        name: The source's name.
        now: The moment of reading; the default latest time is a day after it.
        fixed: The source has just these fields (CSV, Parquet); a rule that reads another one is an error.
        zone: Overrides the mapping's.
        year: Overrides the mapping's.
        earliest: Overrides the mapping's.
        latest: Overrides the mapping's.
        wanted: Standard columns that are made, null, even where neither mapping nor sample has them: a stream of several
            kinds of events may show them later.

    Raises:
        MappingError: No time column, a rule for a field that is not there, or times that need a zone, unit or year.
    """
    check_zone(zone, "zone")
    outputs = _ruled(mapping, sampled, fixed=fixed)
    ruled = {o.rule.name for o in outputs}
    consumed = {o.source for o in outputs}
    for field, kind in sampled.items():
        if field in ruled or (field in consumed and field not in STANDARD):
            continue
        if field in STANDARD:
            outputs.append(Output(ColumnRule(field), field, STANDARD[field].kind, declared=True))
        else:
            outputs.append(Output(ColumnRule(field), field, kind, declared=False))
    names = {o.rule.name for o in outputs}
    if "attachments" in names and "nr_attachments" not in names:
        outputs.append(Output(ColumnRule("nr_attachments", count_of="attachments"), None, "int", declared=True))
    names = {o.rule.name for o in outputs}
    outputs += [_awaited(mapping, column) for column in STANDARD if column in wanted and column not in names]
    plan = Plan(
        name=name,
        outputs=_ordered(outputs),
        zone=zone or mapping.zone,
        year=year if year is not None else mapping.year,
        earliest=earliest or mapping.earliest or DEFAULT_EARLIEST,
        latest=latest or mapping.latest or now + DEFAULT_LATEST_AHEAD,
        null_values=mapping.null_values,
    )
    _check_time_column(plan, sampled, sample)
    return plan


def _awaited(mapping: Mapping, column: str) -> Output:
    """Return the output for a standard column of which the source has shown nothing yet."""
    return Output(mapping.rule(column) or ColumnRule(column), column, STANDARD[column].kind, declared=True)


def _ruled(mapping: Mapping, sampled: dict[str, str], *, fixed: bool) -> list[Output]:
    outputs = []
    for rule in mapping.columns:
        source = source_of(rule, sampled)
        if source is not None and source not in sampled:
            explicit = bool(rule.source) and rule.default is None
            if explicit and fixed and len(rule.source) == 1:
                raise MappingError(
                    f"the mapping makes {rule.name!r} from the field {source!r}, which the source does not have."
                    f"{did_you_mean(source, sampled)} It has: {', '.join(sampled)}."
                )
            if not rule.source and rule.default is None:
                continue  # a rule such as [columns.src_ip] on_invalid = "null" binds only where the column exists
        if (
            rule.count_of is not None
            and rule.count_of not in {r.name for r in mapping.columns}
            and rule.count_of not in sampled
        ):
            raise MappingError(
                f"the mapping counts {rule.count_of!r} for {rule.name!r}, which is no column.{did_you_mean(rule.count_of, sampled)}"
            )
        outputs.append(Output(rule, source, rule.resolved_kind, declared=True))
    return outputs


def _ordered(outputs: list[Output]) -> tuple[Output, ...]:
    """Standard columns in their own order, then the others in the source's; counted columns after what they count."""
    rank = {name: i for i, name in enumerate(STANDARD)}
    ordered = sorted(outputs, key=lambda o: rank.get(o.rule.name, len(rank)))
    return tuple(o for o in ordered if o.rule.count_of is None) + tuple(
        o for o in ordered if o.rule.count_of is not None
    )


def _check_time_column(plan: Plan, sampled: dict[str, str], sample: pl.DataFrame) -> None:
    output = next((o for o in plan.outputs if o.rule.name == "timestamp"), None)
    if output is None:
        likely = [n for n in sampled if standard_name(n) == "timestamp"]
        hint = f' Did you mean "{likely[0]}"?' if likely else did_you_mean("timestamp", sampled)
        raise MappingError(
            f"{plan.name} has no column timestamp.{hint} It has: {', '.join(sampled) or 'no columns'}. Name the field in a mapping:"
            f' [columns.timestamp] from = "{likely[0] if likely else "..."}"; `tocsin map init` writes one from a sample.'
        )
    if output.source is None or output.source not in sample.columns or output.rule.format is not None:
        return
    missing = times.needs(sample[output.source])
    known = {"zone": plan.zone, "unit": output.rule.unit, "year": plan.year}
    if missing == "year" and plan.year is not None:
        missing = "zone"
    if missing is None or known[missing] is not None:
        return
    example = sample[output.source].drop_nulls().head(1).to_list()
    shown = f" such as {str(example[0])[:60]!r}" if example else ""
    if missing == "zone":
        raise MappingError(
            f"{plan.name}: the times in {output.source!r}{shown} name no time zone. Say which one they are in:"
            ' tc.read(..., zone="Europe/Paris"), --zone on the command line, or zone = "UTC" under [source] in the mapping.'
        )
    if missing == "unit":
        guess = times.guess_unit(sample[output.source])
        looks = f' They look like unit = "{guess}".' if guess else ""
        raise MappingError(
            f"{plan.name}: the times in {output.source!r}{shown} are numbers without a unit.{looks}"
            ' Say it in a mapping: [columns.timestamp] unit = "s" (or "ms", "us", "ns").'
        )
    raise MappingError(
        f"{plan.name}: the times in {output.source!r}{shown} name neither year nor zone."
        ' Say both: tc.read(..., year=2026, zone="Europe/Paris")'
        ' or year = 2026 and zone = "Europe/Paris" under [source] in the mapping.'
    )
