"""The bucket that others deliver to: the files of ERP and HR, and what DMS captures of a database.

Belongs here: its place, and putting objects. Does not belong here: S3 (servers/aws.py), or what is put
(data/).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lakehouse.standins.servers import aws
from spark_jobs.contract.source import Source

_BUCKET, _PREFIX = "lake-raw", "landing"
KINDS = ("files", "dms")


@dataclass(frozen=True)
class Bucket:
    """A lake's landing. `client` is boto3's."""

    cloud: aws.Aws
    client: Any

    @property
    def settings(self) -> dict[str, Any]:
        """What a lake's settings say of it."""
        return {"landing": self.uri(_PREFIX), "storage_options": self.cloud.storage_options}

    def uri(self, folder: str) -> str:
        return f"s3://{_BUCKET}/{folder}"

    def create(self) -> None:
        self.cloud.create_buckets(_BUCKET)

    def put(self, source: Source, folder: Path) -> None:
        for file in sorted(folder.iterdir()):
            key = f"{_PREFIX}/{source.dataset}/{folder.name}/{file.name}"
            self.client.upload_file(str(file), _BUCKET, key)
