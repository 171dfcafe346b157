"""The marts: dbt models as assets, and the warehouse that they are built in."""
