"""Days of the core's life under a virtual clock, in milliseconds: the same seed, the same days."""
