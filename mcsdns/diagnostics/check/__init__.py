"""The installation looked at as a user would debug it: each check is one small module."""
