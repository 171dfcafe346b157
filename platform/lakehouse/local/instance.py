"""The local Dagster instance: its home, its configuration, and runs that died with their process.

Belongs here: `dagster.yaml`, opening the instance for this process. Does not belong here: what is
run on it (execution.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from lakehouse.dagster_private import (
    IO_TYPE_EXTENSION,
    CapturedLogContext,
    ComputeIOType,
    InstanceRef,
    LocalComputeLogManager,
    redirect_to_file,
)
from lakehouse.keys import LANE_TAG, PROCESS_TAG
from lakehouse.marts.specs import POOL
from lakehouse.settings.instance import PostgresInstance
from lakehouse.settings.model import Settings
from lakehouse.settings.references import SettingsError

_EVENT_BATCH = "1000"
_IN_PROGRESS = [
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.SUSPENDED,
    dg.DagsterRunStatus.CANCELING,
]


def instance_config(settings: Settings) -> dict[str, Any]:
    """The content of `dagster.yaml`."""
    return {
        "storage": {"custom": _storage(settings)},
        "concurrency": {
            # A run waits in the queue until every table it writes is free.
            "pools": {"default_limit": 1, "granularity": "run"},
            "runs": {
                "max_concurrent_runs": settings.pools.runs,
                "tag_concurrency_limits": [
                    {"key": LANE_TAG, "value": {"applyLimitPerUniqueValue": True}, "limit": 1}
                ],
            },
        },
        "run_launcher": {
            "module": "lakehouse.local.launcher",
            "class": "WatchedRunLauncher",
            "config": {"grace_seconds": settings.instance.watch_seconds},
        },
        "run_monitoring": {
            "enabled": True,
            "poll_interval_seconds": settings.instance.watch_seconds,
            "start_timeout_seconds": 180,
            "free_slots_after_run_end_seconds": 60,
        },
        "run_retries": {
            # For runs that crashed: a step that failed has had its own retries.
            "enabled": True,
            "max_retries": settings.retries.max,
            "retry_on_asset_or_op_failure": False,
        },
        "freshness": {"enabled": True},
        "telemetry": {"enabled": False},
        "nux": {"enabled": False},
    }


def _storage(settings: Settings) -> dict[str, Any]:
    limits = {POOL: settings.pools.warehouse}  # of others the default is the limit
    if isinstance(settings.instance, PostgresInstance):
        from lakehouse.local.postgres import storage_config

        return {
            "module": "lakehouse.local.postgres",
            "class": "PostgresStorage",
            "config": storage_config(settings.instance) | {"pools": limits},
        }
    config: dict[str, Any] = {"base_dir": {"env": "DAGSTER_HOME"}, "pools": limits}
    if settings.instance.names:
        config["names"] = settings.instance.names
    return {"module": "lakehouse.local.event_log", "class": "LocalStorage", "config": config}


def prepare_home(settings: Settings) -> Path:
    """Writes `dagster.yaml` and points this process, and those that it starts, to it.

    Raises SettingsError if the folder cannot be written.
    """
    home = settings.dagster_home
    try:
        home.mkdir(parents=True, exist_ok=True)
        _write(home / "dagster.yaml", instance_config(settings))
    except OSError as error:
        raise SettingsError(
            f"{home}: not writable ({error.strerror}). Give this user write access, or set"
            " LAKEHOUSE_HOME to another folder."
        ) from error
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", _EVENT_BATCH)
    return home


def write_workspace(home: Path, host: str, port: int) -> None:
    """Writes the `workspace.yaml` that leads the daemon and the webserver to the code location."""
    server = {"host": host, "port": port, "location_name": "lakehouse"}
    _write(home / "workspace.yaml", {"load_from": [{"grpc_server": server}]})


def _write(path: Path, content: Mapping[str, Any]) -> None:
    text = "# Written by `lakehouse` from the settings; changes here are overwritten.\n"
    text += yaml.safe_dump(dict(content), sort_keys=False)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The instance for a process that executes runs itself. What steps print goes to the run's
    logs only: this process's terminal belongs to its progress display."""
    home = prepare_home(settings)
    overrides = {
        "compute_logs": {
            "module": __name__,
            "class": "QuietComputeLogs",
            "config": {"base_dir": str(home / "storage")},
        }
    }
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home), overrides=overrides)) as found:
        bury_dead_runs(found)
        yield found


def bury_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Marks runs as failed whose process has gone without saying so (killed, out of memory)."""
    buried = []
    filters = dg.RunsFilter(statuses=_IN_PROGRESS)
    for run in instance.get_runs(filters):
        process = run.tags.get(PROCESS_TAG)
        if process is not None and not _alive(int(process)):
            instance.report_run_failed(
                run,
                f"process {process} ended without finishing the run. Nothing is half published:"
                " run it again.",
            )
            buried.append(run.run_id)
    return buried


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class QuietComputeLogs(LocalComputeLogManager):
    """Captures what steps print in the same files as the stock manager, and echoes nothing: the
    stock one starts four processes per run to repeat it on the terminal."""

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> QuietComputeLogs:
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def capture_logs(self, log_key: Any) -> Iterator[CapturedLogContext]:
        import sys

        streams = {ComputeIOType.STDOUT: sys.stdout, ComputeIOType.STDERR: sys.stderr}
        with ExitStack() as redirected:
            for kind, stream in streams.items():
                path = self.get_captured_local_path(log_key, IO_TYPE_EXTENSION[kind])
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                redirected.enter_context(redirect_to_file(stream, path))
            yield CapturedLogContext(log_key)
        # Dagster's own, which has no types.
        complete = Path(self.complete_artifact_path(log_key))  # type: ignore[no-untyped-call]
        complete.parent.mkdir(parents=True, exist_ok=True)
        complete.touch()
