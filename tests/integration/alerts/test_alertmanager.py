"""Debian's Alertmanager takes incidents, and resolves them when they are over."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from incident_cases import incident_of
from ready_server import ready_server

from driftloop_alerts.grouping import Item
from driftloop_alerts.message import compose
from driftloop_alerts.senders.building import sender_for
from driftloop_contracts.incident import NoticeKind
from driftloop_settings.alert_sections import AlertsSettings
from driftloop_settings.ports import free_port

pytestmark = pytest.mark.integration
PROGRAM = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
CONFIGURATION = "route: {receiver: none}\nreceivers: [{name: none}]\n"


@contextmanager
def alertmanager(folder: Path) -> Iterator[str]:
    """Its address."""
    if PROGRAM is None:
        if os.environ.get("CI"):
            pytest.fail("install prometheus-alertmanager (.ci/run does)")
        pytest.skip("Alertmanager is not installed (Debian: prometheus-alertmanager)")
    (folder / "am.yml").write_text(CONFIGURATION)
    address = f"127.0.0.1:{free_port()}"
    command = [
        PROGRAM, f"--config.file={folder / 'am.yml'}", f"--storage.path={folder / 'data'}",
        f"--web.listen-address={address}", "--cluster.listen-address=",
    ]  # fmt: skip
    with ready_server(command, address, folder / "am.log"):
        yield address


def test_incidents_are_alerts_there_until_they_are_over(tmp_path: Path) -> None:
    now = datetime.now(UTC) - timedelta(minutes=10)
    incidents = [incident_of(now, id=f"i{n}", model=f"m{n}") for n in range(3)]
    with alertmanager(tmp_path) as address:
        route: Any = {"name": "am", "to": f"alertmanager://{address}"}
        settings = AlertsSettings(routes=(route,))
        sender = sender_for(settings.routes[0], settings)

        def send(*items: Item) -> None:
            sender.send(compose("d", "am", items, "http://console", ZoneInfo("UTC"), now))

        def active() -> set[str]:
            alerts = httpx.get(f"http://{address}/api/v2/alerts").json()
            return {alert["labels"]["incident"] for alert in alerts}

        send(*(Item(NoticeKind.OPENED, incident) for incident in incidents))
        send(Item(NoticeKind.REPEATED, incidents[0]))
        assert active() == {"i0", "i1", "i2"}
        over = incident_of(now, id="i1", model="m1", resolved_at=datetime.now(UTC))
        send(Item(NoticeKind.RESOLVED, over))
        assert active() == {"i0", "i2"}
