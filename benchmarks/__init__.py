"""The platform against its alternatives: `python -m benchmarks` prints one table of ratios.

Belongs here: contenders, the workload that they share, and measuring them. Does not belong here:
tests of what the platform computes; a contender whose tables differ fails the benchmark.
"""
