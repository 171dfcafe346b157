"""What Dagster's webserver answers behind the guard, and what it does not; the server is the real
one, without a code location."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.workspace.load_target import EmptyWorkspaceTarget  # noqa: TID251
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from lakehouse.cli.ui import is_loopback
from lakehouse.dagster_private import WorkspaceProcessContext
from lakehouse.local.webserver import Names, Webserver

MUTATION = "mutation { setNuxSeen }"
QUERY = "query { version }"
VERSION = {"data": {"version": ""}}
OWN = "http://localhost:3000"


def client(names: Names) -> Iterator[TestClient]:
    with (
        dg.instance_for_test() as instance,
        WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as context,
    ):
        webserver = Webserver(context)
        webserver.names = names
        yield TestClient(webserver.create_asgi_app(), base_url=OWN)


@pytest.fixture(scope="module")
def local() -> Iterator[TestClient]:
    yield from client(Names("127.0.0.1"))


@pytest.fixture(scope="module")
def proxied() -> Iterator[TestClient]:
    yield from client(Names("127.0.0.1", frozenset({"lake.example.com"})))


@pytest.fixture(scope="module")
def on_all_addresses() -> Iterator[TestClient]:
    yield from client(Names("0.0.0.0"))


def test_what_the_ui_itself_asks_is_answered(local: TestClient) -> None:
    own = {"origin": OWN, "host": "localhost:3000"}
    assert local.get("/").status_code == 200
    assert local.get("/graphql", params={"query": QUERY}).json() == VERSION
    assert local.post("/graphql", json={"query": MUTATION}, headers=own).json()["data"]
    with local.websocket_connect("/graphql", ["graphql-ws"], headers=own) as socket:
        socket.send_json({"type": "connection_init"})
        assert socket.receive_json() == {"type": "connection_ack"}


@pytest.mark.parametrize("host", ["localhost:3000", "127.0.0.1:3000", "[::1]:3000", "LOCALHOST"])
def test_this_machine_is_known_by_its_own_names(local: TestClient, host: str) -> None:
    assert local.get("/server_info", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:3000", "10.0.0.1", "", "localhost@evil", "["]
)
def test_a_name_that_was_made_to_resolve_here_gets_nothing(local: TestClient, host: str) -> None:
    for path in ("/", "/server_info", "/graphql"):
        answer = local.get(path, params={"query": QUERY}, headers={"host": host})
        assert (answer.status_code, "--name" in answer.text) == (421, True)
    assert local.post("/graphql", json={"query": QUERY}, headers={"host": host}).status_code == 421
    with (
        pytest.raises(WebSocketDisconnect) as refused,
        local.websocket_connect("/graphql", ["graphql-ws"], headers={"host": host}),
    ):
        pass
    assert refused.value.code == 1008


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:8888", "https://localhost", "["]
)
def test_a_page_of_another_site_gets_nothing(local: TestClient, origin: str) -> None:
    headers = {"origin": origin, "host": "localhost:3000"}
    assert local.post("/graphql", json={"query": MUTATION}, headers=headers).status_code == 403
    assert local.get("/graphql", params={"query": QUERY}, headers=headers).status_code == 403
    with (
        pytest.raises(WebSocketDisconnect) as refused,
        local.websocket_connect("/graphql", ["graphql-ws"], headers=headers),
    ):
        pass
    assert refused.value.code == 1008


@pytest.mark.parametrize(
    "text",
    [
        MUTATION,
        "query A { version } mutation B { setNuxSeen }",
        "fragment F on Mutation { setNuxSeen } mutation { ...F }",
        "subscription { capturedLogs(logKey: []) { stdout } }",
    ],
)
def test_nothing_but_queries_is_taken_by_get(local: TestClient, text: str) -> None:
    for path in ("/graphql", "/graphql%0A"):
        answer = local.get(path, params={"query": text, "operationName": "B"})
        assert "setNuxSeen" not in answer.text
        assert (path, answer.status_code) != ("/graphql", 200)
    assert local.get("/graphql", params={"query": text}).status_code == 405
    assert local.get("/graphql", params=[("query", QUERY), ("query", text)]).status_code == 405


@pytest.mark.parametrize(
    "content", ["text/plain", "text/plain; x=application/json", "multipart/form-data", None]
)
def test_what_any_page_may_send_changes_nothing(local: TestClient, content: str | None) -> None:
    headers = {"content-type": content} if content else {}
    params = {"query": MUTATION}
    assert local.post("/graphql", params=params, headers=headers).status_code == 415
    assert local.post("/report_asset_materialization/a", headers=headers).status_code == 415


def test_a_proxy_serves_it_under_its_own_name(proxied: TestClient) -> None:
    page = {"origin": "https://lake.example.com"}
    for host in ("lake.example.com", "127.0.0.1:3000"):  # passed on, or replaced
        headers = page | {"host": host}
        assert proxied.post("/graphql", json={"query": QUERY}, headers=headers).status_code == 200
    assert proxied.get("/", headers={"host": "evil.example"}).status_code == 421


def test_a_server_on_all_addresses_is_known_by_any_but_by_no_other_name(
    on_all_addresses: TestClient,
) -> None:
    assert on_all_addresses.get("/", headers={"host": "10.0.0.1:3000"}).status_code == 200
    assert on_all_addresses.get("/", headers={"host": "evil.example:3000"}).status_code == 421


def test_loopback_is_told_from_what_others_reach() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.8.8.8", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "lake.example.com")))
