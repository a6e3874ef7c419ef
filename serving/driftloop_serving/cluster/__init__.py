"""The role `serving`: deployments from the store into Ray Serve."""
