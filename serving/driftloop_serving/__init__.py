"""Serving: the REST protocol, the replica behind Ray Serve, the spool, and the shipper to Kafka."""
