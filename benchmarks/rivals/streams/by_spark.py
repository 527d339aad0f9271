"""Spark Structured Streaming, local[2]: its own window with a watermark, a join with the baselines, findings into SQLite.

Enters: a format, the folder of the inputs, a database. Leaves: one JSON line. Layer: none (outside the package).

The alerts are written by foreachBatch with their keys as primary keys, so that a batch that comes again changes nothing.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

os.environ["PYSPARK_PYTHON"] = sys.executable
SCHEMA = (
    "event_id STRING, timestamp TIMESTAMP, kind STRING, user_id STRING, src_ip STRING, dst_ip STRING, nr_recipients BIGINT,"
    " attachments ARRAY<STRING>, nr_attachments BIGINT"
)


def main(form: str, folder: Path, database: Path) -> dict[str, Any]:
    """Run over the run-in first, as one stream, and over the rest as another."""
    began = time.monotonic()
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "4g")
        .config("spark.log.level", "ERROR")
        .getOrCreate()
    )
    baseline = spark.read.parquet(str(folder / "baseline.parquet"))
    with sqlite3.connect(database) as log:
        log.execute("PRAGMA journal_mode = WAL")
        log.execute("CREATE TABLE stateless (event_id TEXT PRIMARY KEY)")
        log.execute("CREATE TABLE daily (user_id TEXT, day INTEGER, n INTEGER, PRIMARY KEY (user_id, day))")
    _run(spark, form, folder / form / "run-in", baseline, database)
    started, cpu = time.monotonic(), _cpu_seconds(spark)
    _run(spark, form, folder / form / "rest", baseline, database)
    done, cpu = time.monotonic(), _cpu_seconds(spark) - cpu
    spark.stop()
    return {"seconds": done - started, "start_seconds": started - began, "cpu_seconds": cpu}


def _cpu_seconds(spark: SparkSession) -> float:
    """Return the CPU seconds of this process and of its Java machine."""
    java = spark.sparkContext._jvm.java.lang.ProcessHandle.current().pid()  # noqa: SLF001 - there is no other way in
    fields = Path(f"/proc/{java}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return time.process_time() + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _run(spark: SparkSession, form: str, path: Path, baseline: DataFrame, database: Path) -> None:
    def events() -> DataFrame:
        stream = spark.readStream.schema(SCHEMA).option("maxFilesPerTrigger", 1)
        return getattr(stream, {"jsonl": "json"}.get(form, form))(str(path)).where("kind = 'mail'")

    exe = f.exists("attachments", lambda name: f.lower(name).endswith(".exe"))
    stateless = events().where((f.col("nr_recipients") > 10) & exe).select("event_id")
    daily = (
        events()
        .withWatermark("timestamp", "1 hour")
        .groupBy(f.window("timestamp", "1 day"), "user_id")
        .agg(f.count("*").alias("n"))
        .join(f.broadcast(baseline), "user_id")
        .where("n > 3 * mean")
        .select("user_id", (f.col("window.start").cast("long") / 86400).cast("long").alias("day"), "n")
    )
    with tempfile.TemporaryDirectory(dir=database.parent) as checkpoints:
        started = [
            frame.writeStream.outputMode(mode)
            .option("checkpointLocation", f"{checkpoints}/{name}")
            .foreachBatch(_writer(database, statement))
            .trigger(availableNow=True)
            .start()
            for name, frame, mode, statement in (
                ("stateless", stateless, "append", "INSERT OR REPLACE INTO stateless VALUES (?)"),
                ("daily", daily, "update", "INSERT OR REPLACE INTO daily VALUES (?, ?, ?)"),
            )
        ]
        for query in started:
            query.awaitTermination()


def _writer(database: Path, statement: str) -> Any:
    def write(frame: DataFrame, _batch: int) -> None:
        rows = [tuple(row) for row in frame.collect()]
        with sqlite3.connect(database, timeout=60) as log:
            log.executemany(statement, rows)

    return write


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
