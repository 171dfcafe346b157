"""dbt's command line, which says of Redshift's errors only what quotes no value of a row.

Belongs here: what must be done in dbt's process before it begins. Does not belong here: starting that
process (dbt.py). On DuckDB the plugin does the same (lake_views.py), where dbt is started by hand, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def withhold_values() -> None:
    """From here on dbt learns of Redshift's errors without the values that they quote: what it learns,
    it writes into its log, its results and its output."""
    from dbt.adapters.redshift.connections import RedshiftConnectionManager
    from redshift_connector.error import DatabaseError

    from lakehouse.warehouse import login

    original = RedshiftConnectionManager.exception_handler

    @contextmanager
    def handler(self: Any, sql: str) -> Iterator[None]:
        with original(self, sql):
            try:
                yield
            except DatabaseError as error:
                told = error.args[0] if error.args else ""
                if not isinstance(told, dict):
                    raise
                # Of the same class: dbt asks it whether the statement may be run again.
                raise type(error)({**told, "M": login.without_values(told), "D": ""}) from None

    # There is no other way in: dbt makes the manager itself.
    RedshiftConnectionManager.exception_handler = handler  # type: ignore[method-assign]


def main() -> None:
    """`dbt`, as the platform runs it."""
    from dbt.cli.main import cli

    withhold_values()
    cli()
