"""What others can do to the server that `lakehouse ui` starts, with all its processes running.

Here: that the guard and the refusals of run config are really before the served lake. Not here:
each request that is refused (tests/unit/test_webserver.py).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lakehouse.local.instance import prepare_home
from lakehouse.settings.load import load_settings
from tests.e2e.dagster_ui import PROJECT, Ui, free_port, served, wait_for
from tests.integration.test_permissions import readable

pytestmark = pytest.mark.slow

LAUNCH = """mutation Launch($params: ExecutionParams!) {
    launchRun(executionParams: $params) {
        __typename ... on RunConfigValidationInvalid {errors {message}}}}"""


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    with served(tmp_path_factory.mktemp("home")) as found:
        yield found


def launch(resource: str, config: dict[str, Any]) -> dict[str, Any]:
    """The variables of a run with config for a resource."""
    place = {"repositoryLocationName": "lakehouse", "repositoryName": "__repository__"}
    return {
        "params": {
            "selector": place | {"pipelineName": "all_marts"},
            "runConfigData": {"resources": {resource: {"config": config}}},
            "mode": "default",
        }
    }


def status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_run_that_names_its_program_is_refused(ui: Ui, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o700)
    answer = ui.query(LAUNCH, **launch("dbt", {"dbt_executable": str(program)}))["launchRun"]
    assert answer["__typename"] == "RunConfigValidationInvalid"
    assert "unexpected config entr" in answer["errors"][0]["message"]
    assert ui.query("{runsOrError {... on Runs {count}}}")["runsOrError"]["count"] == 0
    assert not (tmp_path / "ran").exists()


def test_a_link_launches_nothing_and_another_name_sees_nothing(ui: Ui) -> None:
    variables = json.dumps(launch("dbt", {}))
    link = urllib.parse.urlencode({"query": LAUNCH, "variables": variables})
    assert status(f"{ui.url}/graphql?{link}") == 405
    assert status(f"{ui.url}/") == 200
    assert status(f"{ui.url}/", host="evil.example") == 421
    assert status(f"{ui.url}/", origin="http://evil.example") == 403


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """Dagster's own webserver with the lake's run history."""
    home = tmp_path_factory.mktemp("plain")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DAGSTER_HOME", "DAGSTER_EVENT_BATCH_SIZE"):
            patch.setenv(name, "")
        folder = prepare_home(load_settings("local", home=home, project=PROJECT))
    port = free_port()
    command = [str(Path(sys.executable).with_name("dagster-webserver"))]
    command += ["-m", "lakehouse.definitions", "-h", "127.0.0.1", "-p", str(port)]
    env = {**os.environ, "LAKEHOUSE_HOME": str(home), "LAKEHOUSE_ENV": "local"}
    with subprocess.Popen(
        command, cwd=PROJECT, env=env | {"DAGSTER_HOME": str(folder)}, start_new_session=True
    ) as process:
        ui = Ui(f"http://127.0.0.1:{port}", home)
        try:
            wait_for("a webserver with the definitions", lambda: answering(ui, process))
            yield ui
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def answering(ui: Ui, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None
    text = "{repositoriesOrError {... on RepositoryConnection {nodes {name}}}}"
    try:
        return bool(ui.query(text)["repositoriesOrError"]["nodes"])
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def test_dagsters_own_webserver_is_guarded_and_takes_no_program_either(
    plain: Ui, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o700)
    variables = launch("dbt", {"dbt_executable": str(program)})
    variables["params"]["selector"]["repositoryLocationName"] = "lakehouse.definitions"
    answer = plain.query(LAUNCH, **variables)["launchRun"]
    assert answer["__typename"] == "RunConfigValidationInvalid"
    assert not (tmp_path / "ran").exists()
    link = urllib.parse.urlencode({"query": LAUNCH, "variables": json.dumps(variables)})
    assert status(f"{plain.url}/graphql?{link}") == 405
    assert status(f"{plain.url}/", host="evil.example") == 421
    assert status(f"{plain.url}/", origin="http://evil.example") == 403
    assert status(f"{plain.url}/") == 200


def test_what_the_served_lake_writes_is_for_its_user_alone(ui: Ui) -> None:
    made = ui.home / "dagster"
    assert (made / "history" / "runs.db").exists()
    assert list(readable(made)) == []
