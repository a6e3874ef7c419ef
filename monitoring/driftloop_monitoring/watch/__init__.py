"""The role `monitor`."""
