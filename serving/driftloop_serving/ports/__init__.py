"""The serving ports: who owns them, how replicas get to listen on them, and how they accept."""
