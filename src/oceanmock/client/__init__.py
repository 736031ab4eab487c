"""Drive a server from tests: sandboxes, their tasks, clock, journal and faults."""
