"""What the documents say is there: paths, links, commands, options, columns, rules, keys.

Here: everything that can be told without running a command. What the documents tell people to run
is run by tests/e2e/test_readme.py.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import click
import pytest
import yaml

from lakehouse.cli import main
from lakehouse.definitions import build_definitions
from lakehouse.settings.load import load_settings
from lakehouse.standins.data.delivery import deliver
from spark_jobs.batch import layout, quarantine
from spark_jobs.contract import source
from spark_jobs.contract.checks import KINDS, declared
from spark_jobs.contract.model import Gates, Input, Publish, Warehouse
from spark_jobs.contract.reader import load_contract, load_contracts
from spark_jobs.contract.rules import RULES
from spark_jobs.lake import ledger
from spark_jobs.report import STORAGE_OPTIONS, Status
from tests import documents
from tests.documents import PROJECT

PAGES = documents.pages()
named = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(PROJECT)))


def load_reference_pages() -> ModuleType:
    path = PROJECT / "scripts/reference_pages.py"
    spec = importlib.util.spec_from_file_location("reference_pages", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference_pages"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    return load_reference_pages()


@pytest.fixture(scope="module")
def generated(reference: ModuleType) -> dict[str, str]:
    return reference.table_pages()


def reference_page(name: str) -> str:
    return (PROJECT / "docs/reference" / f"{name}.md").read_text()


def mentioned(text: str) -> set[str]:
    """Every word that stands in code, alone or in a list of code."""
    return {
        word for code in re.findall(r"`([^`\n]+)`", text) for word in re.split(r"[^\w.]+", code)
    }


# -- links and paths ---------------------------------------------------------------------------


@named
def test_every_link_resolves(page, generated):
    broken = []
    for link in documents.links(page):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        site = (
            path.relative_to(PROJECT / "docs").as_posix()
            if (PROJECT / "docs") in path.parents
            else ""
        )
        if site in generated:
            continue
        is_there = path.exists() and path.is_relative_to(PROJECT)
        # A page may take its headings from the README.
        known = documents.anchors(path) | documents.anchors(documents.README) if anchor else ()
        if not is_there or (anchor and anchor not in known):
            broken.append(link)
    assert broken == []


@named
def test_every_path_that_is_named_is_there(page):
    roots = {p.name for p in PROJECT.iterdir() if p.is_dir() and not p.name.startswith(".")}
    missing = []
    for code in documents.inline_code(page):
        path = code.removesuffix("/")
        if "/" not in code or path.split("/")[0] not in roots or re.search(r"[<*\s]", code):
            continue
        if not (PROJECT / path).exists():
            missing.append(code)
    assert missing == []


def test_images_are_whole_and_load_nothing_from_elsewhere():
    for path in (PROJECT / "docs/images").glob("*.svg"):
        root = ET.parse(path).getroot()
        assert root.tag.endswith("svg") and root.get("viewBox"), path
        assert not re.search(r"url\(['\"]?http|href=|@import|@font-face", path.read_text()), path


def test_images_that_exist_are_shown():
    shown = "".join(page.read_text() for page in PAGES)
    assert [p.name for p in (PROJECT / "docs/images").iterdir() if p.name not in shown] == []


# -- commands ----------------------------------------------------------------------------------


@named
def test_every_command_and_option_exists(page):
    for words in documents.commands(page):
        command, context = main, click.Context(main)
        while words and isinstance(command, click.Group) and not words[0].startswith("-"):
            found = command.get_command(context, words[0])
            assert found is not None, f"lakehouse {' '.join(words)}"
            command, words = found, words[1:]
        options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        unknown = {w for w in words if w.startswith("--")} - options - {"--help"}
        assert not unknown, f"{command.name}: {unknown}"


@named
def test_every_make_target_exists(page):
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.M))
    assert documents.make_targets(page) <= targets


@named
def test_commands_stand_in_blocks_that_a_test_runs(page):
    languages = {b.language for b in documents.blocks(page)}
    assert languages <= {"sh", "text", "yaml", "python"}, (
        "sh is run; bash, shell and console are not"
    )


@named
def test_python_and_yaml_in_the_documents_parse(page):
    for block in documents.blocks(page):
        if block.language == "python":
            compile(block.text, str(block), "exec")
        if block.language == "yaml":
            yaml.safe_load(block.text)


def test_the_readme_shows_what_the_sample_gives(tmp_path):
    """The summary in the README, but for checks and seconds, is that of the default delivery."""
    deliver(tmp_path / "landing", tmp_path / "answers.json")
    answers = json.loads((tmp_path / "answers.json").read_text())["tables"]
    (block,) = [b for b in documents.blocks(documents.README) if b.text.startswith("table ")]
    heading, *lines = block.text.splitlines()
    columns = heading.split()[1:6]
    assert columns == ["read", "published", "duplicate", "quarantined", "filtered"]
    compared = set()
    for line in lines:
        table, *numbers = line.split() or [""]
        if table in answers:
            shown = [int(n.replace(",", "")) for n in numbers[:5]]
            assert shown == [sum(day[c] for day in answers[table].values()) for c in columns], table
            compared.add(table)
    assert {"bronze.orders", "silver.fx_rates", "silver.orders"} <= compared


def test_jobs_schedules_and_sensors_that_are_named_exist():
    settings = load_settings("local", project=PROJECT)
    definitions = build_definitions(settings, marts=False)
    there = {s.name for s in (*definitions.schedules, *definitions.sensors)}
    named = re.findall(
        r"`(lake_\w+|\w+_sensor)`", (PROJECT / "docs/how-to/schedule.md").read_text()
    )
    assert set(named) == there


# -- the reference -----------------------------------------------------------------------------


def test_every_mark_is_generated_and_every_generator_is_used(reference):
    used = {m for page in PAGES for m in reference.MARK.findall(page.read_text())}
    assert used == set(reference.GENERATORS)


def test_every_table_and_mart_has_a_page(reference, generated):
    for table in load_contracts(PROJECT / "contracts"):
        assert f"# {table}" in generated[reference.page_of(table)]
    marts = {
        f"{path.parent.name}.{path.stem}"
        for schema in ("sales", "analytics", "finance")
        for path in (PROJECT / "dbt_project/models" / schema).glob("*.sql")
    }
    assert marts == set(re.findall(r"^## (\S+)$", generated["reference/marts.md"], re.M))


def test_the_page_of_a_table_lists_its_columns_checks_and_neighbours(reference, generated):
    page = generated[reference.page_of("silver.orders")]
    contract = load_contracts(PROJECT / "contracts")["silver.orders"]
    for name in (*contract.column, *(c.name for c in declared(contract))):
        assert f"`{name}`" in page
    for neighbour in ("bronze.orders", "silver.fx_rates", "silver.customers", "gold.fact_sales"):
        assert f"[{neighbour}]" in page
    assert "[sales.orders_fx]" in page


def test_the_contract_page_knows_every_rule_property_and_threshold():
    words = mentioned(reference_page("contract"))
    parameters = {n for spec in RULES.values() for n in spec.model_fields} - {"rule"}
    parameters.add("max_failing")  # allowed with every rule
    models = (*source.KINDS.values(), Input, Publish, Gates, Warehouse)
    wanted = {
        *RULES,
        *parameters,
        *source.KINDS,
        *(n for model in models for n in model.model_fields),
    }
    for path in (PROJECT / "contracts").glob("*/*.yaml"):
        wanted |= {p["property"] for p in yaml.safe_load(path.read_text())["customProperties"]}
    # The layers' thresholds stand in a generated table.
    assert wanted - words - set(Gates.model_fields) == set()


def test_the_contract_page_shows_a_contract_that_loads(tmp_path):
    (example,) = [
        b
        for b in documents.blocks(PROJECT / "docs/reference/contract.md")
        if b.title.startswith("A small")
    ]
    path = tmp_path / "silver/shops.yaml"
    path.parent.mkdir()
    path.write_text(example.text)
    contract = load_contract(path)
    assert contract.key == ("shop_id",)
    assert {"country_length", "updated_at_not_null"} <= {r.name for r in contract.rules}


def test_the_rule_pages_show_rules_that_load(tmp_path):
    contract = yaml.safe_load((PROJECT / "contracts/silver/products.yaml").read_text())
    for name, column in (("reference/contract.md", "name"), ("how-to/add-a-rule.md", "size")):
        (block,) = [
            b
            for b in documents.blocks(PROJECT / "docs" / name)
            if b.language == "yaml" and b.text.startswith("quality:")
        ]
        properties = contract["schema"][0]["properties"]
        (chosen,) = [p for p in properties if p["name"] == column]
        chosen["quality"] = yaml.safe_load(block.text)["quality"]
    path = tmp_path / "silver/products.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(contract))
    assert {"email_pattern", "size_range"} <= {r.name for r in load_contract(path).rules}


def test_the_checks_page_knows_every_check():
    assert KINDS.keys() <= mentioned(reference_page("checks"))


def test_the_lake_page_knows_every_column_of_the_platform():
    words = mentioned(reference_page("lake"))
    technical = {n for n, _ in (*layout.BRONZE_COLUMNS, *layout.COMMON_COLUMNS)}
    kept = {n for n, _ in quarantine.COLUMNS} | set(quarantine.DECISIONS.names)
    assert technical | set(ledger.SCHEMA.names) | kept <= words
    assert set(Status.__args__) - {"unchanged"} <= words


def test_the_settings_page_knows_every_key_and_variable(reference):
    text = reference.filled(reference_page("settings"))
    files = list((PROJECT / "platform/lakehouse/settings/environments").glob("*.yaml"))
    for path in files:
        for key, _ in reference._leaves(yaml.safe_load(path.read_text()), ""):
            known = f"`{key}`" in text or f"`{key.rpartition('.')[0]}`" in text
            assert known, f"{path.name}: {key}"
    assert set(STORAGE_OPTIONS) <= mentioned(text)


def test_the_way_to_production_names_every_variable_that_its_settings_take():
    prod = (PROJECT / "platform/lakehouse/settings/environments/prod.yaml").read_text()
    taken = set(re.findall(r": ((?:AWS|LAKEHOUSE)_[A-Z_]+)", prod))
    told = mentioned((PROJECT / "docs/how-to/production.md").read_text())
    told = {word for word in told if word.startswith(("AWS_", "LAKEHOUSE_"))}
    assert told - taken == {"LAKEHOUSE_ENV"} and taken <= told


def test_the_command_page_knows_every_command(reference):
    text = reference.cli()
    context = click.Context(main)
    for name in main.list_commands(context):
        assert f"## lakehouse {name}" in text


def test_what_the_reference_calls_an_error_says_whether_it_is_retried(reference):
    assert "| `ConflictError` |" in reference.errors()
    assert re.search(r"`ConflictError` \|.*\| yes \|", reference.errors())
    assert re.search(r"`ContractError` \|.*\| no \|", reference.errors())


# -- the site ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_site_builds_strictly_and_asks_nobody_else_for_anything(tmp_path):
    site = tmp_path / "site"
    said = subprocess.run(
        [Path(sys.executable).with_name("mkdocs"), "build", "--strict", "--quiet", "-d", site],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert said.returncode == 0, said.stderr
    assert (site / "reference/tables/silver/orders/index.html").exists()
    for page in site.rglob("*.html"):
        loads = re.findall(
            r"<(?:script|img|iframe|link)\b[^>]*(?:src|href)=\"?(https?:[^\">\s]+)",
            page.read_text(),
        )
        assert loads == [], page


def test_the_page_of_the_planes_names_every_room():
    page = (PROJECT / "docs/concepts/planes.md").read_text()
    for plane in ("platform/lakehouse", "spark_jobs"):
        rooms = {p.parent.name for p in (PROJECT / plane).glob("*/__init__.py")}
        _, _, table = page.partition(f"| `{plane}/` | |")
        named = re.findall(r"`(\w+)/`", table.partition("\n\n")[0])
        assert set(named) == rooms
