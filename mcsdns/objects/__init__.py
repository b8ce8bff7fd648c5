"""The objects we answer from, joined by service; no I/O."""
