"""Connection options for a cluster, size limits of records, and the translation of Kafka's
errors."""

from typing import Any

import structlog
from kafka.cluster import ClusterMetadata
from kafka.net import manager

from driftloop_bus.port import MAX_VALUE_BYTES
from driftloop_contracts.errors import DriftloopError, Rejected, RetryLater
from driftloop_settings import KafkaSettings
from kafka import errors as kafka_errors

log = structlog.get_logger()

RECORD_BYTES = MAX_VALUE_BYTES + (256 << 10)
"""A record with its key and headers."""
LARGEST_BATCH_BYTES = RECORD_BYTES + (256 << 10)
"""`max.message.bytes` of the topics: Kafka counts a whole batch."""
BESIDE_VALUE_BYTES = 16 << 10
"""An upper bound of what a batch of one record needs besides the value: its key and headers."""

TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)


class RefreshedMetadata(ClusterMetadata):  # type: ignore[misc]
    """Keeps refreshing the metadata. kafka-python 3.0.12 stops permanently at the first error of
    another library, such as a connection reset during the TLS handshake; its producers then contact
    a broker that no longer exists a thousand times a second."""

    async def _refresh_loop(self) -> None:
        while not self.closed:
            try:
                await super()._refresh_loop()
            except Exception as error:
                log.info("bus.metadata_waits", error=repr(error))
                await self._wakeup(self.refresh_backoff() / 1000)


manager.ClusterMetadata = RefreshedMetadata


def connection_options(bootstrap: str, settings: KafkaSettings) -> dict[str, Any]:
    """Return kafka-python's options for connecting to a cluster, including TLS and SASL."""
    options: dict[str, Any] = {
        "bootstrap_servers": bootstrap,
        "security_protocol": settings.security_protocol,
        "ssl_cafile": settings.ssl_cafile,
        "ssl_certfile": settings.ssl_certfile,
        "ssl_keyfile": settings.ssl_keyfile,
        "reconnect_backoff_ms": 50,
        "reconnect_backoff_max_ms": 1_000,
    }
    if settings.security_protocol.startswith("SASL"):
        password = settings.sasl_password
        options |= {
            "sasl_mechanism": settings.sasl_mechanism or "PLAIN",
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": password.get_secret_value() if password else None,
        }
    return options


def is_passing(error: Exception) -> bool:
    return isinstance(error, OSError) or bool(getattr(error, "retriable", False))


def translated(error: Exception) -> DriftloopError:
    refused = (
        *TOO_LARGE,
        kafka_errors.InvalidTopicError,
        ValueError,
        TypeError,
    )
    if isinstance(error, refused):
        return Rejected(f"Kafka refuses the record: {error}")
    return RetryLater(f"Kafka returned an error: {error!r}")
