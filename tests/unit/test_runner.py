"""What a run elsewhere sends, and what it means where it arrives."""

from __future__ import annotations

from typing import Any

import pytest

from lakehouse.engines.runner import received
from spark_jobs.causes import is_transient
from spark_jobs.errors import KINDS, EngineError, LakehouseError, ReportMissing, happened_in
from spark_jobs.report import ZONES, ErrorRecord, Outcome, PartitionReport, RunSpec, TableReport

DAYS = ["2026-10-05", "2026-10-06"]
SPEC = RunSpec(
    table="silver.orders",
    partitions=DAYS,
    contracts="/contracts",
    zones=dict.fromkeys(ZONES, "/lake"),
    run_id="run",
)


def sent(**outcome: Any) -> list[Any]:
    return [Outcome(**outcome).model_dump(mode="json")]


def report(*days: str, **more: str) -> TableReport:
    of = {"table": SPEC.table, "run_id": SPEC.run_id} | more
    return TableReport(
        **of,
        batch_id="b",
        engine="sail",
        contract_version="1.0.0",
        transform_version="t",
        partitions=[PartitionReport(partition=d, status="failed") for d in days],
    )


def test_a_report_arrives_as_it_was_sent_though_its_partitions_failed() -> None:
    assert received(sent(report=report(*DAYS)), SPEC) == report(*DAYS)


@pytest.mark.parametrize("permanent", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_the_platform_is_raised_as_what_it_was(kind: str, permanent: bool) -> None:
    error = KINDS[kind].__new__(KINDS[kind])
    LakehouseError.__init__(error, "orders.yaml:3: no\nsecond line")
    error.permanent = permanent
    with pytest.raises(KINDS[kind]) as raised:
        received(sent(error=ErrorRecord.of(error)), SPEC)
    assert type(raised.value) is KINDS[kind]
    assert str(raised.value) == "orders.yaml:3: no\nsecond line"
    assert is_transient(raised.value) is not permanent


@pytest.mark.parametrize(("error", "again"), [(TypeError("no"), False), (TimeoutError(), True)])
def test_another_error_names_its_class_and_step(error: Exception, again: bool) -> None:
    happened_in(error, "transform")
    with pytest.raises(EngineError, match=f"{type(error).__name__} in step transform") as raised:
        received(sent(error=ErrorRecord.of(error)), SPEC)
    assert is_transient(raised.value) is again


@pytest.mark.parametrize(
    "messages",
    [
        [],
        sent(report=report(DAYS[0])),
        sent(report=report(*DAYS, table="silver.customers")),
        sent(report=report(*DAYS, run_id="another")),
    ],
    ids=["nothing", "a day is missing", "of another table", "of another run"],
)
def test_no_report_of_this_run_is_a_failure_that_may_be_tried_again(messages: list[Any]) -> None:
    with pytest.raises(ReportMissing, match=r"silver\.orders") as raised:
        received(messages, SPEC)
    assert is_transient(raised.value)


@pytest.mark.parametrize("message", [{}, {"report": {}}, {"outcome": 1}, "done"])
def test_a_message_of_another_version_is_a_failure_for_good(message: Any) -> None:
    with pytest.raises(LakehouseError, match="Install the same version of spark_jobs") as raised:
        received([message], SPEC)
    assert not is_transient(raised.value)
