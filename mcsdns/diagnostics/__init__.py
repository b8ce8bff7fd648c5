"""What people ask when a name does not resolve."""
