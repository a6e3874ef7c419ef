"""The event bus: a port, its Kafka adapter, an in-memory fake that passes the same suite, and the
single-node Apache Kafka that driftloop runs by itself."""

from driftloop_bus.port import Bus, Consumer, Message, Producer
from driftloop_settings import Settings

__all__ = ["Bus", "Consumer", "Message", "Producer", "bootstrap_servers", "connect"]


def bootstrap_servers(settings: Settings) -> str:
    """Where the cluster answers: the one in the settings, else this machine's own broker."""
    return settings.kafka.bootstrap_servers or f"127.0.0.1:{settings.kafka.port}"


def connect(settings: Settings) -> Bus:
    """The cluster of these settings. Nothing is contacted before it is used."""
    from driftloop_bus.kafka_bus import KafkaBus  # kafka-python takes a while to import

    return KafkaBus(bootstrap_servers(settings), settings.kafka)
