"""Running a table on a service: what travels there, and what comes back.

Belongs here: what all such runners have in common. An attempt of a step has a folder of its own beside
the artifacts, with the specification in it, and the messages of the job. Does not belong here: any
service, or what messages mean (runner.py).

A process that takes over an attempt finds that folder, and with it the same job; a retry is another
attempt, and another job.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import tenacity

from lakehouse.artifacts.artifact import Artifact, ArtifactError, artifact_in
from lakehouse.artifacts.store import ArtifactStore, store_of
from lakehouse.keys import ARTIFACT_TAG
from spark_jobs.causes import is_transient
from spark_jobs.contract.location import digest
from spark_jobs.report import INSTALLED, RunSpec

if TYPE_CHECKING:
    import dagster as dg

    from lakehouse.settings.model import Settings

T = TypeVar("T")

# How long a service may be out of reach before a step gives its job up.
_PATIENCE_SECONDS = 600


@dataclass(frozen=True)
class Attempt:
    """One attempt of a step of a run; `number` counts from 0."""

    run_id: str
    step: str
    number: int

    @classmethod
    def of(cls, context: dg.AssetExecutionContext) -> Attempt:
        return cls(
            context.run.run_id, str(context.op_execution_context.op_handle), context.retry_number
        )

    @property
    def folder(self) -> str:
        """Where its files are in the store of artifacts."""
        return f"runs/{self.run_id}/{self.step}/{self.number}"

    @property
    def token(self) -> str:
        """What makes a service start one job for it, however often it is asked."""
        return hashlib.sha256(self.folder.encode()).hexdigest()


@dataclass(frozen=True)
class Shipment:
    """What a job is started with: an artifact, and the specification at `spec_uri`. It writes its
    messages below `messages_uri`."""

    attempt: Attempt
    artifact: Artifact
    spec: RunSpec
    store: ArtifactStore

    @property
    def spec_uri(self) -> str:
        return self.store.uri(f"{self.attempt.folder}/spec.json")

    @property
    def messages_uri(self) -> str:
        return self.store.uri(f"{self.attempt.folder}/messages")

    def uri(self, name: str) -> str:
        """Where a job finds a file of the artifact."""
        return self.store.uri(name)


@dataclass(frozen=True)
class Shipping:
    """Sends specifications to `store`. Runs use `version`, or the current artifact; its contracts have
    to be those in the folder `contracts`."""

    store: ArtifactStore
    contracts: Path
    version: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> Shipping:
        return cls(store_of(settings), settings.contracts, settings.artifacts.version)

    def artifact(self, asked_for: str | None = None) -> Artifact:
        """What a run is sent with. Raises ArtifactError if there is none, or if it has other contracts
        than are here and the run has not asked for that one."""
        artifact = artifact_in(self.store, asked_for or self.version)
        if asked_for is None and artifact.contracts_sha256 != digest(self.contracts):
            raise ArtifactError(
                f"the artifact {artifact.version} at {self.store.uri('')} has other contracts than"
                f" {self.contracts}. Run `lakehouse deploy push`, or restart the code location if it is"
                " the older one."
            )
        return artifact

    def sent(self, attempt: Attempt) -> Shipment | None:
        """What was sent for an attempt; None if nothing was yet."""
        content = self.store.read(f"{attempt.folder}/spec.json")
        if content is None:
            return None
        spec = RunSpec.model_validate_json(content)
        return Shipment(attempt, artifact_in(self.store, spec.artifact), spec, self.store)

    def ship(self, context: dg.AssetExecutionContext, spec: RunSpec) -> Shipment:
        """Writes the specification as it travels: for the session that the service has, and by the
        contracts of the artifact. Raises ArtifactError as `artifact` does."""
        attempt = Attempt.of(context)
        sent = self.sent(attempt)
        if sent is not None:  # by a process that is gone; what is current may be another one by now
            return sent
        artifact = self.artifact(context.run.tags.get(ARTIFACT_TAG))
        travels = spec.model_copy(
            update={
                "contracts": INSTALLED,
                "contracts_sha256": artifact.contracts_sha256,
                "artifact": artifact.version,
                "engine": "ambient",
                "cores": None,
                "memory": None,
            }
        )
        # Without defaults: an older artifact knows nothing of what was added since.
        content = travels.model_dump_json(exclude_defaults=True).encode()
        self.store.write(f"{attempt.folder}/spec.json", content)
        return Shipment(attempt, artifact, travels, self.store)


def patiently(ask: Callable[[], T], patience: float = _PATIENCE_SECONDS) -> T:
    """What a service answers, asked again as long as it is out of reach or busy, for `patience` seconds:
    a job goes on while nobody can ask for it."""
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_transient),
        stop=tenacity.stop_after_delay(patience),
        wait=tenacity.wait_exponential_jitter(multiplier=1, max=30),
        reraise=True,
    ):
        with attempt:
            return ask()
    raise AssertionError("unreachable: tenacity re-raises")
