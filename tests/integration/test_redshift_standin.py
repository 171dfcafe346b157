"""The stand-in for Redshift does what Redshift does, under the real driver: what other tests rest on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redshift_connector

from lakehouse.standins.servers.redshift import Fault
from lakehouse.standins.servers.redshift.server import DATABASE, NAME, ROLE, USER
from tests.warehouse import PASSWORD, REGION, Cloud

ROWS = pa.table(
    {
        "id": pa.array([1, 2, 3], pa.int64()),
        "name": ["Ada", None, ""],
        "amount": pa.array([1, None, 3], pa.decimal128(18, 2)),
        "seen": pa.array([0, 1, None], pa.timestamp("us", "UTC")),
        "tags": [["a"], None, []],
    }
)
TABLE = """create table gold.t (id bigint encode az64, name varchar(max), amount numeric(18,2),
 seen timestamp, tags super) diststyle key distkey(id) compound sortkey(seen)"""


@contextmanager
def connected(cloud: Cloud, **how: Any) -> Iterator[Any]:
    how = how or {"user": "loader", "password": PASSWORD}
    connection = redshift_connector.connect(
        host=cloud.redshift.host, port=cloud.redshift.port, database=DATABASE, region=REGION, **how
    )
    try:
        yield connection.cursor()
    finally:
        connection.close()


@pytest.fixture
def cursor(warehouse: Cloud) -> Iterator[Any]:
    warehouse.redshift.execute("create schema gold; grant all on schema gold to loader")
    with connected(warehouse) as cursor:
        yield cursor


@pytest.fixture(scope="module")
def folder(running_cloud: Cloud) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in running_cloud.environment.items():
            patch.setenv(name, value)
        yield running_cloud.bucket("standin-files")


def manifest(cloud: Cloud, folder: str, name: str, rows: pa.Table, **wrong: Any) -> str:
    """Rows as a Parquet file and a manifest of it; the manifest's location."""
    url = f"{folder}/{name}.parquet"
    fs, path = cloud.storage.filesystem(url)
    with fs.open_output_stream(path) as stream:
        pq.write_table(rows, stream)
    meta = {"content_length": fs.get_file_info(path).size}
    entry = {"url": url, "mandatory": True, "meta": meta, **wrong}
    fs, path = cloud.storage.filesystem(f"{folder}/{name}.manifest")
    with fs.open_output_stream(path) as stream:
        stream.write(json.dumps({"entries": [entry]}).encode())
    return f"{folder}/{name}.manifest"


def copy(location: str, table: str = "gold.t", role: str = ROLE, more: str = "") -> str:
    return f"copy {table} from '{location}' iam_role '{role}' format as parquet manifest {more}"


@pytest.mark.parametrize(
    ("how", "user"),
    [
        ({"user": "loader", "password": PASSWORD}, "loader"),
        ({"iam": True, "cluster_identifier": NAME, "db_user": USER}, USER),
        ({"iam": True, "is_serverless": True, "serverless_work_group": NAME}, "IAMR:lakehouse"),
    ],
    ids=["password", "cluster", "serverless"],
)
def test_a_client_logs_in_by_a_password_that_it_has_or_is_given(warehouse, how, user) -> None:
    with connected(warehouse, **how) as cursor:
        cursor.execute("select current_user")
        assert cursor.fetchone() == [user]


@pytest.mark.parametrize("password", ["wrong", "", "not a secret"])
def test_a_wrong_password_opens_nothing(warehouse, password) -> None:
    with (
        pytest.raises(redshift_connector.Error, match="password authentication failed"),
        connected(warehouse, user="loader", password=password),
    ):
        pass


def test_a_temporary_password_ends(warehouse) -> None:
    password, _ = warehouse.redshift.passwords.give(f"IAM:{USER}")
    with connected(warehouse, user=f"IAM:{USER}", password=password):
        pass
    given = warehouse.redshift.passwords.given[f"IAM:{USER}"]
    given[password] = given[password].replace(year=2020)
    with (
        pytest.raises(redshift_connector.Error, match="password authentication failed"),
        connected(warehouse, user=f"IAM:{USER}", password=password),
    ):
        pass


def test_copy_loads_what_the_manifest_lists_in_the_transaction_that_asks(
    warehouse, cursor, folder
) -> None:
    cursor.execute(TABLE)
    cursor.connection.commit()
    location = manifest(warehouse, folder, "rows", ROWS)
    cursor.execute(copy(location, more="serializetojson"))
    cursor.execute("select pg_last_copy_count()")
    assert cursor.fetchone() == [3]
    cursor.execute("select id, name, amount, tags from gold.t order by id")
    rows = [[i, n, a and str(a), t] for i, n, a, t in cursor.fetchall()]
    assert rows == [[1, "Ada", "1.00", '["a"]'], [2, None, None, None], [3, "", "3.00", "[]"]]
    cursor.connection.rollback()
    cursor.execute("select count(*) from gold.t")
    assert cursor.fetchone() == [0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": ROWS.drop(["tags"])}, "Table columns: 5, Data columns: 4"),
        ({"rows": ROWS.set_column(0, "id", pa.array([1, 2, 3], pa.int32()))}, "incompatible Parquet"),
        ({"rows": ROWS.set_column(2, "amount", pa.array([1, 2, 3], pa.decimal128(18, 3)))}, "'amount'"),
        ({"meta": {}}, "not in correct json format"),
        ({"meta": {"content_length": 7}}, "another size"),
        ({"url": "s3://standin-files/gone.parquet"}, "specified key does not exist"),
        ({"role": ROLE + "-of-another"}, "not authorized to assume IAM Role"),
        ({"more": ""}, "unsupported nested column"),
        ({"more": "serializetojson region 'eu-west-1'"}, "REGION argument is not supported"),
    ],
    ids=lambda v: "-".join(v) if isinstance(v, dict) else None,
)  # fmt: skip
def test_copy_refuses_what_redshift_refuses(warehouse, cursor, folder, change, said) -> None:
    cursor.execute(TABLE)
    wrong = {k: v for k, v in change.items() if k in ("meta", "url")}
    location = manifest(warehouse, folder, "wrong", change.get("rows", ROWS), **wrong)
    statement = copy(
        location, role=change.get("role", ROLE), more=change.get("more", "serializetojson")
    )
    with pytest.raises(redshift_connector.Error, match=said):
        cursor.execute(statement)


def test_a_late_binding_view_outlives_its_table_and_fails_without_it(cursor) -> None:
    cursor.execute("create table gold.t (id int, name varchar)")
    cursor.execute("create view gold.v as (select name from gold.t) with no schema binding")
    cursor.execute("select * from pg_get_late_binding_view_cols() cols(s name, v name, c name,"
                   " t varchar, n int)")  # fmt: skip
    assert cursor.fetchall() == (["gold", "v", "name", "character varying", 1],)
    cursor.execute("drop table gold.t cascade")
    cursor.connection.commit()
    with pytest.raises(redshift_connector.Error, match="does not exist"):
        cursor.execute("select * from gold.v")
    cursor.connection.rollback()
    cursor.execute("create table gold.t (id int, name varchar)")
    cursor.execute("insert into gold.t values (1, 'back')")
    cursor.execute("select * from gold.v")
    assert cursor.fetchone() == ["back"]


def test_a_text_without_a_length_has_256_bytes(cursor) -> None:
    cursor.execute("create table gold.t (name varchar)")
    with pytest.raises(redshift_connector.Error, match="too long"):
        cursor.execute("insert into gold.t values (repeat('x', 257))")


def test_transactions_that_cannot_be_put_in_order_fail_as_redshift_says(warehouse, cursor) -> None:
    cursor.execute("create table gold.a (x int)")
    cursor.execute("create table gold.b (x int)")
    cursor.connection.commit()
    with connected(warehouse) as other:
        for reads, _, who in (("gold.a", "gold.b", cursor), ("gold.b", "gold.a", other)):
            who.execute(f"select count(*) from {reads}")
        cursor.execute("insert into gold.b values (1)")
        other.execute("insert into gold.a values (1)")
        cursor.connection.commit()
        with pytest.raises(redshift_connector.Error, match=r"1023.*Serializable isolation"):
            other.connection.commit()


def test_unload_writes_what_a_query_gives(warehouse, cursor, folder) -> None:
    cursor.execute("create table gold.t (id bigint, name varchar, amount numeric(18,2))")
    cursor.execute("insert into gold.t values (1, 'Ada''s', 1.5), (2, null, null)")
    cursor.connection.commit()
    query = "select * from gold.t where coalesce(name, '''') <> ''x'' order by id"
    cursor.execute(
        f"unload ('{query}') to '{folder}/out/' iam_role '{ROLE}' format parquet manifest"
    )
    fs, path = warehouse.storage.filesystem(f"{folder}/out/manifest")
    with fs.open_input_file(path) as stream:
        (entry,) = json.loads(stream.read())["entries"]
    fs, path = warehouse.storage.filesystem(entry["url"])
    assert fs.get_file_info(path).size == entry["meta"]["content_length"]
    rows = pq.read_table(path, filesystem=fs)
    assert [str(t) for t in rows.schema.types] == ["int64", "string", "decimal128(18, 2)"]
    assert rows.to_pydict()["name"] == ["Ada's", None]


def test_faults_happen_where_they_are_asked_for(warehouse, cursor) -> None:
    cursor.execute("create table gold.t (x int)")
    cursor.connection.commit()
    faults = warehouse.redshift.shim.faults
    faults.append(Fault("insert into gold.t", "conflict"))
    with pytest.raises(redshift_connector.Error, match="1023"):
        cursor.execute("insert into gold.t values (1)")
    cursor.connection.rollback()
    faults.append(Fault("insert into gold.t", "cut"))
    with pytest.raises(redshift_connector.Error):
        cursor.execute("insert into gold.t values (1)")
    with connected(warehouse) as another:
        another.execute("insert into gold.t values (1)")
        faults.append(Fault("^commit", "reply is lost"))
        with pytest.raises(redshift_connector.Error):
            another.connection.commit()
    assert warehouse.redshift.execute("select count(*) from gold.t") == [(1,)]
