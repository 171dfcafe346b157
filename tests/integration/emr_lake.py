"""The people lake on S3, shipped to EMR Serverless as it is played here.

Belongs here: the store and the service, what is shipped, and runs through the real definitions. Does not
belong here: assertions.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
from deltalake import DeltaTable

from lakehouse.artifacts.build import LOCK, build
from lakehouse.artifacts.push import push
from lakehouse.artifacts.store import FolderStore
from lakehouse.definitions import build_definitions
from lakehouse.keys import range_tags
from lakehouse.settings.artifacts import ArtifactSettings, Target
from lakehouse.settings.emr import EmrSettings, Worker
from lakehouse.settings.engines import RunnerSettings
from lakehouse.settings.lake import LakeSettings
from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from lakehouse.settings.operations import RetrySettings
from lakehouse.standins.servers import aws as store
from lakehouse.standins.servers.emr.server import APPLICATION, ROLE, EmrServerless, emr_serverless
from spark_jobs.contract.reader import load_contracts
from spark_jobs.engines.session import EngineUnavailable
from spark_jobs.lake import ledger
from spark_jobs.lake.row import LedgerRow
from spark_jobs.lake.storage import Lake, Storage
from tests.documents import PROJECT
from tests.integration.dagster_lake import DAYS, people, people_lake
from tests.lakes import bronze, column, transforms_in

TABLE = "bronze.people"
_TOLD = "LAKEHOUSE_TEST_EMR_LAKE"
_mounted = ExitStack()  # for as long as a process of a step lives
SAYS = "\nimport os\n\nprint('said by the driver with', os.environ.get('SPARK_CONF_DIR'))\n"
BAD = b"id,email,updated\n1,\xff\xfe,2026\n"


@dataclass
class Service:
    """The store and the service, with the people lake shipped to them."""

    store: store.Aws
    emr: EmrServerless
    version: str
    project: Path
    lakes: int = 0

    @property
    def transforms(self) -> Path:
        return self.project / "spark_jobs" / "tables"

    @property
    def storage(self) -> Storage:
        return Storage(self.store.storage_options)

    def lake(self, home: Path) -> EmrLake:
        """A lake of its own, delivered and not yet run."""
        self.lakes += 1
        bucket = f"lake-{self.lakes}"
        self.store.create_buckets(bucket)
        found = EmrLake(self, home, f"s3://{bucket}")
        for i, day in enumerate(DAYS):
            rows = ((i, f"p{i}@x.org", day), (99, "a@x.org", day))
            found.land(day, people(*rows).encode())
        return found


@dataclass
class EmrLake:
    """One lake under the real definitions; `emr` are settings of its jobs."""

    service: Service
    home: Path
    root: str
    emr: dict[str, Any] = field(default_factory=dict)
    retries: int = 0

    @property
    def settings(self) -> Settings:
        worker = Worker(cores=1, memory="1g")
        emr = {
            "application": APPLICATION,
            "execution_role": ROLE,
            "poll_seconds": 0.5,
            "driver": worker,
            "executor": worker,
            "spark": {"spark.sql.shuffle.partitions": "1"},
            **self.emr,
        }
        base = load_settings("local", home=self.home, project=self.service.project)
        return base.model_copy(
            update={
                "lake": LakeSettings(
                    root=self.root, storage_options=self.service.store.storage_options
                ),
                "artifacts": ArtifactSettings(location="s3://artifacts"),
                "emr": EmrSettings(**emr),
                "runner": RunnerSettings(name="emr"),
                "retries": RetrySettings(max=self.retries, delay_seconds=0),
            }
        )

    def run(
        self, *tables: str, run_id: str | None = None, days: tuple[str, str] = (DAYS[0], DAYS[-1])
    ) -> Ran:
        """Runs tables for a range of days, on an instance of its own."""
        settings = self.settings
        contracts = load_contracts(settings.contracts)
        with dg.DagsterInstance.ephemeral() as instance, transforms_in(self.service.transforms):
            definitions = build_definitions(settings, contracts=contracts, marts=False)
            result = definitions.resolve_job_def("lake_daily").execute_in_process(
                instance=instance,
                asset_selection=[dg.AssetKey(t.split(".")) for t in tables or (TABLE,)],
                tags=range_tags(*days),
                run_id=run_id,
                raise_on_error=False,
            )
            log = [said(entry) for entry in instance.all_logs(result.run_id)]
        return Ran(result, log)

    def run_side_by_side(self, *tables: str) -> Ran:
        """The same with a process for each step, on an instance that keeps what steps print."""
        told = [
            str(self.home),
            self.root,
            self.emr,
            str(self.service.project),
            self.service.store.url,
        ]
        folder = self.home / "dagster"
        folder.mkdir()
        with (
            _mounted,
            pytest.MonkeyPatch.context() as patch,
            dg.DagsterInstance.local_temp(str(folder)) as kept,
        ):
            patch.setenv(_TOLD, json.dumps(told))
            result = dg.execute_job(
                dg.reconstructable(lake_job),
                instance=kept,
                asset_selection=[dg.AssetKey(t.split(".")) for t in tables],
                tags=range_tags(DAYS[0], DAYS[-1]),
            )
            log = [said(entry) for entry in kept.all_logs(result.run_id)]
        return Ran(result, log, "".join(path.read_text() for path in folder.rglob("*.out")))

    def land(self, day: str, content: bytes, dataset: str = "people") -> None:
        fs, root = self.service.storage.filesystem(f"{self.root}/landing/{dataset}/{day}")
        with fs.open_output_stream(f"{root}/{dataset}.csv") as file:
            file.write(content)

    def rows(self, table: str = TABLE) -> list[dict[str, Any]]:
        at = f"{self.root}/{table.replace('.', '/')}"
        options = self.service.storage.delta_options(at)
        if not DeltaTable.is_deltatable(at, options):
            return []
        return DeltaTable(at, storage_options=options).to_pyarrow_table().to_pylist()

    def ledger(self, table: str = TABLE) -> list[LedgerRow]:
        zones = self.settings.zones
        return ledger.history(Lake(zones, self.service.storage), table)


def lake_job() -> dg.JobDefinition:
    """The lake's job in a process of a step."""
    home, root, emr, project, url = json.loads(os.environ[_TOLD])
    there = Service(store.Aws(url), None, "", Path(project))  # type: ignore[arg-type]
    _mounted.enter_context(transforms_in(there.transforms))
    settings = EmrLake(there, Path(home), root, emr).settings
    contracts = load_contracts(settings.contracts)
    definitions = build_definitions(settings, contracts=contracts, marts=False)
    return definitions.resolve_job_def("lake_daily")


@dataclass
class Ran:
    """What a run was, as a person sees it in Dagster; `output` is what steps printed, if kept."""

    result: dg.ExecuteInProcessResult | dg.JobExecutionResult
    log: list[str]
    output: str = ""

    @property
    def success(self) -> bool:
        return self.result.success

    @property
    def failure(self) -> str:
        """Why the step failed."""
        found = [e for e in self.result.all_events if e.is_step_failure]
        data = found[-1].step_failure_data
        if data.user_failure_data and data.user_failure_data.description:
            return data.user_failure_data.description
        return data.error.to_string() if data.error else ""

    def materialized(self, table: str = TABLE) -> dict[str, dict[str, Any]]:
        """The metadata of each partition that was recorded."""
        return {
            e.partition or "": {k: v.value for k, v in e.materialization.metadata.items()}
            for e in self.result.all_events
            if e.is_step_materialization and e.asset_key == dg.AssetKey(table.split("."))
        }

    def checks(self) -> list[dg.AssetCheckEvaluation]:
        return list(self.result.get_asset_check_evaluations())


def said(entry: dg.EventLogEntry) -> str:
    """What the log of a run shows of an event."""
    data = getattr(entry.dagster_event, "event_specific_data", None)
    error = getattr(data, "error", None)
    return f"{entry.user_message} {error.to_string() if error else ''}"


@contextmanager
def service(folder: Path) -> Iterator[Service]:
    """Both servers, and what is shipped: the project's data plane with the people lake's tables in place
    of the sample's."""
    with pytest.MonkeyPatch.context() as patch, store.aws() as aws:
        for name, value in store.CREDENTIALS.items():
            patch.setenv(name, value)
        patch.setenv("AWS_DEFAULT_REGION", store.REGION)
        aws.create_buckets("artifacts")
        try:
            with emr_serverless(aws.url) as emr:
                patch.setenv("AWS_ENDPOINT_URL_EMR_SERVERLESS", emr.url)
                project = _tree(folder)
                kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
                built = build(project, Target(), kept / "lakehouse" / "packages")
                push(built, FolderStore("s3://artifacts", Storage(aws.storage_options)))
                yield Service(aws, emr, built.artifact.version, project)
        except EngineUnavailable as error:
            # `scripts/test` says what it left out, and fails in CI
            pytest.skip(str(error))


def _tree(folder: Path) -> Path:
    """A source tree with other tables."""
    tree = folder / "tree"
    shutil.copytree(
        PROJECT / "spark_jobs",
        tree / "spark_jobs",
        symlinks=True,
        ignore=shutil.ignore_patterns("__pycache__", "silver", "gold", "bronze"),
    )
    for name in ("pyproject.toml", LOCK):
        shutil.copy(PROJECT / name, tree)
    with people_lake(folder / "given") as given:
        given.lake.define(bronze("pets", "csv", column("id")))
    shutil.copytree(folder / "given" / "contracts", tree / "contracts")
    for layer in ("silver", "gold"):
        package = tree / "spark_jobs" / "tables" / layer
        package.mkdir()
        (package / "__init__.py").write_text(f'"""Tables of {layer}."""\n')
    for path in (folder / "given" / "transforms").rglob("*.py"):
        copied = tree / "spark_jobs" / "tables" / path.parent.name / path.name
        copied.write_text(path.read_text() + SAYS)
    return tree


def s3(url: str) -> Any:
    return boto3.client("s3", endpoint_url=url, region_name=store.REGION)
