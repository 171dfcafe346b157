"""A stand-in for Amazon Redshift: PostgreSQL behind a shim that speaks what Redshift's clients speak.

Belongs here: what makes PostgreSQL answer dbt-redshift and redshift_connector as a cluster would. It
really executes what it is sent: COPY and UNLOAD read and write Parquet in the object store, views
without schema binding are bound when they are queried, transactions are serializable, and temporary
passwords come from the credentials API. What Redshift would refuse is refused here, where it is
known. Does not belong here: anything of the platform, which connects as it does in production.
"""

from lakehouse.standins.servers.redshift.server import Fault, RedshiftServer, serve

__all__ = ["Fault", "RedshiftServer", "serve"]
