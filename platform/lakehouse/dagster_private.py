"""What the lake takes of Dagster's private modules, which a release may change without a word.

Belongs here: such an import, with the reason why no public name does. The linter refuses it anywhere
else, so that an upgrade of Dagster begins with this file. Does not belong here: what is done with it.

It brings the storage of the run history. Definitions load without: what a step needs of it is imported
when the step runs.
"""

from dagster._cli.proxy_server_manager import ProxyServerManager
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from dagster._core.errors import (
    DagsterExecutionInterruptedError,
    DagsterPipesExecutionError,
    DagsterUserCodeUnreachableError,
    raise_execution_interrupts,
)
from dagster._core.events import (
    ASSET_CHECK_EVENTS,
    ASSET_EVENTS,
    EVENT_TYPE_TO_PIPELINE_RUN_STATUS,
)
from dagster._core.execution.api import ExecuteRunWithPlanIterable
from dagster._core.execution.compute_logs import create_compute_log_file_key, redirect_to_file
from dagster._core.execution.context.system import (
    PlanExecutionContext,
    PlanOrchestrationContext,
    StepExecutionContext,
)
from dagster._core.execution.context_creation_job import PlanExecutionContextManager
from dagster._core.execution.execute_in_process import core_execute_in_process
from dagster._core.execution.plan.active import ActiveExecution
from dagster._core.execution.plan.execute_plan import dagster_event_sequence_for_step
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.compute_log_manager import CapturedLogContext, ComputeIOType
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.local_compute_log_manager import (
    IO_TYPE_EXTENSION,
    LocalComputeLogManager,
)
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget, WorkspaceFileTarget
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult

# Marks an output of which Dagster makes no materialization. Dagster sets it for observable source
# assets alone; a step of tables has no public way to say that nothing is new.
__all__ = ["SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION"]

# What a Pipes client, which is public, raises when its process or job ends badly, and what ends a step.
__all__ += ["DagsterExecutionInterruptedError", "DagsterPipesExecutionError"]

# The run history: the stock storage with writes in batches. `dagster.yaml` takes any class as a
# storage, but neither the stock ones nor what one has to do to index an event is public.
__all__ += [
    "ASSET_CHECK_EVENTS",
    "ASSET_EVENTS",
    "EVENT_TYPE_TO_PIPELINE_RUN_STATUS",
    "INDEX_SHARD_NAME",
    "AssetCheckExecutionRecordStatus",
    "AssetCheckExecutionsTable",
    "DagsterSqliteStorage",
    "SqlEventLogStorageTable",
    "SqliteEventLogStorage",
]

# The stock log of what steps print, without its echo, and an instance that differs from its
# `dagster.yaml` in this. Both are plugged in by class, and the stock classes are not public.
__all__ += [
    "IO_TYPE_EXTENSION",
    "CapturedLogContext",
    "ComputeIOType",
    "InstanceRef",
    "LocalComputeLogManager",
    "redirect_to_file",
]

# What `dagster dev` puts together: one code server, and a webserver on it. There is only the command,
# whose webserver takes requests of any page.
__all__ += [
    "ModuleTarget",
    "ProxyServerManager",
    "WorkspaceFileTarget",
    "WorkspaceProcessContext",
]

# Whether a run is in progress, which its code server knows and nothing public asks.
__all__ += [
    "GRPC_INFO_TAG",
    "CanCancelExecutionRequest",
    "CanCancelExecutionResult",
    "CheckRunHealthResult",
    "DagsterGrpcClient",
    "DagsterUserCodeUnreachableError",
    "WorkerStatus",
]

# An executor with threads, of which Dagster has none: `dg.Executor` is public, and what one is made of
# is not. `execute_in_process` runs with the stock one whatever a job says.
__all__ += [
    "ActiveExecution",
    "ExecuteRunWithPlanIterable",
    "ExecutionPlan",
    "InMemoryJob",
    "InstanceConcurrencyContext",
    "PlanExecutionContext",
    "PlanExecutionContextManager",
    "PlanOrchestrationContext",
    "RetryMode",
    "StepExecutionContext",
    "core_execute_in_process",
    "create_compute_log_file_key",
    "dagster_event_sequence_for_step",
    "raise_execution_interrupts",
]
