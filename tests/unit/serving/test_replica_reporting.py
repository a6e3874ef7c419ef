"""The reports of a replica while the store is unavailable."""

import asyncio
import threading

from driftloop_serving.replicas.reporting import Reporting
from driftloop_store import StoreAway


class Reports:
    """Collects the reports that arrive. `back`: set when the store answers."""

    def __init__(self) -> None:
        self.back = threading.Event()
        self.arrived: list[str] = []
        self.last_arrived = threading.Event()

    def write(self, report: str) -> None:
        if not self.back.is_set():
            raise StoreAway("not in this test")
        self.arrived.append(report)
        self.last_arrived.set()


async def test_a_report_is_written_at_once() -> None:
    reports, reporting = Reports(), Reporting(retry_s=0.01)
    reports.back.set()
    await reporting.write(lambda: reports.write("first"))
    await reporting.write(lambda: reports.write("second"))
    assert reports.arrived == ["first", "second"]


async def test_only_the_newest_report_is_written_when_the_store_is_back() -> None:
    reports, reporting = Reports(), Reporting(retry_s=0.01)
    await reporting.write(lambda: reports.write("first"))
    await reporting.write(lambda: reports.write("second"))
    assert reports.arrived == []
    reports.back.set()
    await asyncio.to_thread(reports.last_arrived.wait, 30)
    assert reports.arrived == ["second"]
