"""How large a value each topic takes: as the cluster says, and as its refusals teach."""

from collections.abc import Iterable

import structlog

from driftloop_bus import Bus
from driftloop_bus.port import MAX_VALUE_BYTES
from driftloop_contracts.errors import DriftloopError

log = structlog.get_logger()

LEAST_BYTES = 1 << 10
"""A topic that refuses less refuses everything: then it is not the size."""


class ValueLimits:
    """A cluster may not say what a topic takes (a right is missing), or say what does not hold (a
    proxy before it takes less). So each refusal that its answer does not explain halves the
    limit, until the cluster says something else."""

    def __init__(self, bus: Bus, topics: Iterable[str]) -> None:
        self._bus = bus
        self._said: dict[str, int | None] = dict.fromkeys(topics)
        self._limits = dict.fromkeys(self._said, MAX_VALUE_BYTES)

    def of(self, topic: str) -> int:
        """In bytes."""
        return self._limits[topic]

    def look_up(self, refused: str | None = None) -> bool:
        """Ask the cluster; whether a limit is another one than before. refused: the topic that a
        record of at most its limit was too large for."""
        before = dict(self._limits)
        for topic, last in self._said.items():
            said = self._ask(topic)
            if said is not None and said != last:
                self._said[topic] = self._limits[topic] = said
            elif topic == refused:
                self._limits[topic] = max(LEAST_BYTES, self._limits[topic] // 2)
                log.warning("shipper.limit_learnt", topic=topic, value_bytes=self._limits[topic])
        return self._limits != before

    def _ask(self, topic: str) -> int | None:
        try:
            return self._bus.max_value_bytes(topic)
        except DriftloopError as error:
            log.info("shipper.limit_unknown", topic=topic, error=str(error))
            return None
