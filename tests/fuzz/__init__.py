"""Fuzzing of every decoder: a corpus that is replayed first, then mutations of it."""
