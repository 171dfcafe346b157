"""Taking what was built to a store, and making it the current one.

Belongs here: the order of the files. Does not belong here: building (build.py), or a store (store.py).

What describes an artifact is written after its files, and what makes it current after that: a push
that was cut off is repeated, and until then nobody sees it.
"""

from __future__ import annotations

from dataclasses import dataclass

from lakehouse.artifacts.artifact import CURRENT, Current, current, manifest
from lakehouse.artifacts.build import Built
from lakehouse.artifacts.store import ArtifactStore


@dataclass(frozen=True)
class Pushed:
    """The files that were written, and the version that was current before."""

    written: list[str]
    before: str | None


def push(built: Built, store: ArtifactStore) -> Pushed:
    """Writes the files that are not there yet, then makes the artifact current."""
    artifact, written = built.artifact, []
    if store.size(artifact.packages) is None:
        store.write(artifact.packages, built.packages())
        written.append(artifact.packages)
    if store.size(manifest(artifact.version)) is None:
        for name, content in built.files.items():
            store.write(name, content)
        store.write(manifest(artifact.version), artifact.model_dump_json(indent=1).encode())
        written += [*built.files, manifest(artifact.version)]
    before = current(store)
    if before != artifact.version:
        store.write(CURRENT, Current(version=artifact.version).model_dump_json().encode())
        written.append(CURRENT)
    return Pushed(written, before)
