"""Every answer on disk before it leaves, and from there to Kafka."""
