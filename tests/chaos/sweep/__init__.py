"""Crash points: one scripted life of tasks, struck at every request that every role makes."""
