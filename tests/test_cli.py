"""The command line: what it prints, which code it ends with, and that nothing an attacker wrote acts on a terminal."""

from __future__ import annotations

import ast
import dataclasses
import json
import signal
import subprocess
import sys
import time
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tocsin.faces import cli, terminal
from tocsin.faces.terminal import Column, lay_out, numeric
from tocsin.sources.simulate.run import simulate_to
from tocsin.text import has_unsafe
from tools import write_docs

CHECKOUT = Path(__file__).resolve().parent.parent
ESCAPE, OVERRIDE, MARKUP = "\x1b[31mred\x1b[0m", "invoice\u202egnp.exe", "[bold red]markup[/]"
HOSTILE = ("=cmd|'/c calc'!A1", f"{ESCAPE}{OVERRIDE}{MARKUP}", "\x9b2J", "line\nbreak\ttab\x07")

RULES = """
import tocsin as tc

DETECTIONS = (
    tc.Detection(
        id="mail.many-recipients", title="Many recipients", severity="low", on=tc.col("kind") == "mail", entity="user_id",
        score=tc.col("nr_recipients"), when=tc.score > {limit}, evidence=("src_ip",),
        examples=(
            tc.Example(fires=True, events=[{{"kind": "mail", "user_id": "a", "nr_recipients": {fires}}}]),
            tc.Example(fires=False, events=[{{"kind": "mail", "user_id": "a", "nr_recipients": 1}}]),
        ),
    ),
)
"""


@dataclasses.dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out)


@pytest.fixture
def tocsin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Runs a command in this process; `width` is that of the terminal it believes to have."""

    def run(*arguments: object, width: int = 100) -> Done:
        monkeypatch.setenv("COLUMNS", str(width))
        capsys.readouterr()
        code = cli.main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return run


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    simulate_to(folder, users=60, days=14, seed=7)
    return folder


@pytest.fixture
def lookups(simulated: Path) -> list[str]:
    return ["--threats", str(simulated / "threats.csv"), "--geo", str(simulated / "geo.csv.gz")]


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Mails whose every text was written by somebody who means harm; each of them fires."""
    start = datetime(2026, 3, 2, 9, tzinfo=UTC)
    rows = [
        {
            "timestamp": start + timedelta(minutes=i),
            "event_id": f"{text}-{i}",
            "kind": "mail",
            "user_id": text,
            "src_ip": "192.0.2.1",
            "nr_recipients": 50,
            "attachments": [f"{text}.exe"],
            f"field {ESCAPE}": text,
        }
        for i, text in enumerate(HOSTILE)
    ]
    rows.append(rows[1] | {"event_id": "rejected", "src_ip": HOSTILE[1]})
    path = tmp_path / "hostile.parquet"
    pl.DataFrame(rows).write_parquet(path)
    return path


def rule_file(folder: Path, name: str = "mine.py", limit: int = 10, fires: int = 11) -> Path:
    path = folder / name
    path.write_text(RULES.format(limit=limit, fires=fires), encoding="utf-8")
    return path


def assert_inert(done: Done) -> None:
    for line in (done.out + done.err).splitlines():
        assert not has_unsafe(line), repr(line)


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


def _imported_at_once(path: Path) -> set[str]:
    """Names of the modules (or of things in them) that a file imports when it is itself imported."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_help_imports_nothing_heavy() -> None:
    source = CHECKOUT / "src"
    todo, seen = [source / "tocsin" / "faces" / "cli.py"], set()
    while todo:
        path = todo.pop()
        seen.add(path)
        for name in _imported_at_once(path):
            assert name.split(".")[0] not in {"polars", "numpy", "numba", "pyarrow", "scipy"}, f"{path.name}: {name}"
            if name.startswith("tocsin."):
                assert name.startswith(("tocsin.faces.", "tocsin.errors.")), f"{path.name}: {name}"
                file = source.joinpath(*name.split(".")).with_suffix(".py")
                file = file if file.is_file() else file.parent.with_suffix(".py")
                todo += [file] if file not in seen else []


def test_the_page_about_the_command_line_and_the_catalogue_are_what_would_be_written_now() -> None:
    for path, text in write_docs.expected().items():
        assert path.is_file(), f"{path} is missing: python -m tools.write_docs"
        assert path.read_text(encoding="utf-8") == text, f"{path} is stale: python -m tools.write_docs"
    on_disk = {p.name for p in (write_docs.DOCS / "rules").glob("*.md")}
    assert on_disk == {p.name for p in write_docs.expected() if p.parent.name == "rules"}


# ---- backtest


def test_backtest_says_what_was_read_what_fired_and_who_stands_out(tocsin, simulated: Path, lookups: list[str]) -> None:
    done = tocsin("backtest", simulated / "events.parquet", *lookups)
    assert (done.code, done.err) == (0, ""), "and shows no progress where there is no terminal"
    for text in (
        "events accepted",
        "no mapping",
        "By detection",
        "alerts/day",
        "unscored",
        "no_history",
        "Entities with",
        "Highest scores",
    ):
        assert text in done.out
    fired = [line for line in done.out.splitlines() if line.startswith("mail.exe-many-recipients")]
    assert int(fired[0].split()[4]) > 0


def test_rules_that_cannot_run_or_have_nothing_to_judge_are_listed_with_the_reason(tocsin, simulated: Path) -> None:
    none = tocsin("backtest", simulated / "events.parquet").out
    assert "not run network.listed-address: no threat list was given (--threats FILE)" in none
    some = tocsin("backtest", simulated / "events.parquet", "--threats", simulated / "threats.csv").out
    assert "nothing to judge login.travel-speed: no geo table with places was given" in some


def test_backtest_as_json_is_one_document_with_these_keys(
    tocsin, simulated: Path, lookups: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "findings.jsonl"
    done = tocsin("backtest", simulated / "events.parquet", *lookups, "--json", "--out", out, "--top", 2)
    document = done.json
    assert list(document) == [
        "tocsin",
        "format",
        "command",
        "source",
        "references",
        "days",
        "counts",
        "detections",
        "findings",
        "top_entities",
        "top_scores",
        "comparison",
    ]
    assert list(document["source"]) == [
        "name",
        "mapping",
        "recognised",
        "columns",
        "read",
        "accepted",
        "rejected",
        "values_left_out",
        "skipped",
        "reject_reasons",
    ]
    assert list(document["counts"]) == ["ok", "late", "duplicate", "conflict", "future", "rejected"]
    assert set(document["detections"][0]) == {
        "detection",
        "tier",
        "severity",
        "events",
        "scored",
        "fired",
        "entities",
        "alerts",
        "alerts_a_day",
        "suppressed",
        "unscored",
        "errors",
        "note",
        "unscored_reasons",
        "late",
        "run",
        "idle",
    }
    assert document["findings"] == {"count": len(out.read_text().splitlines()), "file": str(out)}
    assert len(document["top_entities"]) == 2
    assert document["top_entities"][0]["first"].endswith("Z")


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
def test_findings_are_written_whole_in_the_format_of_the_name(
    tocsin, simulated: Path, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"findings{suffix}"
    document = tocsin("backtest", simulated / "events.parquet", "--out", path, "--json").json
    read = {".parquet": pl.read_parquet, ".jsonl": pl.read_ndjson, ".csv": pl.read_csv}[suffix](path)
    assert read.height == document["findings"]["count"] > 0
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "and no temporary file is left"


def test_since_and_until_cut_what_is_reported(tocsin, simulated: Path) -> None:
    span = ("--since", "2026-06-10", "--until", "2026-06-12T00:00Z")
    document = tocsin("backtest", simulated / "events.parquet", *span, "--json").json
    assert 1.9 < document["days"] <= 2


def test_a_gap_makes_days_missing_from_baselines(tocsin, simulated: Path, tmp_path: Path) -> None:
    outage = pl.col("timestamp").is_between(
        datetime(2026, 6, 3, tzinfo=UTC), datetime(2026, 6, 6, tzinfo=UTC), closed="left"
    )
    path = tmp_path / "events.parquet"
    pl.read_parquet(simulated / "events.parquet").filter(~outage).write_parquet(path)

    def scored(*more: str) -> int:
        rows = tocsin("backtest", path, "--json", *more).json["detections"]
        return next(r["scored"] for r in rows if r["detection"] == "mail.volume-vs-self")

    assert scored("--gap", "2026-06-03..2026-06-06") < scored(), "fewer days, so that fewer events have history enough"


def test_compare_shows_findings_gained_and_lost(tocsin, simulated: Path, tmp_path: Path) -> None:
    old, new = rule_file(tmp_path, "old.py", limit=200), rule_file(tmp_path, "new.py", limit=250)
    document = tocsin("backtest", simulated / "events.parquet", "--compare", old, new, "--json").json
    (row,) = document["comparison"]["by_detection"]
    assert (row["gained"], row["lost"]) == (0, row["fired_old"] - row["fired_new"])
    assert row["lost"] == len(document["comparison"]["lost"]) > 0
    assert "Lost:" in tocsin("backtest", simulated / "events.parquet", "--compare", old, new).out


def test_the_notebooks_arithmetic_can_be_asked_for(tocsin, simulated: Path) -> None:
    assert tocsin("backtest", simulated / "events.parquet", "--compat", "notebook").code == 0


def test_events_can_come_from_stdin(simulated: Path) -> None:
    with (simulated / "events.parquet").open("rb") as events:
        done = subprocess.run(
            [sys.executable, "-m", "tocsin", "backtest", "-", "--json"], stdin=events, capture_output=True, check=True
        )
    assert json.loads(done.stdout)["source"]["accepted"] > 0


@pytest.mark.needs("shared-data")
@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_real_mail_reads_well_at_every_width(tocsin, shared_data: Path, width: int) -> None:
    mail, threats = shared_data / "spamassassin-mail.jsonl.gz", shared_data / "ipsum-level3.txt"
    done = tocsin("backtest", mail, "--threats", threats, width=width)
    assert done.code == 0
    assert all(cell_len(line) <= width for line in done.out.splitlines())
    for text in (
        "5,974 of 6,046 events accepted",
        "mapping spamassassin-mail, recognised",
        "72 rows rejected, 211 values",
        "missing time",
        "5,974",
    ):
        assert text in done.out
    assert_inert(done)


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
    assert {t["rule"] for t in done.json["tables"]} == {"mail.volume-vs-self", "mail.rate-vs-population"}
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
    assert 'Did you mean "mail.volume-vs-self"?' in unknown.err


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
        "threats.csv",
    }
    imported = tocsin("geo", "import", tmp_path / "s" / "geo.csv.gz", tmp_path / "geo.parquet")
    assert imported.code == 0
    assert "ranges" in imported.out
    assert tocsin("backtest", tmp_path / "s" / "events.parquet", "--geo", tmp_path / "geo.parquet").code == 0


def test_the_demo_shows_stories_and_fails_below_a_floor(
    tocsin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tocsin.runners import demo

    answer = demo.Answer("exe_spray", "mail.exe-many-recipients")
    result = demo.StoryResult(
        answer, planted=2, found=2, flagged=3, wrong=0, innocents=0, trapped=(), in_top=2, missed=()
    )
    traps = pl.DataFrame({"trap": ["newsletter"], "users": [1], "flagged": [0], "detections": [""]})
    report = demo.DemoReport(7, tmp_path, 100, 20, 1000, 3, 1.0, 2.0, (result,), traps)
    monkeypatch.setattr(demo, "run_demo", lambda *_: report)
    picture = tmp_path / "demo.svg"
    done = tocsin("demo", "--svg", picture)
    assert done.code == 0
    assert "100 % (100 %)" in done.out
    assert "ok" in done.out
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


# ---- exit codes


@pytest.mark.parametrize(
    "arguments",
    [
        ("backtst",),
        ("backtest",),
        ("backtest", "x", "--mapp", "y"),
        ("backtest", "x", "--top", "-1"),
        ("backtest", "x", "--out", "findings.xlsx"),
        ("backtest", "x", "--out", "no/such/folder/f.csv"),
        ("backtest", "x", "--since", "yesterday"),
        ("backtest", "x", "--gap", "2026-01-02..2026-01-01"),
        ("backtest", "x", "--gap", "2026-01-02"),
        ("backtest", "x", "--compare", "a.py", "b.py", "--rules", "c.py"),
        ("backtest", "x", "--compat", "book"),
        ("verify", "shipped", "x", "--rows", "0"),
        ("simulate", "folder", "--users", "0"),
        ("map", "init", "x", "--out", "m.json"),
        ("fit", "x"),
        ("geo", "import", "a.csv", "b.csv"),
    ],
    ids=" ".join,
)
def test_a_command_line_that_makes_no_sense_ends_with_2(
    tocsin, arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = tocsin(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("tocsin: ")
    assert "Traceback" not in done.err
    assert not list(tmp_path.iterdir()) or arguments[0] == "simulate"


def test_inputs_that_cannot_be_read_end_with_3_and_one_message(tocsin, simulated: Path, tmp_path: Path) -> None:
    events = simulated / "events.parquet"
    junk, broken = tmp_path / "junk.parquet", tmp_path / "broken.py"
    junk.write_bytes(b"PAR1 this is not parquet")
    broken.write_text("import nothing_of_that_name\n")
    for arguments in (
        ("backtest", simulated / "event.parquet"),
        ("backtest", junk),
        ("backtest", events, "--threats", tmp_path / "none.txt"),
        ("backtest", events, "--geo", tmp_path / "none.csv"),
        ("backtest", events, "--map", "postfx"),
        ("backtest", events, "--rules", broken),
        ("backtest", events, "--rules", tmp_path / "none.py"),
        ("rules", "check", tmp_path / "none.py"),
        ("describe", tmp_path),
    ):
        done = tocsin(*arguments)
        assert (done.code, done.out) == (3, ""), arguments
        assert done.err.startswith("tocsin: ")
        assert "Traceback" not in done.err
    assert 'Did you mean "events.parquet"?' in tocsin("backtest", simulated / "event.parquet").err


def test_strict_ends_with_1_and_shows_every_reason(tocsin, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "timestamp,user_id,src_ip\n2026-01-01T00:00:00Z,a,192.0.2.1\nsoon,b,192.0.2.1\n2026-01-01T00:00:00Z,c,300.1.1.1\n"
    )
    for command in (
        ("backtest", path),
        ("describe", path),
        ("fit", path, "--out", tmp_path / "t"),
        ("verify", "shipped", path),
    ):
        done = tocsin(*command, "--strict")
        assert (done.code, done.out) == (1, "")
        assert "not a time" in done.err
        assert "not an IP address" in done.err
    assert tocsin("backtest", path).code == 0


def test_an_error_of_our_own_ends_with_70_and_its_traceback_is_inert(tocsin, monkeypatch: pytest.MonkeyPatch) -> None:
    from tocsin.faces.commands import rules

    def break_down(_: object) -> None:
        raise ZeroDivisionError(ESCAPE)

    monkeypatch.setattr(rules, "load_detections", break_down)
    done = tocsin("rules", "list")
    assert done.code == 70
    assert "ZeroDivisionError: \\x1b[31mred" in done.err
    assert_inert(done)


def test_ctrl_c_ends_with_130_and_no_traceback() -> None:
    command = [sys.executable, "-m", "tocsin", "backtest", "-"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for _ in range(600):  # until it waits for its input, spooled to a file of its own
            if any("tocsin" in str(f.readlink()) for f in Path(f"/proc/{process.pid}/fd").iterdir() if f.exists()):
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "tocsin: interrupted\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    main = "import sys; from tocsin.faces.cli import main; sys.exit(main(['rules', 'list']))"
    shell = f'{sys.executable} -c "{main}" 2>err | head -c 5; echo ${{PIPESTATUS[0]}} $(cat err; rm err)'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] in {"0", "141"}, done.stdout
    assert "Traceback" not in done.stdout + done.stderr


# ---- what attackers write


@pytest.mark.parametrize("width", [60, 100, 200])
def test_nothing_an_attacker_wrote_reaches_the_terminal_raw(tocsin, hostile: Path, width: int) -> None:
    done = tocsin("backtest", hostile, width=width)
    assert done.code == 0
    assert "mail.exe-many-recipients" in done.out
    assert_inert(done)
    described = tocsin("describe", hostile, width=width)
    assert_inert(described)
    assert_inert(tocsin("describe", hostile, "--columns", "user_id", f"field {ESCAPE}", width=width))
    assert_inert(tocsin("map", "init", hostile, width=width))
    wide = tocsin("backtest", hostile, width=200).out
    for text in ("\\x1b[31mred", "\\u202e", "[bold red]markup[/]"):
        assert text in wide, "it is shown, spelt out, and is no markup"


def test_json_on_the_terminal_is_ascii(tocsin, hostile: Path) -> None:
    out = tocsin("backtest", hostile, "--json").out
    assert out.isascii()
    assert not any(has_unsafe(line) for line in out.splitlines())
    assert any(row["entity"] == HOSTILE[1] for row in json.loads(out)["top_entities"]), "and loses nothing"


def test_messages_are_inert_too(tocsin, tmp_path: Path) -> None:
    for arguments in (
        ("backtest", f"{tmp_path}/{ESCAPE}"),
        (f"{ESCAPE}",),
        ("rules", "show", OVERRIDE),
        ("backtest", "x", f"--{ESCAPE}"),
    ):
        done = tocsin(*arguments)
        assert done.code in {2, 3}
        assert_inert(done)


def test_no_cell_of_a_csv_starts_a_formula(tocsin, hostile: Path, tmp_path: Path) -> None:
    path = tmp_path / "findings.csv"
    assert tocsin("backtest", hostile, "--out", path).code == 0
    cells = pl.read_csv(path, infer_schema=False)
    assert f"'{HOSTILE[0]}" in cells["entity"].to_list()
    for column in cells.get_columns():
        for cell in column.drop_nulls():
            assert not cell.startswith(("=", "@", "\t", "\r")), cell
            assert not cell.startswith(("+", "-")) or cell.lstrip("+-").replace(".", "").isdigit(), cell


# ---- tables


@given(
    numbers=st.lists(st.lists(st.integers(0, 10**12), min_size=3, max_size=3), min_size=1, max_size=5),
    texts=st.lists(st.text(max_size=60), min_size=5, max_size=5),
    width=st.integers(45, 160),
)
def test_a_table_fits_its_width_and_never_cuts_a_number(numbers: list[list[int]], texts: list[str], width: int) -> None:
    rows = [{"a": a, "b": b, "c": c, "t": texts[i]} for i, (a, b, c) in enumerate(numbers)]
    columns = [Column("t", "text", least=8), numeric("a", "a"), numeric("b", "b", rank=1), numeric("c", "c", rank=2)]
    laid = lay_out(rows, columns, width)
    assert sum(one.width for one in laid) + terminal.GAP * (len(laid) - 1) <= width
    assert [one.column.key for one in laid] in (["t", "a", "b", "c"], ["t", "a", "b"], ["t", "a"])
    for one in laid:
        if one.column.least is None:
            assert one.width == max(cell_len(one.column.header), *(cell_len(cell) for cell in one.cells))
