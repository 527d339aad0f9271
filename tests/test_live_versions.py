"""What a running engine runs is kept by its content, and changes while it runs; what is broken never takes its place.

Layer: tests.
"""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import tocsin as tc
from tocsin import rules
from tocsin.engine import Engine
from tocsin.errors import StateError
from tocsin.runners.live import versions as kept
from tocsin.runners.live.settings import ReferenceFiles, Rules
from tocsin.runners.live.versions import BrokenFileError, Versions
from tocsin.runners.live.watch import RELOAD_ERROR, Change, Watcher

NOW = datetime(2025, 3, 3, 12, tzinfo=UTC)
RULE = """import tocsin as tc

DETECTIONS = (
    tc.Detection(
        id="{id}", title="Many", severity="low", on=tc.col("kind") == "mail", entity="user_id",
        score=tc.col("nr_recipients"), when=tc.score > {above},
        examples=(
            tc.Example(True, [{{"kind": "mail", "user_id": "ada", "nr_recipients": 99}}]),
            tc.Example(False, [{{"kind": "mail", "user_id": "ada", "nr_recipients": 1}}]),
        ),
    ),
)
"""
NETWORKS = "lo_addr,hi_addr,asn,organisation\n192.0.2.0,192.0.2.255,64500,Example\n"
ALLOW = "indicator,owner,reason,scope,expires\n{who},ops,test,mail.*,2030-01-01\n"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "rules.py").write_text(RULE.format(id="test.many", above=10))
    (folder / "networks.csv").write_text(NETWORKS)
    (folder / "threats.txt").write_text("192.0.2.7\n")
    (folder / "more.txt").write_text("198.51.100.7\n")
    (folder / "allow.csv").write_text(ALLOW.format(who="ada"))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Versions:
    return Versions(tmp_path / "versions")


def references(files: Path, **more: Any) -> ReferenceFiles:
    named: dict[str, Any] = {
        "networks": files / "networks.csv",
        "threats": (files / "threats.txt", files / "more.txt"),
        "allow": (files / "allow.csv",),
    }
    return ReferenceFiles(**named | more)


def version(store: Versions, files: Path, **more: Any) -> str:
    return store.keep((files / "rules.py",), references(files, **more))


# ------------------------------------------------------------------------------------------------------------ versions
def test_a_version_opens_to_the_same_rules_and_references_after_its_files_have_gone(store: Versions, files: Path):
    digest = version(store, files, geo="country")
    want = tc.load_rules(files / "rules.py")
    again = tc.reference(
        "country", [files / "threats.txt", files / "more.txt"], None, files / "allow.csv", files / "networks.csv"
    )
    for path in files.iterdir():
        path.unlink()
    detections, refs = Versions(store.folder).open(digest)
    assert [(d.id, d.version, d.where) for d in detections] == [(d.id, d.version, d.where) for d in want]
    assert refs.digest == again.digest


def test_equal_contents_are_one_version_wherever_they_lie_and_other_contents_another(
    store: Versions, files: Path, tmp_path: Path
):
    digest = version(store, files)
    moved = files.rename(tmp_path / "elsewhere")
    assert version(store, moved) == digest
    (moved / "threats.txt").write_text("192.0.2.8\n")
    assert version(store, moved) != digest
    (moved / "threats.txt").write_text("192.0.2.7\n")
    assert version(store, moved) == digest
    assert store.keep((), references(moved)) != digest


def test_each_content_is_stored_once_even_under_two_names(store: Versions, files: Path):
    (files / "twin.txt").write_text("192.0.2.7\n")
    version(store, files)
    (files / "rules.py").write_text(RULE.format(id="test.many", above=11))
    digest = version(store, files, threats=(files / "twin.txt", files / "threats.txt"))
    copies = [p for p in (store.folder / "files").rglob("*") if p.is_file()]
    assert sorted(p.name for p in copies) == sorted(
        ["rules.py", "rules.py", "networks.csv", "threats.txt", "more.txt", "allow.csv", "twin.txt"]
    )
    assert len({p.stat().st_ino for p in copies}) == 6
    assert store.open(digest)[1].threats is not None


def test_the_rules_that_ship_are_a_version_and_are_refused_where_they_are_no_longer_the_same(
    store: Versions, monkeypatch: pytest.MonkeyPatch
):
    digest = store.keep((), ReferenceFiles())
    detections, refs = store.open(digest)
    assert detections == rules.ALL
    assert refs.carried == tc.References().carried
    monkeypatch.setattr(kept, "ALL", rules.ALL[1:])
    with pytest.raises(StateError, match=rf"{rules.ALL[0].id} is another.*Start tocsin"):
        store.open(digest)
    assert store.keep((), ReferenceFiles()) != digest


@pytest.mark.parametrize("what", ["manifest.json", "rules.py", "threats.txt"])
@pytest.mark.parametrize("fault", ["missing", "damaged"])
def test_a_version_that_is_missing_or_damaged_is_refused(store: Versions, files: Path, what: str, fault: str):
    digest = version(store, files)
    (path,) = store.folder.rglob(what)
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b"1", b"2"))
    with pytest.raises(StateError, match=what):
        Versions(store.folder).open(digest)


def test_an_error_names_the_file_and_its_line_and_not_the_copy(store: Versions, files: Path):
    (files / "rules.py").write_text("import tocsin as tc\n\nDETECTIONS = (tc.Detection(),)\n")
    with pytest.raises(BrokenFileError) as rule:
        store.open(version(store, files))
    assert str(rule.value).startswith(f"{files / 'rules.py'}:3: ")
    assert rule.value.file == str(files / "rules.py")
    (files / "rules.py").write_text(RULE.format(id="test.many", above=10))
    for name, text in {"networks.csv": "lo_addr,asn\n1.2.3.4,5\n", "allow.csv": "indicator\nada\n"}.items():
        before = (files / name).read_text()
        (files / name).write_text(text)
        with pytest.raises(BrokenFileError) as broken:
            store.open(version(store, files))
        assert (broken.value.file, str(store.folder) in str(broken.value)) == (str(files / name), False)
        (files / name).write_text(before)


@pytest.mark.parametrize("name", ["geo.parquet", "geo.mmdb"])
def test_a_file_that_its_parser_chokes_on_is_broken_under_its_own_name(store: Versions, files: Path, name: str):
    (files / name).write_bytes(b"PAR1 this is none")
    with pytest.raises(BrokenFileError, match=str(files / name)) as broken:
        store.open(version(store, files, geo=str(files / name)))
    assert broken.value.file == str(files / name)
    assert str(store.folder) not in str(broken.value)


def test_an_id_in_two_rule_files_is_an_error_of_the_second(store: Versions, files: Path):
    (files / "again.py").write_text(RULE.format(id="test.many", above=3))
    with pytest.raises(BrokenFileError, match=r"again.py:4: the id test.many is taken by .*rules.py:4"):
        store.open(store.keep((files / "rules.py", files / "again.py"), ReferenceFiles()))


def test_references_that_did_not_change_are_not_parsed_again(
    store: Versions, files: Path, monkeypatch: pytest.MonkeyPatch
):
    first = store.open(version(store, files))[1]
    (files / "rules.py").write_text(RULE.format(id="test.many", above=11))
    assert store.open(version(store, files))[1] is first
    (files / "allow.csv").write_text(ALLOW.format(who="bob"))
    second = store.open(version(store, files))[1]
    assert second.allow is not first.allow
    assert second.networks is first.networks
    assert second.threats is first.threats


def test_forgetting_keeps_what_is_in_use_and_what_is_about_to_be(store: Versions, files: Path):
    old = version(store, files)
    (files / "threats.txt").write_text("192.0.2.8\n")
    new = version(store, files)
    store.forget([old])
    store.open(new)
    store.forget([new])
    with pytest.raises(StateError):
        store.open(old)
    texts = [p.read_text() for p in (store.folder / "files").rglob("threats.txt")]
    assert texts == ["192.0.2.8\n"]
    store.open(new)


# --------------------------------------------------------------------------------------------------------------- watch
class Watched:
    """A watcher over one rule file and some lists, whose looks the test takes."""

    def __init__(self, store: Versions, files: Path, **more: Any) -> None:
        self.rules, refs = files / "rules.py", references(files, **more)
        self.digest = store.keep((self.rules,), refs)
        columns = {
            "event_id": pl.String,
            "timestamp": pl.Datetime("us", "UTC"),
            "kind": pl.String,
            "user_id": pl.String,
        }
        columns |= {"nr_recipients": pl.Int64}
        self.watcher = Watcher(
            store, Rules(files=(self.rules,), check_seconds=0.01), refs, lambda d, r: Engine(d, columns, r),
            digest=self.digest, columns=lambda: columns,
        )  # fmt: skip
        assert self.looks(3) == []

    def looks(self, n: int = 2) -> list[Change]:
        for _ in range(n):
            self.watcher.look(NOW)
        found = []
        while (change := self.watcher.changed()) is not None:
            found.append(change)
        return found


@pytest.fixture
def seen(store: Versions, files: Path) -> Watched:
    return Watched(store, files)


def test_a_changed_rule_file_gives_an_engine_of_the_new_rules_once(seen: Watched, store: Versions):
    seen.rules.write_text(RULE.format(id="test.many", above=20))
    (change,) = seen.looks(4)
    assert change.engine is not None
    assert change.finding is None
    assert str(change.engine.detections[0].when) == "score > 20"
    assert change.digest != seen.digest
    assert store.open(change.digest)[0][0].version == change.engine.detections[0].version


def test_a_changed_list_gives_an_engine_that_looks_up_in_the_new_one(seen: Watched, files: Path):
    (files / "threats.txt").write_text("203.0.113.9\n")
    (change,) = seen.looks()
    assert change.engine is not None
    frame = pl.DataFrame({"src_ip": ["203.0.113.9", "192.0.2.7"]})
    assert change.engine.refs.attach(frame, ["src_listed"])["src_listed"].to_list() == [True, False]


def test_a_file_that_is_being_written_waits_for_one_more_look(seen: Watched):
    whole = RULE.format(id="test.many", above=20)
    for end in range(10, len(whole), 100):
        seen.rules.write_text(whole[:end])
        assert seen.looks(1) == []
    seen.rules.write_text(whole)
    assert [c.finding for c in seen.looks(4)] == [None]


def test_a_file_replaced_by_rename_or_deleted_and_put_back_between_two_looks_is_fine(seen: Watched, files: Path):
    (files / "new").write_text(RULE.format(id="test.many", above=20))
    (files / "new").rename(seen.rules)
    (change,) = seen.looks(3)
    assert change.engine is not None
    seen.rules.unlink()
    assert seen.looks(1) == []
    seen.rules.write_text(RULE.format(id="test.many", above=30))
    (change,) = seen.looks(3)
    assert (change.finding, change.digest is None) == (None, False)


def test_a_file_that_was_touched_or_rewritten_the_same_is_no_change(seen: Watched):
    os.utime(seen.rules, ns=(1, 1))
    assert seen.looks(3) == []
    seen.rules.write_text(seen.rules.read_text())
    assert seen.looks(3) == []


BROKEN = {
    "no Python": ("DETECTIONS = (", "rules.py:1: is not valid Python"),
    "a wrong rule": (RULE.format(id="test.many", above=20).replace('"low"', '"lw"'), 'rules.py:4: test.many: severity "lw"'),
    "an example that fails": (RULE.format(id="test.many", above=99), "test.many: example 1 must fire: it did not fire"),
    "no rules": ("", "defines no DETECTIONS"),
    "a rule that raises": ("raise SystemExit(0)", "rules.py:1: SystemExit"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_rule_file_is_found_once_and_changes_nothing(seen: Watched, kind: str):
    text, said = BROKEN[kind]
    seen.rules.write_text(text)
    (change,) = seen.looks(5)
    assert (change.engine, change.digest) == (None, None)
    assert said in change.note
    assert change.finding is not None
    row = change.finding.row(0, named=True)
    assert (row["detection_id"], row["severity"], row["entity_kind"]) == (RELOAD_ERROR, "high", "file")
    assert (row["entity"], row["time"]) == (str(seen.rules), NOW)
    assert said.replace('"', '\\"') in row["evidence"]
    assert change.finding.schema == tc.backtest([], tc.read(pl.DataFrame(SMALL))).findings.schema


def test_the_alert_log_takes_the_finding_of_a_broken_file_once(seen: Watched, tmp_path: Path):
    seen.rules.write_text("DETECTIONS = (")
    (change,) = seen.looks()
    assert change.finding is not None
    with tc.Alerts(tmp_path / "log.db", clock=lambda: NOW) as log:
        added = [log.add(change.finding, source="live").findings for _ in range(2)]
        assert added == [1, 0]
        assert log.alerts().height == 1


SMALL = {"event_id": ["a"], "timestamp": [NOW], "user_id": ["ada"]}


def test_a_deleted_rule_file_is_broken_and_not_a_set_without_rules(seen: Watched):
    seen.rules.unlink()
    (change,) = seen.looks(5)
    assert change.engine is None
    assert change.finding is not None
    assert "cannot be read (No such file or directory)" in change.note


def test_the_same_broken_content_has_the_same_finding_and_another_has_its_own(store: Versions, files: Path):
    ids = []
    for text in ("DETECTIONS = (", "DETECTIONS = [", "DETECTIONS = ("):
        (files / "rules.py").write_text(RULE.format(id="test.many", above=10))
        seen = Watched(store, files)
        seen.rules.write_text(text)
        (change,) = seen.looks()
        assert change.finding is not None
        ids.append(change.finding["finding_id"].item())
    assert ids[0] == ids[2] != ids[1]


def test_a_mended_file_is_told_whether_it_says_the_old_or_something_new(seen: Watched):
    good = seen.rules.read_text()
    for text, new in ((good, False), (RULE.format(id="test.many", above=20), True)):
        seen.rules.write_text("DETECTIONS = (")
        assert [c.finding is not None for c in seen.looks()] == [True]
        seen.rules.write_text(text)
        (change,) = seen.looks(4)
        assert (change.engine is not None, change.finding) == (new, None)
        assert "mended" in change.note or new


def test_a_broken_list_is_found_under_its_name_and_another_change_does_not_repeat_it(seen: Watched, files: Path):
    (files / "allow.csv").write_text("indicator\nada\n")
    (change,) = seen.looks()
    assert change.finding is not None
    assert change.finding["entity"].item() == str(files / "allow.csv")
    (files / "threats.txt").write_text("192.0.2.9\n")
    assert seen.looks(4) == []
    (files / "allow.csv").write_text(ALLOW.format(who="bob"))
    (change,) = seen.looks(4)
    assert change.engine is not None


def test_no_room_for_a_copy_is_told_once_and_tried_again(seen: Watched, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Versions, "_copy_durably", full)
        seen.rules.write_text(RULE.format(id="test.many", above=20))
        (change,) = seen.looks(5)
        assert "No space left" in change.note
    assert [c.engine is not None for c in seen.looks(2)] == [True]


def test_the_thread_looks_by_itself_and_ends_when_told(seen: Watched):
    seen.watcher.start()
    seen.rules.write_text(RULE.format(id="test.many", above=20))
    deadline, change = time.monotonic() + 30, None
    while change is None and time.monotonic() < deadline:
        change = seen.watcher.changed()
        time.sleep(0.005)
    seen.watcher.stop()
    assert change is not None
    assert "tocsin-watch" not in {t.name for t in threading.enumerate()}
