"""The search for a recipe's parameters: spaces, samplers, pruning, and trials that survive a
kill."""
