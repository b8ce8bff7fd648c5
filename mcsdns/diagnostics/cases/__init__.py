"""Questions and the answers they must get, as YAML: read, run, compared and reported."""
