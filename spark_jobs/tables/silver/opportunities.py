"""CRM opportunities, latest version of each."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE, boolean, day, instant, number, text


def transform(opportunities: DataFrame) -> DataFrame:
    """One row per delivered opportunity."""
    return opportunities.select(
        *LINEAGE,
        text("Id").alias("opportunity_id"),
        text("AccountId").alias("account_id"),
        text("Name").alias("name"),
        text("StageName").alias("stage"),
        number("Amount", "decimal(18,2)").alias("amount"),
        day("CloseDate").alias("close_date"),
        number("Probability", "decimal(5,2)").alias("probability"),
        instant("CreatedDate").alias("created_at"),
        instant("LastModifiedDate").alias("last_modified_at"),
        instant("SystemModstamp").alias("system_modstamp"),
        F.coalesce(boolean("IsDeleted"), F.lit(False)).alias("is_deleted"),
    )
