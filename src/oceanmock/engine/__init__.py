"""Sandboxes: their specifications and logs, the state that follows, and faults."""
