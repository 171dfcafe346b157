"""Running runs below the code server, and noticing when they have gone with it.

Belongs here: whether the process of a run is still there. Does not belong here: what becomes of the
run then (run monitoring fails it, and `run_retries` of the instance starts it again).

Dagster's own launcher cannot tell: a run whose machine went away would be in progress for ever, and
its tables locked.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster_shared.serdes import deserialize_value

from lakehouse.dagster_private import (
    GRPC_INFO_TAG,
    CanCancelExecutionRequest,
    CanCancelExecutionResult,
    CheckRunHealthResult,
    DagsterGrpcClient,
    DagsterUserCodeUnreachableError,
    WorkerStatus,
)

GONE = (
    "its process has gone, with the code location that it ran below. Nothing is half published: the"
    " run is started again, or can be."
)


class WatchedRunLauncher(dg.DefaultRunLauncher):
    """Dagster's, which can tell whether a run is in progress: the code server knows its own. One
    that was restarted has none of those before; one that does not answer is waited for, unless it
    had a socket, which no other server takes up.

    A run has gone once it was found so for `grace_seconds`: the daemon starts it again at once, once
    only, and fails at that as long as it has not noticed itself that the code location is back.
    """

    def __init__(self, inst_data: Any = None, grace_seconds: int = 30) -> None:
        super().__init__(inst_data)
        self._grace = grace_seconds
        self._missed: dict[str, float] = {}

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {"grace_seconds": dg.Field(int, is_required=False)}

    @classmethod
    def from_config_value(
        cls, inst_data: Any, config_value: Mapping[str, Any]
    ) -> WatchedRunLauncher:
        return cls(inst_data=inst_data, **config_value)

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        if not _is_missed(run):
            self._missed.pop(run.run_id, None)
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        since = self._missed.setdefault(run.run_id, time.monotonic())
        if time.monotonic() - since < self._grace:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        del self._missed[run.run_id]
        return CheckRunHealthResult(WorkerStatus.FAILED, GONE)


def _is_missed(run: dg.DagsterRun) -> bool:
    server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
    if not server:
        return False  # of another process than a code server
    client = DagsterGrpcClient(
        port=server.get("port"),
        socket=server.get("socket"),
        host=server.get("host"),
        use_ssl=bool(server.get("use_ssl")),
    )
    try:
        said = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id))
    except DagsterUserCodeUnreachableError:
        return "socket" in server
    return not deserialize_value(said, CanCancelExecutionResult).can_cancel
