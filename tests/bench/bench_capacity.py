"""What a million predictions cost the replica's spool and the shipper, and how large they are on
their way: `python tests/bench/bench_capacity.py [ROWS]`, some seconds, no service.

Rows have 20 random float32 inputs (which hardly compress), one output, and an id of their own.
CPU is that of all threads of the process. See docs/guides/capacity.md.
"""

import resource
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bench_stream import MODEL, SIGNATURE, ids

from driftloop_bus.port import BATCH_BYTES
from driftloop_serving.capture.packing import pack, to_batch
from driftloop_serving.capture.spool import SpoolWriter
from driftloop_serving.capture.spool_record import PredictionBatch
from driftloop_settings import CaptureSettings

PACK_ROWS, LIMIT_BYTES = 5_000, 1 << 20
ZSTD = pa.Codec("zstd")
ROWS = 100_000


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def batches(rows: int, size: int, rng: np.random.Generator) -> list[PredictionBatch]:
    """Of so many one-row requests each."""
    made = []
    for number in range(rows // size):
        inputs = {t.name: rng.normal(size=(size, 1)).astype(np.float32) for t in SIGNATURE.inputs}
        outputs = {"score": rng.normal(size=size).astype(np.float32)}
        times = np.full(size, 1_800_000_000_000 + number)
        made.append(
            PredictionBatch(
                MODEL, 1, "stable", ids(times, rng).to_pylist(), [0.001] * size, [1] * size,
                SIGNATURE, inputs, outputs,
            )
        )  # fmt: skip
    return made


def measure(rows: int, size: int) -> None:
    made, folder = batches(rows, size, np.random.default_rng(6)), Path(tempfile.mkdtemp())
    try:
        spool = SpoolWriter(folder, "r", CaptureSettings(quota_bytes=8 << 30))
        begun = cpu_s()
        for batch in made:
            spool.append([batch])
        spooled_s = cpu_s() - begun
        spool.close()
        spooled = sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())
        begun = cpu_s()
        sent = [value or b"" for _, value in pack(made, "r", PACK_ROWS, LIMIT_BYTES)]
        packed_s = cpu_s() - begun
        joined, most = b"".join(sent), BATCH_BYTES  # as the producer compresses them
        compressed = sum(
            len(ZSTD.compress(joined[at : at + most], asbytes=True))
            for at in range(0, len(joined), most)
        )
        table = pa.Table.from_batches([to_batch(made, "r")])
        pq.write_table(table, folder / "rows.parquet", compression="zstd")
        stored = (folder / "rows.parquet").stat().st_size
    finally:
        shutil.rmtree(folder)
    print(
        f"{size:3} in a batch, a million rows: spool {1e6 * spooled_s / rows:.1f} s of CPU and "
        f"{spooled / rows:.0f} MB; packing {1e6 * packed_s / rows:.1f} s and "
        f"{compressed / rows:.0f} MB in Kafka; {stored / rows:.0f} MB as Parquet"
    )


def main(arguments: list[str]) -> None:
    rows = int(arguments[0]) if arguments else ROWS
    for size in (1, 16, 64):
        measure(rows, size)


if __name__ == "__main__":
    main(sys.argv[1:])
