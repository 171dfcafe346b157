"""dbt as a process of this project: its environment, its manifest, and the resource that runs it.

Belongs here: everything that must be true before and around a dbt invocation. Does not belong
here: which models there are as assets (assets.py), and reading the lake (lake_views.py).
"""

# No postponed annotations here: Dagster reads those of a resource.
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from lakehouse.marts.builds import CHECKED, is_prepared, project_digest
from lakehouse.marts.classification import undeclared
from lakehouse.marts.messages import without_values
from lakehouse.settings.references import Secret
from lakehouse.warehouse.login import password
from spark_jobs.errors import LakehouseError

if TYPE_CHECKING:
    from lakehouse.settings.model import Settings

# Run folders (compiled SQL, logs, results) that are kept to look at.
KEPT_RUNS = 10
# The first and the last day of a range, for the macro `changes`.
ARRIVED = ("LAKEHOUSE_ARRIVED_FROM", "LAKEHOUSE_ARRIVED_TO")


class DbtProjectError(LakehouseError):
    """The dbt project cannot be read; the message is dbt's own, and names the file."""


def dbt_environment(settings: "Settings") -> dict[str, str]:
    """The variables that `profiles.yml` reads, but for secrets."""
    zones, warehouse = settings.zones, settings.warehouse
    variables = {
        "LAKEHOUSE_HOME": str(settings.home),
        "LAKEHOUSE_SILVER": zones["silver"],
        "LAKEHOUSE_GOLD": zones["gold"],
        "LAKEHOUSE_STORAGE_OPTIONS": json.dumps(settings.lake.storage_options),
    }
    if warehouse.target == "duckdb":
        variables["LAKEHOUSE_WAREHOUSE"] = str(settings.warehouse_path)
    else:
        redshift = {
            "HOST": warehouse.host,
            "PORT": warehouse.port,
            "DATABASE": warehouse.database,
            "USER": warehouse.user,
            "METHOD": "iam" if warehouse.iam else "database",
            "CLUSTER": warehouse.cluster or "",
            "WORKGROUP": warehouse.workgroup or "",
            "THREADS": warehouse.threads,
            "QUERY_GROUP": warehouse.query_group,
            "STATEMENT_TIMEOUT": warehouse.statement_timeout_seconds * 1000,
            "READERS": " ".join(warehouse.readers),
        }
        variables |= {f"LAKEHOUSE_REDSHIFT_{name}": str(value) for name, value in redshift.items()}
        variables["AWS_REGION"] = warehouse.region
    return variables


@dataclass(frozen=True)
class Project:
    """The dbt project, for one target."""

    folder: Path
    target: str

    @property
    def prepared(self) -> Path:
        """Where its manifest is, and the parse that dbt uses again."""
        return self.folder / "target" / self.target

    @property
    def manifest_path(self) -> Path:
        return self.prepared / "manifest.json"


class Dbt(dg.ConfigurableResource[Any]):
    """The dbt command line with this project's settings in its environment.

    dbt's results are kept in a folder per run below `runs`; `prepared` is the folder of the
    manifest, whose parse is reused. `password` names the variable of the warehouse's password,
    `secret_arn` the secret of Secrets Manager that it is in.
    """

    project: str
    target: str
    executable: str
    environment: dict[str, str]
    prepared: str
    runs: str
    password: str | None = None
    secret_arn: str | None = None

    def cli(self, args: Sequence[str], **options: Any) -> Any:
        """Starts dbt; see dagster-dbt's DbtCliResource.cli."""
        from lakehouse.marts.invocation import CommandLine

        command = CommandLine(
            project_dir=self.project,
            profiles_dir=self.project,
            target=self.target,
            dbt_executable=self.executable,
        )
        variables = {**self.environment, "DBT_TARGET_PATH": self.prepared}
        reference = Secret(self.password) if self.password else None
        if (secret := password(reference, self.secret_arn)) is not None:
            # dbt never logs variables of this prefix.
            variables["DBT_ENV_SECRET_REDSHIFT_PASSWORD"] = secret
        with _set(variables):
            return command.cli(args, **options)

    def over(self, arrived: tuple[str, str] | None) -> "Dbt":
        """The same for a build that also computes again what arrived in a range of days."""
        if arrived is None:
            return self
        days = dict(zip(ARRIVED, arrived, strict=True))
        return self.model_copy(update={"environment": {**self.environment, **days}})

    def run_folder(self, run_id: str) -> Path:
        """The folder of one run's results; the oldest ones beyond KEPT_RUNS are removed."""
        runs = Path(self.runs)
        runs.mkdir(parents=True, exist_ok=True)
        past = sorted(runs.iterdir(), key=lambda p: p.stat().st_mtime)
        for old in past[: max(0, len(past) + 1 - KEPT_RUNS)]:
            shutil.rmtree(old, ignore_errors=True)
        folder = runs / run_id
        folder.mkdir(exist_ok=True)
        parsed = Path(self.prepared, "partial_parse.msgpack")
        if parsed.exists():  # dagster-dbt would copy it with the permissions that it has there
            shutil.copyfile(parsed, folder / parsed.name)
        return folder


def dbt_resource(settings: "Settings", project: Project) -> Dbt:
    secret = getattr(settings.warehouse, "password", None)
    return Dbt(
        project=str(project.folder),
        target=project.target,
        executable=_executable(),
        environment=dbt_environment(settings),
        prepared=str(project.prepared),
        runs=str(settings.home / "dbt"),
        password=secret.name if secret else None,
        secret_arn=getattr(settings.warehouse, "secret_arn", None),
    )


def build_aside(settings: "Settings", folder: Path) -> Path:
    """Builds every model anew, in a DuckDB warehouse of its own in `folder`, whatever the warehouse of
    the settings is; returns that.

    In a process of its own: dbt keeps a DuckDB file open for as long as its process lives. Raises
    DbtProjectError if a model cannot be built.
    """
    warehouse, target = folder / "warehouse.duckdb", folder / "target"
    project = prepared_project(settings)
    target.mkdir()
    parsed = project.prepared / "partial_parse.msgpack"
    if parsed.exists() and project.target == "duckdb":
        shutil.copyfile(parsed, target / parsed.name)
    command = [_executable(), "--quiet", "--log-level-file", "none", "run", "--full-refresh"]
    places = {
        "--project-dir": settings.dbt_project,
        "--profiles-dir": settings.dbt_project,
        "--target": "duckdb",
        "--target-path": target,
        "--log-path": folder,
    }
    command += [str(part) for place in places.items() for part in place]
    environment = os.environ | dbt_environment(settings) | {"LAKEHOUSE_WAREHOUSE": str(warehouse)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        failed = ", ".join(f.name for f in failures(target)) or "dbt did not run"
        raise DbtProjectError(f"{settings.dbt_project}: {failed}")
    return warehouse


@dataclass(frozen=True)
class Failed:
    """A model or a test that failed: its kind and name, what dbt says, and its compiled SQL."""

    name: str
    message: str
    sql: str


def failures(folder: Path) -> Iterator[Failed]:
    """What failed, from dbt's results."""
    results = folder / "run_results.json"
    if not results.exists():
        return
    for result in json.loads(results.read_bytes())["results"]:
        if result["status"] in ("error", "fail"):
            kind, _, name = result["unique_id"].split(".")[:3]
            message = " ".join((result.get("message") or "").split())
            if result["status"] == "error":  # a test that fails counts rows, and quotes none
                message = without_values(message)
            yield Failed(f"{kind} {name}", message, (result.get("compiled_code") or "").strip())


def _executable() -> str:
    beside_python = Path(sys.executable).with_name(name := "lakehouse-dbt")
    return str(beside_python) if beside_python.exists() else name


def prepared_project(settings: "Settings") -> Project:
    """The dbt project with a manifest that is up to date.

    A manifest that is missing, or older than the project's files, is made here: dbt parses the
    project without connecting anywhere. An image is built with it and does not parse again.
    Raises DbtProjectError if the project does not parse, a column of a model is personal and not
    declared so, or the manifest cannot be written.
    """
    project = Project(settings.dbt_project, settings.warehouse.target)
    if not is_prepared(settings):
        _prepare(settings, project.prepared)
        (project.prepared / CHECKED).write_text(project_digest(settings.dbt_project))
    return project


def _prepare(settings: "Settings", folder: Path) -> None:
    scratch = folder.with_name(f".{folder.name}-{os.getpid()}")
    environment = {**dbt_environment(settings), "DBT_ENV_SECRET_REDSHIFT_PASSWORD": ""}
    try:
        _invoke("parse", settings, settings.warehouse.target, scratch, environment)
        _check_classes(settings, scratch / "checked")
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("partial_parse.msgpack", "manifest.json"):
            os.replace(scratch / name, folder / name)
    except OSError as error:
        raise DbtProjectError(
            f"{folder}: the dbt manifest is missing or out of date and cannot be written ({error})."
            " Make the folder writable, or build the image with the manifest in it."
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check_classes(settings: "Settings", scratch: Path) -> None:
    """Compiles the project for an empty warehouse without a lake, and looks at what columns read."""
    nowhere = {"LAKEHOUSE_HOME": str(scratch), "LAKEHOUSE_WAREHOUSE": ":memory:"}
    nowhere |= {f"LAKEHOUSE_{zone}": str(scratch / zone) for zone in ("SILVER", "GOLD")}
    _invoke("compile", settings, "duckdb", scratch, nowhere, "--no-introspect")
    manifest = json.loads((scratch / "manifest.json").read_bytes())
    problems = list(undeclared(manifest, settings.dbt_project))
    if problems:
        raise DbtProjectError("\n".join(problems))


def _invoke(
    command: str,
    settings: "Settings",
    target: str,
    scratch: Path,
    environment: Mapping[str, str],
    *options: str,
) -> None:
    from dbt.cli.main import dbtRunner

    arguments = [command, "--quiet", "--no-partial-parse", *options]
    places: Mapping[str, Any] = {
        "--project-dir": settings.dbt_project,
        "--profiles-dir": settings.dbt_project,
        "--target": target,
        "--target-path": scratch,
        "--log-path": scratch,
        "--log-level-file": "none",
    }
    for option, value in places.items():
        arguments += [option, str(value)]
    with _set(environment):
        result = dbtRunner().invoke(arguments)
    if not result.success:
        raise DbtProjectError(f"{settings.dbt_project}: {result.exception}")


@contextmanager
def _set(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables and takes them back."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
