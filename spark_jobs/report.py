"""What a run says about itself: one typed record per table, sent by Pipes or returned in process."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from spark_jobs import causes, credentials, errors, quoting

ZONES = ("landing", "bronze", "silver", "gold", "quarantine", "checkpoints", "ledger")
# How a store is reached, by the names that delta-rs, Arrow and the AWS SDKs have for it, and what a
# value looks like. What only one of the clients would follow is not among them.
_YES_OR_NO = r"(?i)true|false"
STORAGE_OPTIONS = {
    "AWS_REGION": r"[a-z0-9-]+",
    "AWS_ENDPOINT_URL": r"https?://[^/?#\s]+/?",
    "AWS_ALLOW_HTTP": _YES_OR_NO,
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": _YES_OR_NO,
    "vended_by": r"unity_catalog",  # who gives credentials, in place of the default chain
    "max_retries": r"\d|10",  # each waits twice as long
}
# Words about data, which may hold names that a source chose.
Words = Annotated[str, AfterValidator(quoting.plain)]
# Contracts that lie in the installed package.
INSTALLED = "installed:"
Status = Literal["published", "unchanged", "empty", "failed"]


def storage_options(options: Mapping[str, str]) -> dict[str, str]:
    """The options of a store, if all are known and none is a credential. Raises ValueError that
    names the option, and never a value."""
    for name, value in credentials.refused(options).items():
        if name not in STORAGE_OPTIONS:
            raise ValueError(
                f"{quoting.name(name)} is no storage option; known are {', '.join(STORAGE_OPTIONS)}"
            )
        if not re.fullmatch(STORAGE_OPTIONS[name], value):
            raise ValueError(f"{name} does not look like {STORAGE_OPTIONS[name]}")
    return dict(options)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class LakeSpec(_Record):
    """A lake, and who runs something there.

    `contracts` is where the contracts are: a folder, a URI, or `installed:` for those of the package
    that runs; `contracts_sha256` is their digest, which a URI needs. `artifact` is the version of what
    was shipped to run it, if anything was. `zones` are the lake's zones;
    `force` runs partitions whose input and code have not changed since they last succeeded. `cores`
    and `memory` are what the engine may use, if it is started for this.
    """

    contracts: str
    contracts_sha256: str | None = None
    artifact: str = ""
    zones: dict[str, str]
    storage_options: dict[str, str] = Field(default_factory=dict)
    engine: Literal["sail", "spark", "ambient"] = "sail"
    cores: int | None = None
    memory: str | None = None
    run_id: str
    force: bool = False

    @field_validator("zones")
    @classmethod
    def _every_zone(cls, zones: dict[str, str]) -> dict[str, str]:
        missing = [z for z in ZONES if not zones.get(z)]
        unknown = sorted(zones.keys() - set(ZONES))
        if missing or unknown:
            said = f"missing: {', '.join(missing)}" if missing else ""
            said += f" unknown: {quoting.names(unknown)}" if unknown else ""
            raise ValueError(f"{said.strip()}; the zones are {', '.join(ZONES)}")
        managed = [zone for zone, where in zones.items() if "/__unitystorage/" in f"{where}/"]
        if managed:
            raise ValueError(
                f"{', '.join(managed)}: this is where Unity Catalog keeps managed tables; give a"
                " location of your own, below an external location"
            )
        return dict(credentials.refused(zones))

    @model_validator(mode="after")
    def _known_contracts(self) -> Self:
        if "://" in self.contracts and self.contracts_sha256 is None:
            raise ValueError(
                "contracts at a URI need contracts_sha256, which tells them from others"
            )
        return self

    @field_validator("storage_options")
    @classmethod
    def _no_credentials(cls, options: dict[str, str]) -> dict[str, str]:
        return storage_options(options)


class RunSpec(LakeSpec):
    """One table of a lake, for one or more partitions of it, and after it those of `then`, for the same
    ones."""

    table: str
    then: list[str] = Field(default_factory=list)
    partitions: list[str] = Field(default_factory=list)


class Counts(_Record):
    """Rows of the input, by what became of them. `published` rows were inserted, updated or
    deleted; a row is `duplicate` if a newer or equal record of its key won. `added` rows are not
    of the input: the transform made them (the unknown member of a dimension).

    `withdrawn` and `revived` are rows of the table, and no part of the balance: those whose record
    is gone or rejected now, and superseded records of other partitions that took the place of one.
    """

    read: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    duplicate: int = 0
    quarantined: int = 0
    filtered: int = 0
    added: int = 0
    withdrawn: int = 0
    revived: int = 0

    @property
    def changed(self) -> int:
        """How many rows of the table are others than before."""
        return self.published + self.added + self.withdrawn + self.revived

    @property
    def published(self) -> int:
        return self.inserted + self.updated + self.deleted

    @property
    def accounted(self) -> int:
        return self.published + self.unchanged + self.duplicate + self.quarantined + self.filtered

    def __add__(self, other: Counts) -> Counts:
        ours, theirs = self.model_dump(), other.model_dump()
        return Counts(**{name: ours[name] + theirs[name] for name in ours})


class Check(_Record):
    """The outcome of one rule or threshold on one partition.

    `blocking` checks are the gate. `observed` and `threshold` are in the unit that `name` implies:
    rows, a fraction of rows, or hours.
    """

    name: str
    passed: bool
    blocking: bool = False
    severity: Literal["error", "warn"] = "error"
    observed: float | None = None
    threshold: str = ""
    failing_rows: int = 0
    evaluated_rows: int = 0
    detail: Words = ""


class PartitionReport(_Record):
    partition: str
    status: Status
    counts: Counts = Field(default_factory=Counts)
    checks: list[Check] = Field(default_factory=list)
    error: Words = ""
    fingerprint: str = ""
    revived_in: list[str] = Field(default_factory=list)


class Job(_Record):
    """The job of a service that ran a table, as who started it knows it: `url` for a person, where its
    logs are, how long it waited to begin, what it used as far as that is billed, and what that cost."""

    service: str
    id: str
    url: str = ""
    logs: str = ""
    waited_seconds: float | None = None
    cost: float | None = None
    currency: str = ""
    billed: dict[str, float] = Field(default_factory=dict)


class TableReport(_Record):
    """Everything that one run of one table did; `seconds` per step, `bytes` and `files` added. `job` is
    what ran it, if a service did."""

    table: str
    run_id: str
    batch_id: str
    engine: str
    contract_version: str
    transform_version: str
    artifact: str = ""
    partitions: list[PartitionReport]
    delta_version: int | None = None
    files: int = 0
    bytes: int = 0
    table_rows: int = 0
    table_bytes: int = 0
    seconds: dict[str, float] = Field(default_factory=dict)
    # The version of each table that was looked up, and partitions that are stale after this run
    # because of one that changed, with what made them so.
    inputs: dict[str, str] = Field(default_factory=dict)
    stale: dict[str, str] = Field(default_factory=dict)
    quarantine_sample: list[dict[str, Any]] = Field(default_factory=list)
    job: Job | None = None

    @property
    def counts(self) -> Counts:
        return sum((p.counts for p in self.partitions), Counts())

    @property
    def failed(self) -> list[PartitionReport]:
        return [p for p in self.partitions if p.status == "failed"]


class ErrorRecord(_Record):
    """Why a table could not run at all. `kind` is the class of the error; what is none of the
    platform's own may quote values of rows in its message."""

    kind: str
    message: Annotated[str, AfterValidator(lambda text: quoting.plain(text, lines=True))]
    permanent: bool
    step: str

    @classmethod
    def of(cls, error: Exception) -> ErrorRecord:
        return cls(
            kind=type(error).__name__,
            message=str(error),
            permanent=not causes.is_transient(error),
            step=errors.step_of(error),
        )

    def error(self) -> errors.LakehouseError:
        """The error, to be raised where the record has arrived."""
        known = errors.KINDS.get(self.kind)
        if known is None:
            said = f"{self.kind} in step {self.step}: {self.message}"
            return errors.EngineError(said, permanent=self.permanent)
        error = known.__new__(known)
        errors.LakehouseError.__init__(error, self.message)
        error.permanent = self.permanent
        return error


class Outcome(_Record):
    """What the data plane sends to whoever started it elsewhere: the report of a table, some of whose
    partitions may have failed, or the error for which there is none. `table` is empty if not even that
    is known."""

    table: str = ""
    report: TableReport | None = None
    error: ErrorRecord | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Outcome:
        if (self.report is None) == (self.error is None):
            raise ValueError("an outcome is either a report or an error")
        return self
