"""The sidecar: turns what happened to tasks into webhooks."""
