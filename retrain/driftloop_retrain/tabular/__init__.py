"""Tabular models: data set, search, training, gate, export."""
