"""AWS on this machine: S3 and the other services that moto plays.

Belongs here: that server, and what its clients have to be told. Does not belong here: services that
really have to run something, what S3 and Kinesis have beyond moto's (`s3.py`, `kinesis.py`), or a
network that fails (`proxy.py`).

An object may say when it was written: the days of the sample are none of today's.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lakehouse.standins.servers import kinesis, processes, s3

REGION = "eu-central-1"
# Any will do; clients ask for some.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "standin", "AWS_SECRET_ACCESS_KEY": "standin"}
WRITTEN = "standin-written-at"
"""The metadata of an object that say when it was written."""


@dataclass(frozen=True)
class Aws:
    """A server that is running, at `url`."""

    url: str

    @property
    def storage_options(self) -> dict[str, str]:
        """What a lake in its S3 has as `lake.storage_options`."""
        return {"AWS_ENDPOINT_URL": self.url, "AWS_ALLOW_HTTP": "true", "AWS_REGION": REGION}

    def create_buckets(self, *names: str) -> None:
        for name in names:
            self._ask("PUT", f"/{name}")

    def forget(self) -> None:
        """Removes all that it holds, of every service."""
        self.set_kinesis_clock("")
        self._ask("POST", "/moto-api/reset")

    def fail_kinesis(self, fault: str, operation: str, times: int = 1) -> None:
        """The next requests are throttled or denied, find their iterator expired, or the service
        unavailable."""
        plan = {"fault": fault, "operation": operation, "times": times}
        self._ask("POST", kinesis.FAULTS_PATH, json.dumps(plan).encode())

    def set_kinesis_clock(self, at: str) -> None:
        """Records that are put from now on arrive at this time; if it is empty, when they do."""
        self._ask("POST", kinesis.FAULTS_PATH, json.dumps({"clock": at}).encode())

    def trim_kinesis(self, stream: str, before: str) -> None:
        """Removes what arrived before a time, as a stream does when its retention is over."""
        asked = json.dumps({"trim": stream, "before": before}).encode()
        self._ask("POST", kinesis.FAULTS_PATH, asked)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> None:
        request = urllib.request.Request(self.url + path, body, method=method)
        with urllib.request.urlopen(request, timeout=30):
            pass


@contextmanager
def aws() -> Iterator[Aws]:
    """A server with nothing in it yet."""
    with processes.started(__name__) as url:
        yield Aws(url)


def _date_objects_as_they_say() -> None:
    """Changes moto's S3 for the rest of this process."""
    from moto.s3.models import FakeKey

    of_moto = FakeKey.set_metadata

    def set_metadata(key: Any, metadata: Any, replace: bool = False) -> None:
        of_moto(key, metadata, replace)
        if at := metadata.get(f"x-amz-meta-{WRITTEN}"):
            # moto has times in UTC without saying so.
            key.last_modified = datetime.fromisoformat(at).astimezone(UTC).replace(tzinfo=None)

    setattr(FakeKey, "set_metadata", set_metadata)  # noqa: B010 - its type is moto's own


def _serve() -> None:
    import logging

    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    kinesis.as_in_aws()
    s3.as_in_aws()
    _date_objects_as_they_say()
    app = kinesis.Faults(s3.OneWriterAtATime(DomainDispatcherApplication(create_backend_app)))
    processes.serve(
        make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    )


if __name__ == "__main__":
    _serve()
