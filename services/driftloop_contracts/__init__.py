"""The values that the parts of driftloop exchange. No I/O and no framework."""
