"""What the RFCs demand: `python -m tests.compliance` writes docs/compliance.md."""
