"""Retraining: from labelled rows in the lake to a candidate that passed the gate."""
