"""The steps of a batch: read, audit, gate, publish, and what they keep."""
