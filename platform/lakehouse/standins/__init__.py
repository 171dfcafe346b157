"""Stand-ins for the systems that the platform reads from.

What belongs here: code that plays a source system in tests and in the sample run, such as the
sample delivery (`delivery.py`). Not here: anything a production code path imports.
"""
