"""Archives records from Kafka in the lake."""
