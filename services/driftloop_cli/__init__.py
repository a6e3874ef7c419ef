"""The command `driftloop`, and the supervisor that runs all roles on one machine."""
