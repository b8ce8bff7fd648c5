"""The objects of files."""
