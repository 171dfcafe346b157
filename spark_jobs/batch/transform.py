"""The transform of a table on the rows that were read, and the columns that it has to give.

Belongs here: finding the function, its arguments, and comparing what it returns with the contract.
Does not belong here: reading the driving rows (staging.py), or rules (audit.py).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from spark_jobs.batch import inputs
from spark_jobs.contract.model import Contract
from spark_jobs.contract.validity import HISTORY_COLUMNS
from spark_jobs.errors import SchemaError
from spark_jobs.window import WHOLE

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_OPTIONAL = ("_input", "_arrival_date", "_filtered", "_rows")


def module_of(contract: Contract) -> Any:
    """The module of the table's transform; None for bronze, which is delivered as is."""
    name = f"spark_jobs.tables.{contract.layer}.{contract.name}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if contract.layer != "bronze" or error.name is None or not name.startswith(error.name):
            raise
        return None


def transformed(
    spark: SparkSession,
    contract: Contract,
    upstream: Mapping[str, inputs.Upstream],
    started_at: datetime,
    driving: Mapping[str, DataFrame],
) -> DataFrame:
    """What the transform makes of the driving rows, by table, or of nothing for a table without
    inputs.

    Raises SchemaError if its columns are not those of the contract.
    """
    from pyspark.sql import functions as F

    module = module_of(contract)
    if not driving:
        frame = module.transform(spark).withColumn("_partition", F.lit(WHOLE))
    elif module is None:
        (frame,) = driving.values()
    else:
        arguments = {table.partition(".")[2]: rows for table, rows in driving.items()}
        for other in contract.looked_up:
            name = other.table.partition(".")[2]
            used = contract.uses(other)
            # A column that is not declared would change unnoticed, so it is not there to be used.
            columns = None if used is None else {*used[0], *used[1]}
            arguments[name] = inputs.lookup(spark, upstream[other.table], columns)
        frame = module.transform(**arguments)
    if contract.layer == "bronze":
        return frame.withColumn("_source_system", F.lit(contract.delivered.system)).withColumn(
            "_run_ts", F.lit(started_at)
        )
    _check_columns(contract, frame)
    return frame


def _check_columns(contract: Contract, frame: DataFrame) -> None:
    made = contract.columns
    if contract.publish.mode == "scd2":
        made = tuple(c for c in made if c.name not in HISTORY_COLUMNS)
    wanted = {c.name: c.type for c in made} | {"_partition": "string"}
    if contract.grain == "row" and contract.inputs:
        wanted["_input"] = ""
    found = dict(frame.dtypes)
    optional = {n for n in _OPTIONAL if n in found}
    missing, extra = wanted.keys() - found.keys(), found.keys() - wanted.keys() - optional
    wrong = [
        f"{n} is {found[n]}, the contract says {t}"
        for n, t in wanted.items()
        if t and n in found and found[n] != t
    ]
    problems = [f"missing: {', '.join(sorted(missing))}"] if missing else []
    problems += [f"not in the contract: {', '.join(sorted(extra))}"] if extra else []
    problems += [f"of another type: {'; '.join(wrong)}"] if wrong else []
    if problems:
        raise SchemaError(
            f"spark_jobs/tables/{contract.layer}/{contract.name}.py: transform returns columns"
            f" that differ from {contract.path} ({'; '.join(problems)}). Change the function or"
            " the contract; nothing was published."
        )
