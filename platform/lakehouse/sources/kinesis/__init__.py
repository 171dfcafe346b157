"""Kinesis, over boto3: its shards, their records, and what has been lost of them.

Does not belong here: landing files, or positions (streams/).
"""
