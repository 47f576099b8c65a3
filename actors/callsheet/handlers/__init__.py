"""Handlers: one module for each task type, named like it, with `run(input, context) -> output`."""
