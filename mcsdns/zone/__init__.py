"""The zone: which names exist, what they own, and what a question for one is answered with."""
