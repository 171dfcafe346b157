"""The version of a table's code: what makes it another, and what does not."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from spark_jobs.contract.versions import transform_version
from spark_jobs.errors import ContractError
from tests.lakes import TinyLake, bronze, column, contract

TRANSFORM = """
    from spark_jobs.columns import LINEAGE
    from spark_jobs.tables.silver.feed_shared import code

    def transform(feed):
        return feed.select(*LINEAGE, code)
"""


@pytest.fixture
def feed(lake: TinyLake) -> TinyLake:
    lake.define(bronze("feed", "json", column("code")))
    silver = contract("silver.feed", [column("code")], inputs=[{"table": "bronze.feed"}])
    lake.define(silver, TRANSFORM)
    shared(lake, "code = 'code'")
    return lake


def shared(lake: TinyLake, source: str) -> None:
    (lake.transforms / "silver" / "feed_shared.py").write_text(source)


def version(lake: TinyLake, table: str = "silver.feed") -> str:
    return transform_version(lake.parsed()[table])


def test_a_change_of_a_transform_of_what_it_imports_or_of_the_contract_is_another(feed):
    found = [version(feed)]
    assert version(feed) == found[0]
    shared(feed, "code = 'CODE'")
    found.append(version(feed))
    feed.define(
        contract(
            "silver.feed", [column("code")], inputs=[{"table": "bronze.feed"}], version="1.1.0"
        )
    )
    found.append(version(feed))
    source = feed.transforms / "silver" / "feed.py"
    source.write_text(source.read_text() + "# changed")
    found.append(version(feed))
    assert len(set(found)) == 4


def test_another_tables_code_plays_no_part(feed):
    before = version(feed)
    feed.define(
        contract("silver.other", [column("code")], inputs=[{"table": "bronze.feed"}]), "x = 1"
    )
    assert version(feed) == before
    assert version(feed, "bronze.feed")


def test_a_table_without_transform_and_one_that_is_no_python_are_named(feed):
    shared(feed, "code = (")
    with pytest.raises(ContractError, match=r"feed_shared.py:1: not Python: '\(' was never closed"):
        version(feed)
    (feed.transforms / "silver" / "feed.py").unlink()
    with pytest.raises(
        ContractError, match=r"silver\.feed has a contract but no transform\. Write"
    ):
        version(feed)


def test_no_transform_is_imported_for_it():
    code = """
import sys
from spark_jobs.contract.reader import load_contracts
from spark_jobs.contract.versions import transform_version
versions = [transform_version(c) for c in load_contracts("contracts").values()]
assert len(set(versions)) == len(versions)
assert not any(n.startswith("pyspark") for n in sys.modules), "PySpark"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_module_is_parsed_once_in_a_process(
    feed: TinyLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that parse at once may fail, by CPython's fault: definitions have parsed before."""
    before = version(feed)
    monkeypatch.setattr(ast, "parse", None)
    assert version(feed) == before
