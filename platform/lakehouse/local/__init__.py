"""Dagster on one machine: its instance, event log, webserver, and runs in this process."""
