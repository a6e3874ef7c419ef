"""Evidently's HTML reports of alerts, one at a time, each in a process of low priority.

The queue consists of the alerts without a report, so after a crash a missing report is created
again.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from driftloop_artifacts import IN_PLACE, Artifacts
from driftloop_contracts.events import INPUT_PREFIX, OUTPUT_PREFIX
from driftloop_contracts.model import ModelSpec
from driftloop_lake.port import LakeReader, Pin
from driftloop_monitoring.state.reference import Reference, judged
from driftloop_store.store import Store

log = structlog.get_logger()

SAMPLE_ROWS = 5_000
MAX_TRIES = 3
NEWEST_ALERTS = 5
"""Older alerts get no report."""


@dataclass
class ReportWriter:
    """Writes reports into `folder`. Call `poll` regularly; `close` ends the report in progress."""

    folder: Path
    artifacts: Artifacts = IN_PLACE
    _process: subprocess.Popen[bytes] | None = None
    _alert_id: str = ""

    def __post_init__(self) -> None:
        self._tries: dict[str, int] = {}

    @property
    def busy(self) -> bool:
        return self._process is not None

    def path(self, alert_id: str) -> Path:
        return self.folder / f"{alert_id}.html"

    def wanted(self, alert_id: str) -> bool:
        return not self.busy and self._tries.get(alert_id, 0) < MAX_TRIES

    def start(self, alert_id: str, reference: pa.Table, current: pa.Table) -> None:
        """Compare samples of both tables; the report is written to `path(alert_id)`."""
        self._tries[alert_id] = self._tries.get(alert_id, 0) + 1
        self.folder.mkdir(parents=True, exist_ok=True)
        files = [self.folder / f".{alert_id}.{part}.parquet" for part in ("reference", "current")]
        for file, table in zip(files, (reference, current), strict=True):
            pq.write_table(_sample(table), file)
        module = "driftloop_monitoring.statistics.evidently_adapter"
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, files), str(self.path(alert_id))],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._alert_id = alert_id
        log.info("monitor.report_started", alert_id=alert_id, rows=current.num_rows)

    def poll(self) -> None:
        """Check whether the process has ended."""
        if self._process is None or self._process.poll() is None:
            return
        _, stderr = self._process.communicate()
        if self._process.returncode:
            last = stderr.decode(errors="replace").strip().splitlines()[-1:]
            log.warning("monitor.report_failed", alert_id=self._alert_id, error=" ".join(last))
        self._process = None
        self._clean()

    def wait(self, timeout_s: float) -> None:
        """Wait until the report in progress has ended. Raises subprocess.TimeoutExpired."""
        if self._process is not None:
            self._process.wait(timeout_s)

    def close(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.communicate()
            self._process = None
            self._clean()

    def _clean(self) -> None:
        for file in self.folder.glob(f".{self._alert_id}.*.parquet"):
            file.unlink(missing_ok=True)


def attach_reports(
    writer: ReportWriter,
    store: Store,
    lake: LakeReader,
    spec: ModelSpec,
    reference: Callable[[], Reference | None],
    version: int,
    pin: Pin,
) -> None:
    """Attach finished reports to the version's alerts, and start the next one."""
    writer.poll()
    for alert in store.alerts(spec.name, NEWEST_ALERTS):
        if alert.report or alert.version != version:
            continue
        path = writer.path(alert.id)
        if path.is_file():
            writer.artifacts.keep(f"reports/{path.name}", path)
            store.change_alert(alert.id, partial(replace, report=str(path)))
        elif writer.wanted(alert.id) and (known := reference()) is not None:
            current = lake.labelled(
                spec.name,
                pin,
                since=alert.change_at,
                versions=(version,),
                newest=SAMPLE_ROWS,
                only_labelled=False,
            )
            writer.start(alert.id, judged(spec, known.table), judged(spec, current))


def _sample(table: pa.Table) -> pa.Table:
    """Return at most SAMPLE_ROWS rows, evenly spread, of the plain input and output columns."""
    step = max(1, -(-table.num_rows // SAMPLE_ROWS))
    names = [
        n
        for n in table.column_names
        if n.startswith((INPUT_PREFIX, OUTPUT_PREFIX))
        and not pa.types.is_list(table.schema.field(n).type)
    ]
    return table.select(names).take(pa.array(range(0, table.num_rows, step)))
