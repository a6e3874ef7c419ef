"""The serving ports: their owner, how sockets are passed to replicas, and how replicas accept."""
