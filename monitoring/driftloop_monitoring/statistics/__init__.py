"""Checks and tests on columns and losses. Pure."""
