"""The `serving` role: applies the store's deployments to Ray Serve."""
