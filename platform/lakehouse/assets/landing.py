"""One asset per dataset of landing, upstream of the tables that read it.

Belongs here: what Dagster knows of a dataset. Does not belong here: what is in it (sources/), or the
tables (tables.py).
"""

from collections.abc import Container, Mapping, Sequence

import dagster as dg

from lakehouse.keys import KIND_TAG, LANDING, landing_key
from lakehouse.partitions import partitions_def
from lakehouse.settings.model import Settings
from spark_jobs.contract.model import Contract, by_dataset


def delivered_specs(
    settings: Settings, contracts: Mapping[str, Contract], made: Container[dg.AssetKey]
) -> list[dg.AssetSpec]:
    """The datasets that nothing here makes: others deliver them. `made` are the assets that are."""
    specs = [dataset_spec(settings, readers) for readers in by_dataset(contracts).values()]
    return [spec for spec in specs if spec.key not in made]


def dataset_spec(settings: Settings, readers: Sequence[Contract]) -> dg.AssetSpec:
    """The asset of a dataset, partitioned as the tables that read it."""
    source, scheme = readers[0].delivered, readers[0].partitioning
    return dg.AssetSpec(
        key=landing_key(source.dataset),
        description=f"Files of {source.system} in landing/{source.dataset}",
        group_name="landing",
        kinds={source.format},
        tags={KIND_TAG: LANDING, "layer": "landing", "domain": readers[0].domain},
        partitions_def=partitions_def(scheme, settings.partitions) if scheme else None,
        metadata={"dagster/uri": f"{settings.zones['landing']}/{source.dataset}"},
    )
