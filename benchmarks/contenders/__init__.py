"""One file per contender: each does the whole workload in a process of its own."""
