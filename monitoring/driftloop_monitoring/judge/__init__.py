"""Judges that score answers."""
