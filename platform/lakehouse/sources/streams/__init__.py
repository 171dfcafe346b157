"""Streams of every kind: how far each shard has landed, and the drain that goes on from there.

Belongs here: what Kinesis and Kafka have in common. A shard is what Kinesis calls so, and a partition of
a topic; its records have positions that grow. Does not belong here: the protocol of either.
"""
