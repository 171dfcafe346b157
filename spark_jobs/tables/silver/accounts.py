"""CRM accounts, latest version of each."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE, boolean, instant, number, text


def transform(accounts: DataFrame) -> DataFrame:
    """One row per delivered account."""
    return accounts.select(
        *LINEAGE,
        text("Id").alias("account_id"),
        text("Name").alias("name"),
        text("Type").alias("account_type"),
        text("Industry").alias("industry"),
        number("AnnualRevenue", "decimal(18,2)").alias("annual_revenue"),
        text("BillingStreet").alias("billing_street"),
        text("BillingCity").alias("billing_city"),
        text("BillingState").alias("billing_state"),
        text("BillingPostalCode").alias("billing_postal_code"),
        text("BillingCountry").alias("billing_country"),
        text("Phone").alias("phone"),
        text("Website").alias("website"),
        number("Customer_Id__c", "bigint").alias("customer_id"),
        instant("CreatedDate").alias("created_at"),
        instant("LastModifiedDate").alias("last_modified_at"),
        instant("SystemModstamp").alias("system_modstamp"),
        F.coalesce(boolean("IsDeleted"), F.lit(False)).alias("is_deleted"),
    )
