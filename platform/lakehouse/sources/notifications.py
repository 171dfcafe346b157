"""What a queue of SQS says of landing: the objects that came, or went, as S3 tells it.

Belongs here: receiving, reading and deleting messages. Does not belong here: what to run for them, and
when a message has done its duty (automation/landing_looks.py).

S3 tells the queue itself, or by way of SNS or EventBridge; each has a form of its own. An object may be
told of several times, and out of order: a message says where to look, and nothing else of it counts.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

if TYPE_CHECKING:
    from lakehouse.settings.operations import LandingQueue

_PER_CALL = 10
_ALL_SERVERS_SECONDS = 1  # a call that waits asks every server that may hold a message


@dataclass(frozen=True)
class Notice:
    """A message. `objects` are `bucket/key` of what it tells of, None if it is no event of S3."""

    id: str
    receipt: str
    objects: tuple[str, ...] | None


@dataclass(frozen=True)
class Queue:
    """The queue of the settings."""

    settings: LandingQueue

    def receive(self, hidden_seconds: int) -> Iterator[Notice]:
        """Messages, as many as one look takes. They stay in the queue, and are hidden for so long."""
        calls = -(-self.settings.messages_per_look // _PER_CALL)
        for _ in range(calls):
            found = self._client.receive_message(
                QueueUrl=self.settings.url,
                MaxNumberOfMessages=_PER_CALL,
                WaitTimeSeconds=_ALL_SERVERS_SECONDS,
                VisibilityTimeout=hidden_seconds,
            ).get("Messages", [])
            for message in found:
                yield Notice(message["MessageId"], message["ReceiptHandle"], told(message["Body"]))
            if not found:
                return

    def delete(self, notices: Iterable[Notice]) -> None:
        """Removes messages. One that stays nevertheless is received again, and removed then."""
        rest = iter(notices)
        while some := list(itertools.islice(rest, _PER_CALL)):
            entries = [{"Id": str(n), "ReceiptHandle": m.receipt} for n, m in enumerate(some)]
            self._client.delete_message_batch(QueueUrl=self.settings.url, Entries=entries)

    def check(self) -> None:
        """Returns if the queue can be asked, and raises if not."""
        self._client.get_queue_attributes(QueueUrl=self.settings.url, AttributeNames=["QueueArn"])

    @cached_property
    def _client(self) -> Any:
        import boto3

        return boto3.client(
            "sqs", region_name=self.settings.region, endpoint_url=self.settings.endpoint
        )


def told(body: str) -> tuple[str, ...] | None:
    """The objects that a message tells of, as `bucket/key`; none for the test that S3 sends when it is
    told of a queue, and None for what is no event of S3."""
    try:
        said = json.loads(body)
        if said.get("Type") == "Notification":  # of SNS, around that of S3
            return told(said["Message"])
        if said.get("Event") == "s3:TestEvent":
            return ()
        if said.get("source") == "aws.s3":  # of EventBridge, which writes keys as they are
            detail = said["detail"]
            return (f"{detail['bucket']['name']}/{detail['object']['key']}",)
        of = [record["s3"] for record in said["Records"]]
        return tuple(f"{s['bucket']['name']}/{unquote_plus(s['object']['key'])}" for s in of)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
