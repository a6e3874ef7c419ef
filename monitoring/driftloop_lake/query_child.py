"""The process of one query (`bounded_query`). An order as a line of JSON in, a reply out."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from driftloop_contracts.errors import DriftloopError
from driftloop_lake.views import Resources, open_views

NICE = 10


def answer(order: dict[str, Any]) -> dict[str, Any]:
    """Write the first rows to the file `answer`. Raises DriftloopError."""
    half = f"{order['memory_mb'] // 2}MiB"  # the rest is for what reads files and hands out rows
    views = open_views(
        order["lake"],
        order["model"],
        output=order["output"],
        resources=Resources(half, f"{order['disk_mb']}MiB"),
    )
    found = views.ask(order["sql"], order["seconds"])
    rows, size, more = 0, 0, False
    schema = pa.schema(
        [field.with_name(name) for field, name in zip(found.schema, found.columns, strict=True)]
    )
    with (
        pa.OSFile(order["answer"], "wb") as sink,
        pa.ipc.new_stream(sink, schema) as writer,
    ):
        for batch in found:
            kept = batch.slice(0, order["rows"] - rows)
            size += kept.nbytes
            if size > order["bytes"]:
                more = True
                break
            writer.write_batch(kept)
            rows += kept.num_rows
            more = kept.num_rows < batch.num_rows
            if more:
                break
    found.close()
    return {"more": more, "predictions": views.version.predictions, "labels": views.version.labels}


def main() -> None:
    os.nice(NICE)
    order = json.loads(sys.stdin.readline())
    os.chdir(Path(order["answer"]).parent)  # DuckDB keeps here what does not fit in memory
    try:
        reply = answer(order)
    except DriftloopError as error:
        reply = {"error": type(error).__name__, "sentence": str(error)}
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()
