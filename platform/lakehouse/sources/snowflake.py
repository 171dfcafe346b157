"""Tables of Snowflake, in Arrow batches as its client has them: no row count is too large.

Belongs here: the query, and types that are the same in every batch. Does not belong here: what rows
mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lakehouse.settings.sources import SnowflakeConnection
from lakehouse.sources.relation import CHANGED, Relation
from lakehouse.sources.source import Batch, Meter
from spark_jobs.contract.source import Snowflake
from spark_jobs.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

_FIXED, _DATE = "FIXED", "DATE"
_INSTANTS = ("TIMESTAMP", "TIMESTAMP_LTZ", "TIMESTAMP_TZ", "TIMESTAMP_NTZ")
_DIGITS_OF_INT64 = 18


@dataclass(frozen=True)
class Table(Relation):
    """A table or view."""

    connection: SnowflakeConnection
    declared: Snowflake

    def pull(self, since: datetime | None, until: datetime, meter: Meter) -> Iterator[Batch]:
        import pyarrow as pa

        query, bounds = self._query(since, until)
        with self._connected() as connection, connection.cursor() as cursor:
            meter.requests += 1
            cursor.execute(query, bounds)
            names = [*self.columns, CHANGED] if self.changed else self.columns
            described = zip(names, cursor.description, strict=True)
            schema = pa.schema([_field(name, of) for name, of in described])
            for table in cursor.fetch_arrow_batches():
                yield from _cast(table, schema).to_batches()

    def check(self) -> None:
        query, bounds = self._query(None, datetime.now(UTC))
        with self._connected() as connection, connection.cursor() as cursor:
            cursor.execute(f"select * from ({query}) limit 0", bounds)

    def _query(self, since: datetime | None, until: datetime) -> tuple[str, list[datetime]]:
        modified, names = self.declared.modified, self.declared.called(self.columns)
        chosen = [f'{n} as "{c}"' for n, c in zip(names, self.columns, strict=True)]
        if modified is None:
            return f"select {', '.join(chosen)} from {self.declared.table}", []
        query = f'select {", ".join(chosen)}, {modified} as "{CHANGED}" from {self.declared.table}'
        if since is None:
            return f"{query} where {modified} < %s", [until]
        # In order, so that a pull that is repeated writes the same file.
        return f"{query} where {modified} >= %s and {modified} < %s order by {modified}", [
            since,
            until,
        ]

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        from snowflake import connector

        of = self.connection
        place = {"host": of.host, "port": of.port, "protocol": of.protocol} if of.host else {}
        with connector.connect(
            account=of.account,
            user=of.user,
            **_login(of),
            database=of.database,
            schema=of.schema_name,
            warehouse=of.warehouse,
            role=of.role,
            login_timeout=of.timeout_seconds,
            network_timeout=of.timeout_seconds,
            arrow_number_to_decimal=True,  # and never a binary fraction
            session_parameters={"TIMEZONE": "UTC", "QUERY_TAG": "lakehouse"},
            **place,
        ) as connection:
            yield connection


def source(connection: SnowflakeConnection, declared: Snowflake, columns: tuple[str, ...]) -> Table:
    """The table that a contract asks for. Raises InputError for a column that no identifier names."""
    declared.called(columns)
    return Table(declared, columns, connection)


def _login(of: SnowflakeConnection) -> dict[str, Any]:
    """As the client takes it. Raises InputError for a private key that is none, without a word of it."""
    if of.password is not None:
        return {"password": of.password.reveal()}
    from cryptography.hazmat.primitives import serialization as form

    assert of.private_key is not None
    word = of.private_key_passphrase
    try:
        key = form.load_pem_private_key(
            of.private_key.reveal().encode(), word.reveal().encode() if word else None
        )
    except (ValueError, TypeError):
        raise InputError(
            f"snowflake: {of.private_key.name} is no private key in PEM, or its passphrase is another."
            " Check private_key and private_key_passphrase in the settings (sources.snowflake)."
        ) from None
    plain = (form.Encoding.DER, form.PrivateFormat.PKCS8, form.NoEncryption())
    return {"private_key": key.private_bytes(*plain)}


def _field(name: str, of: Any) -> pa.Field:
    """A column of a result, typed by what Snowflake says it is: the client has each chunk in the
    narrowest type that holds it."""
    import pyarrow as pa
    from snowflake.connector.constants import FIELD_ID_TO_NAME

    kind, precision, scale = FIELD_ID_TO_NAME[of.type_code], of.precision or 38, of.scale or 0
    if kind == _FIXED:
        whole = scale == 0 and precision <= _DIGITS_OF_INT64
        return pa.field(name, pa.int64() if whole else pa.decimal128(precision, scale))
    if kind == _DATE:
        return pa.field(name, pa.date32())
    if kind in _INSTANTS:
        return pa.field(name, pa.timestamp("us", "UTC"))
    return pa.field(name, pa.bool_() if kind == "BOOLEAN" else pa.string())


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Raises ArrowInvalid rather than change a value."""
    return table.rename_columns(schema.names).cast(schema)
