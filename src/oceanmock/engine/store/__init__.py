"""Stores of sandboxes: their specifications, logs, journals and counters."""
