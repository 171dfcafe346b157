"""`lakehouse check`: settings, contracts and their changes, without running anything."""

from __future__ import annotations

import click

from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from spark_jobs import quoting
from spark_jobs.errors import ContractError


@click.command()
def check() -> None:
    """Check the settings of the environment, every contract, what changed in the contracts since
    their tables were last published, and that the marts declare their personal columns. A contract
    that says what is so anyway is refused here, and nowhere else."""
    from spark_jobs.contract.compatibility import ensure_compatible, published
    from spark_jobs.contract.reader import load_contracts
    from spark_jobs.contract.repetition import repetitions
    from spark_jobs.contract.versions import transform_version
    from spark_jobs.lake.storage import Lake

    settings = load_settings()
    contracts = load_contracts(settings.contracts)
    promised = published(Lake(settings.zones, settings.storage))
    problems = []
    for table, contract in contracts.items():
        try:
            transform_version(contract)  # a table without its function is an error here already
            for change in ensure_compatible(promised.get(table), contract):
                kind = "breaking, in a new major version" if change.breaking else "compatible"
                click.echo(quoting.plain(f"{table}: {change.text} ({kind})"))
        except ContractError as error:
            problems.append(str(error))
        problems += repetitions(contract)
    if problems:
        raise ContractError("\n".join(problems))
    _check_marts(settings)
    rules = sum(len(c.rules) for c in contracts.values())
    click.echo(f"{settings.environment}: {len(contracts)} contracts with {rules} rules are valid.")


def _check_marts(settings: Settings) -> None:
    from lakehouse.marts.builds import is_prepared

    if (settings.dbt_project / "dbt_project.yml").is_file() and not is_prepared(settings):
        from lakehouse.marts.dbt import prepared_project  # dbt: only for a project that changed

        prepared_project(settings)
