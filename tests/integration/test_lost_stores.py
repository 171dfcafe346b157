"""What a store that does not answer, or refuses, does to whoever reads the lake there.

Here: the real clients against a server on this machine that answers as a store does. Not here: which
errors are transient in general (tests/unit/test_causes.py).
"""

from __future__ import annotations

import http.server
import socket
import struct
import threading
from collections.abc import Iterator

import pyarrow.fs as pafs
import pytest

from spark_jobs.errors import StorageError
from spark_jobs.lake import delta, storage


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers every request as the server's `status` and `code` say; a status of 0 cuts the line."""

    def _answer(self) -> None:
        status, code = self.server.answer
        if status == 0:
            linger = struct.pack("ii", 1, 0)  # a close that is a reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            self.connection.close()
            return
        body = f"<Error><Code>{code}</Code><Message>said by the store</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = _answer  # noqa: N815 (http.server's names)

    def log_message(self, *_: object) -> None:
        """Requests are nobody's news."""


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.ThreadingHTTPServer]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not a secret")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def through_arrow(address: str) -> StorageError:
    once = pafs.AwsStandardS3RetryStrategy(max_attempts=1)
    fs = pafs.S3FileSystem(
        endpoint_override=address, scheme="http", region="eu-west-1", retry_strategy=once
    )
    with pytest.raises(OSError) as caught:  # noqa: PT011 (what it says is what is tested)
        fs.get_file_info(pafs.FileSelector("lake/silver", recursive=True))
    return storage.describe(caught.value, "s3://lake/silver")


def through_delta(address: str) -> StorageError:
    options = {
        "AWS_ENDPOINT_URL": f"http://{address}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "eu-west-1",
        "max_retries": "0",
        "timeout": "5s",
    }
    with pytest.raises(StorageError) as caught:
        delta.open_table("s3://lake/silver/orders", options)
    return caught.value


CLIENTS = [through_arrow, through_delta]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    "answer", [(503, "SlowDown"), (500, "InternalError"), (0, "cut")], ids=lambda a: a[1]
)
def test_a_store_that_is_not_well_is_asked_again(store, client, answer) -> None:
    store.answer = answer
    error = client("{}:{}".format(*store.server_address))
    assert not error.permanent
    assert "did not answer" in str(error)
    assert "backup" not in str(error), "nothing is wrong with the log"
    assert "\\u001b" not in str(error)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_store_that_nobody_answers_for_is_asked_again(store, client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = "{}:{}".format(*taken.getsockname())
    error = client(nobody)
    assert not error.permanent
    assert "did not answer" in str(error)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("answer", "said"),
    [((403, "AccessDenied"), "access is denied"), ((404, "NoSuchBucket"), "bucket does not exist")],
)
def test_a_store_that_refuses_is_not_asked_again(store, client, answer, said) -> None:
    store.answer = answer
    error = client("{}:{}".format(*store.server_address))
    assert error.permanent
    assert said in str(error)
