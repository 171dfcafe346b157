"""Where a bronze table's rows come from: a landing folder of files, and what fills it.

Belongs here: the kinds of sources and the options of each. Does not belong here: where a source is and
how one logs in (the settings of an environment), or reading one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from importlib import metadata
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from spark_jobs.errors import InputError

_WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_$]*"
Identifier = Annotated[str, StringConstraints(pattern=rf"^{_IDENTIFIER}$")]
"""A name that a source's language takes without quotes, and that can hold nothing else."""
Overlap = Annotated[timedelta, Field(ge=timedelta(0), le=timedelta(days=7))]


class Source(BaseModel):
    """What every kind has: a folder of landing, with files in one format."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    dataset: str
    format: Literal["parquet", "csv", "json"]
    system: str = Field(default_factory=lambda given: str(given["kind"]))
    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = (
        "mon",
        "tue",
        "wed",
        "thu",
        "fri",
        "sat",
        "sun",
    )
    # How a CSV file is written, where it differs from RFC 4180; None is no quoting at all.
    delimiter: str = Field(",", min_length=1, max_length=1)
    quote: str | None = Field('"', min_length=1, max_length=1)
    header: bool = True
    encoding: str = "utf-8"
    # Columns that hold text of several lines, each of which may look like a record.
    multiline: tuple[str, ...] = ()

    def delivers_on(self, partition: str) -> bool:
        """Whether there is something on the day of the week of a partition."""
        return _WEEK[date.fromisoformat(partition[:10]).weekday()] in self.days

    @model_validator(mode="after")
    def _readable(self) -> Source:
        told = self.model_fields_set & {"delimiter", "quote", "header", "encoding", "multiline"}
        if told and self.format != "csv":
            raise ValueError(f"{', '.join(sorted(told))}: only for format csv, not {self.format}")
        marks = self.delimiter + (self.quote or "")
        if not marks.isascii() or set(marks) & set("\r\n\x00") or self.delimiter == self.quote:
            raise ValueError(
                "delimiter and quote: two different ASCII characters, and neither ends a line"
            )
        try:
            "".encode(self.encoding)
            b"".decode(self.encoding)
        except (LookupError, ValueError):
            raise ValueError(f"encoding: {self.encoding!r} is no text encoding") from None
        return self


class Files(Source):
    """Files that others write into landing."""

    kind: Literal["files"] = "files"
    system: str


class Relation(Source):
    """A table or view of a database. `modified` is the column that says when a row changed: a pull
    reads what changed since the one before, and `overlap` more, for rows that were committed late;
    without it, a pull reads all of it. `columns` names columns that are called otherwise there."""

    table: Annotated[str, StringConstraints(pattern=rf"^{_IDENTIFIER}(\.{_IDENTIFIER}){{0,2}}$")]
    modified: Identifier | None = None
    overlap: Overlap = timedelta(minutes=15)
    columns: Mapping[str, Identifier] = Field(default_factory=dict)

    def called(self, columns: Iterable[str]) -> list[str]:
        """What the database calls columns. Raises InputError for one that no identifier names."""
        names = {column: self.columns.get(column, column) for column in columns}
        for column, name in names.items():
            if not re.fullmatch(_IDENTIFIER, name):
                raise InputError(
                    f"{self.dataset}: column {column}: say what it is called in"
                    f" {self.kind.capitalize()} (source.columns)"
                )
        return list(names.values())


class Snowflake(Relation):
    """A table of Snowflake."""

    kind: Literal["snowflake"]


class Redshift(Relation):
    """A relation of Redshift, which unloads it."""

    kind: Literal["redshift"]


class Salesforce(Source):
    """Records of one kind of object, by the time at which anybody or anything changed them last,
    deleted ones included."""

    kind: Literal["salesforce"]
    object: Identifier
    overlap: Overlap = timedelta(minutes=15)


class FxApi(Source):
    """Exchange rates against a base currency: those of the day and of so many days before, since rates
    are published late, and corrected."""

    kind: Literal["fx_api"]
    base: Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")] = "EUR"
    days_before: int = Field(6, ge=0, le=366)


class Bucket(Source):
    """Files below a folder of others' bucket, in formats of their own; they land in one. `overlap`: how
    long an upload in parts may take: it is there when it is complete, and dated when it began."""

    kind: Literal["bucket"]
    format: Literal["csv", "json"]
    folder: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._=-]+(/[A-Za-z0-9._=-]+)*$")]
    overlap: Overlap = timedelta(days=1)


class Stream(Source):
    """Records that are JSON objects, in shards or partitions. `fields` are fields that a record gets if
    it has none such: for its arrival, its position, its shard and its key. `max_lag_seconds`: how old
    the oldest record may be when it lands."""

    format: Literal["json"]
    fields: Mapping[Literal["arrived", "position", "shard", "key"], Identifier] = Field(
        default_factory=dict
    )
    max_lag_seconds: int = Field(7200, ge=1)


_Topic = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,249}$")]


class Kafka(Stream):
    """Messages of a topic. They arrive when the broker takes them; with `clock: producer`, when their
    producers say. `dead_letters`: a topic for those that are no JSON objects."""

    kind: Literal["kafka"]
    topic: _Topic
    clock: Literal["broker", "producer"] = "broker"
    dead_letters: _Topic | None = None


class Kinesis(Stream):
    """Records of a stream."""

    kind: Literal["kinesis"]
    stream: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]


class Dms(Source):
    """A table of a database whose rows, and then changes, DMS writes into a bucket."""

    kind: Literal["dms"]
    table: Annotated[str, StringConstraints(pattern=rf"^{_IDENTIFIER}\.{_IDENTIFIER}$")]


KINDS: Mapping[str, type[Source]] = {
    "files": Files,
    "snowflake": Snowflake,
    "redshift": Redshift,
    "salesforce": Salesforce,
    "fx_api": FxApi,
    "bucket": Bucket,
    "kafka": Kafka,
    "kinesis": Kinesis,
    "dms": Dms,
}


INSTALLED = "lakehouse.sources"
"""The group of entry points by which packages add kinds: a kind's name is that of a module, which has
the class `Options` (a Source), `Connection`, and `source(connection, declared, columns)`."""


def installed(kind: str) -> Any:
    """The module of a kind that a package adds; None if there is none. Raises ValueError for one that
    cannot be used."""
    found = list(metadata.entry_points(group=INSTALLED, name=kind)) if kind not in KINDS else []
    if len({point.value for point in found}) > 1:
        raise ValueError(
            f"kind {kind!r}: {' and '.join(sorted({p.value for p in found}))} both add it. Uninstall one"
        )
    if not found:
        return None
    module = found[0].load()
    missing = [name for name in ("Options", "Connection", "source") if not hasattr(module, name)]
    if missing:
        raise ValueError(f"kind {kind!r}: {found[0].value} has no {', '.join(missing)}")
    return module


def kind_of(value: Any) -> type[Source]:
    """The model of a source as it is written. Raises ValueError for a kind that is not known."""
    kind = value.get("kind", "files") if isinstance(value, Mapping) else "files"
    if not isinstance(kind, str):
        raise ValueError(f"kind {kind!r} is not a name")
    if kind in KINDS:
        return KINDS[kind]
    module = installed(kind)
    if module is None:
        added = sorted(point.name for point in metadata.entry_points(group=INSTALLED))
        raise ValueError(f"kind {kind!r} is not known; there are {', '.join([*KINDS, *added])}")
    options: type[Source] = module.Options
    return options
