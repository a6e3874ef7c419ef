"""What the parts of driftloop say to each other: values only, no I/O and no framework."""
