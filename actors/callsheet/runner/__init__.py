"""The runner: the child process that holds a device and its warm pipelines, and runs handlers."""
