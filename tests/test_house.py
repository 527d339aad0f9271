"""The rules of the house that no linter knows: docstrings that name a layer, file sizes, words that do not belong."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
SOURCE = CHECKOUT / "src" / "tocsin"
MODULES = sorted(SOURCE.rglob("*.py"))
LONGEST_FILE_LINES = 400
LONGEST_TEST_LINES = 600
# Paths of one machine, and the small change of drafts; spelt with a gap so that this file passes its own test.
SPELT = ("/wo~rk/", "/tmp/~team", "/tmp/~boot", "/ho~me/", "/ro~ot/", "TO~DO", "FIX~ME", "<<<<~<<<")
FORBIDDEN = [word.replace("~", "") for word in SPELT]


def tracked_files() -> list[Path]:
    """Every file that is, or is about to be, part of the project."""
    try:
        names = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=CHECKOUT,
            capture_output=True,
            check=True,
            text=True,
        ).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        folders = ("src", "tests", "docs", "benchmarks", "tools", ".ci")
        names = [str(p.relative_to(CHECKOUT)) for folder in folders for p in (CHECKOUT / folder).rglob("*")]
        names += ["README.md", "CHANGELOG.md", "Makefile", "pyproject.toml"]
    return [CHECKOUT / name for name in names if name and (CHECKOUT / name).is_file() and "__pycache__" not in name]


def texts() -> list[tuple[str, str]]:
    found = []
    for path in tracked_files():
        if path.suffix in {".py", ".md", ".toml", ".txt", ".yml", ".yaml", ".sh", ""} and path.name not in {
            "uv.lock",
            "LICENSE",
        }:
            try:
                found.append((str(path.relative_to(CHECKOUT)), path.read_text(encoding="utf-8")))
            except UnicodeDecodeError:
                continue
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_each_module_says_in_its_docstring_which_layer_it_belongs_to(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert docstring, f"{path.name} has no docstring"
    assert re.search(r"\blayers?\b", docstring, re.IGNORECASE), f"{path.name}: the docstring does not name its layer"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_each_module_is_short_enough_to_be_read_in_one_sitting(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST_FILE_LINES, f"{path.name} has {lines} lines: is it one room, or two?"


def test_tests_and_benchmarks_stay_readable_too() -> None:
    long = {
        str(path.relative_to(CHECKOUT)): lines
        for folder in ("tests", "benchmarks", "tools")
        for path in (CHECKOUT / folder).rglob("*.py")
        if (lines := path.read_text(encoding="utf-8").count("\n")) > LONGEST_TEST_LINES
    }
    assert not long


def test_no_file_speaks_of_one_machine_or_of_unfinished_work() -> None:
    hits = [(name, word) for name, text in texts() for word in FORBIDDEN if word in text]
    assert not hits


def test_markdown_links_to_files_lead_somewhere() -> None:
    broken = []
    for name, text in texts():
        if not name.endswith(".md"):
            continue
        for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text):
            if "://" in target or target.startswith("mailto:"):
                continue
            if not ((CHECKOUT / name).parent / target).exists():
                broken.append((name, target))
    assert not broken


def test_importing_tocsin_loads_no_heavy_or_optional_package() -> None:
    heavy = ["plotly", "starlette", "pyspark", "IPython", "pandas", "duckdb", "matplotlib", "cyclopts"]
    code = f"import sys, tocsin; print([m for m in {heavy!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert out.stdout.strip() == "[]"


def test_the_lock_file_names_the_public_index_only() -> None:
    lock = tomllib.loads((CHECKOUT / "uv.lock").read_text(encoding="utf-8"))
    sources = {url for package in lock["package"] for url in package["source"].values()}
    assert sources <= {"https://pypi.org/simple", "."}


def test_every_make_target_is_described_in_help() -> None:
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    described = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    assert set(phony[1].split()) == described


CONFTEST_CASES = [({}, {"passed": 1, "skipped": 1}), ({"CI": "1"}, {"passed": 1, "skipped": 0, "errors": 1})]


@pytest.mark.parametrize(
    ("env", "outcome"), CONFTEST_CASES, ids=["locally it is skipped and named", "under CI=1 it fails"]
)
def test_a_missing_component(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    env: dict[str, str],
    outcome: dict[str, int],
) -> None:
    monkeypatch.delenv("CI", raising=False)
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    conftest = (CHECKOUT / "tests" / "conftest.py").read_text(encoding="utf-8")
    pytester.makeconftest(conftest + "\nCOMPONENTS['unicorn'] = lambda: 'none was ever seen'\n")
    pytester.makeini("[pytest]\nmarkers = needs(*components): x\n")
    pytester.makepyfile(
        "import pytest\n@pytest.mark.needs('unicorn')\ndef test_horn(): ...\n"
        "@pytest.mark.needs('git')\ndef test_plain(): ...\n"
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(**outcome)
    result.stdout.fnmatch_lines(["*none was ever seen*"])
    if not env:
        result.stdout.fnmatch_lines(["*not run on this machine*"])
