"""``make run``: every process of one instance, started in order and ended together."""
