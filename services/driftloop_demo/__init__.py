"""`driftloop demo`: runs the whole loop on a real data set and reports each step."""
