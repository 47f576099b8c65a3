"""Media: reading the files that tasks work on, and writing those that they make."""
