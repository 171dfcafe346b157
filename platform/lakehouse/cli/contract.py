"""`lakehouse contract`: the first draft of a table, from a file as its source delivers it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lakehouse.settings.load import load_settings
from spark_jobs import quoting
from spark_jobs.contract.model import Contract
from spark_jobs.contract.reader import load_contracts

if TYPE_CHECKING:
    from spark_jobs.draft.proposal import Proposal


@click.group()
def contract() -> None:
    """Contracts: draft those of a new table."""


@contract.command()
@click.option(
    "--from-file", "path", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True, help="A delivered file: CSV with a header, JSON lines or Parquet.",
)  # fmt: skip
@click.option("--name", help="Name of the table; default: the file's, without a date at its end.")
@click.option("--dataset", help="Folder of the dataset in landing; default: the table's name.")
@click.option("--domain", help="Default: asked for, or the domain of most tables.")
@click.option("--owner", help="Team; default: that of most tables.")
@click.option("--system", default="files", show_default=True, help="Where the files come from.")
@click.option(
    "--key", help="Columns of the key, with commas; default: what is unique and named so."
)
@click.option("--sequence", help="Column that tells which of two records of a key is newer.")
@click.option("--encoding", help="Text encoding of a CSV file that is not UTF-8.")
@click.option("--yes", is_flag=True, help="Ask nothing.")
def new(
    path: Path,
    name: str | None,
    dataset: str | None,
    domain: str | None,
    owner: str | None,
    system: str,
    key: str | None,
    sequence: str | None,
    encoding: str | None,
    yes: bool,
) -> None:
    """Draft a bronze and a silver table from a delivered file: contracts, function and test.

    Types, keys, nulls and codes are proposed by looking at the first rows; names say which columns
    are personal. Nothing is overwritten, and no value of a row is shown.
    """
    from spark_jobs.draft.proposal import Said, propose
    from spark_jobs.draft.sample import look
    from spark_jobs.draft.write import files, write

    settings = load_settings()
    contracts = load_contracts(settings.contracts)
    sample = look(path, encoding)
    asks = sys.stdin.isatty() and not yes
    usual = _most(contracts, "domain")
    if domain is None:  # no file says whose it is
        domain = click.prompt("Domain", default=usual) if asks else usual
    said = Said(
        domain=domain,
        owner=owner or _most(contracts, "owner"),
        system=system,
        name=name,
        dataset=dataset,
        key=tuple(k.strip() for k in key.split(",") if k.strip()) if key is not None else None,
        sequence=sequence,
    )
    proposal = propose(sample, said)
    written = write(files(proposal), settings.project)
    _tell(proposal, written, settings.project, settings.zones["landing"])


def _most(contracts: Mapping[str, Contract], what: str) -> str:
    return Counter(getattr(c, what) for c in contracts.values()).most_common(1)[0][0]


def _tell(p: Proposal, written: list[Path], project: Path, landing: str) -> None:
    """What was seen, what is written, what a person has to do; names of columns, and no values."""
    from spark_jobs.draft.proposal import doubts

    def names(columns: list[str]) -> str:
        return quoting.names([p.names[c] for c in columns]) or "none"

    click.echo(f"Looked at {p.sample.extent} in {quoting.plain(str(p.sample.path))}.")
    click.echo(f"  {len(p.columns)} columns, domain {p.domain}, owner {p.owner}")
    click.echo(
        f"  key: {names(list(p.key))}; newest by: {names([p.sequence] if p.sequence else [])}"
    )
    click.echo(f"  personal by name: {names([c.name for c in p.columns if c.personal])}")
    for doubt in doubts(p):
        click.echo(f"  look at: {doubt}")
    click.echo("Written:")
    for path in written:
        click.echo(f"  {path.relative_to(project)}")
    click.echo(
        "Say what the columns hold and who may see them, in the contracts; those that say no"
        " classification are masked. Then:\n"
        "  lakehouse check\n"
        "  python -m lakehouse.marts.sources\n"
        f"  pytest -q tests/unit/test_{p.name}.py\n"
        f"and copy files to {landing}/{p.source['dataset']}/<day>/ for\n"
        f"  lakehouse backfill --from <day> --to <day> --tables bronze.{p.name},silver.{p.name}"
    )


@contract.command()
@click.option(
    "--to", "folder", type=click.Path(file_okay=False, path_type=Path), required=True,
    help="Folder for table-mappings.json, task-settings.json and target-settings.json.",
)  # fmt: skip
@click.option("--check", is_flag=True, help="Write nothing; fail if a file there is another.")
def dms(folder: Path, check: bool) -> None:
    """Write what DMS is told, so that it delivers what contracts with a source of kind dms read."""
    from lakehouse.sources.dms import files
    from spark_jobs.errors import InputError

    made = files(load_contracts(load_settings().contracts))
    texts = {folder / name: json.dumps(content, indent=2) + "\n" for name, content in made.items()}
    if check:
        other = [p.name for p, t in texts.items() if not p.is_file() or p.read_text() != t]
        if other:
            raise InputError(
                f"{folder}: {quoting.names(other)}: not what the contracts say. Write them anew:"
                f" lakehouse contract dms --to {folder}"
            )
        click.echo(f"{folder}: is what the contracts say.")
        return
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
        click.echo(str(path))
