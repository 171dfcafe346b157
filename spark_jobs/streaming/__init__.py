"""Continuous pipelines: the records of a stream become landing files, and tables at once."""
