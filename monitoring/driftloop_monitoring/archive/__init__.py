"""Kafka to lake."""
