"""The live reference of a version, which outlives restarts and releases."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from driftloop_contracts.model import ModelSpec, ServedVersion
from driftloop_contracts.signature import Signature
from driftloop_monitoring.state import reference

SPEC = ModelSpec("plain")
SERVED = ServedVersion(1, "/nowhere/v1", Signature((), ()))


def test_a_kept_reference_is_loaded_again(tmp_path: Path) -> None:
    live = reference.live_file(tmp_path, "plain", 1)
    assert reference.load(SPEC, SERVED, live) is None
    reference.keep(pa.table({"in_amount": [1.0, 2.0]}), live)
    loaded = reference.load(SPEC, SERVED, live)
    assert loaded is not None
    assert (loaded.rows, loaded.live) == (2, True)


def test_a_reference_of_an_earlier_release_has_todays_names(tmp_path: Path) -> None:
    live = tmp_path / "plain-1.parquet"
    at = pa.array([datetime(2026, 11, 1, tzinfo=UTC)], pa.timestamp("us", tz="UTC"))
    pq.write_table(pa.table({"at": at, "in_amount": [1.0]}), live)
    loaded = reference.load(SPEC, SERVED, live)
    assert loaded is not None
    assert loaded.table.column_names == ["predicted_at", "in_amount"]
