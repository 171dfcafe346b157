"""Tables of the lake by name, in the catalogue of a Spark session."""

from __future__ import annotations

import pytest

from spark_jobs.catalog import register
from spark_jobs.engines.session import Engine
from spark_jobs.errors import StorageError
from spark_jobs.report import LakeSpec
from tests.lakes import MONDAY, TUESDAY, TinyLake, bronze, column

pytestmark = pytest.mark.jvm
CATALOG = "spark_catalog"


def spec(lake: TinyLake) -> LakeSpec:
    return LakeSpec(contracts=str(lake.contracts), zones=lake.zones, run_id="by hand")


def test_what_is_published_is_found_by_name_and_a_name_that_is_taken_is_refused(
    lake: TinyLake, spark: Engine
) -> None:
    lake.define(bronze("shops", "csv", column("id")))
    lake.define(bronze("nothing", "csv", column("id")))
    lake.land("shops", MONDAY, "shops.csv", "id\n1\n2\n")
    lake.run("bronze.shops", MONDAY)
    name, version = "`spark_catalog`.`bronze`.`shops`", lake.versions("bronze.shops")
    try:
        assert register(spark.spark, spec(lake), CATALOG) == [name]
        assert spark.spark.table(name).count() == 2
        lake.land("shops", TUESDAY, "shops.csv", "id\n3\n")
        lake.run("bronze.shops", TUESDAY)
        assert register(spark.spark, spec(lake), CATALOG) == [name], "it is there"
        assert spark.spark.table(name).count() == 3, "what was committed by location is seen"
        assert lake.versions("bronze.shops") == version + 1, "registering committed something"

        elsewhere = lake.beside("elsewhere")
        elsewhere.zones["bronze"] = str(lake.root / "elsewhere" / "bronze")
        elsewhere.run("bronze.shops", MONDAY)
        with pytest.raises(StorageError, match=r"and the lake has it at .*elsewhere"):
            register(spark.spark, spec(elsewhere), CATALOG)

        spark.spark.sql(f"DROP TABLE {name}")
        spark.spark.sql(f"CREATE TABLE {name} (id string) USING DELTA")
        with pytest.raises(StorageError, match="is a managed table"):
            register(spark.spark, spec(lake), CATALOG)
    finally:
        spark.spark.sql(f"DROP TABLE IF EXISTS {name}")
