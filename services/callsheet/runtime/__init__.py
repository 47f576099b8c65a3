"""What every process of the plane stands on: settings, logs, trace context, signals, Redis."""
