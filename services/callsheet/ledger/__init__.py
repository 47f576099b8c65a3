"""The core: every task's truth, the rules it obeys, and the stores it is kept in."""
