"""CRM leads, latest version of each."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE, boolean, instant, text


def transform(leads: DataFrame) -> DataFrame:
    """One row per delivered lead."""
    return leads.select(
        *LINEAGE,
        text("Id").alias("lead_id"),
        text("FirstName").alias("first_name"),
        text("LastName").alias("last_name"),
        F.lower(text("Email")).alias("email"),
        text("Phone").alias("phone"),
        text("Company").alias("company"),
        text("Status").alias("status"),
        F.coalesce(text("LeadSource"), F.lit("Unknown")).alias("lead_source"),
        instant("CreatedDate").alias("created_at"),
        instant("LastModifiedDate").alias("last_modified_at"),
        instant("SystemModstamp").alias("system_modstamp"),
        F.coalesce(boolean("IsDeleted"), F.lit(False)).alias("is_deleted"),
    )
