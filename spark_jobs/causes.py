"""Whether an error may be gone the next time: told by its class, its status and its error code.

Belongs here: what of an exception says so, for every library that the platform talks to a service
with. Does not belong here: how often and when to try again (settings), or what to tell a person.

A module's name says nothing: the client of AWS raises AccessDenied and Throttling as one class, told
apart by the code of the answer. Sources: HTTP semantics (RFC 9110, section 15) and 429 (RFC 6585);
the gRPC status codes; the retryable codes of the AWS SDKs' standard retry mode.
"""

from __future__ import annotations

import errno
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from spark_jobs.errors import LakehouseError

# Request Timeout, Too Early, Too Many Requests, and servers that are not well.
_STATUSES = {408, 425, 429, 500, 502, 503, 504}
_ERRNOS = {
    errno.EAGAIN,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EINTR,
    errno.ENETDOWN,
    errno.ENETRESET,
    errno.ENETUNREACH,
    errno.EPIPE,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
_AWS_CODES = {
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionInProgressException",
}
# The same as Arrow's S3 client names them, which gives them as text only.
_ARROW_CODES = {
    "INTERNAL_FAILURE",
    "NETWORK_CONNECTION",
    "REQUEST_TIMEOUT",
    "SERVICE_UNAVAILABLE",
    "SLOW_DOWN",
    "THROTTLING",
}
_GRPC_CODES = {"ABORTED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}

# Classes of a connection that was lost, or of a service that is not well, of libraries that may not be
# loaded.
_CLASSES = {
    "databricks.sdk.errors": (
        "Aborted",
        "DeadlineExceeded",
        "InternalError",
        "TemporarilyUnavailable",
        "TooManyRequests",
    ),
    "botocore.exceptions": ("ConnectionError", "HTTPClientError", "IncompleteReadError"),
    "httpx": ("TransportError",),
    "requests.exceptions": ("ChunkedEncodingError", "ConnectionError", "Timeout"),
    "snowflake.connector.errors": (
        "BadGatewayError",
        "GatewayTimeoutError",
        "InternalServerError",
        "OtherHTTPRetryableError",
        "RequestExceedMaxRetryError",
        "RequestTimeoutError",
        "ServiceUnavailableError",
        "TooManyRequests",
    ),
    "urllib3.exceptions": ("MaxRetryError", "ProtocolError", "TimeoutError"),
}
# Of those, what no repetition mends: a certificate that is wrong, an address that is none.
_FINAL_CLASSES = {
    "botocore.exceptions": ("ProxyConnectionError", "SSLError"),
    "httpx": ("UnsupportedProtocol",),
    "requests.exceptions": ("InvalidURL", "SSLError"),
    "urllib3.exceptions": ("LocationParseError", "SSLError"),
}

# What clients that are not written in Python put into the text of an OSError.
_ARROW_CODE = re.compile(r"AWS Error (?P<code>[A-Z_]+)\b(?: \(HTTP status (?P<status>\d{3})\))?")
_STORE_STATUS = re.compile(r"non-2xx status code\W*(?:\x1b\[\d+m\W*)*(?P<status>\d{3})\b")
_OS_ERROR = re.compile(r"\(os error (?P<errno>\d+)\)")
_STORE_LOST = re.compile(r"error sending request|dns error|operation timed out|connection closed")


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed the next time.

    Errors of the platform say so themselves. Of the others a network that failed does (reset,
    refused, timed out, no answer from DNS), and a service that is throttled or not well; access
    denied, not found and a bad request do not, and neither does anything that is not known: a defect
    fails again however often it is tried.
    """
    if isinstance(error, LakehouseError):
        return not error.permanent
    for verdict in (_by_code(error), _by_status(error), _by_class(error), _by_text(error)):
        if verdict is not None:
            return verdict
    return False


def _by_code(error: BaseException) -> bool | None:
    """AWS's answer, gRPC's status, or the number of an operating system's error."""
    answer = getattr(error, "response", None)
    if isinstance(answer, Mapping):
        code = answer.get("Error", {}).get("Code")
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return code in _AWS_CODES or status in _STATUSES
    code = getattr(error, "code", None)
    if callable(code):
        name = getattr(code(), "name", None)
        return name in _GRPC_CODES if isinstance(name, str) else None
    if isinstance(error, socket.gaierror):  # its numbers are no errno
        return error.errno == socket.EAI_AGAIN
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _ERRNOS
    return None


def _by_status(error: BaseException) -> bool | None:
    answer = getattr(error, "response", None)
    for of in (answer, error):
        for name in ("status_code", "status", "code"):
            status = getattr(of, name, None)
            if isinstance(status, int) and 100 <= status < 600:
                return status in _STATUSES
    return None


def _by_class(error: BaseException) -> bool | None:
    if isinstance(error, tuple(_loaded(_FINAL_CLASSES))):
        return False
    if isinstance(error, (ConnectionError, TimeoutError, InterruptedError)):
        return True
    return True if isinstance(error, tuple(_loaded(_CLASSES))) else None


def _loaded(names: Mapping[str, tuple[str, ...]]) -> Iterator[type[BaseException]]:
    """Classes by module and name; an error of a module that is not loaded cannot have been raised."""
    for module, classes in names.items():
        loaded: Any = sys.modules.get(module)
        if loaded is not None:
            yield from (getattr(loaded, name) for name in classes if hasattr(loaded, name))


def _by_text(error: BaseException) -> bool | None:
    """Arrow, delta-rs and the engines on them have one class for whatever a store answers, and its
    code in the text."""
    text = str(error)
    if match := _ARROW_CODE.search(text):
        return match["code"] in _ARROW_CODES or int(match["status"] or 0) in _STATUSES
    if match := _STORE_STATUS.search(text):
        return int(match["status"]) in _STATUSES
    if match := _OS_ERROR.search(text):
        return int(match["errno"]) in _ERRNOS
    return True if _STORE_LOST.search(text) else None
