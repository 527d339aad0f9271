"""`tocsin ask`: every question on the command line, as text, JSON, page and file, with hostile data too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from command_line import ESCAPE, HOSTILE, assert_inert
from test_views import Parsed

pytest_plugins = ["cli_fixtures"]

QUESTIONS = {
    "describe": [],
    "histogram": ["--column", "nr_recipients"],
    "top": ["--column", "user_id", "--n", "3"],
    "population": ["--rule", "mail.rate-vs-population"],
    "outside": ["--countries", "US", "CA"],
    "travellers": ["--never-outside", "ALL", "--uncertainty-km", "0"],
    "map": ["--where", "kind=login"],
    "changes": ["--n", "2"],
    "poisson": ["--where", "kind=mail"],
    "hours": ["--local", "America/Denver"],
}
NEED_GEO = {"outside", "travellers", "map"}


def asked(tocsin: Any, question: str, source: Path, *more: object, geo: Path | None = None) -> Any:
    looked_up = ["--geo", geo] if question in NEED_GEO and geo else []
    return tocsin("ask", question, source, *QUESTIONS[question], *looked_up, *more)


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_answers_as_text_json_page_and_file(
    tocsin: Any, simulated: Path, tmp_path: Path, question: str
) -> None:
    source, geo = simulated / "events.parquet", simulated / "geo.csv.gz"
    done = asked(tocsin, question, source, "--html", tmp_path / "a.html", "--out", tmp_path / "a.csv", geo=geo)
    assert done.code == 0, done.err
    assert "events accepted" in done.out
    page = Parsed((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert "main" in page.tags
    document = asked(tocsin, question, source, "--json", geo=geo).json
    assert document["command"] == f"ask {question}"
    answer = document["answer"]
    assert answer["question"] in " ".join(page.texts)
    assert "".join(answer["definition"].split()) in "".join(done.out.split())
    assert pl.read_csv(tmp_path / "a.csv").height == len(answer["table"]) if answer["table"] else answer["empty"]


def test_a_series_takes_a_rule_or_makes_one(tocsin: Any, simulated: Path) -> None:
    source = simulated / "events.parquet"
    user = pl.read_parquet(source)["user_id"].mode().sort()[0]
    by_rule = tocsin("ask", "series", source, "--entity", user, "--rule", "mail.volume-vs-self", "--json").json[
        "answer"
    ]
    by_measure = tocsin("ask", "series", source, "--entity", user, "--where", "kind=mail", "--json").json["answer"]
    assert [r["value"] for r in by_rule["table"]] == [r["value"] for r in by_measure["table"]]
    summed = tocsin(
        "ask", "series", source, "--entity", user, "--column", "nr_attachments", "--per", "1w", "--json"
    ).json["answer"]
    mine = pl.read_parquet(source).filter(pl.col("user_id") == user)
    assert sum(r["value"] for r in summed["table"]) == mine["nr_attachments"].sum()
    both = tocsin(
        "ask", "series", source, "--entity", user, "--rule", "mail.volume-vs-self", "--column", "nr_recipients"
    )
    assert both.code == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["histogram", "--column", "nr_recipient"], 'Did you mean "nr_recipients"?'),
        (["histogram", "--column", "kind"], "not numbers"),
        (["top", "--column", "user_id", "--n", "0"], "at least 1"),
        (["top", "--column", "user_id", "--where", "kind"], "write kind=mail"),
        (["top", "--column", "user_id", "--where", "knd=mail"], 'Did you mean "kind"?'),
        (["population", "--rule", "mail.rate-vs-populations"], 'Did you mean "mail.rate-vs-population"'),
        (["outside"], "--geo"),
        (["hours", "--local", "America/Dever"], 'Did you mean "America/Denver"'),
        (["changes", "--split", "soon"], "--split"),
        (["poisson", "--way", "mean"], "means, truncated, clamped"),
        (["describe", "--html", "a.txt"], "write"),
        (["describe", "--rows", "-1"], "--rows"),
        (["series", "--entity", "nobody"], 'No event of user_id "nobody"'),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)  # fmt: skip
def test_what_makes_no_sense_is_told_with_what_would(tocsin: Any, simulated: Path, words: list[str], told: str) -> None:
    done = tocsin("ask", words[0], simulated / "events.parquet", *words[1:])
    assert done.code == 2
    assert told in " ".join(done.err.split())


HOSTILE_QUESTIONS = [
    ["describe"],
    ["top", "--column", "user_id"],
    ["top", "--column", "attachments"],
    ["top", "--column", f"field {ESCAPE}"],
    ["histogram", "--column", "nr_recipients"],
    ["population", "--rule", "mail.rate-vs-population"],
]


@pytest.mark.parametrize(
    "words", HOSTILE_QUESTIONS, ids=[" ".join(w)[:24].replace(ESCAPE, "x") for w in HOSTILE_QUESTIONS]
)
def test_hostile_text_is_inert_as_text_json_page_and_csv(
    tocsin: Any, hostile: Path, tmp_path: Path, words: list[str]
) -> None:
    page, file = tmp_path / "a.html", tmp_path / "a.csv"
    done = tocsin("ask", *words[:1], hostile, *words[1:], "--html", page, "--out", file)
    assert done.code == 0, done.err
    assert_inert(done)
    assert tocsin("ask", *words[:1], hostile, *words[1:], "--json").out.isascii()
    parsed = Parsed(page.read_text(encoding="utf-8"))
    assert set(parsed.tags) <= {
        "html", "head", "meta", "title", "style", "body", "main", "h1", "p", "div", "table", "caption", "thead", "tr", "th", "tbody", "td",
        "footer", "script",
    }  # fmt: skip
    for column in pl.read_csv(file, infer_schema=False).get_columns():
        for text in column.drop_nulls():
            assert not text.startswith(("=", "@", "\t", "\r")), text


def test_a_hostile_entity_can_be_asked_about(tocsin: Any, hostile: Path) -> None:
    for entity in HOSTILE:
        done = tocsin("ask", "series", hostile, "--entity", entity, "--json")
        assert done.code == 0, done.err
        assert done.out.isascii()
        assert entity in json.loads(done.out)["answer"]["question"]
