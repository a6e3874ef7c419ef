"""Converts texts to numbers and categories."""
