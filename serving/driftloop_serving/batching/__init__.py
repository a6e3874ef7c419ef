"""Holds the models of a replica and runs their requests in batches."""
