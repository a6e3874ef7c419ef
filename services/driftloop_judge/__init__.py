"""Judges that score a language model's answers, and whether people's ratings bear them out."""
