"""A Kafka cluster of one broker on this machine: the real one, from its jars."""
