"""Several tables in one run of the data plane: each is reported, and a failure stays with what
depends on it.

Here: the entry point in this process. Not here: how tables come to travel together
(test_emr_runner.py, tests/unit/test_emr.py).
"""

from __future__ import annotations

import pytest

from lakehouse.engines.runner import received
from spark_jobs.__main__ import outcomes_of
from spark_jobs.errors import InputError
from tests.integration.dagster_lake import DAYS, DagsterLake
from tests.lakes import bronze, column

BAD = b"id,email,updated\n1,\xff\xfe,2026\n"


def outcomes(dagster: DagsterLake, *tables: str) -> dict[str, str]:
    """Which tables were reported, and how each ended."""
    spec = dagster.lake.spec(tables[0], *DAYS, then=list(tables[1:]))
    return {
        o.table: o.error.message if o.error else ",".join(p.status for p in o.report.partitions)
        for o in outcomes_of(spec.model_dump_json(exclude_defaults=True))
    }


def test_each_table_is_reported_and_reads_what_the_one_before_it_published(
    dagster: DagsterLake,
) -> None:
    found = outcomes(dagster, "bronze.people", "silver.people")
    assert found == dict.fromkeys(
        ("bronze.people", "silver.people"), "published,published,published"
    )


def test_a_failed_table_fails_what_depends_on_it_and_nothing_else(dagster: DagsterLake) -> None:
    dagster.lake.define(bronze("pets", "csv", column("id")))
    for day in DAYS:
        dagster.lake.land("people", day, "people.csv", BAD)
        dagster.lake.land("pets", day, "pets.csv", "id\n1\n")
    found = outcomes(dagster, "bronze.people", "bronze.pets", "silver.people", "silver.unknown")
    assert found["bronze.people"] == "failed,failed,failed"
    assert found["bronze.pets"] == "published,published,published"
    assert "its input bronze.people failed in the same job" in found["silver.people"]
    assert "no contract for table silver.unknown" in found["silver.unknown"]
    assert dagster.lake.ledger("silver.people") == []


def test_what_was_not_run_for_its_input_may_be_asked_for_again(dagster: DagsterLake) -> None:
    for day in DAYS:
        dagster.lake.land("people", day, "people.csv", BAD)
    spec = dagster.lake.spec("bronze.people", *DAYS, then=["silver.people"])
    _, held_back = outcomes_of(spec.model_dump_json())
    with pytest.raises(InputError) as caught:
        received([held_back.model_dump(mode="json")], dagster.lake.spec("silver.people", *DAYS))
    assert not caught.value.permanent


def test_a_specification_that_is_none_is_told_once(dagster: DagsterLake) -> None:
    (only,) = outcomes_of('{"table": "bronze.people"}')
    assert only.table == "" and "not a valid run specification" in only.error.message
