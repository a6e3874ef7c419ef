collect_ignore = ["clients"]  # they run in the clients' own environment
