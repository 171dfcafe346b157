"""The bucket that vendors put their price lists into.

Belongs here: its place, and putting files, dated as the sample has it. Does not belong here: S3
(servers/aws.py), or formats (data/vendor_files.py).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lakehouse.standins.data import vendor_files
from lakehouse.standins.servers import aws
from spark_jobs.contract.source import Bucket

_BUCKET = "of-the-vendors"


@dataclass(frozen=True)
class Vendors:
    """Their bucket. `client` is boto3's."""

    cloud: aws.Aws
    client: Any
    kind: str = "bucket"

    @property
    def connection(self) -> Mapping[str, Any]:
        options = dict(self.cloud.storage_options)
        return {"location": f"s3://{_BUCKET}", "storage_options": options}

    @property
    def variables(self) -> Mapping[str, str]:
        return {}

    def create(self) -> None:
        self.cloud.create_buckets(_BUCKET)

    def put(self, source: Bucket, folder: Path) -> Counter[str]:
        """A file is written again where it has the name of one that is there. One upload is begun, and
        never completed."""
        lists: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for line in (folder / f"{source.dataset}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            del row["source_sha256"]
            named = row.pop("source_file"), row.pop("received_at")
            lists.setdefault(named, []).append(row)
        for (name, at), rows in lists.items():
            of = {"Bucket": _BUCKET, "Key": f"{source.folder}/{name}"}
            data = vendor_files.render(name, rows)
            self.client.put_object(**of, Body=data, Metadata={aws.WRITTEN: at})
        unfinished = {"Bucket": _BUCKET, "Key": f"{source.folder}/{folder.name}.csv"}
        upload = self.client.create_multipart_upload(**unfinished)["UploadId"]
        self.client.upload_part(**unfinished, UploadId=upload, PartNumber=1, Body=data[:100])
        return Counter()
