"""Kafka, over librdkafka: a topic's partitions, their messages, and a topic for dead letters.

Does not belong here: landing files, or positions (streams/).
"""
