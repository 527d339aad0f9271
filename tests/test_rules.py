"""Rules: those that ship do what their examples say, and a wrong rule file is told all that is wrong, with its line.

Layer: tests.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import polars as pl
import pytest

import tocsin as tc
from tocsin.rules import travel
from tocsin.runners.rulefiles import check_rules, example_frame, load_rules
from tocsin.runners.rulefiles import test_rules as run_examples

SHIPPED = (*tc.rules.ALL, *tc.rules.SILENCE)
EXAMPLES = [(d, i) for d in SHIPPED for i in range(len(d.examples))]
GOOD = """
import tocsin as tc

FIRES = [{"kind": "mail", "user_id": "ann", "nr_recipients": 11}, {"kind": "mail", "user_id": "bob", "nr_recipients": 70}]
QUIET = [{"kind": "mail", "user_id": "ann", "nr_recipients": 1}, {"kind": "mail", "user_id": "cy", "nr_recipients": 10}]


def rule(**more):
    parts = dict(
        id="mail.many", title="Mail to many", severity="low", on=tc.col("kind") == "mail", entity="user_id",
        score=tc.col("nr_recipients") / 3.6, when=tc.score > 3,
        examples=(tc.Example(fires=True, events=FIRES), tc.Example(fires=False, events=QUIET)),
    )
    return tc.Detection(**parts | more)


"""
ONE = "DETECTIONS = (rule(),)\n"
LAST = GOOD.count("\n") + 1  # the line that follows GOOD
MAKER = next(i for i, line in enumerate(GOOD.splitlines(), 1) if "tc.Detection(" in line)


def written(folder: Path, text: str) -> Path:
    path = folder / "my_rules.py"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def problems(folder: Path, text: str, **options: object) -> list[str]:
    path = written(folder, text)
    found = [str(p) for p in check_rules(path, **options)]
    assert all(p.startswith(f"{path}:") for p in found)
    return [p.removeprefix(f"{path}:") for p in found]


@pytest.mark.parametrize(("detection", "index"), EXAMPLES, ids=[f"{d.id}-{i}" for d, i in EXAMPLES])
def test_a_rule_that_ships_does_what_its_example_says(detection: tc.Detection, index: int) -> None:
    result = run_examples([detection])[index]
    assert result.passed, (detection.examples[index].note, result)


def test_the_rules_that_ship_have_nothing_to_be_reported() -> None:
    for module in (tc.rules.mail, tc.rules.volume, tc.rules.network, tc.rules.login, tc.rules.travel, tc.rules.silence):
        assert check_rules(module.__file__) == []


def test_the_rules_that_ship_cover_the_four_tiers_and_have_their_own_ids() -> None:
    assert {d.tier for d in tc.rules.ALL} == {1, 2, 3, 4}
    assert len({d.id for d in SHIPPED}) == len(SHIPPED)


@pytest.mark.parametrize("detection", SHIPPED, ids=lambda d: d.id)
def test_a_rule_that_ships_says_what_it_is_and_when_it_is_wrong(detection: tc.Detection) -> None:
    assert detection.title
    assert detection.description
    assert detection.false_positives
    assert all(tag.startswith("attack.") for tag in detection.tags)


@pytest.mark.parametrize(
    ("ends", "km"),
    [
        ((0.0, 179.5, 0.0, -179.5), 111.2),  # across the date line
        ((0.0, 0.0, 0.0, 0.0), 0.0),
        ((10.0, 20.0, 11.0, 20.0), 111.2),
        ((60.0, 20.0, 60.0, 21.0), 55.6),  # a degree of longitude is half as wide at 60 degrees
        ((-33.0, 151.0, -33.0, 150.0), 93.3),
    ],
)
def test_the_distance_of_the_travel_rule_is_that_of_the_plane(ends: tuple[float, ...], km: float) -> None:
    frame = pl.DataFrame([ends], schema=list("abcd"), orient="row")
    assert frame.select(travel.plane_distance_km(*(pl.col(c) for c in "abcd"))).item() == pytest.approx(km, abs=0.1)


def test_a_good_file_has_no_problems_and_loads(tmp_path: Path) -> None:
    assert problems(tmp_path, GOOD + ONE) == []
    assert [d.id for d in load_rules(tmp_path / "my_rules.py")] == ["mail.many"]
    assert all(r.passed for r in run_examples(load_rules(tmp_path / "my_rules.py")))


def test_dividing_by_a_constant_does_not_depend_on_other_rows(tmp_path: Path) -> None:
    text = (
        GOOD
        + 'DETECTIONS = [rule(score=tc.col("nr_recipients") / d, id=f"mail.by-{i}") for i, d in enumerate((3.3, 1e6, 7.7, 0.1))]\n'
    )
    assert problems(tmp_path, text) == []


BROKEN_FILES = {
    "a syntax error": ("import tocsin as tc\nDETECTIONS = (\n", 2, "is not valid Python"),
    "an import that fails": ("import tocsin\n\nimport no_such_package\n", 3, "No module named 'no_such_package'"),
    "an error of its own": ("X = 1\nY = {}['key']\n", 2, "KeyError: 'key'"),
    "an error two calls deep": ("def f():\n    return 1 / 0\n\n\nf()\n", 2, "ZeroDivisionError"),
    "an unknown name of the package": ("import tocsin as tc\nM = tc.Counts(per='1d')\n", 2, "Counts"),
    "a measure that is refused": (
        "import tocsin as tc\nM = tc.Count(per='1day')\n",
        2,
        '"1day" is not a calendar window',
    ),
    "an exit": ("import sys\nsys.exit(0)\n", 2, "SystemExit"),
    "no DETECTIONS": ("import tocsin as tc\n", 1, "defines no DETECTIONS"),
    "DETECTIONS misspelt": ("DETECTION = ()\n", 1, 'Did you mean "DETECTION"?'),
    "DETECTIONS that are none": ("DETECTIONS = 7\n", 1, "defines no DETECTIONS"),
    "something else among them": ("DETECTIONS = ('mail',)\n", 1, "DETECTIONS[0] is a str, not a tc.Detection"),
    "binary junk": ("\x00\x01", 1, "is not valid Python"),
}


@pytest.mark.parametrize(("text", "line", "message"), BROKEN_FILES.values(), ids=BROKEN_FILES.keys())
def test_a_file_that_cannot_be_had_says_where_and_why(tmp_path: Path, text: str, line: int, message: str) -> None:
    found = problems(tmp_path, text)
    assert len(found) == 1
    assert found[0].startswith(f"{line}: ")
    assert message in found[0]
    with pytest.raises(tc.RuleError) as caught:
        load_rules(tmp_path / "my_rules.py")
    assert str(caught.value).startswith(f"{tmp_path / 'my_rules.py'}:{line}: ")


def test_a_path_without_a_file_and_a_folder_are_said_to_be_no_rule_files(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.py", tmp_path, tmp_path / "rules.txt"):
        assert "is not a Python file" in str(check_rules(path)[0])


WRONG_RULES = {
    "a misspelt column": ('rule(score=tc.col("nr_recipient"))', 'no column "nr_recipient"', 'Did you mean "nr_recipients"?'),
    "a misspelt evidence column": ('rule(evidence=("src_lp",))', 'no column "src_lp"', 'Did you mean "src_ip"'),
    "a misspelt entity": ('rule(entity="user")', 'no column "user"', ""),
    "an on that is text": ('rule(on=tc.col("kind"))', "on is String, not boolean", ""),
    "a condition that is a number": ('rule(when=(tc.score > 3) & tc.col("nr_recipients"))', "when cannot be evaluated", "Int64"),
    "a score that is text": ('rule(score=tc.col("kind"))', "score is String, not a number", ""),
    "a score that is a list": ('rule(score=tc.col("attachments"))', "score is List(String), not a number", ""),
    "an aggregate": (
        'rule(score=tc.col("nr_recipients") - tc.col("nr_recipients").mean())',
        "score depends on other rows",
        "measure or a fit",
    ),
    "a bare aggregate": ('rule(score=tc.col("nr_recipients").max())', "score cannot be evaluated", "gives one for each"),
    "a count of the batch": ("rule(score=__import__('polars').len())", "score depends on other rows", ""),
    "a shift": ('rule(score=tc.col("nr_recipients").shift(1))', "score depends on other rows", ""),
    "a running count": ('rule(score=tc.col("nr_recipients").cum_count())', "score depends on other rows", ""),
    "a rank": ('rule(score=tc.col("nr_recipients").rank())', "score depends on other rows", ""),
    "a group": ('rule(score=tc.col("nr_recipients").sum().over("user_id"))', "score depends on other rows", ""),
    "an on of duplicates": ('rule(on=tc.col("user_id").is_unique())', "on depends on other rows", ""),
    "a filter": ('rule(score=tc.col("nr_recipients").filter(tc.col("nr_recipients") > 50))', "score ", "cannot be evaluated"),
    "a method of another type": ('rule(score=tc.col("nr_recipients").str.len_chars())', "score cannot be evaluated", ""),
    "no example": ("rule(examples=())", "needs at least one example that must fire and one that must not", ""),
    "only examples that fire": ("rule(examples=(tc.Example(fires=True, events=FIRES),))", "one that must not", ""),
    "a wrong id": ('rule(id="Many")', 'id "Many" must be lower-case words', ""),
    "a wrong severity": ('rule(severity="hgih")', 'severity "hgih" is not one of', 'Did you mean "high"'),
    "a baseline without windows": (
        'rule(measure=tc.Count(sliding="1h"), against=tc.own_history(mean=True), score=tc.value)', 'give the measure per="1d"', "",
    ),
    "a statistic that is not there": (
        'rule(measure=tc.Count(per="1d"), against=tc.own_history(mean=True), score=tc.ref.meen)',
        "ref.meen is not made",
        'Did you mean "ref.mean"',
    ),
}  # fmt: skip


@pytest.mark.parametrize(("code", "message", "more"), WRONG_RULES.values(), ids=WRONG_RULES.keys())
def test_a_wrong_rule_is_reported_with_its_line(tmp_path: Path, code: str, message: str, more: str) -> None:
    found = problems(tmp_path, GOOD + f"DETECTIONS = ({code},)\n")
    assert len(found) == 1, found
    assert found[0].startswith(f"{MAKER}: ")
    assert message in found[0]
    assert more in found[0]


def test_every_problem_of_a_file_is_reported_in_the_order_of_its_lines(tmp_path: Path) -> None:
    def lines(i: int, **parts: str) -> str:
        whole = {
            "id": f'"mail.rule-{i}"', "title": '"t"', "severity": '"low"', "on": 'tc.col("kind") == "mail"', "entity": '"user_id"',
            "score": 'tc.col("nr_recipients")', "when": "tc.score > 3",
            "examples": "(tc.Example(fires=True, events=FIRES), tc.Example(fires=False, events=QUIET))",
        } | parts  # fmt: skip
        return f"R{i} = tc.Detection(" + ", ".join(f"{k}={v}" for k, v in whole.items()) + ")\n"

    text = GOOD + lines(0, id='"BAD"', severity='"loud"') + lines(1, score='tc.col("nr_recipient")')
    text += lines(2) + lines(3, id='"mail.rule-2"') + lines(4, examples="()") + "DETECTIONS = (R4, R3, R2, R1, R0)\n"
    found = problems(tmp_path, text)
    assert [int(p.split(":")[0]) - LAST for p in found] == [0, 0, 1, 2, 4]
    assert "the id is taken by" in found[3]
    assert f"my_rules.py:{LAST + 3}" in found[3]


def test_lines_are_told_for_a_relative_path_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, GOOD + 'rule(id="BAD")\nboom()\n')
    monkeypatch.chdir(tmp_path)
    assert check_rules(path.name) == check_rules(path)
    for text in (GOOD + "boom()\n", GOOD + 'rule(id="BAD")\n'):
        written(tmp_path, text)
        with pytest.raises(tc.RuleError) as absolute:
            load_rules(path)
        with pytest.raises(tc.RuleError) as relative:
            load_rules(path.name)
        assert str(relative.value) == str(absolute.value)
        assert str(relative.value).count("my_rules.py:") == 1


def test_problems_of_detections_made_before_a_file_fails_are_kept(tmp_path: Path) -> None:
    found = problems(tmp_path, GOOD + 'rule(id="BAD")\nboom()\n')
    assert len(found) == 2
    assert "NameError" in found[1]


def test_a_duplicate_id_is_refused_when_loading_too(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD + "DETECTIONS = (rule(), rule())\n")
    with pytest.raises(tc.RuleError, match="the id is taken by"):
        load_rules(path)


def test_columns_of_the_events_at_hand_are_known_when_given(tmp_path: Path) -> None:
    text = GOOD + 'DETECTIONS = (rule(evidence=("spam_status",)),)\n'
    assert len(problems(tmp_path, text)) == 1
    assert problems(tmp_path, text, columns=["spam_status"]) == []


def test_an_example_that_is_wrong_about_its_rule_does_not_pass(tmp_path: Path) -> None:
    examples = "(tc.Example(fires=False, events=FIRES), tc.Example(fires=True, events=QUIET))"
    path = written(tmp_path, GOOD + f"DETECTIONS = (rule(examples={examples}),)\n")
    results = run_examples(load_rules(path))
    assert [(r.expected, r.fired, r.passed) for r in results] == [(False, True, False), (True, False, False)]


def test_events_of_an_example_are_a_minute_apart_with_ids_unless_they_say_otherwise() -> None:
    events = [{"kind": "mail"}, {"kind": "mail", "event_id": "x"}, {"timestamp": "2026-05-01T00:00:00Z"}]
    frame = example_frame(tc.Example(fires=True, events=events))
    assert frame["event_id"].to_list() == ["000000", "x", "000002"]
    assert frame["timestamp"].dt.to_string("%m-%d %H:%M").to_list() == ["01-01 00:00", "01-01 00:01", "05-01 00:00"]
