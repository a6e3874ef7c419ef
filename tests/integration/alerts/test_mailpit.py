"""mailpit, a mail server that shows what it got, has our messages as people read them.

`go install github.com/axllent/mailpit@v1.33.1` builds it; Debian has no package of it, so where it
is not installed `aiosmtpd` (`tests/unit/alerts/test_mail.py`) is the only server of the tests.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
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
PROGRAM = shutil.which("mailpit")
HOSTILE = "<script>alert('x')</script> Zürich 🔥 \r\nBcc: all@example.org"


@contextmanager
def mailpit(folder: Path) -> Iterator[tuple[str, int]]:
    """The address of its pages, and its SMTP port."""
    if PROGRAM is None:
        pytest.skip("mailpit is not installed: go install github.com/axllent/mailpit@v1.33.1")
    web = free_port()
    smtp = free_port(taken={web})
    address = f"127.0.0.1:{web}"
    command = [PROGRAM, "--listen", address, "--smtp", f"127.0.0.1:{smtp}",
               "--database", str(folder / "mails.db"), "--disable-version-check"]  # fmt: skip
    with ready_server(command, address, folder / "mailpit.log", "/readyz"):
        yield f"http://{address}", smtp


def test_a_mail_is_shown_as_it_was_written_to_whom_it_was_sent(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    incidents = [
        incident_of(now, id=f"i{n}", model=f"loans-{n}", happened=f"{HOSTILE} {'x' * n * 50_000}")
        for n in range(3)
    ]
    with mailpit(tmp_path) as (pages, smtp):
        route: Any = {"name": "mail", "to": "mailto:ops@example.org,night@example.org"}
        settings = AlertsSettings(routes=(route,), smtp=f"smtp://127.0.0.1:{smtp}", timeout_s=10.0)
        items = [Item(NoticeKind.OPENED, incident) for incident in incidents]
        message = compose("d1", "mail", items, "http://console", ZoneInfo("UTC"), now)
        for _ in range(2):  # as after a crash between sending and writing it down
            sender_for(settings.routes[0], settings).send(message)
        found = httpx.get(f"{pages}/api/v1/messages").raise_for_status().json()["messages"]
        mails = [httpx.get(f"{pages}/api/v1/message/{one['ID']}").json() for one in found]
    assert [one["MessageID"] for one in found] == ["d1@driftloop"] * 2
    for mail in mails:
        assert {to["Address"] for to in mail["To"]} == {"ops@example.org", "night@example.org"}
        assert mail["Bcc"] in (None, [])
        assert mail["Subject"] == message.title
        assert mail["HTML"] == ""
        assert "<script>alert('x')</script> Zürich 🔥" in mail["Text"]
        for incident in incidents:
            assert f"http://console/incidents/{incident.id}" in mail["Text"]
