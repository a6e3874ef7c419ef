"""What a replica counts, and the forms in which it is read."""
