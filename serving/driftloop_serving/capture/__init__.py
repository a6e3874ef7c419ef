"""Records each answer on disk before it is sent, and ships the records to Kafka."""
