"""Monitoring: Kafka to lake, windows and their checks, alerts, and decisions to retrain."""
