"""The objects of an API server."""
