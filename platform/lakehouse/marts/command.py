"""dbt's command line, which says of Redshift's errors only what quotes no value of a row, and lets no
statement run for ever.

Belongs here: what must be done in dbt's process before it begins. Does not belong here: starting that
process (dbt.py). On DuckDB the plugin does the same (lake_views.py), where dbt is started by hand, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TIMEOUT_IN = "LAKEHOUSE_REDSHIFT_STATEMENT_TIMEOUT"
"""The variable that says how long a statement may take, in milliseconds."""


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


def limit_statements(milliseconds: int) -> None:
    """From here on every connection that dbt opens to Redshift has its statements cancelled after that
    time: those of models, of tests and of dbt itself."""
    import redshift_connector

    connect = redshift_connector.connect

    def limited(**how: Any) -> Any:
        connection = connect(**how)
        connection.cursor().execute(f"set statement_timeout to {milliseconds}")
        connection.commit()
        return connection

    # The profile has no word for it.
    vars(redshift_connector)["connect"] = limited


def main() -> None:
    """`dbt`, as the platform runs it."""
    from dbt.cli.main import cli

    withhold_values()
    if given := os.environ.get(TIMEOUT_IN):
        limit_statements(int(given))
    cli()
