"""What the documents tell people to run, run: every block of shell in the README and in docs/.

Each document starts from a copy of the project with a small lake in it. Not here: the drills of the
runbook (test_drill.py), and what is said about paths, options and columns (tests/unit/test_docs.py).
"""

from __future__ import annotations

import pytest
from deltalake import DeltaTable

from tests import documents
from tests.documents import DRILLS, PROJECT, README, RUNBOOK

pytestmark = pytest.mark.slow

# Run by other tests, or by everybody who works here: the first run of a lake
# (test_sample_lake.py), a rehearsal of production (test_rehearsal.py), the tests themselves, and the UI
# (test_ui.py).
RUN_ELSEWHERE = {
    "make run",
    "make run-cloud",
    "make run-sources",
    "lakehouse rehearse --runner databricks",
    "make test",
    "make ui",
}
# Run where there is a stream or a warehouse (tests/integration/test_stream_assets.py and
# test_redshift_marts.py).
WITH_A_SERVICE = {"where a stream is", "after the workflow"}
# Run step by step by test_drill.py.
REHEARSED = [b for name in DRILLS for b in documents.section(RUNBOOK, name)]


def runnable(page):
    return [
        b
        for b in documents.blocks(page)
        if b.language == "sh"
        and b not in REHEARSED
        and b.title not in {documents.A_PROCESS_EACH, *WITH_A_SERVICE}
        and not set(b.text.splitlines()) <= RUN_ELSEWHERE
    ]


IN_README = {b.text for b in runnable(README)}


def not_in_readme(page):
    """Its blocks but for those that the README has word for word."""
    return [b for b in runnable(page) if b.text not in IN_README]


WITH_COMMANDS = [page for page in documents.pages() if page != README and not_in_readme(page)]


def test_a_table_is_added_as_the_readme_tells(project):
    blocks = documents.section(README, "Add your own table")
    for block in blocks:
        if block.title:
            project.write(block)
    assert len([b for b in blocks if b.title]) == 3, "one contract, one function, one test"
    said = "".join(project.run_block(b) for b in blocks if b.language == "sh")
    assert "contracts with" in said
    assert "1 passed" in said

    table = DeltaTable(str(project.lake / "gold/revenue_daily")).to_pyarrow_table()
    orders = DeltaTable(str(project.lake / "silver/orders")).to_pyarrow_table()
    assert sum(table["order_count"].to_pylist()) == orders.num_rows
    assert sum(table["revenue_usd"].to_pylist()) == sum(orders["amount_usd"].to_pylist())

    said = project.run(
        "pytest -q tests/unit/test_rules.py tests/unit/test_marts.py"
        " -k 'gold.revenue_daily or are_what_the_contracts_say'"
    )
    assert "2 passed" in said, "the tests of all tables know this one"
    project.run("lakehouse gaps --tables gold.revenue_daily")
    again = project.run(
        "lakehouse backfill --from 2026-10-05 --to 2026-10-07 --tables gold.revenue_daily"
    )
    assert "Nothing had changed" in again


def test_the_other_commands_of_the_readme_do_what_they_say(project):
    adding = documents.section(README, "Add your own table")
    for block in runnable(README):
        if block not in adding:
            project.run_block(block)


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda p: str(p.relative_to(PROJECT / "docs")))
def test_the_commands_of_a_page_do_what_they_say(project, page):
    for block in not_in_readme(page):
        project.run_block(block)
