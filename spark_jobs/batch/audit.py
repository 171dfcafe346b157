"""Decides what becomes of every row of a batch.

Belongs here: applying row rules, the outcome of each row, and the record as it was read. Does not
belong here: which record of a key wins (resolution.py), writing and counting the rows (outcomes.py),
whether a partition may be published (gate.py) and publishing it (publish.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from spark_jobs.batch import resolution
from spark_jobs.batch.rules import broken, broken_names, row_rules
from spark_jobs.contract.model import Contract
from spark_jobs.contract.rules import REFERENCE_MARK, ExpressionHolds, Reference
from spark_jobs.errors import ContractError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, DataFrame
    from pyspark.sql.types import StructType


def audited(
    contract: Contract, frame: DataFrame, types: StructType, references: dict[str, DataFrame]
) -> DataFrame:
    """Adds `_violations`, `_warnings` and `_record` to transformed rows.

    `types` is the schema of `frame`; `references` holds one frame per reference rule: its distinct
    keys in a column `_key`.
    """
    from pyspark.sql import functions as F

    for rule, _ in contract.rules_of(Reference):
        mark = REFERENCE_MARK.format(rule.name)
        keys = references[rule.name].select(
            F.col("_key").alias(f"{mark}_key"), F.lit(True).alias(mark)
        )
        frame = frame.join(keys, F.col(rule.about) == F.col(f"{mark}_key"), "left")
    rules = list(row_rules(contract))
    _ensure_evaluable(contract, frame)
    names = broken_names([r for r in rules if r.severity == "error"])
    warnings = broken_names([r for r in rules if r.severity == "warn"])
    # Asking the finished column, and not the conditions again, lets the engine evaluate them once.
    left = F.col("_violations").isNotNull()
    added: dict[str, Column] = {"_warnings": warnings}
    if "_violations" in types.names:  # a reader found them
        added["_record"] = F.coalesce(F.col("_raw"), F.when(left, _json(contract, types)))
        added["_record_file"] = F.col("_source_file")
    else:
        frame = frame.withColumn("_violations", names)
        added["_record"] = F.when(left, _json(contract, types))
        record = _input_type(types)
        has_file = record is not None and "_source_file" in record.names
        file = F.col("_input._source_file") if has_file else F.lit(None).cast("string")
        added["_record_file"] = F.when(left, file)
    if contract.lookups:  # by these a row that waits for one is found
        values = {c.name: F.col(c.name) for c in contract.columns if c.name in types.names}
        added["_computed"] = F.when(left, record_text(types, values))
    return frame.withColumns(added)


def _ensure_evaluable(contract: Contract, frame: DataFrame) -> None:
    """Raises ContractError for an expression that the engine makes no sense of: a rule that cannot
    run must not look like one that passed, and a person should read which one it is."""
    from pyspark.errors import PySparkException

    for rule, spec in contract.rules_of(ExpressionHolds):
        try:
            _ = frame.select(broken(rule)).schema
        except PySparkException as error:
            raise ContractError(
                f"{contract.path}: rule {rule.name} cannot be evaluated: {spec.expression}"
                f" ({str(error).splitlines()[0]}). Nothing was published."
            ) from error


def _input_type(types: StructType) -> StructType | None:
    """The type of a row's `_input`; None where there is none."""
    if "_input" not in types.names:
        return None
    return cast("StructType", types["_input"].dataType)


def _json(contract: Contract, types: StructType) -> Column:
    """The original record: the row's `_input`, or the row itself where a table reads none."""
    from pyspark.sql import functions as F

    record = _input_type(types)
    if record is not None:
        return record_text(record, {n: F.col(f"_input.`{n}`") for n in record.names})
    values = {c.name: F.col(c.name) for c in contract.columns if c.name in types.names}
    return record_text(types, values)


def record_text(types: StructType, values: dict[str, Column]) -> Column:
    """A record as a JSON object of strings: engines print numbers and times differently, their
    casts to string agree."""
    from pyspark.sql import functions as F

    def written(name: str) -> Column:
        if types[name].dataType.typeName() == "array":  # its cast to string has two forms of null
            return F.to_json(F.transform(values[name], lambda v: v.cast("string")))
        return values[name].cast("string")

    return F.to_json(F.struct(*[written(n).alias(n) for n in values]))


def classified(
    contract: Contract,
    frame: DataFrame,
    types: StructType,
    repeated: pa.Table | None,
    table: resolution.Standing | None,
) -> DataFrame:
    """Adds `outcome` to audited rows; `types` is the schema that they were transformed to,
    `repeated` are the keys that occur more than once in the
    batch, `table` is what readers see, if it has rows."""
    from pyspark.sql import functions as F

    is_file = F.lit(False)
    if "_records" in types.names:
        is_file = F.col("_records").isNotNull()
    leaves = F.when(is_file, F.lit("file"))
    if "_filtered" in types.names:
        leaves = leaves.when(F.col("_filtered").isNotNull(), F.lit("filtered"))
    leaves = leaves.when(F.col("_violations").isNotNull(), F.lit("quarantine"))
    if not contract.keyed:
        return frame.withColumn("outcome", leaves.otherwise(F.lit("insert")))
    frame = frame.withColumns({"_row_hash": content_hash(contract, types), "_leaves": leaves})
    return resolution.resolved(contract, frame, repeated, table)


def content_hash(contract: Contract, types: StructType) -> Column:
    """xxHash64 of the contract's columns that the transform made: equal rows have equal hashes."""
    from pyspark.sql import functions as F

    made = [c for c in contract.columns if c.name in types.names]
    # The hash passes over nulls: without their places, (null, x) and (x, null) would be one row.
    nulls = [F.col(c.name).isNull() for c in made if not c.required]
    return F.xxhash64(*[hashable(F.col(c.name), c.type) for c in made], *nulls)


def hashable(value: Column, type_: str) -> Column:
    """A value in the form that every engine hashes alike: decimals beyond 64 bits have the same text
    everywhere, and not the same hash."""
    wide = type_.startswith("decimal") and int(type_[8:].partition(",")[0]) > 18
    return value.cast("string") if wide else value
