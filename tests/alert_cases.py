"""An alert as raised by a monitor."""

from datetime import datetime
from typing import Any

from driftloop_contracts.alert import Alert
from driftloop_contracts.judgement import CheckKind, Severity


def performance_alert(at: datetime, **changes: Any) -> Alert:
    """Return an alert of model m at version 1, with the id a."""
    given: dict[str, Any] = {
        "id": "a",
        "model": "m",
        "at": at,
        "kind": CheckKind.PERFORMANCE,
        "severity": Severity.CRITICAL,
        "message": "worse",
        "version": 1,
        "findings": ("f",),
        "window": "w",
        "change_at": at,
    }
    return Alert(**{**given, **changes})
