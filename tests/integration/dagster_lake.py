"""A tiny lake under Dagster: three days of people, bronze to silver, run by the real definitions.

Belongs here: what is given, and looking at what Dagster recorded. Does not belong here: assertions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from lakehouse.definitions import build_definitions
from lakehouse.local.execution import RunOutcome, execute
from lakehouse.local.instance import open_instance
from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from lakehouse.settings.operations import RetrySettings
from tests.lakes import (
    MONDAY,
    TUESDAY,
    WEDNESDAY,
    TinyLake,
    bronze,
    column,
    contract,
    copied,
    rule,
    transforms_in,
)

DAYS = (MONDAY, TUESDAY, WEDNESDAY)


def people(*rows: tuple[int, str, str]) -> str:
    return "id,email,updated\n" + "".join(f"{i},{mail},{when}\n" for i, mail, when in rows)


@dataclass
class DagsterLake:
    """A tiny lake under the real definitions, on a persistent instance of its own; `overrides` are
    resources in place of those."""

    lake: TinyLake
    settings: Settings
    instance: dg.DagsterInstance
    overrides: dict[str, Any] = field(default_factory=dict)

    def run(
        self, first: str, last: str, assets: list[dg.AssetKey] | None = None, **tags: str
    ) -> RunOutcome:
        definitions = build_definitions(
            self.settings, contracts=self.lake.parsed(), marts=False, **self.overrides
        )
        return execute(
            definitions,
            "lake_daily",
            self.instance,
            partitions=(first, last),
            assets=assets,
            tags=tags,
        )

    def materialized(self, table: str) -> set[str]:
        return self.instance.get_materialized_partitions(dg.AssetKey(table.split(".")))

    def metadata(self, table: str, partition: str) -> dict[str, Any]:
        """Of the newest materialization of a partition."""
        found = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey(table.split(".")), asset_partitions=[partition]),
            limit=1,
        ).records
        return {k: v.value for k, v in found[0].asset_materialization.metadata.items()}


@contextmanager
def people_lake(folder: Path) -> Iterator[DagsterLake]:
    """The lake in an empty folder, delivered and not yet run."""
    lake = TinyLake(folder)
    lake.define(
        bronze(
            "people",
            "csv",
            column("id"),
            column("email"),
            column("updated"),
            gates={"max_quarantine_rate": 0.5},
        )
    )
    email = column("email", "string", rule("pattern", pattern=".+@.+"), of="bronze.people.email")
    lake.define(
        contract(
            "silver.people",
            [
                column("id", "bigint", key=1, of="bronze.people.id"),
                email | {"classification": "pii"},
                column("updated", "timestamp", required=True, of="bronze.people.updated"),
            ],
            inputs=[{"table": "bronze.people"}],
            publish={"mode": "upsert", "sequence": "updated"},
            gates={"max_quarantine_rate": 0.5},
        ),
        copied(
            table="people",
            extra="number('id', 'bigint').alias('id'), F.col('email'),"
            " F.to_timestamp('updated').alias('updated')",
        ),
    )
    for i, day in enumerate(DAYS):
        lake.land(
            "people", day, "people.csv", people((i, f"p{i}@x.org", day), (99, "a@x.org", day))
        )
    with opened(folder) as found:
        yield found


@contextmanager
def opened(folder: Path) -> Iterator[DagsterLake]:
    """The lake in a folder where it has been before."""
    lake = TinyLake(folder)
    settings = load_settings("local", home=folder, project=folder)
    settings = settings.model_copy(update={"retries": RetrySettings(delay_seconds=0)})
    with open_instance(settings) as instance, transforms_in(lake.transforms):
        yield DagsterLake(lake, settings, instance)
