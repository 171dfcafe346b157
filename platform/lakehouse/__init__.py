"""The control plane: what Dagster knows of the lake. It orchestrates and never touches a row.

The definitions are in `lakehouse.definitions`; this package imports nothing on its own.
"""
