"""Whether contenders left the same tables: one hash per table, whatever the order of its rows.

Belongs here: reading a contender's tables, as Delta tables or in a DuckDB file, and hashing them.
Does not belong here: what is measured.

Of a table only what was asked for is compared: the contract's columns, in the contract's types.
Surrogate keys are compared by the version or product that they point to, since every contender may
make its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
from deltalake import DeltaTable

from benchmarks.workload import GOLD, OF_CAPTURED, SILVER, TABLES, columns

SURROGATES = {"customer_sk", "product_sk"}


@dataclass(frozen=True)
class Fingerprint:
    """The rows of a table, and their hashes added up."""

    rows: int
    hash: int

    def __str__(self) -> str:
        return f"{self.rows} rows, {self.hash:x}"


def fingerprints(output: Path) -> dict[str, Fingerprint]:
    """Of every table and quarantine that a contender left at `output`: a folder of Delta tables
    (`silver/orders`), or a DuckDB file (`silver.orders`)."""
    out = {}
    with _opened(output) as (connection, exists):
        for table in TABLES:
            out[table] = _hashed(connection, _rows(table))
        for table in (*SILVER, *GOLD):
            name = f"quarantine.{table.replace('.', '_')}"
            found = _hashed(connection, _rejected(name)) if exists(name) else Fingerprint(0, 0)
            out[f"quarantine of {table}"] = found
    return out


def differences(ours: dict[str, Fingerprint], theirs: dict[str, Fingerprint]) -> list[str]:
    return [f"{t}: {ours[t]}, not {theirs[t]}" for t in ours if ours[t] != theirs[t]]


@contextmanager
def _opened(output: Path) -> Iterator[tuple[duckdb.DuckDBPyConnection, Callable[[str], bool]]]:
    """A connection in which every table of the output is `<layer>.<name>`, and quarantines are
    `quarantine.<layer>_<name>`."""
    if output.is_file():
        with duckdb.connect(str(output), read_only=True) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection, lambda name: True
        return
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for layer in ("bronze", "silver", "gold", "quarantine"):
            connection.execute(f"CREATE SCHEMA {layer}")
        present = set()
        places = {t: output / t.replace(".", "/") for t in TABLES}
        for table in (*SILVER, *GOLD):
            name = f"quarantine.{table.replace('.', '_')}"
            places[name] = output / "quarantine" / table.replace(".", "/")
        for name, place in places.items():
            if (place / "_delta_log").is_dir():
                present.add(name)
                # The dataset is kept alive by the view, and read when it is.
                alias = name.replace(".", "__")
                connection.register(alias, DeltaTable(str(place)).to_pyarrow_dataset())
                connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {alias}")
        yield connection, present.__contains__


def _rows(table: str) -> str:
    """A query for the table's contents: typed alike, surrogate keys replaced."""
    terms = []
    for name, type_ in columns(table):
        if name in (*SURROGATES, *OF_CAPTURED):
            continue
        # Times as microseconds, so that a session's time zone plays no part; text that is empty
        # as null, since readers of CSV differ in that.
        value = {"timestamp": 'epoch_us("{}")', "string": "nullif(\"{}\", '')"}.get(type_, '"{}"')
        value = value.format(name)
        terms.append(f"CAST({value} AS {_sql_type(type_)})")
    if table != "gold.fact_sales":
        return f"SELECT {', '.join(terms)} FROM {table}"
    terms = [t.replace('"', 'f."', 1) for t in terms]
    return (
        f"SELECT {', '.join(terms)}, epoch_us(c.valid_from), c.customer_id, p.product_id"
        f" FROM {table} f LEFT JOIN gold.dim_customer c USING (customer_sk)"
        " LEFT JOIN gold.dim_product p USING (product_sk)"
    )


def _rejected(name: str) -> str:
    rules = "list_filter(rules, lambda rule: rule <> 'position_not_null')"
    return f"SELECT partition, list_sort({rules}) FROM {name}"


def _sql_type(type_: str) -> str:
    return {"string": "VARCHAR", "int": "INTEGER", "timestamp": "BIGINT"}.get(type_, type_)


def _hashed(connection: duckdb.DuckDBPyConnection, query: str) -> Fingerprint:
    width = len(connection.execute(f"DESCRIBE {query}").fetchall())
    names = ", ".join(f"c{i}" for i in range(width))
    rows, total = connection.execute(
        f"SELECT count(*), coalesce(sum(hash({names})::HUGEINT), 0) FROM ({query}) AS t({names})"
    ).fetchone()  # type: ignore[misc]
    return Fingerprint(rows, int(total))
