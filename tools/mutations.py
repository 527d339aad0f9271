"""The named breaks that `make mutants` applies: one entry each, add freely.

Enters: nothing. Leaves: MUTATIONS. A good entry is a mistake that someone could make: an off-by-one at a boundary,
a missing case, an order that no longer holds. Its `old` text must occur exactly once in its file; its test is the one
that states the claim it breaks. Layer: none (outside the package).
"""

from __future__ import annotations

from tools.mutants import Mutation

PARITY = "tests/test_parity.py"
ANY_CUT = f"{PARITY}::test_the_engine_equals_the_reference_under_any_cut"
ARRIVAL = "src/tocsin/kernels/arrival.py"
WINDOWS = "src/tocsin/kernels/windows.py"
STREAMS = "src/tocsin/kernels/streams.py"
STATISTICS = "src/tocsin/kernels/statistics.py"
CALENDARS = "src/tocsin/calendars.py"
RANGES = "src/tocsin/ranges.py"
ADDRESSES = "src/tocsin/addresses.py"
LINEAR_SCAN = "tests/test_ranges.py::test_an_address_is_found_in_the_range_a_linear_scan_finds"


def _any_cut(name: str, file: str, old: str, new: str, shape: str) -> Mutation:
    """Return a mutation that the comparison with the naive reference must notice, for one kind of measure."""
    return Mutation(name, file, old, new, f"{ANY_CUT}[{shape}]")


HOUSE = (
    Mutation(
        "errors.hints-name-far-words",
        "src/tocsin/errors.py",
        "cutoff=0.6",
        "cutoff=0.0",
        "src/tocsin/errors.py",
    ),
)

# fmt: off
TIME = (
    _any_cut("late.exactly-at-the-bar", ARRIVAL, "if w != NEVER and t[i] < w:", "if w != NEVER and t[i] <= w:", "calendar"),
    _any_cut("late.judged-by-the-fastest-partition", ARRIVAL, "clock[p] < low", "clock[p] > low", "calendar"),
    _any_cut("duplicate.forgotten-at-the-horizon", ARRIVAL, "- ORIGIN) <= horizon", "- ORIGIN) < horizon - 3_600_000_000", "calendar"),
    _any_cut("duplicate.with-other-content", ARRIVAL, "table[place, 2] == content[i]", "table[place, 2] >= 0", "calendar"),
    _any_cut("future.without-the-skew", ARRIVAL, "t[i] > received[i] + skew", "t[i] > received[i]", "calendar"),
    _any_cut("order.ties-by-arrival", "src/tocsin/engine/arrive.py", 'by = ["@t", "event_id",', 'by = ["@t", "@t",', "calendar"),
    _any_cut("idle.partition-never-wakes", ARRIVAL, "idle[p] = False", "idle[p] = idle[p]", "calendar"),
)

WINDOW = (
    _any_cut("window.skipped-days-keep-old-counts", WINDOWS, "ring[s, j % size, lane] = 0", "ring[s, j % size, lane] += 0", "own"),
    _any_cut("window.oldest-day-of-a-gap-is-lost", WINDOWS, "if d - last > size:", "if d - last >= size:", "own"),
    _any_cut("baseline.contains-today", WINDOWS, "range(windows, 0, -1)", "range(windows - 1, -1, -1)", "own"),
    _any_cut("baseline.leaves-out-the-first-day", WINDOWS, "if j < first[s] or", "if j <= first[s] or", "own"),
    _any_cut("baseline.uncovered-days-are-zero", WINDOWS, "and not _is_in(missing, j)", "", "own"),
    _any_cut("baseline.late-event-before-the-first", WINDOWS, "if first[s] == NEVER or d < first[s]:", "if first[s] == NEVER:", "own"),
    _any_cut("ratio.of-nothing-is-zero", WINDOWS, "if op == RATIO:\n        return np.nan if lane0 == 0", "if op == RATIO:\n        return 0.0 if lane0 == 0", "calendar"),
    _any_cut("minimum.starts-at-zero", WINDOWS, "lanes[1] = q if lanes[0] == 0 else min(", "lanes[1] = min(", "calendar"),
    _any_cut("distinct.forgets-the-window", WINDOWS, "a = h1 ^ mix(d)", "a = h1", "calendar"),
    _any_cut("population.without-order", WINDOWS, "    return np.sort(values[:n])", "    return values[:n]", "population"),
)

STREAM = (
    _any_cut("sliding.closed-at-its-old-end", STREAMS, "queue[tail & m, 0] <= t[i] - width", "queue[tail & m, 0] < t[i] - width", "sliding"),
    _any_cut("sliding.distinct-never-leaves", STREAMS, "acc[e[1], 0] -= 1", "acc[e[1], 0] -= 0", "sliding"),
    _any_cut("ever.forgets-at-the-span", STREAMS, "last[s] != NEVER and t[i] - last[s] > forget:", "last[s] != NEVER and t[i] - last[s] >= forget:", "ever"),
    _any_cut("previous.remembers-too-long", STREAMS, "not (forget and t[i] - last[s] > forget)", "True", "special"),
    _any_cut("first-seen.counts-itself-as-known", STREAMS, "out_known[i] = known[s]\n", "out_known[i] = known[s] + 1\n", "special"),
    _any_cut("first-seen.never-forgets", STREAMS, "new = free or (forget and", "new = free or (False and", "special"),
    _any_cut("hours.total-without-this-event", STREAMS, "out_total[i] = c[24]", "out_total[i] = c[24] - 1", "special"),
)

STATISTIC = (
    _any_cut("sd.of-the-sample-divided-by-n", STATISTICS, "squares / (n - 1)", "squares / n", "own"),
    _any_cut("quantile.of-another-definition", STATISTICS, "h = (n - 1) * q", "h = n * q", "own"),
    _any_cut("median.takes-the-lower-middle", STATISTICS, "(ordered[n // 2 - 1] + ordered[n // 2]) / 2", "ordered[n // 2 - 1]", "own"),
    _any_cut("minimum-of-windows.ignored", STATISTICS, "if n < at_least or n == 0:", "if n == 0:", "own"),
)
# fmt: on

# fmt: off
GROUND = (
    Mutation("ranges.last-ipv4-address-is-outside", RANGES, "key > ends[base]", "key >= ends[base]", LINEAR_SCAN),
    Mutation("ranges.last-ipv6-address-is-outside", RANGES, "lo > e_lo[low]", "lo >= e_lo[low]", LINEAR_SCAN),
    Mutation("ranges.sharing-one-address-is-no-overlap", RANGES, "(hi == other_hi) & (lo > other_lo)", "(hi == other_hi) & (lo >= other_lo)", "tests/test_ranges.py::test_overlapping_and_inverted_ranges_are_reported_with_their_rows"),
    Mutation("addresses.block-of-ipv4-longer-than-32", ADDRESSES, "(given <= np.where(dotted, _V4_BITS, _V6_BITS))", "(given <= _V6_BITS)", "tests/test_addresses.py::test_what_is_no_address_block_or_range_is_not_valid"),
    Mutation("addresses.range-across-families", ADDRESSES, "(alone | (first.is_v4 == end.is_v4))", "(alone | True)", "tests/test_addresses.py::test_what_is_no_address_block_or_range_is_not_valid"),
)
CALENDAR = (
    _any_cut("calendar.week-begins-on-sunday", CALENDARS, "weeks * 7 - 3)", "weeks * 7 - 4)", "calendar"),
    _any_cut("calendar.window-closed-at-its-end", CALENDARS, 'np.searchsorted(self._begins, t, "right")', 'np.searchsorted(self._begins, t, "left")', "calendar"),
    _any_cut("calendar.day-begins-at-the-second-midnight", CALENDARS, "tzinfo=self._zone, fold=0", "tzinfo=self._zone, fold=1", "calendar"),
)
# fmt: on

MUTATIONS: tuple[Mutation, ...] = (*HOUSE, *TIME, *WINDOW, *STREAM, *STATISTIC, *GROUND, *CALENDAR)
