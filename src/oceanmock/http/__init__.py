"""Serve the APIs and the admin API over HTTP."""
