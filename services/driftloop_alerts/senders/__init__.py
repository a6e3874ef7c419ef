"""One adapter for each kind of receiver."""
