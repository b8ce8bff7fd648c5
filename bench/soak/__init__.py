"""A long run under load and faults, every answer checked: `make soak MINUTES=30`."""
