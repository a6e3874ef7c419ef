"""Columns made of a model's inputs inside its graph: the same nodes compute them in training and in
serving."""
