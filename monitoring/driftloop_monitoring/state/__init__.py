"""The state of the monitor between cycles."""
