"""Engines: finding or starting a session, and what runs one."""
