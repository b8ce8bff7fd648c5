"""Measures mcsdns side by side with other name servers; `python -m bench --help` says how."""
