"""What a task of Databricks is given to run on: serverless compute, or a cluster, with what was shipped.

Belongs here: both, as the SDK has them, for jobs that a step starts and for jobs of a bundle. Does not
belong here: the tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.artifacts.artifact import Artifact, requirements
from lakehouse.artifacts.store import ArtifactStore
from lakehouse.settings.databricks import Cluster

if TYPE_CHECKING:
    from databricks.sdk.service.compute import ClusterSpec, Library
    from databricks.sdk.service.jobs import JobEnvironment

ENVIRONMENT = "spark_jobs"


def environment(version: str, artifact: Artifact, store: ArtifactStore) -> JobEnvironment:
    """Serverless compute of an environment version, on which an artifact is installed."""
    from databricks.sdk.service import compute, jobs

    needed = [store.uri(artifact.wheel), *requirements(artifact, store)]
    spec = compute.Environment(environment_version=version, dependencies=needed)
    return jobs.JobEnvironment(ENVIRONMENT, spec)


def cluster(settings: Cluster) -> ClusterSpec:
    """A cluster by a policy, which lives as long as its job."""
    from databricks.sdk.service import compute

    spec = compute.ClusterSpec(
        policy_id=settings.policy,
        spark_version=settings.runtime,
        node_type_id=settings.node_type,
        spark_conf=dict(settings.spark) or None,
        data_security_mode=compute.DataSecurityMode.DATA_SECURITY_MODE_DEDICATED,
    )
    if settings.min_workers is None:
        spec.num_workers = settings.workers
    else:
        spec.autoscale = compute.AutoScale(settings.workers, settings.min_workers)
    return spec


def libraries(artifact: Artifact, store: ArtifactStore) -> list[Library]:
    """What a cluster installs of an artifact."""
    from databricks.sdk.service import compute

    return [
        compute.Library(whl=store.uri(artifact.wheel)),
        compute.Library(requirements=store.uri(artifact.requirements)),
    ]
