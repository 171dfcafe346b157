"""One build of the data plane as a value: what it consists of, and what a run has to know of it.

Belongs here: its fields, where its files lie in a store, and reading it from there. Does not belong
here: making one (build.py), or taking it there (push.py).

An artifact never changes: its version is the digest of its content, and stands in the name of every
file of it. The store says besides which one is current.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from lakehouse.settings.artifacts import Target
from spark_jobs.errors import LakehouseError

if TYPE_CHECKING:
    from lakehouse.artifacts.store import ArtifactStore

M = TypeVar("M", bound=BaseModel)

CURRENT = "current.json"


class ArtifactError(LakehouseError):
    """What is shipped cannot be built, or is not there; the message says what to do."""


class Artifact(BaseModel):
    """What was built of one state of the project. Names are those of files in a store: `wheel` for
    who installs, `code` (the same as a zip) and `packages` (all dependencies) for who unpacks,
    `requirements` is a list of the same dependencies for who installs;
    `entry_point` is the script that a job starts with, `contracts` the folder of contracts. `spark`
    are the properties of Spark that it was made for."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: str
    target: Target
    wheel: str
    code: str
    packages: str
    requirements: str = ""
    entry_point: str
    contracts: str
    contracts_sha256: str
    spark: dict[str, str]


class Current(BaseModel):
    """Which artifact is used where nothing else is said."""

    version: str


def manifest(version: str) -> str:
    """The name of the file that describes an artifact; it is written last."""
    return f"config/{version}/artifact.json"


def versions(store: ArtifactStore) -> list[str]:
    """The versions that are complete in a store."""
    found = {name.split("/")[1] for name in store.names("config")}
    return sorted(v for v in found if store.size(manifest(v)) is not None)


def current(store: ArtifactStore) -> str | None:
    """The version that is current in a store."""
    content = store.read(CURRENT)
    return None if content is None else _parsed(Current, content, store.uri(CURRENT)).version


def artifact_in(store: ArtifactStore, version: str | None = None) -> Artifact:
    """An artifact of a store, the current one by default. Raises ArtifactError if it is not there."""
    wanted = version or current(store)
    if wanted is None:
        raise ArtifactError(
            f"{store.uri(CURRENT)}: nothing has been shipped there. Run `lakehouse deploy push`."
        )
    content = store.read(manifest(wanted))
    if content is None:
        raise ArtifactError(
            f"{store.uri(manifest(wanted))}: no artifact of version {wanted}. `lakehouse deploy"
            " status` lists those that are there; `lakehouse deploy push` ships the project as it is."
        )
    return _parsed(Artifact, content, store.uri(manifest(wanted)))


def requirements(artifact: Artifact, store: ArtifactStore) -> list[str]:
    """What the wheel of an artifact needs, as it is pinned, for a service that installs."""
    content = store.read(artifact.requirements) if artifact.requirements else None
    if content is None:
        raise ArtifactError(
            f"the artifact {artifact.version} does not say what its wheel needs. Run `lakehouse"
            " deploy push`."
        )
    return content.decode().splitlines()


def _parsed(model: type[M], content: bytes, where: str) -> M:
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise ArtifactError(
            f"{where}: not what this version of the platform writes ({error.error_count()} problems,"
            f" first {error.errors()[0]['msg']}). Run `lakehouse deploy push`."
        ) from None
