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

import pytest

from spark_jobs.errors import StorageError
from spark_jobs.lake import delta
from spark_jobs.lake.storage import Storage


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers every request as the server's `status` and `code` say; a status of 0 cuts the line.
    What was asked of which host is kept in `asked`."""

    def _answer(self) -> None:
        self.server.asked.append(self.headers["Host"] + self.path)
        status, code = self.server.answer
        if code == "cut" and self.server.first_page and "continuation-token" not in self.path:
            self._send(200, self.server.first_page)
            return
        if status == 0:
            linger = struct.pack("ii", 1, 0)  # a close that is a reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            self.connection.close()
            return
        self._send(status, f"<Error><Code>{code}</Code><Message>by the store</Message></Error>")

    def _send(self, status: int, text: str) -> None:
        body = text.encode()
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
        server.asked, server.first_page = [], ""
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def storage(address: str, **more: str) -> Storage:
    options = {"AWS_ENDPOINT_URL": f"http://{address}", "AWS_ALLOW_HTTP": "true"}
    return Storage({**options, "AWS_REGION": "eu-west-1", "max_retries": "0", **more})


def through_arrow(reached: Storage) -> StorageError:
    with pytest.raises(StorageError) as caught:
        reached.tree("s3://lake/silver")
    return caught.value


def through_delta(reached: Storage) -> StorageError:
    with pytest.raises(StorageError) as caught:
        delta.open_table("s3://lake/silver/orders", reached)
    return caught.value


CLIENTS = [through_arrow, through_delta]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    "answer", [(503, "SlowDown"), (500, "InternalError"), (0, "cut")], ids=lambda a: a[1]
)
def test_a_store_that_is_not_well_is_asked_again(store, client, answer) -> None:
    store.answer = answer
    error = client(storage("{}:{}".format(*store.server_address)))
    assert not error.permanent
    assert "did not answer" in str(error)
    assert "backup" not in str(error), "nothing is wrong with the log"
    assert "\\u001b" not in str(error)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_store_that_nobody_answers_for_is_asked_again(store, client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = "{}:{}".format(*taken.getsockname())
    error = client(storage(nobody))
    assert not error.permanent
    assert "did not answer" in str(error)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("answer", "said"),
    [((403, "AccessDenied"), "access is denied"), ((404, "NoSuchBucket"), "bucket does not exist")],
)
def test_a_store_that_refuses_is_not_asked_again(store, client, answer, said) -> None:
    store.answer = answer
    error = client(storage("{}:{}".format(*store.server_address)))
    assert error.permanent
    assert said in str(error)


@pytest.mark.parametrize("client", CLIENTS)
def test_every_client_tries_again_as_often_as_the_storage_says(store, client) -> None:
    store.answer = (503, "SlowDown")
    client(storage("{}:{}".format(*store.server_address), max_retries="2"))
    assert len(store.asked) == 3


def test_every_client_asks_for_a_bucket_in_one_style(store) -> None:
    """By its path, or in the name of the host, in which both take the endpoint as it is."""
    store.answer = (503, "SlowDown")
    host, port = store.server_address
    asked = []
    for client in CLIENTS:
        client(storage(f"{host}:{port}"))
        asked.append(store.asked[-1])
    assert asked[0].startswith(f"{host}:{port}/lake?list-type=2")
    assert asked[1].startswith(f"{host}:{port}/lake/silver/orders/")
    there = storage(f"lake.localhost:{port}", AWS_VIRTUAL_HOSTED_STYLE_REQUEST="true")
    through_arrow(there)
    assert store.asked[-1].startswith(f"lake.localhost:{port}/?list-type=2")
    # The name need not be known here: what was asked stands in the error.
    assert f"http://lake.localhost:{port}/silver/orders/" in str(through_delta(there))


@pytest.mark.parametrize("client", CLIENTS)
def test_no_client_sends_requests_unencrypted_unless_it_may(store, client) -> None:
    store.answer = (503, "SlowDown")
    client(storage("{}:{}".format(*store.server_address), AWS_ALLOW_HTTP="false"))
    assert store.asked == []


def test_a_listing_that_is_cut_in_the_middle_is_no_short_listing(store) -> None:
    store.answer = (0, "cut")
    store.first_page = (
        "<ListBucketResult><Name>lake</Name><Prefix>silver/</Prefix><KeyCount>1</KeyCount>"
        "<MaxKeys>1</MaxKeys><IsTruncated>true</IsTruncated>"
        "<NextContinuationToken>more</NextContinuationToken>"
        "<Contents><Key>silver/f.parquet</Key><Size>1</Size>"
        "<LastModified>2026-10-05T00:00:00.000Z</LastModified></Contents></ListBucketResult>"
    )
    error = through_arrow(storage("{}:{}".format(*store.server_address)))
    assert not error.permanent
    assert "s3://lake/silver: the store did not answer" in str(error)
    assert len(store.asked) == 2 and "continuation-token=more" in store.asked[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "hunter2"}, "AWS_SECRET_ACCESS_KEY is a credential"),
        ({"AWS_ENDPOINT": "http://hunter2"}, "AWS_ENDPOINT is no storage option; known are"),
        ({"AWS_ALLOW_HTTP": "hunter2"}, "AWS_ALLOW_HTTP does not look like"),
        ({"AWS_ENDPOINT_URL": "hunter2:9000"}, "AWS_ENDPOINT_URL does not look like"),
    ],
)
def test_an_option_that_one_client_alone_would_follow_is_refused(options, said) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        Storage(options)
    assert "hunter2" not in str(caught.value)
