"""The event bus: a port, its Kafka adapter, an in-memory fake that passes the same suite, and the
single-node Apache Kafka that driftloop runs by itself."""

from driftloop_bus.port import Bus, Consumer, Message, Producer

__all__ = ["Bus", "Consumer", "Message", "Producer"]
