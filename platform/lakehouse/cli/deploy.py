"""`lakehouse deploy`: what is shipped to where tables run elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lakehouse.settings.load import load_settings

if TYPE_CHECKING:
    from lakehouse.artifacts.build import Built
    from lakehouse.settings.model import Settings


@click.group()
def deploy() -> None:
    """Ship the data plane: the wheel with its contracts, and the packages that it needs. Every state
    of them has a version, the digest of its content; each run names the one that it used."""


@deploy.command()
def build() -> None:
    """Build what is shipped, without shipping it, into LAKEHOUSE_HOME/build."""
    from lakehouse.artifacts.artifact import manifest

    built = _built(load_settings())
    files = dict(built.files)
    files[manifest(built.artifact.version)] = built.artifact.model_dump_json(indent=1).encode()
    for name, content in files.items():
        path = built.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    packages = built.packages()
    click.echo(f"{built.artifact.version}: {len(files)} files in {built.folder}")
    click.echo(f"packages: {packages.name}, {packages.stat().st_size / 1e6:,.1f} MB")


@deploy.command()
def push() -> None:
    """Build what is shipped and take it to the location of the settings, where runs use it from now
    on. What is there already stays; done again, it does nothing."""
    ship(load_settings())


def ship(settings: Settings) -> None:
    """Builds what is shipped and takes it to its store, if it is not there, and says so."""
    from lakehouse.artifacts.push import push as pushed
    from lakehouse.artifacts.store import store_of

    built, store = _built(settings), store_of(settings)
    done = pushed(built, store)
    version = built.artifact.version
    if not done.written:
        click.echo(f"{version} is there, and is the current one at {store.uri('')}")
        return
    before = f", {done.before} before" if done.before else ""
    click.echo(f"{version} is the current one at {store.uri('')}{before}")
    click.echo(f"{len(done.written)} files written")


@deploy.command()
def status() -> None:
    """Say which versions are there, which is current, and whether it is the project as it is here.
    Exit code 1 if it is not."""
    from lakehouse.artifacts.artifact import current, versions
    from lakehouse.artifacts.store import store_of

    settings = load_settings()
    store, here = store_of(settings), _built(settings).artifact.version
    now, there = current(store), versions(store)
    click.echo(f"at {store.uri('')}")
    for version in there:
        marks = [
            *(["current"] if version == now else []),
            *(["what is here"] if version == here else []),
            *(["pinned by the settings"] if version == settings.artifacts.version else []),
        ]
        click.echo(f"  {version}  {', '.join(marks)}".rstrip())
    if not there:
        click.echo("  nothing")
    if now != here:
        click.echo(f"what is here is {here}: `lakehouse deploy push` makes it the current one")
        raise click.exceptions.Exit(1)


@deploy.command()
@click.option("--code", default="127.0.0.1:4000", show_default=True, metavar="HOST:PORT",
              help="Where the code location answers.")  # fmt: skip
def instance(code: str) -> None:
    """Write what Dagster's processes read, dagster.yaml and workspace.yaml, into the folder that
    DAGSTER_HOME is to name, and print its path. They name secrets, and hold none."""
    from lakehouse.local.instance import prepare_home, write_workspace

    host, separator, port = code.rpartition(":")
    if not separator or not host or not port.isdecimal():
        raise click.BadParameter(f"{code} is no HOST:PORT", param_hint="--code")
    home = prepare_home(load_settings())
    write_workspace(home, host, int(port))
    click.echo(str(home))


@deploy.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def bundle(folder: Path) -> None:
    """Write a Databricks Asset Bundle of the current artifact into FOLDER: the workflow of the lake
    for teams without Dagster, its streams, and its tables in Unity Catalog."""
    from lakehouse.artifacts.artifact import artifact_in
    from lakehouse.artifacts.bundle import files
    from lakehouse.artifacts.store import store_of

    settings = load_settings()
    store = store_of(settings)
    made = files(settings, artifact_in(store, settings.artifacts.version), store)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in made.items():
        (folder / name).write_text(content, encoding="utf-8")
    click.echo(f"{', '.join(made)} in {folder}: `databricks bundle deploy` there")


def _built(settings: Settings) -> Built:
    from lakehouse.artifacts.build import build as built

    return built(settings.project, settings.artifacts.target, settings.home / "build")
