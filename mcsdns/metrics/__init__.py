"""Every room's statistics as Prometheus metrics."""
