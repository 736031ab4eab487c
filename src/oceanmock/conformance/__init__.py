"""Check a server against its API's contract, and its tasks against their state machines."""
