"""An incident as the alerts role opens it."""

from datetime import datetime
from typing import Any

from driftloop_contracts.incident import Cause, Incident, Urgency


def incident_of(at: datetime, **changes: Any) -> Incident:
    """Of the model m, under the id i."""
    given: dict[str, Any] = {
        "id": "i",
        "model": "m",
        "cause": Cause.PERFORMANCE,
        "urgency": Urgency.PAGE,
        "happened": "The error of m rose.",
        "next": "A retrain starts by itself.",
        "at": at,
        "updated_at": at,
    }
    return Incident(**{**given, **changes})
