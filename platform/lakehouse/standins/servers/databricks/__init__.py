"""A stand-in for a Databricks workspace: jobs that really run, and files of Unity Catalog volumes."""
