"""What a running engine keeps of closed windows and publishes as tables: by hand, against the replay, across crashes.

Layer: tests.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import tocsin as tc
from tests.live_fixtures import START, MemorySource, as_lines, mails, some_settings
from tests.test_live_run import CrashError, run
from tocsin.engine.fitting import fit
from tocsin.errors import StateError
from tocsin.rules import ALL
from tocsin.runners.live.folder import StateFolder
from tocsin.runners.live.tables import fit_kept, notes
from tocsin.runners.live.windows import WindowStore

if TYPE_CHECKING:
    from pathlib import Path

    from tocsin.runners.live.live import Live

pytest_plugins = ["cli_fixtures"]

RULES = """
import tocsin as tc
DETECTIONS = (
    tc.Detection(
        id="test.volume", title="Volume", severity="low", on=tc.col("kind") == "mail", entity="user_id",
        measure=tc.Count(per="1d"), against=tc.own_history(mean=True, windows={windows}, at_least=1),
        score=tc.value / tc.ref.mean, when=tc.score > 3,
    ),
    tc.Detection(
        id="test.everybody", title="Everybody", severity="low", on=tc.col("kind") == "mail", entity="user_id",
        measure=tc.Count(per="1d"), against=tc.population(mean=True, at_least=1),
        score=tc.value / tc.ref.mean, when=tc.score > 3,
    ),
)
"""


def mail(day: int, user: str, hour: float = 12, n: int = 0) -> dict[str, Any]:
    at = START + timedelta(days=day, hours=hour, seconds=n)
    return {"event_id": f"{day}-{user}-{hour}-{n}", "timestamp": at.isoformat(), "kind": "mail", "user_id": user, "src_ip": "192.0.2.1",
            "nr_recipients": 1, "size": 1, "subject": "", "attachments": []}  # fmt: skip


def publishing(folder: Path, *, windows: int = 5, rules: bool = True, keep_days: int = 400, **more: Any) -> Any:
    if rules:
        (folder / "rules.py").write_text(RULES.format(windows=windows))
        more["rules"] = {"files": [str(folder / "rules.py")]}
    return some_settings(folder, tables={"publish": True, "keep_days": keep_days}, keep_scores=False, **more)


def days(last: int, *, late: dict[int, list[dict[str, Any]]] | None = None) -> list[bytes]:
    """Each day from 0 to ``last``: ann sends as many mails as the day's number and one, bob two; and what comes late then."""
    events = []
    for day in range(last + 1):
        events += [mail(day, "ann", n=i) for i in range(day + 1)] + [mail(day, "bob", 13, n=i) for i in range(2)]
        events += (late or {}).get(day, [])
    return as_lines(events)


def published(settings: Any, table: str) -> list[tuple[dict[str, Any], pl.DataFrame]]:
    folder = StateFolder(settings.state).tables
    return [(n, tc.Table.load(folder / table / n["file"]).frame) for n in notes(folder, table)]


def on_day(day: int) -> datetime:
    return START + timedelta(days=day)


def test_without_being_asked_the_engine_keeps_no_windows_and_publishes_nothing(tmp_path):
    settings = some_settings(tmp_path)
    run(settings, MemorySource("mail", {"": days(4)}))
    assert not (settings.state / "windows").exists()
    assert not (settings.state / "tables").exists()
    with pytest.raises(StateError, match="publish = true"):
        fit_kept(settings.state, None)


def test_at_each_boundary_the_tables_that_hold_from_there_on_are_published(tmp_path):
    settings = publishing(tmp_path, batches={"rows": 3})
    run(settings, MemorySource("mail", {"": days(6)}))
    own = published(settings, "test.volume")
    assert [n["valid_from"] for n, _ in own] == [on_day(d).isoformat() for d in range(1, 7)]
    for day, (note, frame) in enumerate(own, 1):
        counts = [d + 1 for d in range(max(day - 5, 0), day)]
        assert frame.to_dicts() == [
            {"user_id": "ann", "mean": sum(counts) / len(counts), "n": len(counts)},
            {"user_id": "bob", "mean": 2.0, "n": len(counts)},
        ]
        assert note["windows"] == [on_day(day - 5).isoformat(), on_day(day).isoformat()]
        assert (note["rows"], note["corrections"], note["correction"]) == (2, 0, None)
    everybody = published(settings, "test.everybody")
    assert [f.row(0) for _, f in everybody] == [("user_id", (d + 2) / 2, 2.0) for d in range(1, 7)]


def test_late_data_is_in_the_next_version_whose_note_says_what_the_one_before_should_have_said(tmp_path):
    late = {4: [mail(1, "ann", 20, n=i) for i in range(4)] + [mail(1, "cy", 20)]}  # they come when day 4 is at hand
    settings = publishing(tmp_path, batches={"rows": 3})
    run(settings, MemorySource("mail", {"": days(6, late=late)}))
    own = {n["valid_from"]: (n, f) for n, f in published(settings, "test.volume")}
    before, after = own[on_day(4).isoformat()], own[on_day(5).isoformat()]
    assert before[1].to_dicts()[0] == {"user_id": "ann", "mean": (1 + 2 + 3 + 4) / 4, "n": 4}
    assert after[1].to_dicts() == [
        {"user_id": "ann", "mean": (1 + 6 + 3 + 4 + 5) / 5, "n": 5},
        {"user_id": "bob", "mean": 2.0, "n": 5},
        {"user_id": "cy", "mean": 1 / 4, "n": 4},
    ]
    assert before[0]["correction"] is None
    assert after[0]["corrections"] == 2
    assert after[0]["correction"] == {
        "of": {"valid_from": on_day(4).isoformat(), "digest": before[0]["digest"]},
        "late": 2, "late_entities": 2, "windows": [on_day(1).isoformat()] * 2, "rows": 2,
        "columns": {
            "mean": {"rows": 2, "largest": {"entity": "ann", "before": 2.5, "after": 3.5}},
            "n": {"rows": 1, "largest": None},
        },
    }  # fmt: skip
    assert own[on_day(6).isoformat()][0]["correction"] is None
    everybody = published(settings, "test.everybody")
    assert all(n["correction"] is None for n, _ in everybody)  # what was published was of the day before alone


def test_windows_on_disk_are_read_as_of_any_boundary(tmp_path):
    late = {4: [mail(1, "ann", 20), mail(4, "bob", 1)]}
    settings = publishing(tmp_path, batches={"rows": 3})
    run(settings, MemorySource("mail", {"": days(6, late=late)}))
    store = WindowStore(StateFolder(settings.state).windows)
    (measure,) = store.measures()
    first = int(measure.calendar.number(np.array([int(START.timestamp()) * 10**6]))[0])

    def ann(until: int) -> list[int]:
        rows = store.closed_values(measure.key, first + until).filter(pl.col("entity") == "ann")
        return rows["lane0"].to_list()

    assert ann(3) == [1, 2, 3]
    assert ann(4) == [1, 2, 3, 4]
    assert ann(5) == [1, 3, 3, 4, 5]
    told = store.corrections(measure.key)
    assert told.select("window", "entity", "lane0", "visible").rows() == [(first + 1, "ann", 1, first + 5)]


def test_a_window_in_which_the_rule_fired_is_left_out_of_the_tables_also_with_what_comes_late(tmp_path):
    rules = RULES.format(windows=5).replace("at_least=1)", "at_least=1, exclude_alerted=True)", 1)
    (tmp_path / "rules.py").write_text(rules)
    settings = publishing(tmp_path, rules=False, batches={"rows": 3})
    settings = settings.model_copy(
        update={"rules": settings.rules.model_copy(update={"files": (tmp_path / "rules.py",)})}
    )
    events = [mail(day, "ann", n=i) for day, n in enumerate((2, 1, 10, 4, 2, 2)) for i in range(n)]
    late = mail(2, "ann", 20)
    run(settings, MemorySource("mail", {"": as_lines([*events[:-2], late, *events[-2:]])}))
    means = {n["valid_from"]: f.row(0)[1:] for n, f in published(settings, "test.volume")}
    wanted = {
        1: (2.0, 1),
        2: (1.5, 2),
        3: (1.5, 2),
        4: (7 / 3, 3),
        5: (9 / 4, 4),
    }  # ten on day 2 were over three times 1.5
    assert means == {on_day(d).isoformat(): w for d, w in wanted.items()}


def by_name(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.glob("*/*"))}


@pytest.mark.parametrize("at", [3, 6, 9])
@pytest.mark.parametrize("where", ["before", "between", "after"])
def test_a_run_that_breaks_off_anywhere_leaves_the_same_windows_and_tables(tmp_path, at, where):
    late = {4: [mail(1, "ann", 20, n=i) for i in range(4)], 5: [mail(0, "bob", 20)]}
    lines = days(7, late=late)
    more = {"batches": {"rows": 5}, "snapshots": {"every_seconds": 0.001, "full_every": 3}}
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole, cut = publishing(tmp_path / "whole", **more), publishing(tmp_path / "cut", **more)
    run(whole, MemorySource("mail", {"": lines}))

    def crash(live: Live) -> None:
        tables = live._sink._tables
        take, write = tables.take, tables._publish

        def broken(outcome):
            hit = outcome.work.number >= at and outcome.kept.boundaries
            if hit and where == "before":
                raise CrashError
            if hit and where == "between":
                tables._publish = gone
            take(outcome)
            if hit:
                raise CrashError

        def gone(*_):
            raise CrashError

        tables.take, tables._publish = broken, write

    with pytest.raises(CrashError):
        run(cut, MemorySource("mail", {"": lines}), crash=crash)
    run(cut, MemorySource("mail", {"": lines}))
    for folder in ("windows", "tables"):
        want, got = by_name(whole.state / folder), by_name(cut.state / folder)
        assert got.keys() == want.keys()
        assert got == want


def test_tables_of_the_shipped_rules_are_what_a_replay_of_the_same_history_compares_with(tmp_path):
    lines = as_lines(mails(np.random.default_rng(5), 4000, users=40, days=16))
    settings = publishing(tmp_path, rules=False, batches={"rows": 200})
    run(settings, MemorySource("mail", {"": lines}))
    path = tmp_path / "mail.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    same = 0
    for day in (9, 12, 15):
        until = on_day(day)
        want = {n: t for n, t in fit(ALL, tc.read(path), until=until).items() if t.valid_from == until}
        got = fit_kept(settings.state, until)
        for name in want.keys() & got.keys():
            assert_frame_equal(got[name].frame, want[name].frame, check_exact=True)
            assert got[name].digest == want[name].digest
            same += want[name].frame.height > 0 and want[name].frame[:, -1].null_count() == 0
    assert same >= 9
    for note in notes(StateFolder(settings.state).tables):
        at = datetime.fromisoformat(note["valid_from"])
        assert fit_kept(settings.state, at)[note["table"]].digest == note["digest"]


def test_old_windows_are_forgotten_but_not_who_was_there(tmp_path):
    lines = as_lines([mail(0, "old")]) + days(60)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "c").mkdir()
    short, long = publishing(tmp_path / "a", keep_days=12), publishing(tmp_path / "b", keep_days=400)
    shortest = publishing(tmp_path / "c", keep_days=1)
    for settings in (short, long, shortest):
        run(
            settings.model_copy(update={"batches": settings.batches.model_copy(update={"rows": 20})}),
            MemorySource("mail", {"": lines}),
        )
    kept = len(list(short.state.glob("windows/*/closed.*")))
    assert kept < 16 < len(list(long.state.glob("windows/*/closed.*")))
    assert len(list(short.state.glob("tables/test.volume/*.json"))) < 15
    for name, table in fit_kept(short.state, None).items():
        assert table.digest == fit_kept(long.state, None)[name].digest
        assert table.digest == fit_kept(shortest.state, None)[name].digest, (
            "what the tables look at stays, whatever is asked"
        )
    assert fit_kept(short.state, None)["test.volume"].frame["user_id"].to_list() == ["ann", "bob", "old"]
    with pytest.raises(StateError, match="not kept any more"):
        fit_kept(short.state, on_day(30))
    with pytest.raises(StateError, match="has begun yet"):
        fit_kept(short.state, datetime(2025, 12, 1, tzinfo=UTC))


def test_the_command_line_fits_from_a_state_folder_and_lists_corrections(tmp_path, tocsin):
    late = {4: [mail(1, "ann", 20, n=i) for i in range(4)]}
    settings = publishing(tmp_path, batches={"rows": 3})
    run(settings, MemorySource("mail", {"": days(6, late=late)}))
    done = tocsin("fit", "--state", settings.state, "--out", tmp_path / "out", "--json")
    newest = {n["table"]: n for n in notes(StateFolder(settings.state).tables)}
    assert {t["rule"]: t["digest"] for t in done.json["tables"]} == {n: x["digest"] for n, x in newest.items()}
    assert tc.Table.load(tmp_path / "out" / "test.volume.parquet").digest == newest["test.volume"]["digest"]
    earlier = tocsin("fit", "--state", settings.state, "--at", "2025-03-06").out
    assert "test.volume" in earlier
    assert "--out writes them" in earlier
    listed = tocsin("fit", "--state", settings.state, "--corrections")
    assert "ann 2.5 to 3.5" in listed.out
    assert (
        tocsin("fit", "--state", settings.state, "--corrections", "--json").json["corrections"][0]["table"]
        == "test.volume"
    )
    for wrong in (
        ["--out", tmp_path],
        ["x.jsonl", "--state", tmp_path],
        ["x.jsonl"],
        ["x.jsonl", "--out", tmp_path, "--at", "2025-01-01"],
    ):
        assert tocsin("fit", *wrong).code == 2


def test_windows_can_be_kept_from_some_time_on_and_no_longer_from_another(tmp_path):
    lines = days(7)
    settings = publishing(tmp_path, batches={"rows": 4})
    off = settings.model_copy(update={"tables": settings.tables.model_copy(update={"publish": False})})
    run(off, MemorySource("mail", {"": lines[:20]}), finish=False)  # day 4 has begun
    run(settings, MemorySource("mail", {"": lines[:35]}), finish=False)  # day 6 has begun
    store = WindowStore(StateFolder(settings.state).windows)
    (measure,) = store.measures()
    boundary = store.boundary(measure.key)
    assert boundary is not None
    kept = store.closed_values(measure.key, boundary.next).filter(pl.col("entity") == "ann")
    assert kept["lane0"].to_list() == [4, 5, 6]
    run(off, MemorySource("mail", {"": lines}))
    assert store.boundary(measure.key) == boundary


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_the_windows_on_disk_do_not_depend_on_the_batches(tmp_path, rows):
    lines = days(7, late={4: [mail(1, "ann", 20, n=i) for i in range(4)]})
    frames = []
    for name, n in (("one", 3), ("other", rows)):
        (tmp_path / name).mkdir()
        settings = publishing(tmp_path / name, batches={"rows": n})
        run(settings, MemorySource("mail", {"": lines}))
        frames.append({p.name: p.read_bytes() for p in settings.state.glob("windows/*/closed.*")})
    assert len(frames[0]) == 7
    assert frames[0] == frames[1]
