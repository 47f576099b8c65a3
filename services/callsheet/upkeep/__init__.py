"""Upkeep: what must happen to tasks although nobody asks, done by one process at a time."""
