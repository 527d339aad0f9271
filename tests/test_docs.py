"""Every example in the README and the docs runs, and prints what the page says it prints.

In a page, `python` blocks run in order in one namespace, in a folder of their own; a `text` block directly after one is
its output. In `console` blocks each line `$ tocsin ...` runs the command, and the lines below it are its output. An
ellipsis (...) stands for anything, and runs of spaces are one. Each page finds a log of its reader's own there:
`mail.jsonl.gz`, twenty mails.
"""

from __future__ import annotations

import contextlib
import doctest
import gzip
import io
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass
class Block:
    language: str
    text: str
    line: int
    follows: bool  # nothing but blank lines between the block before and this one


def blocks(page: str) -> list[Block]:
    found, end = [], -1
    for match in FENCE.finditer(page):
        follows = end >= 0 and not page[end : match.start()].strip()
        found.append(Block(match[1], match[2], page[: match.start()].count("\n") + 1, follows))
        end = match.end()
    return found


def differs(expected: str, printed: str) -> str:
    checker = doctest.OutputChecker()
    if checker.check_output(expected, printed, SAME):
        return ""
    return checker.output_difference(doctest.Example("", expected), printed, doctest.REPORT_NDIFF)


def run_python(block: Block, names: dict[str, object], page: str) -> str:
    # Empty lines before the code make a traceback name the page's own line.
    code = compile("\n" * block.line + block.text, page, "exec")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, names)
    return out.getvalue()


def run_console(block: Block, folder: Path, page: str) -> None:
    shell = {"NO_COLOR": "1", "COLUMNS": "110", "TERM": "dumb", "PYTHONUTF8": "1"}
    for command, expected in re.findall(r"^\$ (tocsin[^\n]*)\n((?:(?!\$ )[^\n]*\n)*)", block.text, re.MULTILINE):
        arguments = shlex.split(command, comments=True)[1:]
        exit_code = int(match[1]) if (match := re.search(r"# exit (\d+)", command)) else 0
        main = "import sys; from tocsin.faces.cli import main; sys.exit(main())"
        done = subprocess.run(
            [sys.executable, "-c", main, *arguments],
            cwd=folder, env=os.environ | shell, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == exit_code, f"{page}:{block.line}: {command}\n{done.stdout}{done.stderr}"
        if expected.strip():
            wrong = differs(expected, done.stdout)
            assert not wrong, f"{page}:{block.line}: {command}\n{wrong}"


def write_mail(folder: Path) -> None:
    rows = [
        {
            "event_id": f"m{i}",
            "timestamp": f"2026-03-{1 + i:02}T09:00:00Z",
            "kind": "mail",
            "user_id": "ada",
            "nr_recipients": i,
        }
        for i in range(20)
    ]
    with gzip.open(folder / "mail.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(CHECKOUT)))
def test_the_examples_of_this_page_run_and_print_what_it_says(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_mail(tmp_path)
    monkeypatch.setenv("POLARS_FMT_MAX_COLS", "12")
    page = str(path.relative_to(CHECKOUT))
    names: dict[str, object] = {"__name__": "__example__"}
    with mock.patch.dict(os.environ):  # a page may set variables for the commands it shows
        run_page(path, tmp_path, page, names)


def run_page(path: Path, folder: Path, page: str, names: dict[str, object]) -> None:
    printed: str | None = None
    for block in blocks(path.read_text(encoding="utf-8")):
        if block.language == "text" and block.follows and printed is not None:
            wrong = differs(block.text, printed)
            assert not wrong, f"{page}:{block.line}:\n{wrong}"
        printed = None
        if block.language == "python":
            printed = run_python(block, names, page)
        elif block.language in {"console", "bash", "sh"}:
            run_console(block, folder, page)


def test_blocks_are_found_with_their_language_and_whether_they_follow_each_other() -> None:
    page = "a\n```python\nprint(1)\n```\n\n```text\n1\n```\nword\n```text\n2\n```\n"
    found = [(b.language, b.text, b.line, b.follows) for b in blocks(page)]
    assert found == [("python", "print(1)\n", 2, False), ("text", "1\n", 6, True), ("text", "2\n", 10, False)]


def test_an_output_that_differs_is_told_and_an_ellipsis_stands_for_anything() -> None:
    assert not differs("1 ... 3\n", "1  2 3\n")
    assert "2" in differs("1\n", "2\n")


def test_every_page_of_the_docs_can_be_reached_from_the_readme() -> None:
    reached, todo = set(), [CHECKOUT / "README.md"]
    while todo:
        page = todo.pop()
        if page in reached:
            continue
        reached.add(page)
        for target in re.findall(r"\]\(([^)\s#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            linked = (page.parent / target).resolve()
            linked = linked / "README.md" if linked.is_dir() else linked
            if linked.suffix == ".md" and linked.exists():
                todo.append(linked)
    assert {p.relative_to(CHECKOUT) for p in PAGES} <= {p.relative_to(CHECKOUT) for p in reached}
