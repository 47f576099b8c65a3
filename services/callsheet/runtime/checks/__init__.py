"""Looks at every part of the plane: what it is, whether it answers, and how to mend it."""
