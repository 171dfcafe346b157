"""Which warehouse the marts are built in.

Belongs here: the settings of each warehouse. Does not belong here: building in it (marts/).
"""

from __future__ import annotations

from typing import Literal

from lakehouse.settings.part import Part
from lakehouse.settings.references import Secret


class DuckDBWarehouse(Part):
    target: Literal["duckdb"]
    path: str


class RedshiftWarehouse(Part):
    target: Literal["redshift"]
    host: str
    port: int = 5439
    database: str
    user: str
    password: Secret
