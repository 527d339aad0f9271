"""The command line: help, start-up, and what the commands beside `backtest` print."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tomllib
from pathlib import Path

import polars as pl
import pytest
from command_line import ESCAPE, rule_file

from tocsin.faces import cli
from tools import write_docs

pytest_plugins = ["cli_fixtures"]
CHECKOUT = Path(__file__).resolve().parent.parent


# ---- help, version, start-up


@pytest.mark.parametrize("words", list(write_docs.commands()), ids=" ".join)
def test_every_command_has_help_that_says_what_it_does_and_gives_an_example(words: tuple[str, ...], tocsin) -> None:
    done = tocsin(*words, "--help")
    assert done.code == 0
    assert f"Usage: tocsin {' '.join(words)}" in done.out
    assert "tocsin " in done.out.split("Example", 1)[-1] or "--help" in done.out


def test_the_help_lists_every_exit_code(tocsin) -> None:
    out = tocsin("--help").out
    assert all(f"{code:3}  {words}" in out for code, words in cli.EXIT_CODES.items())


def test_the_version_is_that_of_the_package(tocsin) -> None:
    import tocsin as package

    assert tocsin("--version").out == f"tocsin {package.__version__}\n"


def test_the_module_runs_like_the_script() -> None:
    done = subprocess.run([sys.executable, "-m", "tocsin", "rules", "list"], capture_output=True, text=True, check=True)
    assert "mail.volume-vs-self" in done.stdout


@pytest.mark.parametrize("words", [["--help"], ["backtest", "--help"], ["--version"]], ids=" ".join)
def test_nobody_waits_for_heavy_packages_to_be_helped(words: list[str]) -> None:
    heavy = {"polars", "numpy", "numba", "pyarrow", "scipy", "maxminddb"}
    code = f"import sys; from tocsin.faces.cli import main; main({words!r}); print(*({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.splitlines()[-1]


def test_the_page_about_the_command_line_and_the_catalogue_are_what_would_be_written_now() -> None:
    for path, text in write_docs.expected().items():
        assert path.is_file(), f"{path} is missing: python -m tools.write_docs"
        assert path.read_text(encoding="utf-8") == text, f"{path} is stale: python -m tools.write_docs"
    on_disk = {p.name for p in (write_docs.DOCS / "rules").glob("*.md")}
    assert on_disk == {p.name for p in write_docs.expected() if p.parent.name == "rules"}


# ---- the other commands


def test_describe_shows_numbers_quantiles_top_values_charts_and_the_rate(tocsin, simulated: Path) -> None:
    out = tocsin("describe", simulated / "events.parquet").out
    assert "nr_recipients" in out
    assert "Per day, 2026-06-01 to 2026-06-14 (14 days)" in out
    assert "█" in out
    full = tocsin("describe", simulated / "events.parquet", "--columns", "nr_recipients", "kind").out
    for text in ("quantiles: 1 %", "standard deviation", "mail", "share", "████"):
        assert text in full
    assert "dst_ip" not in full
    document = tocsin("describe", simulated / "events.parquet", "--json").json
    assert document["columns"]["nr_recipients"]["quantiles"]["0.5"] == 6


def test_a_column_that_is_not_there_is_named_with_the_nearest(tocsin, simulated: Path) -> None:
    done = tocsin("describe", simulated / "events.parquet", "--columns", "nr_recipient")
    assert done.code == 2
    assert 'Did you mean "nr_recipients"?' in done.err


def test_what_map_init_prints_is_a_mapping_that_works(tocsin, tmp_path: Path) -> None:
    sample = tmp_path / "vpn.csv"
    good = [f"2026-01-01T10:00:0{i}Z,192.0.2.{i},ann" for i in range(8)]
    sample.write_text(
        "\n".join(["When,Client IP,Account", *good, "2026-01-01T10:05:00Z,nowhere,bob", "soon,192.0.2.2,cem"]) + "\n"
    )
    done = tocsin("map", "init", sample)
    assert tomllib.loads(done.out)["columns"]["src_ip"]["from"] == "Client IP"
    assert "# The first 9 mapped rows:" in done.out
    assert "not a time" in done.out
    mapping = tmp_path / "vpn.toml"
    assert tocsin("map", "init", sample, "--out", mapping).code == 0
    assert tocsin("describe", sample, "--map", mapping, "--json").json["source"]["accepted"] == 9
    again = tocsin("map", "init", sample, "--out", mapping)
    assert again.code == 2
    assert "exists" in again.err
    assert tocsin("map", "init", sample, "--out", mapping, "--force").code == 0
    document = tocsin("map", "init", sample, "--json").json
    assert document["mapping"] in mapping.read_text()
    assert document["accepted"] == len(document["preview"])


def test_verify_lists_its_runs_and_passes_on_rules_that_ship(tocsin, simulated: Path) -> None:
    done = tocsin("verify", "shipped", simulated / "events.parquet", "--rows", 1500)
    assert done.code == 0
    assert "one batch" in done.out
    assert "saved and loaded" in done.out
    assert "The same score for every event" in done.out


def test_a_difference_in_verify_is_told_and_fails(
    tocsin, simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tocsin.runners import verify

    report = verify.VerifyReport(
        pl.DataFrame(
            {
                "run": ["x"],
                "batches": [1],
                "events": [1],
                "compared": [1],
                "differences": [1],
                "late": [0],
                "note": [""],
            }
        ),
        f"mail.x gives {ESCAPE}",
    )
    monkeypatch.setattr(verify, "verify", lambda *_, **__: report)
    done = tocsin("verify", rule_file(tmp_path), simulated / "events.parquet")
    assert done.code == 1
    assert "Not the same. mail.x gives \\x1b[31mred" in done.out
    assert tocsin("verify", rule_file(tmp_path), simulated / "events.parquet", "--json").code == 1


def test_fit_writes_a_table_for_each_rule_with_a_fit(tocsin, simulated: Path, tmp_path: Path) -> None:
    from tocsin import Table

    done = tocsin("fit", simulated / "events.parquet", "--out", tmp_path, "--json")
    tables = {t["rule"] for t in done.json["tables"]}
    assert {"mail.volume-vs-self", "mail.rate-vs-population", "mail.rate-outside-population.own"} <= tables
    assert Table.load(tmp_path / "mail.volume-vs-self.parquet").tier == 3


def test_rules_are_listed_shown_and_tested(tocsin) -> None:
    assert "login.travel-speed" in tocsin("rules", "list").out
    assert tocsin("rules", "list", "--json").json["rules"][0]["id"] == "mail.exe-many-recipients"
    shown = tocsin("rules", "show", "mail.volume-vs-self").out
    for text in (
        "Sends three times",
        "value / ref.mean",
        "score > 3 and value >= 20",
        "calendar day (UTC)",
        "28 closed windows",
        "false positives",
        "must not fire",
    ):
        assert text in shown
    tested = tocsin("rules", "test")
    assert tested.code == 0
    assert "0 failed" in tested.out
    unknown = tocsin("rules", "show", "mail.volume-vs-sel")
    assert unknown.code == 2
    assert 'Did you mean "mail.volume-vs-self"' in unknown.err


def test_a_problem_in_a_rule_file_is_told_with_file_and_line_and_fails(tocsin, tmp_path: Path) -> None:
    good = rule_file(tmp_path)
    assert tocsin("rules", "check", good).code == 0
    bad = tmp_path / "bad.py"
    bad.write_text(good.read_text().replace('score=tc.col("nr_recipients")', 'score=tc.col("nr_recipient")'))
    done = tocsin("rules", "check", bad)
    assert done.code == 1
    assert f"{bad}:5: mail.many-recipients:" in done.out
    assert 'Did you mean "nr_recipients"?' in done.out


def test_an_example_that_does_otherwise_fails(tocsin, tmp_path: Path) -> None:
    done = tocsin("rules", "test", rule_file(tmp_path, fires=3))
    assert done.code == 1
    assert "example 1 must fire; it did not" in done.out
    assert tocsin("rules", "test", rule_file(tmp_path, fires=3), "--json").json["failed"][0]["example"] == 1


def test_simulate_and_geo_import_write_their_files(tocsin, tmp_path: Path) -> None:
    done = tocsin("simulate", tmp_path / "s", "--users", 20, "--days", 2, "--jsonl", "--no-truth")
    assert done.code == 0
    assert {p.name for p in (tmp_path / "s").iterdir()} == {
        "events.parquet",
        "events.jsonl.gz",
        "geo.csv.gz",
        "networks.csv.gz",
        "threats.csv",
    }
    document = tocsin("geo", "import", tmp_path / "s" / "geo.csv.gz", tmp_path / "geo.parquet", "--json").json
    assert document["ranges"] > 0
    assert document["file"].endswith("geo.parquet")
    imported = tocsin("geo", "import", tmp_path / "s" / "geo.csv.gz", tmp_path / "geo.parquet")
    assert imported.code == 0
    assert "ranges" in imported.out
    assert tocsin("backtest", tmp_path / "s" / "events.parquet", "--geo", tmp_path / "geo.parquet").code == 0


def test_simulate_says_what_it_planted(tocsin, tmp_path: Path) -> None:
    sizes = ("--users", 80, "--days", 12, "--stories", "exe_spray,shared_egress")
    shown = tocsin("simulate", tmp_path, *sizes).out
    assert "Planted stories" in shown
    assert "Innocent look-alikes" in shown
    document = tocsin("simulate", tmp_path, *sizes, "--json").json
    assert [(row["kind"], row["innocent"], row["stories"]) for row in document["planted"]] == [
        ("exe_spray", False, 1),
        ("shared_egress", True, 1),
    ]
    assert document["events"] == pl.read_parquet(tmp_path / "events.parquet").height
    assert {Path(file).name for file in document["files"]} == {path.name for path in tmp_path.iterdir()}
    quiet = tocsin("simulate", tmp_path / "none", "--users", 5, "--days", 2, "--stories", "none", "--drift", 0.25)
    assert "Nothing is planted." in quiet.out
    assert (tocsin("simulate", tmp_path, "--stories", "exe_spry").code, quiet.code) == (2, 0)


def test_the_demo_shows_stories_and_fails_below_a_floor(
    tocsin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tocsin.demo import challenges, desk, judging
    from tocsin.demo import run as demo
    from tocsin.reports import Report
    from tocsin.views.page import Tile

    expected = judging.Expected("exe_spray", "mail.exe-many-recipients")
    result = judging.StoryResult(
        expected, planted=2, found=2, flagged=3, wrong=0, innocents=0, trapped=(), in_top=2, missed=()
    )
    traps = pl.DataFrame({"trap": ["newsletter"], "users": [1], "flagged": [0], "detections": [""]})
    solved = challenges.Solved("B1", "ask poisson", "6.01", "6", right=True)
    rules = pl.DataFrame({"detection": ["mail.x"]})
    tiles = (Tile("alerts raised", "12", "last week 9", "alerts raised in the week"),)
    triaged = desk.Triaged(12, 40, Report("SOC report of week 2026-W26", (), {}, "0f", tiles), tmp_path / "report.html")
    report = demo.DemoReport(7, tmp_path, 100, 20, 1000, 3, 1.0, 2.0, (result,), (solved,), traps, rules, (), triaged)
    monkeypatch.setattr(demo, "run_demo", lambda *_: report)
    picture = tmp_path / "demo.svg"
    done = tocsin("demo", "--svg", picture)
    assert done.code == 0
    assert "100 % (100 %)" in done.out
    assert "ok" in done.out
    assert "SOC report of week 2026-W26" in done.out
    assert "last week 9" in done.out
    assert "exe_spray" in picture.read_text()
    assert "@font-face" not in picture.read_text()
    assert "http://" not in picture.read_text().replace("http://www.w3.org", "")
    monkeypatch.setattr(
        demo,
        "run_demo",
        lambda *_: dataclasses.replace(report, results=(dataclasses.replace(result, found=1, missed=("bob",)),)),
    )
    below = tocsin("demo")
    assert below.code == 1
    assert "BELOW" in below.out
    assert "missed of exe_spray: bob" in below.out
    assert tocsin("demo", "--users", 2).code == 2
