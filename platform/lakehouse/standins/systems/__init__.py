"""The systems that the sample comes from, on this machine, filled with it day by day.

A system holds no row that it could not have: a record without an Id, or a line that does not parse.
These are left out, and counted with the reason; so is what a pull by the time of change can never bring.
"""
