"""How a job of Databricks is started and heard: Dagster's clients, with what they leave open closed.

Belongs here: those clients, and the folder in a volume through which they talk to a job. Does not belong
here: what a job is made of, or what its end means (databricks.py).

Left alone, the clients turn a cancelled run into a success, ask once for the state of a run and give up
the job if that fails, and make a folder of a random name, by which nobody finds a job again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dagster import PipesClientCompletedInvocation, open_pipes_session
from dagster_databricks.pipes import (
    BasePipesDatabricksClient,
    PipesDatabricksClient,
    PipesDatabricksServerlessClient,
    PipesUnityCatalogVolumesContextInjector,
    PipesUnityCatalogVolumesMessageReader,
)
from databricks.sdk.service.jobs import SubmitTask

from lakehouse.dagster_private import DagsterExecutionInterruptedError, DagsterPipesExecutionError
from lakehouse.engines.chunks import EveryChunk
from lakehouse.engines.remote import patiently

if TYPE_CHECKING:
    from dagster_pipes import PipesContextData, PipesParams
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.jobs import RunState


class _Context(PipesUnityCatalogVolumesContextInjector):
    """Puts the context of a step into its attempt's folder."""

    @contextmanager
    def inject_context(self, context: PipesContextData) -> Iterator[PipesParams]:
        path = f"{self.volume_path}/context.json"
        self.files_client.upload(path, io.BytesIO(json.dumps(context).encode()), overwrite=True)
        yield {"path": path}


class _ContextOfAnother(PipesUnityCatalogVolumesContextInjector):
    """Leaves the context as the step that started the job has put it there."""

    @contextmanager
    def inject_context(self, context: PipesContextData) -> Iterator[PipesParams]:
        yield {}


class _Messages(EveryChunk, PipesUnityCatalogVolumesMessageReader):
    """Reads messages from an attempt's folder, from the first on, whoever started the job."""

    @contextmanager
    def get_params(self) -> Iterator[PipesParams]:
        self.files_client.create_directory(self.volume_path)
        include = {"include_stdio_in_messages": self.include_stdio_in_messages}
        yield {"path": self.volume_path, **include}


class _Followed(BasePipesDatabricksClient):
    """A job that is followed to its end: `run_id` once it is known. No job goes on whose step has given
    up; of one that was interrupted it has ended before that is raised."""

    run_id: int | None = None
    submitted: Callable[[int], None] | None = None
    _asked_for: SubmitTask | None = None
    _interrupted = False

    def launch(
        self, context: Any, task: SubmitTask, submission: Mapping[str, Any]
    ) -> PipesClientCompletedInvocation:
        """The end of a job that is submitted here. Its token makes it one job, however often it is."""
        try:
            done = patiently(lambda: self.run(context=context, task=task, submit_args=submission))
        except DagsterExecutionInterruptedError:
            if self.run_id is None and self._asked_for is not None:
                # Nobody was told of the job, if there is one: the token tells which it is.
                asked = self.client.jobs.submit(tasks=[self._asked_for], **submission)
                self.run_id = asked.bind()["run_id"]
                self._cancel(self.run_id)
            raise
        return self._ended(done)

    def follow(self, context: Any, run_id: int) -> PipesClientCompletedInvocation:
        """The end of a job that another step has started, and will have ended by then."""
        injector = _ContextOfAnother(volume_path="/", client=self.client)
        assert isinstance(self.message_reader, EveryChunk)
        self.message_reader.at_the_end = True
        with open_pipes_session(context, injector, self.message_reader) as session:
            try:
                self._poll_til_success(context, run_id)
            except DagsterExecutionInterruptedError:  # which every step of a run hears
                self._cancel(run_id)
        return self._ended(PipesClientCompletedInvocation(session))

    def _ended(self, done: PipesClientCompletedInvocation) -> PipesClientCompletedInvocation:
        if self._interrupted:
            raise DagsterExecutionInterruptedError()
        return done

    def _cancel(self, run_id: int) -> None:
        self.client.jobs.cancel_run(run_id)
        self._poll_til_terminating(run_id)

    def _enrich_submit_task_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        found = super()._enrich_submit_task_dict(*args, **kwargs)
        self._asked_for = SubmitTask.from_dict(found)
        return found

    def _poll_til_success(self, context: Any, run_id: int) -> None:
        self.run_id = run_id
        try:
            if self.submitted is not None:
                self.submitted(run_id)
            context.log.info(f"Databricks run {run_id}: {self.page(run_id)}")
            super()._poll_til_success(context, run_id)
        except DagsterPipesExecutionError:
            raise  # it has ended
        except DagsterExecutionInterruptedError:
            self._interrupted = True
            raise
        except BaseException:
            self.client.jobs.cancel_run(run_id)
            raise

    def _get_run_state(self, run_id: int) -> RunState:
        return patiently(lambda: super(_Followed, self)._get_run_state(run_id))

    def page(self, run_id: int) -> str:
        return patiently(lambda: self.client.jobs.get_run(run_id)).run_page_url or "no page"


class OnServerless(_Followed, PipesDatabricksServerlessClient):
    pass


class OnCluster(_Followed, PipesDatabricksClient):
    pass


def client(
    workspace: WorkspaceClient, folder: str, poll_seconds: float, *, serverless: bool
) -> OnServerless | OnCluster:
    """A client for one attempt, whose folder in a volume is `folder`."""
    context = _Context(client=workspace, volume_path=folder)
    messages = _Messages(client=workspace, volume_path=f"{folder}/messages", interval=poll_seconds)
    if serverless:
        return OnServerless(workspace, folder, context, messages, poll_seconds)
    return OnCluster(workspace, None, context, messages, poll_seconds)
