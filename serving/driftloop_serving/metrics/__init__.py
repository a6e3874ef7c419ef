"""The counts of a replica, and their output formats."""
