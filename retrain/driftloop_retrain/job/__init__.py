"""One retrain, from its request to a rollout."""
