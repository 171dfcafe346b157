"""Executors: how the steps of one run share a process, or do not.

Belongs here: side by side in one process, for tables that share its engine; a process per step, for
those that run elsewhere; and which of the two a lake needs. Does not belong here: what a step does.
"""

from __future__ import annotations

import contextvars
import ctypes
import os
import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from lakehouse.engines.runner import runner_of
from lakehouse.settings.model import Settings
from spark_jobs.contract.model import Contract

if TYPE_CHECKING:
    from lakehouse.dagster_private import (
        ExecutionPlan,
        PlanExecutionContext,
        PlanOrchestrationContext,
        StepExecutionContext,
    )


def executor_of(settings: Settings, contracts: Mapping[str, Contract]) -> dg.ExecutorDefinition:
    """Embedded tables share the engine of the run's process: a process per step would start one for
    each. Where every table runs elsewhere, each step waits in a process of its own."""
    if any(runner_of(c, settings) == "embedded" for c in contracts.values()):
        return side_by_side
    return multiprocess


@dg.configured(dg.multiprocess_executor, config_schema={})
def multiprocess(_: Any) -> dict[str, Any]:
    """A process per step. Run config can set nothing of it: it would name modules to load."""
    return {}


@dg.executor(name="side_by_side", config_schema={})
def side_by_side(_: dg.InitExecutorContext) -> dg.Executor:
    """Steps in threads of the run's process, as many at once as there are cores: one waits for files
    while another computes. Python's lock costs little, since the work is the engine's."""
    return SideBySide(os.cpu_count() or 1)


@dataclass(frozen=True)
class SideBySide(dg.Executor):
    """Dagster's in-process executor runs steps one after another; this is the same with threads."""

    at_once: int

    @property
    def retries(self) -> Any:
        from lakehouse.dagster_private import RetryMode

        return RetryMode.ENABLED

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        from lakehouse.dagster_private import (
            ExecuteRunWithPlanIterable,
            PlanExecutionContextManager,
        )

        yield from ExecuteRunWithPlanIterable(
            execution_plan=plan_context.execution_plan,
            iterator=self._events,
            execution_context_manager=PlanExecutionContextManager(
                job=plan_context.job,
                retry_mode=plan_context.retry_mode,
                execution_plan=plan_context.execution_plan,
                run_config=plan_context.run_config,
                dagster_run=plan_context.dagster_run,
                instance=plan_context.instance,
                raise_on_error=plan_context.raise_on_error,
                output_capture=plan_context.output_capture,
                step_dependency_config=self.step_dependency_config,
            ),
        )

    def _events(
        self, job_context: PlanExecutionContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        from lakehouse.dagster_private import (
            InstanceConcurrencyContext,
            raise_execution_interrupts,
        )

        context, plan = job_context, execution_plan
        steps = _Steps()
        with (
            InstanceConcurrencyContext(context.instance, context.dagster_run) as slots,
            plan.start(
                retry_mode=context.retry_mode,
                max_concurrent=self.at_once,
                instance_concurrency_context=slots,
                step_dependency_config=self.step_dependency_config,
            ) as active,
            _captured(context, plan) as captured,
        ):
            yield captured
            while not active.is_complete:
                for step in active.get_steps_to_execute():
                    steps.begin(context.for_step(step, active.get_known_state()))
                yield from active.concurrency_event_iterator(context)
                # What happens next in a step, or that one may be tried again, or has its turn.
                wait: float = active.sleep_interval()  # type: ignore[no-untyped-call]
                patience = wait or (None if steps.running else 0)
                try:
                    with raise_execution_interrupts():
                        key, event = steps.said.get(timeout=patience)
                except queue.Empty:
                    key, event = "", None
                except BaseException:
                    yield from steps.interrupted()
                    raise
                if event is not None:
                    yield event
                    active.handle_event(event)
                elif key:
                    steps.running.pop(key).join()
                    active.verify_complete(context, key)
                yield from active.plan_events_iterator(context)


@dataclass
class _Steps:
    """The steps that are running, each in a thread, and what they say: events, then None."""

    running: dict[str, threading.Thread] = field(default_factory=dict)
    said: queue.SimpleQueue[tuple[str, dg.DagsterEvent | None]] = field(
        default_factory=queue.SimpleQueue
    )

    def begin(self, step: StepExecutionContext) -> None:
        key = step.step.key
        within = contextvars.copy_context()
        thread = threading.Thread(target=within.run, args=(self._run, step), name=key, daemon=True)
        self.running[key] = thread
        thread.start()

    def _run(self, step: StepExecutionContext) -> None:
        from lakehouse.dagster_private import (
            DagsterExecutionInterruptedError,
            dagster_event_sequence_for_step,
        )

        key = step.step.key
        try:
            for event in dagster_event_sequence_for_step(step):
                self.said.put((key, event))
        except DagsterExecutionInterruptedError:
            pass  # it has said so
        finally:
            self.said.put((key, None))

    def interrupted(self) -> Iterator[dg.DagsterEvent]:
        """Interrupts what is running, as a signal does with a step of the main thread, and waits until
        each has put away what it had begun. Yields what they still say."""
        from lakehouse.dagster_private import DagsterExecutionInterruptedError

        for thread in self.running.values():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0),
                ctypes.py_object(DagsterExecutionInterruptedError),
            )
        while self.running:
            key, event = self.said.get()
            if event is not None:
                yield event
            else:
                self.running.pop(key).join()


@contextmanager
def _captured(context: PlanExecutionContext, plan: ExecutionPlan) -> Iterator[dg.DagsterEvent]:
    """What the process prints goes into the log of the run: it has one standard output."""
    from lakehouse.dagster_private import create_compute_log_file_key

    logs = context.instance.compute_log_manager
    keys = [step.key for step in plan.get_steps_to_execute_in_topo_order()]
    name = create_compute_log_file_key()  # type: ignore[no-untyped-call]
    log_key = logs.build_log_key_for_run(context.run_id, name)
    with logs.capture_logs(log_key) as log:
        yield dg.DagsterEvent.capture_logs(context, keys, log_key, log)
