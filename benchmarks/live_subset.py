"""The common subset: what other stream processors can do as well, done by all on the same events, the answers compared.

Enters: the made data. Leaves: events a second of each contestant on Parquet and on JSONL, and that all found the same.
Layer: none (outside the package).

One rule needs no state (more than 10 recipients and an attached .exe), one counts mails a day for each user and compares with
a table of baselines (above 3 times), events may be an hour late. Each contestant first takes the first day (its run-in), whose
answers do not count; the clock then runs until all findings are in a SQLite database. Rivals live in an environment of their
own, made at first use; where that cannot be done they are left out by name.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from benchmarks.data import START_US, US_PER_DAY, Size
from benchmarks.data import make as make_data
from benchmarks.harness import medians
from benchmarks.live_process import run as run_engine
from benchmarks.live_process import settings_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness import Measurement

FULL = Size(events=1_033_000, users=2_000, days=31, ranges=1_000)
QUICK = Size(events=66_000, users=500, days=11, ranges=1_000)
FORMATS = ("parquet", "jsonl")
FILES = 10
PACKAGES = {"Spark": ("pyspark", "pyspark==4.*"), "Bytewax": ("bytewax", "bytewax==0.21.*")}
RIVALS = {
    "Spark": ("Spark", ["by_spark.py"]),
    "Bytewax, an item an event": ("Bytewax", ["by_bytewax.py", "events"]),
    "Bytewax, combined by Polars": ("Bytewax", ["by_bytewax.py", "combined"]),
}
"""By name: whose package it is, the script and how it is to run."""
BESIDE = ("polars", "pyarrow")
FIRST_DAY = START_US // US_PER_DAY + 1
TIMES = 3
Answers = dict[str, set[Any]]

RULES = """from pathlib import Path
import polars as pl
import tocsin as tc

MAIL = pl.col("kind") == "mail"
EXE = pl.col("attachments").list.eval(pl.element().str.to_lowercase().str.ends_with(".exe")).list.any()
BASELINE = tc.Table("baseline", pl.read_parquet({baseline!r}), ("user_id",), ("mean",))
DETECTIONS = (
    tc.Detection(
        id="subset.stateless", title="Many recipients and an .exe", severity="low", on=MAIL & EXE, entity="user_id",
        score=pl.col("nr_recipients").cast(pl.Float64), when=tc.score > 10,
    ),
    tc.Detection(
        id="subset.daily", title="Three times the baseline", severity="low", on=MAIL, entity="user_id",
        measure=tc.Count(per="1d"), against=BASELINE, score=tc.value / tc.ref.mean, when=tc.score > {times},
    ),
)
"""


def prepared(size: Size, folder: Path) -> tuple[Path, int]:
    """Return the folder of the inputs, and how many events are measured."""
    data = make_data(size, folder)
    target = data.folder / "subset"
    counted = pl.col("timestamp").dt.epoch("us") // US_PER_DAY >= FIRST_DAY
    events = pl.read_parquet(data.events)
    rest = events.filter(counted)
    if not target.exists():
        unfinished = target.with_suffix(".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        _write(unfinished, events.filter(~counted), rest)
        unfinished.rename(target)
    return target, rest.height


def _write(target: Path, run_in: pl.DataFrame, rest: pl.DataFrame) -> None:
    for form in FORMATS:
        for part, frame, files in (("run-in", run_in, 1), ("rest", rest, FILES)):
            (target / form / part).mkdir(parents=True)
            for n, piece in enumerate(frame.iter_slices(-(-frame.height // files))):
                path = target / form / part / f"{part}-{n:02}.{form}"
                piece.write_parquet(path) if form == "parquet" else piece.write_ndjson(path)
    with (target / "mail.jsonl").open("wb") as file:
        for frame in (run_in, rest):
            frame.write_ndjson(file)
    days = (rest["timestamp"].dt.epoch("us") // US_PER_DAY).n_unique()
    mails = rest.filter(pl.col("kind") == "mail").group_by("user_id").agg(mean=pl.len() / days)
    mails.sort("user_id").write_parquet(target / "baseline.parquet")


def batch_answer(target: Path) -> Answers:
    """Return the answer computed from all events at once."""
    mails = pl.scan_parquet(target / "parquet" / "rest" / "*.parquet").filter(pl.col("kind") == "mail")
    exe = pl.col("attachments").list.eval(pl.element().str.to_lowercase().str.ends_with(".exe")).list.any()
    stateless = mails.filter((pl.col("nr_recipients") > 10) & exe).select("event_id").collect()
    day = (pl.col("timestamp").dt.epoch("us") // US_PER_DAY).alias("day")
    counted = (
        mails.group_by("user_id", day).agg(n=pl.len()).join(pl.scan_parquet(target / "baseline.parquet"), on="user_id")
    )
    daily = counted.filter(pl.col("n") > TIMES * pl.col("mean")).select("user_id", "day").collect()
    return {"stateless": set(stateless["event_id"]), "daily": set(daily.rows())}


def by_tocsin(target: Path, form: str, folder: Path, run_in: int) -> tuple[Measurement, Answers]:
    """Run `tocsin run` on it; Parquet from a drop folder, JSONL from a file."""
    rules = folder / "rules.py"
    rules.write_text(RULES.format(baseline=str(target / "baseline.parquet"), times=TIMES), encoding="utf-8")
    source: dict[str, Any] = {"name": "mail", "kind": "file", "path": str(target / "mail.jsonl"), "follow": False}
    if form == "parquet":
        dropped = folder / "drop"
        dropped.mkdir()
        for n, path in enumerate(p for part in ("run-in", "rest") for p in sorted((target / form / part).iterdir())):
            os.link(path, dropped / path.name)
            os.utime(dropped / path.name, (1_700_000_000 + n,) * 2)
        source = {"name": "mail", "kind": "folder", "path": str(dropped), "settle_seconds": 0, "follow": False}
    ran = run_engine(settings_of(folder, source, rules={"files": [str(rules)]}), folder)
    found = ran.measured(run_in)
    with closing(sqlite3.connect(folder / "soc.db")) as log:
        stateless = {e for (e,) in log.execute("SELECT event_id FROM finding WHERE detection_id = 'subset.stateless'")}
        daily = log.execute("SELECT entity, window_start FROM finding WHERE detection_id = 'subset.daily'").fetchall()
    days = {(user, at // US_PER_DAY) for user, at in daily}
    measured = {"seconds": found["seconds"]["with the last snapshot"], "start_seconds": found["start_seconds"]}
    return measured | {"cpu_seconds": found["cpu_seconds"]}, {"stateless": stateless, "daily": days}


def by_rival(script: list[str], target: Path, form: str, folder: Path, _run_in: int) -> tuple[Measurement, Answers]:
    """Run a rival's script in its environment."""
    database = folder / "found.db"
    path = Path(__file__).parent / "rivals" / "streams" / script[0]
    done = subprocess.run(
        [str(_python()), str(path), *script[1:], form, str(target), str(database)],
        capture_output=True, text=True, check=False, cwd=folder, env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"{script[0]} failed:\n{done.stderr[-3000:]}")
    with closing(sqlite3.connect(database)) as log:
        stateless = {e for (e,) in log.execute("SELECT event_id FROM stateless")}
        daily = set(log.execute("SELECT user_id, day FROM daily").fetchall())
    return json.loads(done.stdout.splitlines()[-1]), {"stateless": stateless, "daily": daily}


def _environment() -> Path:
    return (Path(__file__).resolve().parent.parent / "build" / "rivals").absolute()


def _python() -> Path:
    return _environment() / "bin" / "python"


def install() -> dict[str, str]:
    """Make the rivals' environment where it is not there; return why one is left out, by name."""
    left_out = {}
    if not _python().exists():
        subprocess.run([sys.executable, "-m", "venv", str(_environment())], check=True)
    for name, (module, package) in PACKAGES.items():
        here = [str(_python()), "-c", f"import {module}, {', '.join(BESIDE)}"]
        if subprocess.run(here, capture_output=True, check=False).returncode == 0:
            continue
        done = subprocess.run(
            [str(_python()), "-m", "pip", "install", "-q", package, *BESIDE],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            left_out[name] = f"{package} could not be installed: {done.stderr.strip().splitlines()[-1][:200]}"
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        left_out["Spark"] = "there is no Java"
    return left_out


def versions() -> dict[str, str]:
    """Return the rivals' versions."""
    code = (
        "import importlib.metadata as m, json\n"
        "print(json.dumps({d.name: d.version for d in m.distributions() if d.name in ('pyspark', 'bytewax')}))"
    )
    done = subprocess.run([str(_python()), "-c", code], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def run(size: Size, folder: Path, runs: int) -> dict[str, Any]:
    """Measure every contestant on both formats, `runs` times in turn, and compare each answer with that of the batch."""
    target, events = prepared(size, folder.resolve())
    run_in = size.events - events
    expected = batch_answer(target)
    assert all(expected.values()), "an answer of nothing proves nothing"
    left_out = install()
    contestants: dict[str, Callable[..., tuple[Measurement, Answers]]] = {"tocsin": by_tocsin}
    contestants |= {name: partial(by_rival, script) for name, (of, script) in RIVALS.items() if of not in left_out}
    measured: dict[str, list[Measurement]] = {}
    for _ in range(runs):
        for form in FORMATS:
            for name, contestant in contestants.items():
                one = _once(contestant, target, form, folder.resolve() / "live-subset", run_in, expected)
                one |= {"events_per_second": events / one["seconds"], "load": os.getloadavg()[0]}
                measured.setdefault(f"{name}, {form}", []).append(one)
                print(f"  {name}, {form}: {one['events_per_second']:,.0f} events/s, load {one['load']:.1f}", flush=True)
    rows = {name: len(keys) for name, keys in expected.items()}
    found = {name: medians(each) for name, each in measured.items()}
    return {"events": events, "users": size.users, "days": size.days - 1, "rows": rows, "runs": runs, "contestants": found,
            "left_out": left_out, "versions": versions()}  # fmt: skip


def _once(
    contestant: Callable[..., tuple[Measurement, Answers]],
    target: Path,
    form: str,
    folder: Path,
    run_in: int,
    expected: Answers,
) -> Measurement:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.sync()
    measured, answer = contestant(target, form, folder, run_in)
    answer = counted(answer, target)
    for name, keys in expected.items():
        if answer[name] != keys:
            raise AssertionError(
                f"{name}: {len(answer[name] - keys)} keys too many, {len(keys - answer[name])} missing"
            )
    shutil.rmtree(folder)
    return measured


def counted(answer: Answers, target: Path) -> Answers:
    """Leave out what is of the run-in."""
    run_in = pl.read_parquet(target / "parquet" / "run-in" / "*.parquet", columns=["event_id"])["event_id"]
    return {
        "stateless": answer["stateless"] - set(run_in),
        "daily": {(u, d) for u, d in answer["daily"] if d >= FIRST_DAY},
    }
