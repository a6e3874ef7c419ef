"""Texts as numbers and categories."""
