"""The twelve invariants, checked from histories and what was left alone."""
