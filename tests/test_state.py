"""Saved state: what is loaded goes on exactly as if nothing had happened, and what is damaged is refused.

Layer: tests.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

import tocsin as tc
from tocsin.engine import End, Engine, Idle, Output, State
from tocsin.engine.saved import load_state, save_state

START = datetime(2026, 3, 2, tzinfo=UTC)
SCHEMA = {
    "event_id": pl.String, "timestamp": pl.Datetime("us", "UTC"), "partition": pl.String, "source": pl.String,
    "user_id": pl.String, "src_ip": pl.String, "size": pl.Int64, "bounced": pl.Boolean,
}  # fmt: skip


def rule(name: str, measure: Any, score: pl.Expr = tc.value, against: Any = None, above: float = 2) -> tc.Detection:
    return tc.Detection(
        id=f"test.{name}", title=name, severity="low", on=pl.lit(value=True), entity="user_id",
        measure=measure, against=against, score=score, when=tc.score > above, evidence=("src_ip",),
    )  # fmt: skip


BOUNCES = tc.Ratio(num=tc.col("bounced"), den=tc.col("size") > 0, per="1d")
OWN = tc.own_history(mean=True, sd=True, at_least=2)
EVERY_MEASURE = (
    rule("count", tc.Count(per="1d"), tc.value / tc.ref.mean, OWN, 1.2),
    rule(
        "weekday", tc.Count(per="1d"), tc.value - tc.ref.mean, tc.own_history(mean=True, same_weekday=True, at_least=1)
    ),
    rule(
        "alerted",
        tc.Count(per="1d"),
        tc.value / tc.ref.median,
        tc.own_history(median=True, at_least=2, exclude_alerted=True),
        1.2,
    ),
    rule("crowd", tc.Count(per="1d"), tc.value - tc.ref.q90, tc.population(quantiles=(0.9,), at_least=2), 0),
    rule("second", tc.Count(per="1d"), tc.value - tc.ref.mean, tc.population(mean=True, at_least=2, of=OWN), 0),
    rule("limit", None, tc.col("size") - tc.ref.limit, tc.limit("size", quantile=0.9, at_least=20), 0),
    rule("sum", tc.Sum("size", per="1h")),
    rule("mean", tc.Mean("size", sliding="90m")),
    rule("min", tc.Min("size", per="1w")),
    rule("min-sliding", tc.Min("size", sliding="6h")),
    rule("max", tc.Max("size", ever=True, forget_after="2d")),
    rule("ratio", BOUNCES, above=0.3),
    rule("distinct", tc.Distinct("src_ip", per="1d", bound=4)),
    rule("distinct-sliding", tc.Distinct("src_ip", sliding="6h")),
    rule("distinct-ever", tc.Distinct("src_ip", ever=True)),
    rule("hours", tc.Hours(zone="America/Denver"), tc.value / tc.total, above=0.1),
    rule("previous", tc.Previous("src_ip", "size"), tc.col("size") - tc.prev.size),
    rule("first", tc.FirstSeen("src_ip", forget_after="3d"), tc.value + tc.known),
    rule("stateless", None, tc.col("size"), above=70),
)
ONE = (rule("one", tc.Count(per="1d"), tc.value / tc.ref.mean, OWN),)


def log(n: int = 400, days: float = 12, seed: int = 4) -> pl.DataFrame:
    """Events of a few users in arrival order: most out of order, some late, some twice, in two partitions."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.uniform(0, days * 86_400, n))
    frame = pl.DataFrame(
        {
            "event_id": [f"e{i}" for i in range(n)],
            "timestamp": [START + timedelta(seconds=s) for s in t.tolist()],
            "partition": rng.choice(["p", "q"], n),
            "source": "mail",
            "user_id": rng.choice(["ann", "bob", "cy", "dee", None], n).tolist(),
            "src_ip": [f"192.0.2.{x}" for x in rng.integers(0, 9, n)],
            "size": rng.integers(0, 80, n),
            "bounced": rng.random(n) < 0.3,
        },
        schema=SCHEMA,
    )
    arrives = t + rng.uniform(0, 3500, n) + np.where(rng.random(n) < 0.03, rng.uniform(0, 3 * 86_400, n), 0)
    again = rng.integers(0, n, n // 20)
    rows, order = (
        np.concatenate([np.arange(n), again]),
        np.concatenate([arrives, arrives[again] + rng.uniform(0, 9000, again.size)]),
    )
    return frame[rows[np.argsort(order, kind="stable")]]


def engine(rules: tuple[tc.Detection, ...] = EVERY_MEASURE, **settings: Any) -> Engine:
    return Engine(rules, SCHEMA, keep_scores=True, trace=True, **{"lateness": "1h"} | settings)


def steps(run: Engine, state: State, records: list[Any]) -> tuple[State, list[Output]]:
    outputs = []
    for record in records:
        state, output = run.step(state, record)
        outputs.append(output)
    return state, outputs


def said(outputs: list[Output]) -> dict[str, pl.DataFrame]:
    """Everything some steps gave, put together."""
    return {
        "findings": pl.concat([o.findings for o in outputs]),
        "peaks": pl.concat([o.peaks for o in outputs]),
        "fates": pl.concat([o.fates for o in outputs if o.fates is not None]),
        "trace": pl.concat([o.trace for o in outputs if o.trace is not None]),
        "scores": pl.concat([s.with_columns(rule=pl.lit(d)) for o in outputs for d, s in sorted(o.scores.items())]),
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, Path]:
    run = engine(ONE)
    state, _ = steps(run, run.new_state(), [log(120)])
    path = tmp_path_factory.mktemp("state") / "state.arrow"
    save_state(state, path)
    return run, path


@pytest.mark.parametrize("seed", range(2))
def test_a_run_that_is_saved_and_loaded_between_batches_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, seed: int
) -> None:
    events, rng = log(seed=seed), np.random.default_rng(seed)
    cuts = [0, *sorted(set(rng.integers(1, events.height, 7).tolist())), events.height]
    records = [events[a:b] for a, b in pairwise(cuts)]
    records = [*records[:3], Idle("q"), *records[3:], End()]
    whole = engine()
    state, expected = steps(whole, whole.new_state(), records)
    assert state.counts["late"] > 0
    assert state.counts["duplicate"] > 0
    outputs, other = [], None
    for i, record in enumerate(records):
        fresh = engine()  # a process that knows nothing but the file
        other = load_state(fresh, tmp_path / f"{i}.arrow") if i else fresh.new_state()
        other, output = fresh.step(other, record)
        outputs.append(output)
        save_state(other, tmp_path / f"{i + 1}.arrow")
    for name, frame in said(expected).items():
        assert_frame_equal(said(outputs)[name], frame, check_exact=True)
    assert other is not None
    assert (other.counts, other.tallies) == (state.counts, state.tallies)
    assert said(expected)["findings"]["detection_id"].n_unique() >= 14


def parts(path: Path) -> dict[str, Any]:
    """Return the parts of a state file; frames as rows, for the same rows may be laid out in several ways."""
    table = pa.ipc.open_file(path.read_bytes()).read_all()
    rows = {r["name"]: r for r in table.drop_columns("check").to_pylist()}
    return {
        name: pl.read_ipc(r["data"]).to_dicts() if r["dtype"] == "frame" else (r["dtype"], r["shape"], r["data"])
        for name, r in rows.items()
    }


def test_saving_changes_nothing_and_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    run = engine()
    state, _ = steps(run, run.new_state(), [log()])
    for name in ("a", "b"):
        save_state(state, tmp_path / name)
    save_state(load_state(run, tmp_path / "a"), tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert parts(tmp_path / "a") == parts(tmp_path / "c")


def test_a_state_without_any_event_can_be_saved_and_loaded(tmp_path: Path) -> None:
    run = engine()
    save_state(run.new_state(), tmp_path / "s")
    _, expected = steps(run, run.new_state(), [log(), End()])
    _, outputs = steps(run, load_state(run, tmp_path / "s"), [log(), End()])
    assert_frame_equal(said(outputs)["scores"], said(expected)["scores"], check_exact=True)


def test_a_loaded_state_owns_its_memory_and_leaves_the_file_alone(saved: tuple[Engine, Path]) -> None:
    run, path = saved
    before = path.read_bytes()
    steps(run, load_state(run, path), [log(300, seed=9), End()])
    assert path.read_bytes() == before


def test_the_file_is_arrow_that_others_can_open(saved: tuple[Engine, Path]) -> None:
    table = pa.ipc.open_file(saved[1].read_bytes()).read_all()
    assert table.column_names == ["name", "dtype", "shape", "start", "check", "blocks", "data"]
    assert "facts" in table["name"].to_pylist()
    assert table.schema.metadata[b"format"] == b"tocsin-state"


# --------------------------------------------------------------------------------------------------- what is refused
def test_a_file_that_was_cut_short_anywhere_is_refused_and_says_what_to_do(
    saved: tuple[Engine, Path], tmp_path: Path
) -> None:
    run, path = saved
    whole = path.read_bytes()
    for length in (0, 1, 7, 8, 100, len(whole) // 3, len(whole) // 2, len(whole) - 100, len(whole) - 9, len(whole) - 1):
        cut = tmp_path / "cut.arrow"
        cut.write_bytes(whole[:length])
        with pytest.raises(tc.StateError, match=r"cut\.arrow: .*replay from the source"):
            load_state(run, cut)


def test_a_byte_that_was_changed_anywhere_is_noticed_or_of_no_consequence(
    saved: tuple[Engine, Path], tmp_path: Path
) -> None:
    run, path = saved
    whole, places, meant = path.read_bytes(), np.random.default_rng(0), parts(path)
    again, refused = tmp_path / "again.arrow", 0
    edges = [*range(0, 1200, 7), *range(len(whole) - 2500, len(whole), 11)]  # headers and the footer
    for place in {*edges, *places.integers(0, len(whole), 150).tolist()}:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        broken = tmp_path / "broken.arrow"
        broken.write_bytes(damaged)
        try:
            state = load_state(run, broken)
        except tc.StateError:
            refused += 1
            continue
        save_state(state, again)  # padding, or another way of writing the same
        assert parts(again) == meant, place
    assert refused > 150


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"ARROW1\x00\x00" + bytes(500) + b"ARROW1", bytes(4096)],
    ids=["empty", "text", "a shell", "zeros"],
)
def test_what_is_no_state_file_is_refused(saved: tuple[Engine, Path], tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(tc.StateError, match="not a readable state file"):
        load_state(saved[0], path)


def test_an_absent_file_and_another_arrow_file_are_refused(saved: tuple[Engine, Path], tmp_path: Path) -> None:
    with pytest.raises(tc.StateError, match="not a readable state file"):
        load_state(saved[0], tmp_path / "absent")
    pl.DataFrame({"a": [1]}).write_ipc(tmp_path / "other.arrow")
    with pytest.raises(tc.StateError, match="this version reads tocsin-state"):
        load_state(saved[0], tmp_path / "other.arrow")


def _rewritten(path: Path, target: Path, *, drop: str = "", **facts: str) -> None:
    """Write the file again, with other facts or without a part."""
    table = pa.ipc.open_file(path.read_bytes()).read_all()
    kept = table.filter(pa.array([name != drop for name in table["name"].to_pylist()]))
    metadata = {k.decode(): v.decode() for k, v in table.schema.metadata.items()} | facts
    with pa.OSFile(str(target), "wb") as sink, pa.ipc.new_file(sink, table.schema.with_metadata(metadata)) as writer:
        writer.write_table(kept.replace_schema_metadata(metadata))


def test_a_file_of_another_format_version_is_refused(saved: tuple[Engine, Path], tmp_path: Path) -> None:
    _rewritten(saved[1], tmp_path / "s", version="999")
    with pytest.raises(tc.StateError, match="state format tocsin-state 999, this version reads tocsin-state"):
        load_state(saved[0], tmp_path / "s")


@pytest.mark.parametrize("part", ["facts", "waiting", "clock", "slots/user_id/names"])
def test_a_file_without_one_of_its_parts_is_refused(saved: tuple[Engine, Path], tmp_path: Path, part: str) -> None:
    _rewritten(saved[1], tmp_path / "s", drop=part)
    with pytest.raises(tc.StateError, match=r"parts are missing.*replay from the source"):
        load_state(saved[0], tmp_path / "s")


OTHERS = {
    "another threshold": lambda: engine((rule("one", tc.Count(per="1d"), tc.value / tc.ref.mean, OWN, above=3),)),
    "one rule more": lambda: engine((*ONE, rule("two", None, tc.col("size")))),
    "another lateness": lambda: engine(ONE, lateness="2h"),
    "another horizon": lambda: engine(ONE, dedup_horizon="9d"),
    "another gap": lambda: engine(ONE, gaps=[(0, 1)]),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_a_state_of_other_rules_or_settings_is_refused(saved: tuple[Engine, Path], other: Any) -> None:
    with pytest.raises(
        tc.StateError, match=r"written by other rules, time settings or another key.*replay from the source"
    ):
        load_state(other(), saved[1])


def test_the_state_of_another_key_is_refused(saved: tuple[Engine, Path]) -> None:
    with pytest.raises(tc.StateError, match="written by other rules, time settings or another key"):
        load_state(engine(ONE, key=bytes(range(16))), saved[1])


# ------------------------------------------------------------------------------------------------- whole or not at all
def test_a_save_that_fails_leaves_the_old_file_and_no_partial_one(
    saved: tuple[Engine, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, path = saved
    kept = tmp_path / "state.arrow"
    kept.write_bytes(path.read_bytes())
    state, _ = steps(run, load_state(run, path), [log(200, seed=2)])
    monkeypatch.setattr("tocsin.engine.saved.os.fsync", _full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_state(state, kept)
    assert kept.read_bytes() == path.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["state.arrow"]


def _full_disk(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_save_that_succeeds_leaves_one_file(saved: tuple[Engine, Path], tmp_path: Path) -> None:
    save_state(load_state(*saved), tmp_path / "state.arrow")
    assert [p.name for p in tmp_path.iterdir()] == ["state.arrow"]


def test_names_and_values_that_an_attacker_chose_come_back_as_they_were(tmp_path: Path) -> None:
    hostile = ["a\x00b", "\u202eexe", '"\\', "", "日本", "x" * 5000]
    events = pl.DataFrame(
        {
            "event_id": [f"e{i}" for i in range(6)],
            "timestamp": [START + timedelta(minutes=i) for i in range(6)],
            "user_id": hostile,
            "src_ip": hostile[::-1],
            "partition": hostile,
        }
    )
    run = Engine([rule("previous", tc.Previous("src_ip"), tc.col("src_ip").str.len_chars())], events.schema, trace=True)
    state, _ = steps(run, run.new_state(), [events])
    save_state(state, tmp_path / "s")
    again = load_state(run, tmp_path / "s")
    later = events.with_columns(pl.col("event_id") + "-", pl.col("timestamp") + timedelta(hours=3))
    expected, got = (steps(run, s, [later, End()])[1] for s in (state, again))
    trace = pl.concat([o.trace for o in got if o.trace is not None])
    assert_frame_equal(trace, pl.concat([o.trace for o in expected if o.trace is not None]))
    assert hostile[::-1] == trace.tail(6)["test.previous@prev.src_ip"].to_list()
    assert json.dumps(again.arrival.partitions) == json.dumps(state.arrival.partitions)
