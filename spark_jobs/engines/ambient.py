"""The session that is already there: a job of EMR Serverless or Databricks has one, tuned and paid for.

Belongs here: finding it, and seeing that it means what the platform means. Does not belong here:
starting or stopping anything (session.py); a session that others gave is theirs to end.

It is a classic one on the driver, or one of Spark Connect; PySpark says which, and none of the Connect
client is imported for a classic one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from spark_jobs.errors import EngineUnavailable

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Functions of PySpark are made for one kind of session, by this variable.
_CONNECT = "SPARK_CONNECT_MODE_ENABLED"


def session(needed: Mapping[str, str], wanted: Mapping[str, str]) -> SparkSession:
    """The active session, or that of the job; its settings are `needed` ones, and `wanted` ones where
    it takes them.

    Raises EngineUnavailable naming the setting if it keeps another value than a needed one.
    """
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    spark = SparkSession.getActiveSession() or SparkSession.builder.getOrCreate()
    if type(spark).__module__.startswith("pyspark.sql.connect"):
        os.environ.setdefault(_CONNECT, "1")
    for key, value in {**wanted, **needed}.items():
        try:
            if spark.conf.get(key, None) != value:
                spark.conf.set(key, value)
        except PySparkException as error:  # a managed service lets nobody touch some
            if key in needed:
                raise EngineUnavailable(_refusal(key, value, "does not let it be set")) from error
    for key, value in needed.items():
        if (got := spark.conf.get(key, None)) != value:
            raise EngineUnavailable(_refusal(key, value, f"keeps {got}"))
    return spark


def _refusal(key: str, value: str, problem: str) -> str:
    return (
        f"the session that is there {problem}: {key} has to be {value}, or times and bad values mean"
        " something else. Set it where the job or the cluster is defined."
    )
