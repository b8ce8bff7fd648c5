"""Random inputs for whatever reads what others write: `make fuzz`, and a short run of the tests.

A target takes octets and raises for whatever must not be. Inputs begin as the seeds, which are made
of the test cases; what changes them is atheris, which sees where each one leads in the code, or
Hypothesis, which does not.
"""
