"""What a training on a million rows with 20 columns takes of memory at its peak (wanted: 2 GB).

    python tests/bench/bench_memory.py [--rows 1000000] [--budget 0] [--family gradient-boosting]

The rows (3 columns of texts, 5 of whole numbers, 12 of numbers with missing values) are a parquet
file; `driftloop train` reads, checks, splits, searches, exports and judges them in a process whose
peak is measured. --budget: seconds of a search; the recipes' own parameters are tried in any case.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

WANTED_GB = 2.0
CHUNK = 100_000


def chunk(number: int) -> pa.Table:
    dice = np.random.default_rng(number)
    columns: dict[str, pa.Array] = {}
    score = dice.normal(size=CHUNK)
    for at in range(12):
        values = dice.normal(size=CHUNK).astype(np.float32)
        score += values * (0.5 if at < 6 else 0.0)
        values[dice.random(CHUNK) < 0.03] = np.nan
        columns[f"number_{at}"] = pa.array(values)
    for at in range(5):
        columns[f"count_{at}"] = pa.array(dice.integers(0, 50, CHUNK))
    for at, kinds in enumerate((5, 50, 2_000)):
        codes = dice.integers(0, kinds, CHUNK)
        score += (codes % 5 == 0) * 0.5
        columns[f"text_{at}"] = pa.array([f"kind {code}" for code in codes])
    columns["bought"] = pa.array((score > 0.3).astype(np.int64))
    return pa.table(columns)


def write(path: Path, rows: int) -> None:
    with pq.ParquetWriter(path, chunk(0).schema) as writer:
        for number in range(-(-rows // CHUNK)):
            writer.write_table(chunk(number).slice(0, rows - number * CHUNK))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--budget", type=float, default=0.0)
    parser.add_argument("--family", action="append")
    asked = parser.parse_args()
    families = asked.family or ["gradient-boosting", "tabular-network"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.parquet"
        write(file, asked.rows)
        words = ["train", str(file), "--name", "bench", "--label", "bought"]
        words += ["--output", f"{folder}/out", "--set", f"retrain.budget_s={asked.budget}"]
        words += [word for family in families for word in ("--family", family)]
        begun = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "driftloop_cli", *words, "--state-dir", f"{folder}/state"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds = time.monotonic() - begun
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = used.ru_maxrss * 1024 / 1e9
    print("| rows | families | peak GB (wanted) | CPU s | s |\n|---|---|---|---|---|")
    print(
        f"| {asked.rows:,} | {', '.join(families)} | {peak:.2f} ({WANTED_GB:g}) | "
        f"{used.ru_utime + used.ru_stime:.0f} | {seconds:.0f} |"
    )


if __name__ == "__main__":
    main()
