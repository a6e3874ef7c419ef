"""Models of columns: data set, search, training, gate, export."""
