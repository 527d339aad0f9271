"""The command line ends with the code it documents, and nothing an attacker wrote acts on a terminal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from command_line import ESCAPE, HOSTILE, OVERRIDE, assert_inert
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tocsin.faces import terminal
from tocsin.faces.terminal import Column, lay_out, numeric
from tocsin.text import has_unsafe

pytest_plugins = ["cli_fixtures"]


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
