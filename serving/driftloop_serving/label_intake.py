"""Accepts labels outside a replica, for the control API's `/feedback`."""

import os
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from typing import Any

from fastapi import Request

from driftloop_serving.capture.durability import Durability, durability, labels_kept
from driftloop_serving.capture.spool import SpoolWriter
from driftloop_serving.http.feedback import accept
from driftloop_settings import Settings

FEEDBACK_LIMIT_BYTES = 64 << 20


class LabelIntake:
    """Writes labels to a spool of this process; the shipper sends them to Kafka.

    writer: the name of the spool, for example "gateway". clock: returns the current time in UTC.
    """

    def __init__(self, settings: Settings, writer: str, clock: Callable[[], datetime]) -> None:
        self._spool = SpoolWriter(settings.spool_dir, f"{writer}-{os.getpid()}", settings.capture)
        self._capture = settings.capture
        self._clock = clock

    async def accept(self, request: Request) -> dict[str, Any]:
        """Store the labels of a request. `feedback.accept` documents the answer and the errors."""
        return await accept(
            request, self._spool.append_labels, FEEDBACK_LIMIT_BYTES, self._clock, self._settled
        )

    async def _settled(self) -> None:
        await labels_kept(self._durability)

    @cached_property
    def _durability(self) -> Durability | None:
        return durability(self._spool, self._capture)  # needs the server's event loop

    def close(self) -> None:
        self._spool.close()
