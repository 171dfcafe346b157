"""What the platform adds to jobs of a service: seconds to each, and how many there are.

Belongs here: one table as a job of EMR Serverless through Dagster, against spark-submit of the same
entry point with the same specification; and the jobs of a day with and without grouping. Does not
belong here: what a job does to rows.

The service is a stand-in that runs spark-submit as the service does; the bare one is the same image,
asked by nobody. Both start a JVM, unpack what was shipped and read a lake on S3 of their own.
"""

from __future__ import annotations

import copy
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import boto3
import dagster as dg

from benchmarks.measure import ContenderFailed, environment
from benchmarks.table import Row
from benchmarks.workload import BESIDE, CONTRACTS, PROJECT, START, TABLES, Delivery
from lakehouse.artifacts.build import build
from lakehouse.artifacts.push import push
from lakehouse.artifacts.store import store_of
from lakehouse.definitions import build_definitions
from lakehouse.keys import asset_key, range_tags
from lakehouse.local.execution import QUIET
from lakehouse.settings.artifacts import ArtifactSettings
from lakehouse.settings.emr import EmrSettings
from lakehouse.settings.engines import RunnerSettings
from lakehouse.settings.lake import LakeSettings
from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from lakehouse.settings.operations import RetrySettings
from lakehouse.standins.servers.aws import CREDENTIALS, REGION, Aws, aws
from lakehouse.standins.servers.emr.image import Image
from lakehouse.standins.servers.emr.server import APPLICATION, ROLE, EmrServerless, emr_serverless
from spark_jobs.contract.reader import load_contracts
from spark_jobs.report import ZONES

MOST = 1.1
TABLE = "bronze.line_items"
_LAKES = "lakes"


@dataclass(frozen=True)
class Service:
    """The store, the service and what is shipped there, for lakes of one delivery."""

    store: Aws
    emr: EmrServerless
    delivery: Delivery
    home: Path

    def lake(self, name: str) -> str:
        """A lake with nothing but what was delivered."""
        root = f"s3://{_LAKES}/{name}"
        storage = self.settings(root).storage
        for dataset in sorted(p.name for p in self.delivery.landing.iterdir()):
            storage.add(str(self.delivery.landing / dataset), f"{root}/landing/{dataset}")
        return root

    def settings(self, root: str, **emr: Any) -> Settings:
        given = {"application": APPLICATION, "execution_role": ROLE, "poll_seconds": 1, **emr}
        return load_settings("local", home=self.home, project=PROJECT).model_copy(
            update={
                "lake": LakeSettings(root=root, storage_options=self.store.storage_options),
                "artifacts": ArtifactSettings(location="s3://artifacts"),
                "emr": EmrSettings(**given),
                "runner": RunnerSettings(name="emr"),
                "retries": RetrySettings(max=0),
            }
        )

    def run(self, settings: Settings, tables: tuple[str, ...], days: list[str]) -> float:
        """Runs tables through Dagster; seconds from the first step to the last event of the run."""
        declared = load_contracts(str(CONTRACTS))
        found = build_definitions(settings, contracts=declared, marts=False)
        job = found.resolve_job_def("lake_daily")
        with dg.DagsterInstance.ephemeral() as instance:
            began = time.perf_counter()
            result = job.execute_in_process(
                instance=instance,
                asset_selection=[asset_key(t) for t in tables],
                tags=range_tags(days[0], days[-1]),
                run_config=QUIET,
                raise_on_error=False,
            )
            seconds = time.perf_counter() - began
        if not result.success:
            failed = [e.step_key for e in result.all_events if e.is_step_failure]
            raise ContenderFailed(f"through Dagster: {', '.join(map(str, failed))} failed")
        return seconds


@contextmanager
def serving(delivery: Delivery, work: Path) -> Iterator[Service]:
    """Raises EngineUnavailable if this machine has not the Spark of the service, or no Java."""
    given = {**CREDENTIALS, "AWS_DEFAULT_REGION": REGION}
    with environment(**given), aws() as store, emr_serverless(store.url) as emr:
        os.environ["AWS_ENDPOINT_URL_EMR_SERVERLESS"] = emr.url
        store.create_buckets(_LAKES, "artifacts")
        service = Service(store, emr, delivery, work / "home-of-jobs")
        settings = service.settings(f"s3://{_LAKES}/any")
        built = build(PROJECT, settings.artifacts.target, settings.home / "build")
        push(built, store_of(settings))
        yield service


# -- (j) what is added to a job ------------------------------------------------------------------


def added(service: Service, turns: int, tell: Callable[[str], None]) -> list[Row]:
    """Both by turns, medians; raises ContenderFailed if the bare one leaves another table."""
    days = service.delivery.partitions()
    ours, bare = [], []
    for turn in range(turns):
        tell(f"j, turn {turn + 1}: through Dagster")
        root = service.lake(f"ours-{turn}")
        ours.append(service.run(service.settings(root), (TABLE,), days))
        tell(f"j, turn {turn + 1}: spark-submit")
        bare.append(_submitted(service, root, service.lake(f"bare-{turn}")))
    platform, script = median(ours), median(bare)
    ratio = platform / script
    of = f"{TABLE} of {len(days)} days"
    return [
        Row(
            "j",
            f"{of} as a job through Dagster: {platform:.1f} s, {platform - script:.1f} s more",
            ratio=f"{ratio:.2f}",
            target=f"<= {MOST:g}",
            met=ratio <= MOST,
        ),
        Row("j", f"{of}, spark-submit of the same job: {script:.1f} s"),
    ]


def _submitted(service: Service, root: str, other: str) -> float:
    """Seconds of the newest job once more, started by hand for another lake."""
    s3 = boto3.client("s3", endpoint_url=service.store.url, region_name=REGION)
    job = copy.deepcopy(service.emr.jobs[-1].request)
    submitted = job["jobDriver"]["sparkSubmit"]
    bucket, _, key = submitted["entryPointArguments"][-1].removeprefix("s3://").partition("/")
    spec = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    spec["zones"] = {zone: f"{other}/{zone}" for zone in ZONES}
    s3.put_object(Bucket=bucket, Key=f"bare/{key}", Body=json.dumps(spec).encode())
    submitted["entryPointArguments"][-1] = f"s3://{bucket}/bare/{key}"
    (defaults,) = job["configurationOverrides"]["applicationConfiguration"]
    kept = {n: v for n, v in defaults["properties"].items() if "DAGSTER_PIPES" not in n}
    defaults["properties"] = kept
    with TemporaryDirectory(prefix="lakehouse-bare-") as folder:
        scratch = Path(folder)
        image = Image.prepared(scratch, service.store.url)
        (scratch / "job").mkdir()
        began = time.perf_counter()
        code = image.submit(scratch / "job", job, s3).wait()
        seconds = time.perf_counter() - began
        if code:
            said = (scratch / "job" / "stderr").read_text()[-2000:]
            raise ContenderFailed(f"spark-submit ended with code {code}: {said}")
    counted = [_rows(service, at) for at in (root, other)]
    if counted[0] != counted[1] or not counted[0]:
        raise ContenderFailed(f"{TABLE} has {counted[0]} rows, and {counted[1]} by spark-submit")
    return seconds


def _rows(service: Service, root: str) -> int:
    from deltalake import DeltaTable

    uri = f"{root}/{TABLE.replace('.', '/')}"
    storage = service.settings(root).storage
    return DeltaTable(uri, storage_options=storage.delta_options(uri)).to_pyarrow_table().num_rows


# -- (k) how many jobs there are -----------------------------------------------------------------


def sample(work: Path, scale: float) -> Delivery:
    """One day of the sample as it is delivered, changes of an operational database with it."""
    from lakehouse.standins.data.delivery import deliver

    delivery = Delivery(work / f"sample-{scale:g}", START, 1)
    if not delivery.landing.exists():
        answers = delivery.folder / "answers.json"
        deliver(delivery.landing, answers, scale=scale, start=START, days=1)
    return delivery


def jobs(
    service: Service, tell: Callable[[str], None], tables: tuple[str, ...] = (*BESIDE, *TABLES)
) -> list[Row]:
    """The jobs of a day, by layer, each table by itself and those of a layer together."""
    day = service.delivery.partitions()
    layers = ["bronze", "silver", "gold"]
    said = {}
    for name, together in (("each by itself", []), ("those of a layer together", layers)):
        tell(f"k, {len(tables)} tables, {name}")
        root = service.lake(f"jobs-{len(together)}")
        before = len(service.emr.jobs)
        seconds = service.run(service.settings(root, together=together), tables, day)
        started = service.emr.jobs[before:]
        of = Counter(j.request["tags"]["lakehouse/table"].partition(".")[0] for j in started)
        said[name] = (len(started), ", ".join(f"{of[x]} {x}" for x in layers if of[x]), seconds)
    (alone, _, _), (grouped, _, _) = said.values()
    rows = [
        Row("k", f"jobs for one day of {len(tables)} tables, {name}: {of} ({seconds:.0f} s)",
            ratio=str(number))
        for name, (number, of, seconds) in said.items()
    ]  # fmt: skip
    of_layers = len({t.partition(".")[0] for t in tables})
    rows.append(
        Row("k", "jobs of a grouped day for each layer", ratio=f"{grouped / of_layers:.1f}",
            target="= 1", met=grouped == of_layers < alone)
    )  # fmt: skip
    return rows
