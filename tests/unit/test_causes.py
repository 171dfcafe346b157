"""Which errors may be gone the next time.

Here: real exceptions of the libraries, made as they make them. Not here: what a store that answers so
does to a lake (tests/integration/test_lost_stores.py).
"""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
import urllib.error

import botocore.exceptions
import databricks.sdk.errors
import grpc
import pytest
import requests
import urllib3.exceptions

from spark_jobs.causes import is_transient
from spark_jobs.errors import ConflictError, ContractError, StorageError


def aws(code: str, status: int) -> Exception:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.exceptions.ClientError(answer, "GetObject")


def http(status: int) -> Exception:
    answer = requests.Response()
    answer.status_code = status
    return requests.HTTPError(f"{status}", response=answer)


class Call(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code


class LostAnswer(Exception):
    status = 503


TRANSIENT = [
    ConnectionResetError(errno.ECONNRESET, "reset"),
    ConnectionError("no number, and a class that says it"),
    BrokenPipeError(errno.EPIPE, "pipe"),
    TimeoutError("timed out"),
    InterruptedError(errno.EINTR, "interrupted"),
    OSError(errno.EHOSTUNREACH, "no route"),
    socket.gaierror(socket.EAI_AGAIN, "temporary failure in name resolution"),
    aws("ThrottlingException", 400),
    aws("ProvisionedThroughputExceededException", 400),
    aws("SlowDown", 503),
    aws("SomethingNew", 500),
    botocore.exceptions.EndpointConnectionError(endpoint_url="https://store"),
    botocore.exceptions.ReadTimeoutError(endpoint_url="https://store"),
    http(429),
    http(502),
    requests.ConnectionError("refused"),
    databricks.sdk.errors.InternalError("not well"),
    databricks.sdk.errors.RequestLimitExceeded("too many"),
    requests.ReadTimeout("slow"),
    urllib.error.HTTPError("https://store", 503, "unavailable", None, None),
    urllib3.exceptions.ProtocolError("cut"),
    Call(grpc.StatusCode.UNAVAILABLE),
    Call(grpc.StatusCode.RESOURCE_EXHAUSTED),
    LostAnswer("an answer of any library that tells its status"),
    OSError("When listing objects: AWS Error SLOW_DOWN during ListObjectsV2 operation: slow"),
    OSError("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 6"),
    OSError("AWS Error UNKNOWN (HTTP status 503) during HeadObject operation: No response body."),
    OSError("Generic S3 error - Server returned non-2xx status code \x1b[31m↳\x1b[0m 503 Slow"),
    OSError("error sending request: tcp connect error: Connection refused (os error 111)"),
    OSError("error sending request: dns error: failed to lookup address information"),
    ConflictError("another run committed"),
    StorageError("no answer", permanent=False),
]
FINAL = [
    FileNotFoundError(errno.ENOENT, "no such file"),
    PermissionError(errno.EACCES, "denied"),
    OSError(errno.ENOSPC, "no space left"),
    socket.gaierror(socket.EAI_NONAME, "name or service not known"),
    aws("AccessDenied", 403),
    aws("NoSuchBucket", 404),
    aws("ValidationException", 400),
    aws("ExpiredToken", 400),
    botocore.exceptions.NoCredentialsError(),
    databricks.sdk.errors.PermissionDenied("no"),
    databricks.sdk.errors.InvalidParameterValue("no"),
    botocore.exceptions.SSLError(endpoint_url="https://store", error="bad certificate"),
    http(400),
    http(401),
    http(403),
    http(404),
    http(501),
    requests.exceptions.SSLError("bad certificate"),
    requests.exceptions.InvalidURL("no address"),
    urllib.error.HTTPError("https://store", 404, "not found", None, None),
    Call(grpc.StatusCode.INVALID_ARGUMENT),
    Call(grpc.StatusCode.PERMISSION_DENIED),
    OSError("When reading key 'x': AWS Error ACCESS_DENIED during HeadObject operation: no"),
    OSError("AWS Error UNKNOWN (HTTP status 400) during HeadObject operation: No response body."),
    OSError(
        "Generic S3 error - Server returned non-2xx status code \x1b[31m↳\x1b[0m 404 Not Found"
    ),
    ValueError("a defect"),
    KeyError("column"),
    ZeroDivisionError(),
    ContractError("invalid"),
    StorageError("the disk is full"),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_a_lost_network_or_a_service_that_is_not_well_may_be_back(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize("error", FINAL, ids=repr)
def test_what_was_refused_is_refused_again(error: Exception) -> None:
    assert not is_transient(error)


def test_the_name_of_a_module_says_nothing() -> None:
    class Defect(Exception):
        pass

    Defect.__module__ = "botocore.hooks"
    assert not is_transient(Defect("of the client itself"))


def test_asking_imports_no_library() -> None:
    asked = (
        "import sys; from spark_jobs.causes import is_transient; is_transient(OSError('x'));"
        "print([n for n in ('botocore', 'requests', 'urllib3', 'httpx', 'grpc') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
