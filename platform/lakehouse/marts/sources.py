"""Writes the part of the dbt project that follows from the contracts: sources and staging.

Belongs here: the text of `models/sources.yml` and `models/staging/`. Does not belong here: marts,
which are written by hand, and running dbt.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from spark_jobs.contract.model import Contract

# What marts select from; a mart that needs another table adds it here.
STAGED = (
    "silver.accounts",
    "silver.addresses",
    "silver.contacts",
    "silver.fx_rates",
    "silver.opportunities",
    "silver.orders",
    "gold.dim_customer",
    "gold.dim_product",
    "gold.fact_behavior",
    "gold.fact_sales",
    "gold.product_costs",
)
LAYERS = ("silver", "gold")
NOTICE = (
    "Generated from the contracts by `lakehouse.marts.sources`; change a contract, not this file."
)

# The types that DuckDB and Redshift share; a source's timestamps are UTC and carry no zone.
_TYPES = {"string": "varchar", "int": "integer", "array<string>": "varchar[]"}


def render(contracts: Mapping[str, Contract]) -> dict[str, str]:
    """The generated files, by path within the dbt project.

    Raises KeyError if a staged table has no contract.
    """
    staged = {table: contracts[table] for table in STAGED}
    files = {
        "models/sources.yml": _yaml({"version": 2, "sources": _sources(contracts)}),
        "models/staging/staging.yml": _yaml(
            {"version": 2, "models": [_staging_properties(c) for c in staged.values()]}
        ),
    }
    for contract in staged.values():
        files[f"models/staging/{staging_model(contract)}.sql"] = _staging_sql(contract)
    return files


def write(contracts: Mapping[str, Contract], dbt_project_dir: str | Path) -> list[Path]:
    """Writes the generated files that differ from what is there; returns their paths."""
    written = []
    for relative, text in render(contracts).items():
        path = Path(dbt_project_dir, relative)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            written.append(path)
    return written


def staging_model(contract: Contract) -> str:
    return f"stg_{contract.name}"


def _sources(contracts: Mapping[str, Contract]) -> list[dict[str, Any]]:
    return [
        {
            "name": layer,
            "schema": layer,
            "description": f"Tables of the lake's {layer} layer, at the version pinned for the run",
            "tables": [
                {
                    "name": c.name,
                    "description": c.description,
                    "config": {
                        "meta": {"domain": c.domain, "owner": c.owner, "version": c.version}
                    },
                    "columns": _columns(c),
                }
                for c in sorted(contracts.values(), key=lambda c: c.name)
                if c.layer == layer
            ],
        }
        for layer in LAYERS
    ]


def _columns(contract: Contract) -> list[dict[str, Any]]:
    return [
        {
            "name": c.name,
            "data_type": _TYPES.get(c.type, c.type),
            "description": c.description,
            "config": {"meta": {"classification": c.classification}},
        }
        for c in contract.columns
    ]


def _staging_properties(contract: Contract) -> dict[str, Any]:
    return {
        "name": staging_model(contract),
        "description": f"{contract.description}; {contract.table} without the platform's columns",
        "columns": _columns(contract),
    }


def _staging_sql(contract: Contract) -> str:
    columns = ",\n".join(f"    {c.name}" for c in contract.columns)
    source = f"{{{{ source('{contract.layer}', '{contract.name}') }}}}"
    return f"-- {NOTICE}\nselect\n{columns}\nfrom {source}\n"


def _yaml(document: dict[str, Any]) -> str:
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    return f"# {NOTICE}\n{text}"


def main() -> None:
    """Brings the current project's generated files up to date."""
    from lakehouse.settings.load import project_root
    from spark_jobs.contract.reader import load_contracts

    root = project_root()
    for path in write(load_contracts(root / "contracts"), root / "dbt_project"):
        print(path.relative_to(root))


if __name__ == "__main__":
    main()
