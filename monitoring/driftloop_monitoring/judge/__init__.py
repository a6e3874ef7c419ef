"""Scores of answers from a judge."""
