"""Who runs logs in to Redshift by IAM or by a reference to a secret, which nothing repeats."""

from __future__ import annotations

import json
import socket

import boto3
import pytest

from lakehouse.settings.references import SettingsError
from lakehouse.warehouse.login import WarehouseError, connected
from tests.warehouse import PASSWORD, Cloud, settings_of

HUNTER = "hunter2-is-no-password-of-ours"


def secret(name: str, text: str) -> str:
    """The ARN of a new secret."""
    return boto3.client("secretsmanager").create_secret(Name=name, SecretString=text)["ARN"]


def who(cloud: Cloud, **how: object) -> str:
    with connected(settings_of(cloud, password=None, **how)) as connection:
        cursor = connection.cursor()
        cursor.execute("select current_user")
        return cursor.fetchone()[0]


def test_on_a_cluster_whoever_runs_becomes_the_user_by_iam(warehouse: Cloud) -> None:
    assert who(warehouse) == "lakehouse"
    assert warehouse.redshift.passwords.logins[-1] == "IAM:lakehouse"


def test_in_a_workgroup_the_user_is_named_after_the_role(warehouse: Cloud) -> None:
    assert who(warehouse, cluster=None, workgroup="warehouse") == "IAMR:lakehouse"


@pytest.mark.parametrize("kept", [PASSWORD, json.dumps({"username": "x", "password": PASSWORD})])
def test_a_password_may_be_in_secrets_manager(warehouse: Cloud, kept: str) -> None:
    arn = secret(f"warehouse-{len(kept)}", kept)
    assert who(warehouse, secret_arn=arn) == "lakehouse"
    assert warehouse.redshift.passwords.logins[-1] == "lakehouse"


def test_a_secret_without_a_password_says_what_it_should_hold(warehouse: Cloud) -> None:
    arn = secret("warehouse-without", json.dumps({"token": HUNTER}))
    with pytest.raises(SettingsError, match="holds no password") as caught:
        who(warehouse, secret_arn=arn)
    assert HUNTER not in str(caught.value)


def test_a_wrong_password_is_refused_for_good_and_not_repeated(warehouse: Cloud) -> None:
    with pytest.raises(WarehouseError, match="password authentication failed") as caught:
        who(warehouse, secret_arn=secret("warehouse-wrong", HUNTER))
    assert caught.value.permanent
    assert HUNTER not in str(caught.value)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"cluster": "another"}, "ClusterNotFound"),
        ({"cluster": None, "workgroup": "another"}, "ResourceNotFound"),
    ],
)
def test_credentials_that_are_not_given_are_not_asked_for_again(
    warehouse: Cloud, how: dict[str, str | None], said: str
) -> None:
    with pytest.raises(WarehouseError, match=said) as caught:
        who(warehouse, **how)
    assert caught.value.permanent


def test_a_warehouse_that_nobody_answers_for_is_asked_again(warehouse: Cloud) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(WarehouseError, match="connection was lost, or could not be made") as caught:
        who(warehouse, port=port)
    assert not caught.value.permanent
