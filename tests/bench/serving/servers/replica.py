"""A replica's path (protocol, batcher, spool) in a plain process: no Ray, no Kafka.

Usage: replica.py MODEL.onnx PORT. For fast work on the path, and for what capture costs (SIGUSR2
switches it off, SIGUSR1 on again); the real stack is what the bench reports.
"""

import asyncio
import gc
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_onnx import signature_of
from driftloop_serving.batching.batcher import Batcher
from driftloop_serving.batching.model_table import ModelTable, reload
from driftloop_serving.capture.spool import SPARE, SpoolWriter
from driftloop_serving.capture.spool_record import PredictionBatch
from driftloop_serving.http.http_protocol import Ingress
from driftloop_settings import CaptureSettings


class NoMeter:
    def answered(self, *_: Any, **__: Any) -> None: ...

    failed = answered


class Nothing:
    """Keeps nothing: what serving would cost without capture."""

    def append(self, batches: Sequence[PredictionBatch]) -> bool:
        return True


def take_away(folder: Path) -> None:
    """What the shipper does with segments that Kafka has, without sending them: they are used
    again."""
    while True:
        *whole, _ = sorted(folder.glob("*.log"))
        for segment in whole:
            segment.replace(folder / SPARE)
        time.sleep(0.2)


async def main(folder: Path, port: int, scratch: Path) -> None:
    spool = SpoolWriter(scratch / "spool", "replica", CaptureSettings())
    threading.Thread(target=take_away, args=(spool.folder,), daemon=True).start()
    batcher = Batcher(spool, NoMeter(), in_flight_limit=1024)
    for number, kept in ((signal.SIGUSR1, spool), (signal.SIGUSR2, Nothing())):
        asyncio.get_running_loop().add_signal_handler(number, setattr, batcher, "_spool", kept)
    served = ServedVersion(1, str(folder), signature_of(folder))
    wanted = [Deployment(ModelSpec("m"), (served,), TrafficSplit(1))]
    batcher.table = reload(ModelTable(), wanted)
    ingress = Ingress(batcher, body_limit_bytes=1 << 20, timeout_s=30.0)
    gc.collect()
    gc.freeze()
    config = uvicorn.Config(
        no_application,
        host="127.0.0.1",
        port=port,
        http=ingress.protocol(),
        ws="none",
        access_log=False,
        log_level="error",
        lifespan="off",
    )
    await uvicorn.Server(config).serve()


async def no_application(*_: Any) -> None: ...


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="driftloop-bench-") as scratch:
        uvloop.run(main(Path(sys.argv[1]).parent, int(sys.argv[2]), Path(scratch)))
