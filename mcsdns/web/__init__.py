"""What a running server shows over HTTP: probes, metrics, the status page and its API."""
