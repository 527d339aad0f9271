"""Break the code in named ways, and require a named test to notice: `make mutants`.

Enters: the table in `tools/mutations.py`. Leaves: one line a mutation, and exit code 1 if a break went unnoticed,
a test fails without it, or a mutation no longer applies. Each runs on a copy of the tree; the checkout is not touched.
Layer: none (outside the package).

    python -m tools.mutants             all of them
    python -m tools.mutants --list      their names
    python -m tools.mutants NAME ...    those whose name contains one of the words
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
COPIED = ("src", "tests", "benchmarks", "tools", "docs", "README.md", "pyproject.toml")
TIMEOUT_SECONDS = 600
CLEAN_CACHE, MUTANT_CACHE = ".numba", ".numba-mutant"
# pytest's exit codes: 0 passed, 1 a test failed; 2 and above say that the tests were not run as asked.
PASSED, FAILED = 0, 1


@dataclass(frozen=True)
class Mutation:
    """One way to break the code: in `file`, `old` becomes `new`; then `test` must fail.

    `old` must occur exactly once, so that a mutation says precisely what it breaks. A mutation whose `old` is gone is
    stale, which is an error: the code moved on, and the guard it tested may have gone with it.
    """

    name: str
    file: str
    old: str
    new: str
    test: str


class StaleError(Exception):
    """A mutation's text is not (or not exactly once) in its file."""


def mutated(mutation: Mutation, text: str) -> str:
    """Return the text with the mutation applied, or raise StaleError.

    >>> mutated(Mutation("m", "f.py", "a < b", "a <= b", "t"), "if a < b: pass")
    'if a <= b: pass'
    """
    found = text.count(mutation.old)
    if found != 1:
        raise StaleError(
            f"{mutation.name}: its text occurs {found} times in {mutation.file}, not once: {mutation.old!r}"
        )
    return text.replace(mutation.old, mutation.new)


def copy_tree(target: Path) -> None:
    """Copy what the tests need; caches of compiled code stay behind."""
    for name in COPIED:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
        elif source.exists():
            shutil.copy2(source, target / name)


def run_tests(tree: Path, tests: list[str], cache: str = CLEAN_CACHE) -> tuple[int, str]:
    """Run the named tests in the tree, compiled code kept in `cache`; return (exit code, the output's end)."""
    env = os.environ | {
        "PYTHONPATH": str(tree / "src"),  # before the editable install of the checkout
        "PYTHONDONTWRITEBYTECODE": "1",
        "NUMBA_CACHE_DIR": str(tree / cache),
        "TOCSIN_KAFKA_JARS": str(CHECKOUT / "build" / "kafka"),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(tree / ".hypothesis"),
        "CI": "",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header", *tests]
    try:
        done = subprocess.run(
            command, cwd=tree, env=env, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return FAILED, f"still running after {TIMEOUT_SECONDS} s (a mutant that hangs is noticed)"
    return done.returncode, (done.stdout + done.stderr)[-2000:]


def check_unmutated(tree: Path, mutations: list[Mutation]) -> list[str]:
    """Run each named test once on the code as it is: a test that fails anyway proves nothing."""
    tests = sorted({m.test for m in mutations})
    code, output = run_tests(tree, tests)
    if code == PASSED:
        return []
    return [f"the named tests do not pass without a mutation:\n{output}"]


def dependents(tree: Path, file: str) -> set[str]:
    """Return the modules that import this file, directly or through others, itself included."""
    names = {path: module_name(path.relative_to(tree)) for path in (tree / "src").rglob("*.py")}
    texts = {name: path.read_text(encoding="utf-8") for path, name in names.items()}
    found, fresh = set(), {module_name(Path(file))}
    while fresh:
        found |= fresh
        fresh = {n for n, text in texts.items() for f in found if f"from {f} import" in text} - found
    return found


def module_name(path: Path) -> str:
    """Return the dotted name of a source file.

    >>> module_name(Path("src/tocsin/kernels/windows.py"))
    'tocsin.kernels.windows'
    """
    return ".".join(path.with_suffix("").parts[1:]).removesuffix(".__init__")


def cache_for(tree: Path, mutation: Mutation) -> str:
    """Return the folder of compiled code that a mutant may use.

    Compiled functions are inlined across files, while numba's cache looks only at the file a function stands in. So a
    mutant gets a copy of the clean cache without whatever its file, or a file that imports it, has compiled.
    """
    shutil.rmtree(tree / MUTANT_CACHE, ignore_errors=True)
    if (tree / CLEAN_CACHE).exists():
        shutil.copytree(tree / CLEAN_CACHE, tree / MUTANT_CACHE)
    stale = {name.rpartition(".")[2] for name in dependents(tree, mutation.file)}
    for path in (tree / MUTANT_CACHE).rglob("*.nb?"):
        if path.name.partition(".")[0] in stale:
            path.unlink()
    return MUTANT_CACHE


def check(tree: Path, mutation: Mutation) -> str:
    """Apply one mutation to the tree, run its test, put the file back; return what is wrong, or ''."""
    path = tree / mutation.file
    if not path.exists():
        return f"stale: {mutation.name}: there is no file {mutation.file}"
    original, stat = path.read_text(encoding="utf-8"), path.stat()
    try:
        path.write_text(mutated(mutation, original), encoding="utf-8")
        code, output = run_tests(tree, [mutation.test], cache_for(tree, mutation))
    except StaleError as error:
        return f"stale: {error}"
    finally:
        path.write_text(original, encoding="utf-8")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    if code == FAILED:
        return ""
    if code == PASSED:
        return f"survived: {mutation.name}: {mutation.test} passes although {mutation.old!r} became {mutation.new!r}"
    return f"not run: {mutation.name}: pytest ended with {code}:\n{output}"


def run(mutations: list[Mutation]) -> list[str]:
    """Check all mutations on one copy of the tree, saying each as it is done; return the problems."""
    with tempfile.TemporaryDirectory(prefix="tocsin-mutants-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        problems = check_unmutated(tree, mutations)
        if problems:
            return problems
        for number, mutation in enumerate(mutations, 1):
            started = time.monotonic()
            problem = check(tree, mutation)
            verdict = problem.split(":")[0] if problem else "caught"
            print(
                f"[{number}/{len(mutations)}] {verdict:8} {mutation.name} ({time.monotonic() - started:.1f} s)",
                flush=True,
            )
            if problem:
                problems.append(problem)
        return problems


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    from tools.mutations import MUTATIONS

    parser = argparse.ArgumentParser(
        prog="mutants", description="Each named break of the code must fail its named test."
    )
    parser.add_argument("words", nargs="*", help="run only the mutations whose name contains one of these")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    options = parser.parse_args(arguments)
    chosen = [m for m in MUTATIONS if not options.words or any(word in m.name for word in options.words)]
    if options.list or not chosen:
        print("\n".join(f"{m.name:48} {m.file}" for m in MUTATIONS))
        return 0 if options.list else 2
    problems = run(chosen)
    print("\n".join(problems), file=sys.stderr)
    print(f"{len(chosen) - len(problems)} of {len(chosen)} mutations were caught")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
