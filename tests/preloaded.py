"""What the server of processes.py imports once; nothing here starts a thread or opens a connection."""

import pysail.spark  # noqa: F401, TID251
import pyspark.sql.connect.functions
import pyspark.sql.connect.session
import pyspark.sql.functions  # noqa: F401

import spark_jobs.run  # noqa: F401
import tests.integration.stream_lake
import tests.lakes  # noqa: F401
