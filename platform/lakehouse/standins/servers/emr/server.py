"""The API of EMR Serverless, as boto3 speaks it.

Belongs here: requests and answers. Does not belong here: what becomes of a job (jobs.py).
"""

from __future__ import annotations

import logging
import secrets
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from flask import Flask, Response, jsonify, request

from lakehouse.standins.servers.aws import CREDENTIALS, REGION
from lakehouse.standins.servers.emr.image import RELEASE, Image
from lakehouse.standins.servers.emr.jobs import Faults, JobRun, Runs
from lakehouse.standins.servers.web import serving

APPLICATION = "00standin0application"
ROLE = "arn:aws:iam::000000000000:role/lakehouse-jobs"


class ApiError(Exception):
    """An error of the service: its name, status and message."""

    def __init__(self, name: str, status: int, message: str) -> None:
        super().__init__(message)
        self.name, self.status = name, status


class EmrServerless:
    """One application, and its job runs. `faults` is what goes wrong, `requests` the operations
    that were asked for."""

    def __init__(self, url: str, runs: Runs) -> None:
        self.url, self._runs = url, runs
        self.requests: list[str] = []
        self.application: dict[str, Any] = {
            "applicationId": APPLICATION,
            "name": "lakehouse",
            "arn": f"arn:aws:emr-serverless:::/applications/{APPLICATION}",
            "releaseLabel": RELEASE,
            "type": "Spark",
            "state": "CREATED",
            "createdAt": 0,
            "updatedAt": 0,
            "architecture": "X86_64",
        }
        self._tokens: dict[str, tuple[dict[str, Any], JobRun]] = {}
        self.dashboard_tokens: list[str] = []
        self._lock = threading.Lock()

    @property
    def faults(self) -> Faults:
        return self._runs.faults

    @property
    def jobs(self) -> list[JobRun]:
        """Job runs in the order in which they were started."""
        return list(self._runs.jobs.values())

    def forget(self) -> None:
        """Ends what runs, and mends what goes wrong."""
        for job in self.jobs:
            self._runs.cancel(job)
        self._runs.faults = Faults()
        self._runs.jobs.clear()
        self._tokens.clear()
        self.requests.clear()
        self.dashboard_tokens.clear()
        self.application["state"] = "CREATED"
        self.application.pop("initialCapacity", None)

    # -- operations ----------------------------------------------------------------------------

    def start_job_run(self, application: str) -> Response:
        self._known(application)
        wanted = request.get_json()
        token = wanted.pop("clientToken")
        with self._lock:
            before = self._tokens.get(token)
            if before is not None and before[0] != wanted:
                raise ApiError("ConflictException", 409, "the token is of another request")
            if before is None:
                self.application["state"] = "STARTED"  # as an application starts by itself
                self._tokens[token] = (wanted, self._runs.start(application, wanted))
            job = self._tokens[token][1]
        held, self.faults.hold_reply = self.faults.hold_reply, None
        if held is not None:
            held.wait()
        if self.faults.lose_replies > 0:
            self.faults.lose_replies -= 1
            line = request.environ["werkzeug.socket"]
            line.shutdown(socket.SHUT_RDWR)
        return jsonify(applicationId=application, jobRunId=job.id, arn=job.summary()["arn"])

    def get_job_run(self, application: str, job_run: str) -> Response:
        return jsonify(jobRun=self._job(application, job_run).described())

    def list_job_runs(self, application: str) -> Response:
        self._known(application)
        wanted = request.args.getlist("states")
        found = [j.summary() for j in self.jobs if not wanted or j.state in wanted]
        return jsonify(jobRuns=[{**job, "id": job["jobRunId"]} for job in found])

    def cancel_job_run(self, application: str, job_run: str) -> Response:
        self._runs.cancel(self._job(application, job_run))
        return jsonify(applicationId=application, jobRunId=job_run)

    def get_dashboard(self, application: str, job_run: str) -> Response:
        job = self._job(application, job_run)
        if job.started_at is None:
            raise ApiError("ValidationException", 400, "the job run has not started yet")
        token = secrets.token_urlsafe(32)
        self.dashboard_tokens.append(token)
        return jsonify(url=f"https://j-{job_run}.appui.emr-serverless.standin/?authToken={token}")

    def get_application(self, application: str) -> Response:
        self._known(application)
        return jsonify(application=self.application)

    def start_application(self, application: str) -> Response:
        self._known(application)
        self.application["state"] = "STARTED"
        return jsonify({})

    def stop_application(self, application: str) -> Response:
        self._known(application)
        if any(j.ended_at is None for j in self.jobs):
            raise ApiError("ValidationException", 400, "the application has job runs")
        self.application["state"] = "STOPPED"
        return jsonify({})

    # -- -------------------------------------------------------------------------------------

    def _known(self, application: str) -> None:
        if application != APPLICATION:
            raise ApiError("ResourceNotFoundException", 404, f"no application {application}")

    def _job(self, application: str, job_run: str) -> JobRun:
        self._known(application)
        job = self._runs.jobs.get(job_run)
        if job is None:
            raise ApiError("ResourceNotFoundException", 404, f"no job run {job_run}")
        return job

    def admit(self) -> None:
        """Before each operation: whether the service is well."""
        self.requests.append(str(request.endpoint))
        if self.faults.throttle > 0:
            self.faults.throttle -= 1
            raise ApiError("ThrottlingException", 429, "Rate exceeded")
        if self.faults.fail > 0:
            self.faults.fail -= 1
            raise ApiError("InternalServerException", 500, "try again")


def _app(service: EmrServerless) -> Flask:
    app = Flask(__name__)
    of = "/applications/<application>"
    routes = (
        ("POST", f"{of}/jobruns", service.start_job_run),
        ("GET", f"{of}/jobruns", service.list_job_runs),
        ("GET", f"{of}/jobruns/<job_run>", service.get_job_run),
        ("DELETE", f"{of}/jobruns/<job_run>", service.cancel_job_run),
        ("GET", f"{of}/jobruns/<job_run>/dashboard", service.get_dashboard),
        ("GET", of, service.get_application),
        ("POST", f"{of}/start", service.start_application),
        ("POST", f"{of}/stop", service.stop_application),
    )
    for method, path, operation in routes:
        app.add_url_rule(path, operation.__name__, operation, methods=[method])
    app.before_request(service.admit)

    @app.errorhandler(ApiError)
    def refused(error: ApiError) -> tuple[Response, int, dict[str, str]]:
        return jsonify(message=str(error)), error.status, {"x-amzn-errortype": error.name}

    return app


@contextmanager
def emr_serverless(s3_endpoint: str) -> Iterator[EmrServerless]:
    """The service, whose jobs reach S3 at an endpoint."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="lakehouse-emr-") as scratch:
        image = Image.prepared(Path(scratch), s3_endpoint)
        s3 = boto3.client(
            "s3",
            endpoint_url=s3_endpoint,
            region_name=REGION,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )
        runs = Runs(image, s3, Path(scratch))
        service = EmrServerless("", runs)
        try:
            with serving(_app(service)) as service.url:
                yield service
        finally:
            runs.stop()
