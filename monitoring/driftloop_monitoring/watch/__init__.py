"""The `monitor` role."""
