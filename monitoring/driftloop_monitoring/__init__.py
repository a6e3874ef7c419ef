"""Monitoring: archives Kafka records in the lake, checks windows, raises alerts, decides on
retrains."""
