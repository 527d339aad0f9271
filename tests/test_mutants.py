"""The mutation runner itself: it applies what it says, and it cannot be fooled by a stale or a harmless entry."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import mutants
from tools.mutants import Mutation, StaleError, mutated
from tools.mutations import MUTATIONS

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_each_mutation_still_applies_to_the_code_and_names_a_test_that_exists(mutation: Mutation) -> None:
    text = (CHECKOUT / mutation.file).read_text(encoding="utf-8")
    assert mutated(mutation, text) != text
    file, _, name = mutation.test.partition("::")
    assert (CHECKOUT / file).exists()
    assert not name or f"def {name.split('::')[-1].split('[')[0]}(" in (CHECKOUT / file).read_text(encoding="utf-8")


def test_names_of_mutations_are_unique() -> None:
    names = [m.name for m in MUTATIONS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("text", ["nothing here", "old old"])
def test_a_mutation_that_does_not_occur_exactly_once_is_stale(text: str) -> None:
    with pytest.raises(StaleError, match="not once"):
        mutated(Mutation("m", "f.py", "old", "new", "t"), text)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "thing.py").write_text("def more(a, b):\n    return a > b  # strictly\n")
    (tmp_path / "test_thing.py").write_text(
        "from thing import more\ndef test_equal(): assert not more(1, 1)\ndef test_far(): assert more(9, 1)\n"
    )
    monkeypatch.setattr(mutants, "CHECKOUT", tmp_path)
    monkeypatch.setattr(mutants, "COPIED", ("src", "test_thing.py"))
    return tmp_path


def entry(test: str, old: str = "a > b", new: str = "a >= b") -> Mutation:
    return Mutation("equal counts as more", "src/thing.py", old, new, f"test_thing.py::{test}")


def test_a_break_that_its_test_notices_is_caught_and_the_checkout_stays_as_it_was(tree: Path) -> None:
    before = (tree / "src" / "thing.py").read_text()
    assert mutants.run([entry("test_equal")]) == []
    assert (tree / "src" / "thing.py").read_text() == before


def test_a_break_that_its_test_does_not_notice_is_reported_as_survived(tree: Path) -> None:
    assert mutants.run([entry("test_far")])[0].startswith("survived")


def test_a_test_that_fails_without_the_mutation_proves_nothing_and_is_reported(tree: Path) -> None:
    with (tree / "test_thing.py").open("a") as file:
        file.write("def test_wrong(): assert False\n")
    assert "do not pass without a mutation" in mutants.run([entry("test_wrong")])[0]


def test_a_stale_entry_and_a_test_that_does_not_exist_are_errors(tree: Path) -> None:
    assert mutants.run([entry("test_equal", old="a < b")])[0].startswith("stale")
    assert "do not pass" in mutants.run([entry("test_absent")])[0]
