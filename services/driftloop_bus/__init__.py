"""The event bus: a port, its Kafka adapter, an in-memory fake that passes the same test suite, and
the single-node Apache Kafka that driftloop can run."""

from driftloop_bus.port import Bus, Consumer, Message, Producer
from driftloop_settings import Settings

__all__ = ["Bus", "Consumer", "Message", "Producer", "bootstrap_servers", "connect"]


def bootstrap_servers(settings: Settings) -> str:
    """Return the address of the cluster: the configured one, or this machine's own broker."""
    return settings.kafka.bootstrap_servers or f"127.0.0.1:{settings.kafka.port}"


def connect(settings: Settings) -> Bus:
    """Return the bus of these settings. Does not connect before first use."""
    from driftloop_bus.kafka_bus import KafkaBus  # kafka-python is slow to import

    return KafkaBus(bootstrap_servers(settings), settings.kafka)
