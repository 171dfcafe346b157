"""Where the sources of this environment are, and how one logs in.

Belongs here: a connection per kind of source, and where positions are kept. Does not belong here: what
is read there (contracts), or reading it (sources/).

A dataset whose kind has a connection is extracted here; one whose kind has none is delivered by others.
A kind that a package adds brings its connection along.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from lakehouse.settings.part import Part
from lakehouse.settings.redshift import RedshiftLogin
from lakehouse.settings.references import Secret
from spark_jobs.contract.source import KINDS, Identifier, Source, Stream, installed
from spark_jobs.report import storage_options


def _url(value: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ValueError("the value is not an address such as https://host/path")
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost"):
        raise ValueError("the address is not encrypted (http): use https")
    return value.rstrip("/")


Url = Annotated[str, AfterValidator(_url)]
StorageOptions = Annotated[dict[str, str], AfterValidator(storage_options)]
"""Without credentials."""


class FxApiConnection(Part):
    """An API of daily exchange rates: `GET <url>/<first>..<last>?base=EUR`. `key`: sent as a bearer
    token. A request has `timeout_seconds`, and is tried `attempts` times."""

    url: Url
    key: Secret | None = None
    timeout_seconds: float = Field(default=30, gt=0)
    attempts: int = Field(default=6, ge=1)


_LOGINS = (
    {"username", "password", "security_token"},
    {"consumer_key", "consumer_secret"},
    {"username", "consumer_key", "private_key"},
)


class SalesforceConnection(Part):
    """Who asks Salesforce: a user by password and security token, or a connected app by its
    `consumer_key` and `consumer_secret` (client credentials, at one's own domain), or an app for a user
    by a `private_key` in PEM (JWT). `domain` is `login`, `test`, or one's own with `.my`. `endpoint`: an
    address in place of Salesforce's. From so many records on (`bulk_from`) a pull is a job of Bulk 2.0,
    which is looked at each `poll_seconds`. None begins if the day has fewer than `requests_left`
    requests left for all that use the organization."""

    username: Secret | None = None
    password: Secret | None = None
    security_token: Secret | None = None
    consumer_key: Secret | None = None
    consumer_secret: Secret | None = None
    private_key: Secret | None = None
    domain: Annotated[str, Field(pattern=r"^[a-zA-Z0-9.-]+$")] = "login"
    endpoint: Url | None = None
    bulk_from: int = Field(default=20_000, ge=1)
    requests_left: int = Field(default=500, ge=0)
    poll_seconds: float = Field(default=5, gt=0)
    timeout_seconds: float = Field(default=60, gt=0)
    attempts: int = Field(default=6, ge=1)

    @model_validator(mode="after")
    def _one_login(self) -> SalesforceConnection:
        given = set(self._login())
        if given not in _LOGINS:
            ways = "; or ".join(", ".join(sorted(way)) for way in _LOGINS)
            raise ValueError(f"a login has exactly {ways}")
        if given == _LOGINS[1] and self.domain in ("login", "test"):
            raise ValueError(
                "domain: a connected app without a user logs in at one's own domain, such as acme.my"
            )
        return self

    def _login(self) -> dict[str, Secret]:
        names = sorted(set().union(*_LOGINS))
        return {n: secret for n in names if (secret := getattr(self, n)) is not None}

    def login(self) -> dict[str, Any]:
        """As simple-salesforce takes it. It holds secrets: it is made where it is used."""
        return {
            n.replace("private_key", "privatekey"): s.reveal() for n, s in self._login().items()
        }


class KinesisConnection(Part):
    """Kinesis in a region; who asks is told by the default credential chain. A shard is asked
    `calls_per_second` times at most: five are what it allows all its consumers together."""

    region: str
    endpoint: Url | None = None
    calls_per_second: float = Field(default=5, gt=0)


class KafkaConnection(Part):
    """A cluster by some of its brokers (`host:port,…`), and how one logs in there."""

    bootstrap: Annotated[str, Field(pattern=r"^[A-Za-z0-9.\-]+:\d+(,[A-Za-z0-9.\-]+:\d+)*$")]
    protocol: Literal["SASL_SSL", "SSL", "SASL_PLAINTEXT", "PLAINTEXT"] = "SASL_SSL"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    user: Secret | None = None
    password: Secret | None = None

    @model_validator(mode="after")
    def _guarded(self) -> KafkaConnection:
        hosts = {broker.rpartition(":")[0] for broker in self.bootstrap.split(",")}
        if self.protocol.endswith("PLAINTEXT") and hosts - {"127.0.0.1", "localhost"}:
            raise ValueError(f"protocol {self.protocol} is not encrypted: use SASL_SSL or SSL")
        if self.protocol.startswith("SASL") != (
            self.user is not None and self.password is not None
        ):
            raise ValueError("user and password: both for SASL, and none without it")
        return self

    def config(self) -> dict[str, str]:
        """As librdkafka takes it. It holds the password: it is made where it is used."""
        told = {"bootstrap.servers": self.bootstrap, "security.protocol": self.protocol}
        if self.user is None or self.password is None:
            return told
        login = {"sasl.username": self.user.reveal(), "sasl.password": self.password.reveal()}
        return {**told, "sasl.mechanism": self.mechanism, **login}


class StreamRules(Part):
    """When a stream is drained: its oldest record has waited for so long, or so many have, where the
    stream tells how many there are."""

    drain_after_seconds: float = Field(default=300, ge=0)
    drain_after_records: int = Field(default=100_000, ge=1)


class SnowflakeConnection(Part):
    """A user of an account of Snowflake, by password or by the `private_key` of a key pair (PEM; with a
    passphrase if it is encrypted), and what its queries are run by. `host`, `port` and `protocol`:
    another address than the account's, such as a private link."""

    account: str
    user: str
    password: Secret | None = None
    private_key: Secret | None = None
    private_key_passphrase: Secret | None = None
    database: Identifier
    schema_name: Identifier = Field(alias="schema")
    warehouse: Identifier
    role: Identifier | None = None
    host: str | None = None
    port: int = 443
    protocol: Literal["https", "http"] = "https"
    timeout_seconds: int = Field(default=300, ge=1)

    @model_validator(mode="after")
    def _encrypted(self) -> SnowflakeConnection:
        if self.protocol == "http" and self.host not in ("127.0.0.1", "localhost"):
            raise ValueError("protocol: the address is not encrypted (http): use https")
        return self

    @model_validator(mode="after")
    def _one_login(self) -> SnowflakeConnection:
        if (self.password is None) == (self.private_key is None):
            raise ValueError("a login has either password or private_key")
        if self.private_key_passphrase and not self.private_key:
            raise ValueError("private_key_passphrase: there is no private_key")
        return self


class RedshiftConnection(RedshiftLogin):
    """A cluster or workgroup, as `warehouse` has it. `tempdir`: a folder of S3 that its `role` may write
    and whoever runs may read and clear, for rows on their way; `storage_options`: how that is reached,
    as `lake.storage_options`."""

    tempdir: Annotated[str, Field(pattern=r"^s3://[a-z0-9][a-z0-9.-]+/[^'\s]*[^'/\s]$")]
    storage_options: StorageOptions = Field(default_factory=dict)


class BucketConnection(Part):
    """A bucket of others, or a folder of it. `storage_options`: how it is reached, as
    `lake.storage_options`."""

    location: Annotated[str, Field(pattern=r"^s3://[a-z0-9][a-z0-9.-]+(/[^/\s]+)*$")]
    storage_options: StorageOptions = Field(default_factory=dict)


class SqliteCursors(Part):
    """A file below `home`, for one machine."""

    store: Literal["sqlite"] = "sqlite"
    path: str = "positions.sqlite"


class DynamoCursors(Part):
    """A table of DynamoDB whose partition key is the text `dataset`."""

    store: Literal["dynamodb"]
    table: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{3,255}$")]
    region: str


class SourceSettings(Part):
    """A connection per kind of source, and where the position of each dataset is kept."""

    fx_api: FxApiConnection | None = None
    salesforce: SalesforceConnection | None = None
    kafka: KafkaConnection | None = None
    kinesis: KinesisConnection | None = None
    streams: StreamRules = StreamRules()
    snowflake: SnowflakeConnection | None = None
    redshift: RedshiftConnection | None = None
    bucket: BucketConnection | None = None
    cursors: Annotated[SqliteCursors | DynamoCursors, Field(discriminator="store")] = (
        SqliteCursors()
    )

    _added: dict[str, BaseModel] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _with_added(
        cls, given: Any, handler: ModelWrapValidatorHandler[SourceSettings]
    ) -> SourceSettings:
        if not isinstance(given, Mapping):
            return handler(given)
        added = {
            kind: _connection(kind, value)
            for kind, value in given.items()
            if kind not in cls.model_fields and installed(str(kind)) is not None
        }
        made = handler({name: value for name, value in given.items() if name not in added})
        made._added = added
        return made

    def connection(self, kind: str) -> BaseModel | None:
        """How sources of a kind are reached; None where others deliver what they have."""
        return getattr(self, kind, None) if kind in KINDS else self._added.get(kind)

    def extracts(self, source: Source) -> bool:
        """Whether a dataset is extracted here, or delivered by others."""
        return not isinstance(source, Stream) and self.connection(source.kind) is not None

    def drains(self, source: Source) -> bool:
        """Whether a dataset is a stream that is drained here. What lands by that is served as what
        others deliver is: by the sensor on landing."""
        return isinstance(source, Stream) and self.connection(source.kind) is not None


def _connection(kind: str, value: Any) -> BaseModel:
    """The connection of a kind that a package adds. Its error names settings, and never a value."""
    model: type[BaseModel] = installed(kind).Connection
    try:
        return model.model_validate(value)
    except ValidationError as error:
        wrong = [
            f"{'.'.join(map(str, (kind, *e['loc'])))}: {e['msg']}"
            for e in error.errors(include_input=False, include_url=False)
        ]
        raise ValueError("; ".join(wrong)) from None
