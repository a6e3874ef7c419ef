"""The models that a replica holds, and the requests that share one run."""
