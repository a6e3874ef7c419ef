"""Evidently's page of an alert, which holds names of columns and values of others."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from driftloop_monitoring.statistics.evidently_adapter import write_report

ATTACK = "</script><script>alert(1)</script>"


@pytest.mark.timeout(300)
def test_names_and_values_of_others_end_no_script(tmp_path: Path) -> None:
    rows = pa.table({f"in_{ATTACK}": [0.1, 0.2, 0.3] * 40, "in_c": [ATTACK, "b", None] * 40})
    path = tmp_path / "rows.parquet"
    pq.write_table(rows, path)
    write_report(path, path, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert ATTACK not in page
    assert "\\u003c/script>" in page
