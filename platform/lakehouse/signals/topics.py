"""Where alerts go: an SNS topic, or a file of JSON lines.

Belongs here: sending one alert to one topic. Does not belong here: what an alert says, and when
there is one (alerts.py).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from lakehouse.settings.alerts import FileTopic, SnsTopic
from spark_jobs.errors import LakehouseError

Severity = Literal["critical", "warning"]

_LONGEST_SUBJECT = 99  # of SNS, in printable ASCII
_LONGEST_TEXT = 60_000  # SNS takes 256 kB, e-mail and chat show far less


class AlertError(LakehouseError):
    """An alert could not be sent; the sensor tries again at its next tick."""

    permanent = False


@dataclass(frozen=True)
class Alert:
    """One message about one run. `subject` is one line; nothing in it or in `text` is personal
    data or a secret."""

    severity: Severity
    environment: str
    job: str
    run_id: str
    assets: tuple[str, ...]
    subject: str
    text: str


def send(alert: Alert, topic: SnsTopic | FileTopic, home: Path) -> None:
    """Sends an alert; a file's path is below `home`. Raises AlertError if it did not arrive."""
    try:
        if isinstance(topic, SnsTopic):
            _publish(alert, topic)
        else:
            _append(alert, home / topic.path)
    except Exception as error:  # of the network, of the file system, or botocore's own
        where = topic.arn if isinstance(topic, SnsTopic) else home / topic.path
        raise AlertError(
            f"the {alert.severity} alert of run {alert.run_id} could not be sent to {where}:"
            f" {error}. It is sent again at the sensor's next tick."
        ) from error


def _publish(alert: Alert, topic: SnsTopic) -> None:
    import boto3
    from botocore.config import Config

    # A tick has a minute: give up in time, and let the next one try again.
    limits = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 3})
    client = boto3.client("sns", region_name=topic.region, config=limits)
    # Subscriptions filter by attributes, without looking into the text.
    attributes = {name: getattr(alert, name) for name in ("severity", "environment", "job")}
    client.publish(
        TopicArn=topic.arn,
        Subject=_ascii(alert.subject),
        Message=alert.text[:_LONGEST_TEXT],
        MessageAttributes={
            name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
        },
    )


def _ascii(subject: str) -> str:
    text = subject.encode("ascii", "replace").decode()
    return text if len(text) <= _LONGEST_SUBJECT else f"{text[: _LONGEST_SUBJECT - 3]}..."


def _append(alert: Alert, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    line = {"sent_at": datetime.now(UTC).isoformat(timespec="seconds"), **asdict(alert)}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
