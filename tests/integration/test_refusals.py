"""What cannot run says so in one line, with exit code 2: no traceback, and no credential.

Here: the entry point of the data plane and the command line as processes. Not here: the wording of
each mistake in settings and contracts (tests/unit).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spark_jobs.report import ZONES

PROJECT = Path(__file__).parents[2]
VALUE = 'hunter2 \'is: {a} "value"'
NOWHERE = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_ALLOW_HTTP": "true",
    "AWS_REGION": "eu-west-1",
}


def spec(root: Path, **changed: object) -> dict:
    return {
        "table": "bronze.orders",
        "partitions": ["2026-10-05"],
        "contracts": str(PROJECT / "contracts"),
        "zones": {zone: f"{root}/{zone}" for zone in ZONES},
        "run_id": "r",
        **changed,
    }


def data_plane(given: object, **env: str) -> subprocess.CompletedProcess[str]:
    text = given if isinstance(given, str) else json.dumps(given)
    return ended(sys.executable, "-m", "spark_jobs", "run", "--spec", text, **env)


def lakehouse(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return ended(str(Path(sys.executable).parent / "lakehouse"), *args, **env)


def ended(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env={**os.environ, **env}, cwd=PROJECT, capture_output=True, text=True
    )


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that was said."""
    lines = done.stderr.strip().splitlines()
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    assert (done.returncode, len(lines)) == (2, 1), done.stderr
    return lines[0]


def without(zone: str, root: Path) -> dict:
    zones = spec(root)["zones"]
    return spec(root, zones={k: v for k, v in zones.items() if k != zone})  # type: ignore[attr-defined]


def test_a_specification_that_lacks_a_zone(tmp_path: Path) -> None:
    assert "zones: Value error, missing: ledger" in refusal(data_plane(without("ledger", tmp_path)))


def test_a_specification_with_a_zone_that_does_not_exist(tmp_path: Path) -> None:
    zones = {zone: str(tmp_path) for zone in (*ZONES, "platinum")}
    assert "unknown: platinum" in refusal(data_plane(spec(tmp_path, zones=zones)))


def test_a_zone_in_a_store_that_does_not_answer(tmp_path: Path) -> None:
    zones = {zone: f"s3://no-such-store/{zone}" for zone in ZONES}
    said = refusal(data_plane(spec(tmp_path, zones=zones), **NOWHERE))
    assert "s3://no-such-store" in said and "the store did not answer" in said


@pytest.mark.parametrize(
    "text", ["hello", "{hello", "[1]", '{"table": 1}', "{}", "foo://x", "\x1b"]
)
def test_a_specification_that_is_none(text: str) -> None:
    assert "\x1b" not in refusal(data_plane(text))


def test_a_specification_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xf7\x00")
    refusal(data_plane(str(tmp_path / "binary")))
    refusal(data_plane(str(tmp_path)))


@pytest.mark.parametrize(
    "key", ["AWS_SECRET_ACCESS_KEY", "aws-session-token", "Account Key", "PASSWORD", "sas.token"]
)
def test_a_specification_refuses_credentials_and_does_not_repeat_them(
    tmp_path: Path, key: str
) -> None:
    said = refusal(data_plane(spec(tmp_path, storage_options={key: VALUE})))
    assert f"{key} is a credential" in said and "hunter2" not in said


def test_a_specification_refuses_a_login_in_a_location(tmp_path: Path) -> None:
    options = {"AWS_ENDPOINT_URL": "http://me:hunter2@localhost:9"}
    said = refusal(data_plane(spec(tmp_path, storage_options=options)))
    assert "AWS_ENDPOINT_URL holds a login" in said and "hunter2" not in said


def test_a_specification_refuses_a_storage_option_that_is_none(tmp_path: Path) -> None:
    said = refusal(data_plane(spec(tmp_path, storage_options={"AWS_REGIO": VALUE})))
    assert "AWS_REGIO is no storage option; known are AWS_REGION," in said
    assert "hunter2" not in said


def test_an_environment_that_does_not_exist() -> None:
    refusal(lakehouse("check", LAKEHOUSE_ENV="nowhere"))
