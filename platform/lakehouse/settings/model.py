"""The settings of one environment: one validated file, chosen by LAKEHOUSE_ENV.

Belongs here: what a settings file may say, and the errors that name file, key and remedy.
Does not belong here: anything that branches on the environment's name; code asks for a setting.

A value is written in the file, or `{env: NAME}` or `{env: NAME, default: VALUE}` (taken from that
environment variable at load), or `{secret: NAME}` (must exist at load, is read again only where it
is used, and is never kept).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lakehouse.settings.names import bucket_name
from lakehouse.settings.references import Secret, SettingsError, resolve
from spark_jobs.report import ZONES, storage_options

if TYPE_CHECKING:
    from spark_jobs.lake.storage import Storage

ENVIRONMENTS = ("local", "dev", "staging", "prod")
Zone = Literal["landing", "bronze", "silver", "gold", "quarantine", "checkpoints", "ledger"]
Role = Literal["raw", "processed", "curated"]
BUCKET_OF: Mapping[Zone, Role] = {
    "landing": "raw",
    "bronze": "raw",
    "silver": "processed",
    "gold": "curated",
    "quarantine": "processed",
    "checkpoints": "processed",
    "ledger": "curated",
}
_TARGETS = ("duckdb", "redshift", "sns", "file")
_SNS_ARN = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class LakeSettings(_Model):
    """One root with a folder per zone, or buckets with the zones of `zones` in them."""

    root: str | None = None
    buckets: dict[Role, str] = Field(default_factory=dict)
    zones: dict[Zone, Role] = Field(default_factory=dict)
    storage_options: dict[str, str] = Field(default_factory=dict)

    @field_validator("buckets")
    @classmethod
    def _bucket_names(cls, buckets: dict[str, str]) -> dict[str, str]:
        return {role: bucket_name(name) for role, name in buckets.items()}

    @field_validator("storage_options")
    @classmethod
    def _no_credentials(cls, options: dict[str, str]) -> dict[str, str]:
        return storage_options(options)

    @model_validator(mode="after")
    def _one_of(self) -> LakeSettings:
        if (self.root is None) == (not self.buckets):
            raise ValueError("give either root or buckets")
        if self.buckets:
            missing = {"raw", "processed", "curated"} - set(self.buckets)
            if missing:
                raise ValueError(f"buckets: {', '.join(sorted(missing))} missing")
        return self


class DuckDBWarehouse(_Model):
    target: Literal["duckdb"]
    path: str


class RedshiftWarehouse(_Model):
    target: Literal["redshift"]
    host: str
    port: int = 5439
    database: str
    user: str
    password: Secret


class EngineSettings(_Model):
    """`memory`: such as `2g`; Sail spills to disk beyond it, for `spark` it is the JVM's heap."""

    name: Literal["sail", "spark"]
    cores: int | None = Field(default=None, ge=1)
    memory: str | None = None


class RunnerSettings(_Model):
    """Where tables run: `embedded` in the process of their step, which share an engine, or each in
    a `process` of its own."""

    name: Literal["embedded", "process", "emr", "databricks"] = "embedded"

    @field_validator("name")
    @classmethod
    def _is_built_in(cls, name: str) -> str:
        if name in ("emr", "databricks"):
            raise ValueError(f"runner {name} is not built in yet: choose embedded or process")
        return name


class PartitionSettings(_Model):
    """The arrival days that exist: from `start` to before `end`, or to today without an end."""

    start: date
    end: date | None = None

    @model_validator(mode="after")
    def _in_order(self) -> PartitionSettings:
        if self.end is not None and self.end <= self.start:
            raise ValueError("end must be after start")
        return self


class ScheduleSettings(_Model):
    """Cron expressions in UTC. `active`: whether schedules and sensors run without being switched
    on by hand. `gap_fill_days`: how far back the gap filler looks."""

    active: bool = False
    daily: str = "0 2 * * *"
    hourly: str = "0 * * * *"
    gap_fill: str = "0 5 * * *"
    gap_fill_days: int = Field(default=35, ge=1)

    @field_validator("daily", "hourly", "gap_fill")
    @classmethod
    def _is_cron(cls, cron: str) -> str:
        from dagster._utils.schedules import is_valid_cron_string

        if not is_valid_cron_string(cron):
            raise ValueError("the value is not a cron expression such as '0 2 * * *'")
        return cron


class LandingSettings(_Model):
    """How often landing is looked at, and how many runs one look may ask for."""

    interval_seconds: int = Field(default=60, ge=5)
    requests_per_look: int = Field(default=25, ge=1)


class RetrySettings(_Model):
    """Retries of transient errors, with exponential backoff."""

    max: int = Field(default=3, ge=0)
    delay_seconds: float = Field(default=10, ge=0)


class PoolSettings(_Model):
    """`runs`: how many runs may be in progress at once. A table has one writer at a time anyway."""

    runs: int = Field(default=4, ge=1)


class SnsTopic(_Model):
    """A standard SNS topic: a FIFO topic delivers to no mailbox."""

    target: Literal["sns"]
    arn: str

    @field_validator("arn")
    @classmethod
    def _is_arn(cls, arn: str) -> str:
        if not _SNS_ARN.fullmatch(arn):
            raise ValueError(
                "the value is not the ARN of a standard SNS topic such as"
                " arn:aws:sns:eu-central-1:123456789012:alerts"
            )
        return arn

    @property
    def region(self) -> str:
        return self.arn.split(":")[3]


class FileTopic(_Model):
    """A file of JSON lines below `home`, for environments without a message service."""

    target: Literal["file"]
    path: str


class AlertTopics(_Model):
    """A topic per severity; no topic, no alert of that severity."""

    critical: SnsTopic | FileTopic | None = Field(default=None, discriminator="target")
    warning: SnsTopic | FileTopic | None = Field(default=None, discriminator="target")


class AlertSettings(_Model):
    """Where alerts go. They are sent where `schedules.active` is true, or the sensor is on."""

    topics: AlertTopics = AlertTopics()


class SampleSettings(_Model):
    """The sample delivery of `lakehouse run` and `lakehouse deliver`; never where real data is."""

    deliver: bool = False
    scale: float = Field(default=0.01, gt=0)
    days: int = Field(default=14, ge=1)


class Settings(_Model):
    """Everything that differs between environments. `home` holds local state, `contracts` the
    contracts; neither is written in the file."""

    environment: Literal["local", "dev", "staging", "prod"]
    lake: LakeSettings
    warehouse: Annotated[DuckDBWarehouse | RedshiftWarehouse, Field(discriminator="target")]
    engine: EngineSettings
    runner: RunnerSettings = RunnerSettings()
    partitions: PartitionSettings
    schedules: ScheduleSettings = ScheduleSettings()
    landing: LandingSettings = LandingSettings()
    retries: RetrySettings = RetrySettings()
    pools: PoolSettings = PoolSettings()
    alerts: AlertSettings = AlertSettings()
    sample: SampleSettings = SampleSettings()
    home: Path
    project: Path

    @property
    def contracts(self) -> Path:
        return self.project / "contracts"

    @property
    def dbt_project(self) -> Path:
        return self.project / "dbt_project"

    @property
    def warehouse_path(self) -> Path:
        """The DuckDB file; SettingsError if the warehouse is not DuckDB."""
        if not isinstance(self.warehouse, DuckDBWarehouse):
            raise SettingsError(f"the {self.environment} warehouse is {self.warehouse.target}")
        return self.home / self.warehouse.path

    @property
    def dagster_home(self) -> Path:
        return self.home / "dagster"

    @property
    def storage(self) -> Storage:
        """How the stores of the zones are reached."""
        from spark_jobs.lake.storage import Storage  # with Arrow, which most commands do without

        return Storage(self.lake.storage_options)

    @property
    def zones(self) -> dict[str, str]:
        """The location of each zone: an absolute path or a URI."""
        lake = self.lake
        if lake.root is not None:
            root = lake.root if "://" in lake.root else str(self.home / lake.root)
            return {zone: f"{root.rstrip('/')}/{zone}" for zone in ZONES}
        roles = {**BUCKET_OF, **lake.zones}
        return {zone: f"s3://{lake.buckets[role]}/{zone}" for zone, role in roles.items()}


def project_root() -> Path:
    """The current project: the nearest folder from here upwards with contracts in it, or else the
    source tree that this package lies in."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "contracts").is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    return Path(__file__).resolve().parents[3]


def load_settings(
    environment: str | None = None,
    *,
    home: str | Path | None = None,
    project: str | Path | None = None,
    folder: str | Path | None = None,
) -> Settings:
    """Reads and checks the settings of an environment (default: LAKEHOUSE_ENV, else `local`).

    `home` defaults to LAKEHOUSE_HOME, else `.lakehouse` in the project; `folder` holds the files.
    Raises SettingsError that lists everything that is wrong at once.
    """
    environment = environment or os.environ.get("LAKEHOUSE_ENV") or "local"
    if environment not in ENVIRONMENTS:
        raise SettingsError(
            f"LAKEHOUSE_ENV is {environment!r}: no such environment. Use one of"
            f" {', '.join(ENVIRONMENTS)}."
        )
    project = Path(project) if project else project_root()
    home = Path(home or os.environ.get("LAKEHOUSE_HOME") or project / ".lakehouse")
    if home.exists() and not home.is_dir():
        raise SettingsError(f"LAKEHOUSE_HOME is {home}: a file. Set it to a folder.")
    path = Path(folder or Path(__file__).parent / "environments") / f"{environment}.yaml"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path}: settings file not found; create it") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 text ({error.reason})") from None
    except yaml.YAMLError as error:
        # Its own text quotes the line, which may be a secret that somebody wrote there.
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "unexpected characters"
        raise SettingsError(f"{path}{line}: not valid YAML: {problem}") from None
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: settings are a mapping that begins with environment")
    problems: list[str] = []
    resolved = resolve(data, (), problems)
    if data.get("environment") != environment:
        problems.append(f"environment: is another one, must be {environment!r}")
    for given in ("home", "project"):
        if given in data:
            problems.append(f"{given}: unknown key (set LAKEHOUSE_HOME instead)")
    if not problems:
        try:
            return Settings(**resolved, home=home.absolute(), project=project.absolute())
        except ValidationError as error:
            problems = list(_explain(error))
    raise SettingsError("\n".join(f"{path}: {p}" for p in problems))


def _explain(error: ValidationError) -> Iterator[str]:
    for e in error.errors():
        key = ".".join(str(part) for part in e["loc"] if part not in _TARGETS)
        if e["type"] == "extra_forbidden":
            yield f"{key}: unknown key; remove it or correct its spelling"
        elif e["type"] == "missing":
            yield f"{key}: missing; add it"
        elif isinstance(e.get("input"), Secret):
            yield f"{key}: a secret does not belong here"
        elif e["type"] == "union_tag_invalid":  # its own text repeats the value
            yield f"{key}: target is one of {e['ctx']['expected_tags']}"
        elif key.endswith("password"):
            yield f"{key}: write a reference such as {{secret: NAME}}, never the value itself"
        else:
            yield f"{key}: {e['msg'].removeprefix('Value error, ')}"
