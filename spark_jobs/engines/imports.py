"""Importing PySpark where tables run side by side.

Belongs here: that import. Does not belong here: sessions (session.py).
"""

from __future__ import annotations

import threading

_lock = threading.Lock()


def import_pyspark() -> None:
    """Imports PySpark before anything of it is used. Its modules import each other in circles, and two
    threads that begin at once would find one of them half done."""
    with _lock:
        import pyspark.errors
        import pyspark.sql.functions  # noqa: F401
