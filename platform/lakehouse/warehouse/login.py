"""Logging in to Redshift, and what goes wrong there in words that quote no value of a row.

Belongs here: credentials by reference, connections, the platform's errors for the driver's. Does not
belong here: what is asked of the warehouse (load.py), and dbt's own connections (marts/).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lakehouse.settings.redshift import RedshiftLogin
from lakehouse.settings.references import Secret, SettingsError
from spark_jobs.causes import is_transient
from spark_jobs.errors import LakehouseError

# SQLSTATEs of statements, names and rights: their messages are about no row.
_ABOUT_NO_ROW = re.compile(r"(0A|25|28|2B|3[DF]|42|53|54|55|57|58)...")
# Of Redshift's internal errors, which may be about anything. Some of them dbt knows, and tries again.
_KNOWN = re.compile(
    r"Spectrum Scan Error|S3ServiceException|[Mm]anifest|The specified S3 prefix|not authorized"
    r"|argument is not supported|^1023\b|Serializable isolation|concurrent transaction"
    r"|could not open relation with OID"
)
_CONFLICT = re.compile(r"^1023\b|Serializable isolation|concurrent transaction")
_PASSING_STATES = re.compile(r"(08|53|57P|40)...|57014")
WITHHELD = "its text is withheld, since it may quote a value of a row"


class WarehouseError(LakehouseError):
    """The warehouse refused or failed. Not `permanent` if a later retry may succeed."""

    def __init__(self, message: str, *, permanent: bool, conflict: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.conflict = conflict


def password(reference: Secret | None, secret_arn: str | None) -> str | None:
    """The password that a variable or a secret of Secrets Manager holds; None to log in by IAM.

    Raises SettingsError if it is not there.
    """
    if reference:
        return reference.reveal()
    if secret_arn is None:
        return None
    import boto3

    client = boto3.client("secretsmanager", region_name=secret_arn.split(":")[3])
    text = client.get_secret_value(SecretId=secret_arn).get("SecretString", "")
    try:
        found = json.loads(text)
    except ValueError:
        found = text
    value = found.get("password") if isinstance(found, dict) else found
    if not value or not isinstance(value, str):
        raise SettingsError(
            f"the secret {secret_arn} holds no password: it is a text, or JSON with"
            " `password` as the warehouse itself keeps it"
        )
    return value


@contextmanager
def connected(warehouse: RedshiftLogin) -> Iterator[Any]:
    """A connection, over TLS, that commits nothing by itself.

    Raises WarehouseError, and turns the driver's errors in the block into it.
    """
    import redshift_connector

    how: dict[str, Any] = {
        "host": warehouse.host,
        "port": warehouse.port,
        "database": warehouse.database,
        "region": warehouse.region,
        "sslmode": "verify-full",
        "timeout": None,
        "application_name": "lakehouse",
    }
    if warehouse.iam and warehouse.workgroup:
        how |= {
            "iam": True,
            "is_serverless": True,
            "serverless_work_group": warehouse.workgroup,
        }
    elif warehouse.iam:
        how |= {
            "iam": True,
            "cluster_identifier": warehouse.cluster,
            "db_user": warehouse.user,
        }
    else:
        how |= {
            "user": warehouse.user,
            "password": password(warehouse.password, warehouse.secret_arn),
        }
    with described(f"redshift at {warehouse.host}"):
        connection = redshift_connector.connect(**how)
        try:
            cursor = connection.cursor()
            cursor.execute(f"set query_group to '{warehouse.query_group}'")
            cursor.execute(f"set statement_timeout to {warehouse.statement_timeout_seconds * 1000}")
            connection.commit()
            yield connection
        finally:
            with _regardless():
                connection.close()


@contextmanager
def described(where: str) -> Iterator[None]:
    """Raises what a driver or AWS says as a WarehouseError that says what to do."""
    import botocore.exceptions
    from redshift_connector.error import Error

    try:
        yield
    except Error as error:
        raise of_driver(error, where) from None
    except (OSError, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        raise WarehouseError(
            f"{where}: refused, or did not answer ({type(error).__name__}: {error}). Check the"
            " network, and what the role that runs may do.",
            permanent=not is_transient(error),
        ) from error


def of_driver(error: Exception, where: str) -> WarehouseError:
    """A driver's error without the values that it may quote."""
    told = error.args[0] if error.args else ""
    if not isinstance(told, dict):
        # The driver's own words are about connections and arguments.
        return WarehouseError(
            f"{where}: the connection was lost, or could not be made ({told}). The warehouse keeps"
            " what was committed before; the next attempt goes on from there.",
            permanent=False,
        )
    state = told.get("C", "")
    conflict = bool(_CONFLICT.search(told.get("M", "")))
    permanent = not (conflict or _PASSING_STATES.fullmatch(state))
    return WarehouseError(
        f"{where}: {without_values(told)}. Nothing of this transaction was committed.",
        permanent=permanent,
        conflict=conflict,
    )


def without_values(told: dict[str, str]) -> str:
    """What an answer of the warehouse says, if that is about no row."""
    message, detail = told.get("M", ""), told.get("D", "")
    if _KNOWN.search(message):
        return f"{message}: {detail}" if detail else message
    state = told.get("C", "")
    return message if _ABOUT_NO_ROW.fullmatch(state) else f"SQLSTATE {state}: {WITHHELD}"


@contextmanager
def _regardless() -> Iterator[None]:
    """A connection that was lost cannot be closed, and need not be."""
    try:
        yield
    except Exception:
        return
