"""The worker: a light process that claims tasks and runs their attempts, mostly in runners."""
