"""Broken servers: the mock with one thing wrong each, and the rule that has to find it."""
