"""Decides which record of a key readers see, when several deliveries hold one.

Belongs here: comparing the rows of a batch with each other and with what the table holds, and
finding what leaves the table. Does not belong here: whether a row is valid (audit.py), keeping the
records that lost (superseded.py), or writing the table (publish.py).

A keyed table is, for each key, the greatest of the rows that its partitions make of their present
input: by sequence, then by content hash, then the earliest partition. A batch computes some
partitions again. What the table holds of those is its *former* rows: they stand for nothing any
more, whatever their sequence or hash. The other rows of the table *stand*, and where a former row
goes, a superseded record of another partition may be the greatest again (it is *revived*).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spark_jobs.batch.joins import FEW_ROWS, copied_if_few
from spark_jobs.contract.model import Contract

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, DataFrame

# Staged outcomes of valid rows that lost to a row of another partition. They are kept aside, since
# they win again once that row is gone: `repeated` rows are equal to the one that won.
ASIDE = ("superseded", "repeated")
# Staged outcomes of rows that the table holds after the batch.
WON = ("insert", "update", "unchanged", "delete")

# Up to this many repeated keys are told apart; beyond, every row of the batch counts as contested.
_FEW_KEYS = FEW_ROWS


@dataclass(frozen=True)
class Former:
    """What of a table a batch computes again: the rows of `partitions`, and rows that were made of
    records which have since moved to them (`origins`, a frame with a column `_origin`)."""

    partitions: tuple[str, ...] = ()
    origins: DataFrame | None = None

    def __bool__(self) -> bool:
        return bool(self.partitions) or self.origins is not None


@dataclass(frozen=True)
class Standing:
    """A table as a batch finds it.

    `rows` are its rows with a column `_former`; `revivable` holds, for keys of former rows, the
    greatest of the superseded records (the table's columns), None if there can be none.
    """

    rows: DataFrame
    has_former: bool
    revivable: DataFrame | None = None

    @property
    def others(self) -> DataFrame:
        """The rows that the table will hold but for what the batch brings."""
        from pyspark.sql import functions as F

        rows = self.rows.where(~F.col("_former")).drop("_former")
        if self.revivable is None:
            return rows
        return rows.unionByName(self.revivable.select(*rows.columns))


def standing(
    contract: Contract, published: DataFrame, former: Former, superseded: DataFrame | None
) -> Standing:
    """The table `published` against a batch; `superseded` are the records that were kept aside and
    that their partitions would still make, if there are any."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    if contract.partitioning is None:  # the batch is all that there is
        return Standing(published.withColumn("_former", F.lit(True)), has_former=True)
    is_former = F.col("_partition").isin(*former.partitions)
    if not former.partitions:
        is_former = F.lit(False)
    rows = published
    if former.origins is not None:
        moved = former.origins.select(F.col("_origin").alias("_moved")).distinct()
        rows = rows.join(moved, F.col("_origin") == F.col("_moved"), "left")
        is_former = is_former | F.col("_moved").isNotNull()
    rows = rows.withColumn("_former", is_former).drop("_moved")
    if superseded is None or not former:
        return Standing(rows, has_former=bool(former))
    gone = rows.where("_former").select(*contract.key)
    others = superseded.join(gone, list(contract.key), "left_semi")
    if former.partitions:
        others = others.where(~F.col("_partition").isin(*former.partitions))
    order = Window.partitionBy(*contract.key).orderBy(*greatest_first(contract))
    best = others.withColumn("_nth", F.row_number().over(order)).where("_nth = 1").drop("_nth")
    return Standing(rows, has_former=True, revivable=best)


def greatest_first(contract: Contract) -> list[Column]:
    """The greatest record first."""
    from pyspark.sql import functions as F

    return [
        F.col(contract.sequence).desc(),
        F.col("_row_hash").desc(),
        F.col("_partition"),
    ]


def resolved(
    contract: Contract, frame: DataFrame, repeated: pa.Table | None, table: Standing | None
) -> DataFrame:
    """Gives each valid row (`_leaves` is null) the `outcome` that it has if it is the greatest of
    its key in the batch (`_if_won`); rows that are not alone are `contested` until settled.

    `_displaces` tells that a row takes the place of one of another partition, which is then kept
    aside. `repeated` are the keys that occur more than once in the batch.
    """
    from pyspark.sql import functions as F

    frame = _contested(contract, frame, repeated)
    frame = frame.withColumn("_displaces", F.lit(False))
    stays = F.lit("insert")
    if table is not None:
        frame = _compared(contract, frame, table)
        kept = F.col("_wins") & F.col("_is_same")
        stays = (
            F.when(kept, F.lit("unchanged"))
            .when(F.col("_wins") & F.col("_had"), F.lit("update"))
            .when(F.col("_wins"), F.lit("insert"))
            .when(F.col("_equals"), F.lit("repeated"))
            .otherwise(F.lit("superseded"))
        )
    if contract.publish.delete_column:
        gone = F.coalesce(F.col(contract.publish.delete_column), F.lit(False))
        # The mark of a key that was never there is a new row: an older record may still come.
        stays = F.when((stays == "update") & gone, F.lit("delete")).otherwise(stays)
    alone = F.when(F.col("_contested"), F.lit("contested")).otherwise(F.col("_if_won"))
    frame = frame.withColumn("_if_won", stays)
    return frame.withColumn("outcome", F.coalesce(F.col("_leaves"), alone))


def _compared(contract: Contract, frame: DataFrame, table: Standing) -> DataFrame:
    """Adds what the table says of each row: `_had` its key, `_wins` over what stands there,
    `_equals` it, `_is_same` as the former row that it replaces, and `_displaces` a standing one."""
    from pyspark.sql import functions as F

    sequence = contract.sequence
    partition = _partition_of(contract)
    # Warnings are no part of the hash; they decide only whether a former row stays as it was.
    warned = F.concat_ws("|", "_warnings") if table.has_former else F.lit("")
    values = (F.col(sequence), F.col("_row_hash"), partition)
    names = ("_sequence", "_hash", "_in")
    theirs = table.rows.select(
        *[F.col(k).alias(f"_published_{k}") for k in contract.key],
        *[v.alias(f"_held{n}") for v, n in zip(values, names, strict=True)],
        warned.alias("_held_warned"),
        F.col("_former").alias("_held_former"),
    )
    if table.revivable is None:
        revived = {n: F.lit(None) for n in names}
    else:
        other = table.revivable.select(
            *[F.col(k).alias(f"_revived_{k}") for k in contract.key],
            *[v.alias(f"_revived{n}") for v, n in zip(values, names, strict=True)],
        )
        on = [F.col(f"_published_{k}") == F.col(f"_revived_{k}") for k in contract.key]
        theirs = theirs.join(other, on, "left")
        revived = {n: F.col(f"_revived{n}") for n in names}
    on = [F.col(k) == F.col(f"_published_{k}") for k in contract.key]
    frame = frame.join(theirs, on, "left")
    had = F.col("_held_hash").isNotNull()
    rival = {
        n: F.when(F.col("_held_former"), revived[n]).otherwise(F.col(f"_held{n}")) for n in names
    }
    same_time = values[0] == rival["_sequence"]
    same = same_time & (values[1] == rival["_hash"])
    greater = (
        (values[0] > rival["_sequence"])
        | (same_time & (values[1] > rival["_hash"]))
        | (same & (values[2] < rival["_in"]))
    )
    unaltered = (
        F.col("_held_former")
        & (values[0] == F.col("_held_sequence"))
        & (values[1] == F.col("_held_hash"))
        & (values[2] == F.col("_held_in"))
        & (warned == F.col("_held_warned"))
    )

    def sure(condition: Column) -> Column:
        return F.coalesce(condition, F.lit(False))

    return frame.withColumns(
        {
            "_had": had,
            "_wins": rival["_hash"].isNull() | sure(greater),
            "_equals": sure(same),
            "_is_same": sure(unaltered),
            "_displaces": sure(~F.col("_held_former") & greater),
        }
    )


def _partition_of(contract: Contract) -> Column:
    from pyspark.sql import functions as F

    return F.lit("") if contract.partitioning is None else F.col("_partition")


def repeated_keys(contract: Contract, frame: DataFrame) -> pa.Table:
    """The keys that occur more than once in transformed rows, whether the rows are valid or not.

    Only the key columns are needed, so this pass costs a fraction of the batch. Stops counting at
    one more than _FEW_KEYS.
    """
    keys = list(contract.key)
    repeated = frame.groupBy(*keys).count().where("count > 1").select(*keys)
    return repeated.limit(_FEW_KEYS + 1).toArrow()


def _contested(contract: Contract, frame: DataFrame, repeated: pa.Table | None) -> DataFrame:
    """Adds `_contested`: whether another row of the batch has the same key."""
    from pyspark.sql import functions as F

    if repeated is None or repeated.num_rows == 0:
        return frame.withColumn("_contested", F.lit(False))
    if repeated.num_rows > _FEW_KEYS:
        return frame.withColumn("_contested", F.lit(True))
    marks = frame.sparkSession.createDataFrame(repeated)
    marks = marks.select(*[F.col(k).alias(f"_repeated_{k}") for k in contract.key])
    on = [F.col(k) == F.col(f"_repeated_{k}") for k in contract.key]
    marked = frame.join(copied_if_few(marks, repeated.num_rows), on, "left")
    return marked.withColumn("_contested", F.col(f"_repeated_{contract.key[0]}").isNotNull())


def settled(contract: Contract, contested: DataFrame) -> DataFrame:
    """Gives the winner of each contested key the outcome that it would have had alone. Of the other
    rows, the greatest of each partition is superseded: it wins if the winner is withdrawn. So are
    those that only the hash decided against: it changes with what a row looked up. The rest are
    duplicates within their own partition. Only contested rows are sorted, not the whole batch.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    order = greatest_first(contract)
    of_all = F.row_number().over(Window.partitionBy(*contract.key).orderBy(*order))
    of_its_own = F.row_number().over(
        Window.partitionBy(*contract.key, "_partition").orderBy(*order[:-1])
    )
    sequence = F.col(contract.sequence)
    own = Window.partitionBy(*contract.key, "_partition")
    newest = sequence == F.max(sequence).over(own)
    at_once = Window.partitionBy(*contract.key, "_partition", sequence)
    tied = newest & (F.col("_row_hash") != F.max("_row_hash").over(at_once))
    ranks = {"_of_all": of_all, "_of_its_own": of_its_own, "_tied": tied}
    ranked = contested.drop("outcome").withColumns(ranks)
    outcome = (
        F.when(F.col("_of_all") == 1, F.col("_if_won"))
        .when((F.col("_of_its_own") == 1) | F.col("_tied"), F.lit("superseded"))
        .otherwise(F.lit("duplicate"))
    )
    return ranked.withColumn("outcome", outcome).drop(*ranks)


def leaving(contract: Contract, table: Standing, winners: DataFrame | None) -> DataFrame:
    """The former rows whose key has no winner in the batch (`outcome` is `left`), and the rows that
    take their places (`revived`), with the table's columns."""
    from pyspark.sql import functions as F

    keys = list(contract.key)
    gone = table.rows.where("_former").drop("_former")
    if winners is not None:
        gone = gone.join(winners.select(*keys).distinct(), keys, "left_anti")
    left = gone.withColumn("outcome", F.lit("left"))
    if table.revivable is None:
        return left
    revived = table.revivable.join(gone.select(*keys), keys, "left_semi")
    return left.unionByName(revived.select(*gone.columns).withColumn("outcome", F.lit("revived")))
