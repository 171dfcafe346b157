"""Servers that play the services of production, in tests and in the demo.

Belongs here: a package or module per service, each of which really does what it is asked for. Does not
belong here: sample data (data/), and anything that a production code path imports.
"""
