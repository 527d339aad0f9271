"""Telling: what the parts of a running engine know of themselves, brought to its meters once a second.

Enters: the machine, what is behind, dead letters, outputs. Leaves: nothing; the `Meters` know. Layer: runners.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.calendars import moment
from tocsin.engine.arrive import UNHEARD
from tocsin.kernels.windows import NEVER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tocsin.engine.arrive import Arrival
    from tocsin.runners.live.deadletters import DeadLetters
    from tocsin.runners.live.machine import Machine
    from tocsin.runners.live.meters import Meters
    from tocsin.runners.live.outputs import Outputs

_END = 1 << 60
"""Beyond every event: the frontier of an input that has ended."""


def tell(
    meters: Meters,
    machine: Machine,
    behind: Mapping[tuple[str, str], int],
    letters: DeadLetters,
    outputs: Outputs | None,
    units: Mapping[str, str],
) -> None:
    """Tell the meters how things stand.

    behind: what each partition has that was not read, by source and partition. units: what that is counted in, by source.
    """
    _tell_sources(meters, machine, behind, units)
    for told in outputs.status() if outputs else ():
        meters.output(**told)
    meters.dead_letters(letters.open_count())
    if machine.engine is None or machine.state is None:
        return
    state, engine = machine.state, machine.engine
    meters.rules(state.tallies, {d.id: d.version for d in engine.detections})
    meters.skipped(engine.skipped)
    arrival = state.arrival
    entities = {e: s.n for e, s in state.slots.items()}
    meters.state(entities, arrival.ids.used, arrival.waiting_rows, state.size_bytes)
    meters.watermark(moment(arrival.frontier) if NEVER < arrival.frontier < _END else None)


def _tell_sources(
    meters: Meters, machine: Machine, behind: Mapping[tuple[str, str], int], units: Mapping[str, str]
) -> None:
    arrival = None if machine.state is None else machine.state.arrival
    for (source, partition), unread in behind.items():
        unit = units.get(source, "bytes")
        numbers = [] if arrival is None else _numbers(arrival, f"{source}/{partition}")
        if arrival is None or not numbers:
            meters.source(source, partition, behind=unread, unit=unit)
            continue
        awake = [i for i in numbers if not arrival.idle[i]]
        clock = min(int(arrival.clock[i]) for i in awake or numbers)
        meters.source(source, partition, behind=unread, unit=unit, watermark=moment(clock), idle=not awake)


def _numbers(arrival: Arrival, place: str) -> list[int]:
    """Return the partitions heard of a place: it itself, or those that its records name themselves within it."""
    return [
        i for name, i in arrival.partitions.items()
        if arrival.clock[i] > UNHEARD and (name == place or name.startswith(f"{place}/"))
    ]  # fmt: skip
