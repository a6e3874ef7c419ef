"""`driftloop demo`: the whole loop on a real data set, told as it happens."""
