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
from collections import deque
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
        ActiveExecution,
        ExecutionPlan,
        PlanExecutionContext,
        PlanOrchestrationContext,
        StepExecutionContext,
    )

EMBEDDED = "embedded"  # the resource that steps need which run on the engine of this process


def executor_of(settings: Settings, contracts: Mapping[str, Contract]) -> dg.ExecutorDefinition:
    """Embedded tables share the engine of the run's process: a process per step would start one for
    each. Where every table runs elsewhere, each step waits in a process of its own."""
    if any(runner_of(c, settings) == EMBEDDED for c in contracts.values()):
        return side_by_side
    return multiprocess


@dg.configured(dg.multiprocess_executor, config_schema={})
def multiprocess(_: Any) -> dict[str, Any]:
    """A process per step. Run config can set nothing of it: it would name modules to load."""
    return {}


@dg.executor(name="side_by_side", config_schema={})
def side_by_side(_: dg.InitExecutorContext) -> dg.Executor:
    """Embedded tables in threads of the run's process, as many at once as there are cores: one waits
    for files while another computes. Python's lock costs little, since the work is the engine's."""
    return SideBySide(os.cpu_count() or 1)


@dataclass(frozen=True)
class SideBySide(dg.Executor):
    """Dagster's in-process executor, which runs steps one after another, with threads for those of
    embedded tables.

    Other steps stay in the main thread, one after another: they wait for a process or a service, and
    only there does a signal end the waiting.
    """

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
        from lakehouse.dagster_private import InstanceConcurrencyContext

        with (
            InstanceConcurrencyContext(job_context.instance, job_context.dagster_run) as slots,
            execution_plan.start(
                retry_mode=job_context.retry_mode,
                max_concurrent=self.at_once,
                instance_concurrency_context=slots,
                step_dependency_config=self.step_dependency_config,
            ) as active,
            _captured(job_context, execution_plan) as captured,
        ):
            yield captured
            threads = _Threads()
            try:
                while not active.is_complete:
                    yield from self._turn(job_context, active, threads)
            except GeneratorExit:
                raise
            except BaseException:
                yield from threads.interrupted()
                raise

    def _turn(
        self, context: PlanExecutionContext, active: ActiveExecution, threads: _Threads
    ) -> Iterator[dg.DagsterEvent]:
        """Begins what can begin, and hears what happens next."""
        from lakehouse.dagster_private import dagster_event_sequence_for_step

        for step in active.get_steps_to_execute():
            begun = context.for_step(step, active.get_known_state())
            if EMBEDDED in begun.required_resource_keys:
                threads.begin(begun)
            else:
                threads.waiting.append(begun)
        yield from active.concurrency_event_iterator(context)
        if threads.waiting:
            here = threads.waiting.popleft()
            for event in dagster_event_sequence_for_step(here):
                yield event
                active.handle_event(event)
            ended: str | None = here.step.key
        else:
            # Steps may wait for another try, or for their turn among all runs.
            wait: float = active.sleep_interval()  # type: ignore[no-untyped-call]
            said, ended = threads.heard(wait or (None if threads.running else 0))
            if said is not None:
                yield said
                active.handle_event(said)
        if ended is not None:
            active.verify_complete(context, ended)
        yield from active.plan_events_iterator(context)


@dataclass
class _Threads:
    """The steps that are running, each in a thread, and what they say: events, then None. `waiting`
    are those that have begun for Dagster, and wait for the main thread."""

    waiting: deque[StepExecutionContext] = field(default_factory=deque)
    running: dict[str, threading.Thread] = field(default_factory=dict)
    said: queue.SimpleQueue[tuple[threading.Thread, dg.DagsterEvent | None]] = field(
        default_factory=queue.SimpleQueue
    )

    def begin(self, step: StepExecutionContext) -> None:
        within = contextvars.copy_context()
        thread = threading.Thread(
            target=within.run, args=(self._run, step), name=step.step.key, daemon=True
        )
        self.running[thread.name] = thread
        thread.start()

    def heard(self, patience: float | None) -> tuple[dg.DagsterEvent | None, str | None]:
        """What happens next within so many seconds: an event, or the name of a step that has ended."""
        from lakehouse.dagster_private import raise_execution_interrupts

        try:
            with raise_execution_interrupts():
                thread, event = self.said.get(timeout=patience)
        except queue.Empty:
            return None, None
        return event, thread.name if event is None and self._ended(thread) else None

    def _ended(self, thread: threading.Thread) -> bool:
        """Whether the step has ended with this thread: it may have begun again in another."""
        thread.join()
        if self.running.get(thread.name) is not thread:
            return False
        del self.running[thread.name]
        return True

    def _run(self, step: StepExecutionContext) -> None:
        from lakehouse.dagster_private import (
            DagsterExecutionInterruptedError,
            dagster_event_sequence_for_step,
        )

        thread = threading.current_thread()
        try:
            for event in dagster_event_sequence_for_step(step):
                self.said.put((thread, event))
        except DagsterExecutionInterruptedError:
            pass  # it has said so
        finally:
            self.said.put((thread, None))

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
            thread, event = self.said.get()
            if event is not None:
                yield event
            else:
                self._ended(thread)


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
