"""The installation looked at as a user would debug it; `run.run` goes through all checks."""
