"""The sample delivery: a generator of the data that source systems deliver."""
