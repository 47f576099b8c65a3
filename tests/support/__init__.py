"""What tests of several rooms share: clocks, servers that fail on demand, receivers."""
