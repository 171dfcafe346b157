"""A server in this process that nobody else can connect to, though it has no login of its own.

Sail's server knows no token, no Unix socket and no listener that is handed to it: any user of the
machine could connect to its port, and run code here. It needs one connection only, this process's,
so its listening socket goes as soon as that connection is there. Established connections do not
depend on it, and nothing stands between client and server.

Belongs here: that connection, and the end of the socket. Does not belong here: what is said through
it, or servers in processes of their own (`jvm.py`; they ask for a token).
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from spark_jobs.errors import EngineUnavailable

if TYPE_CHECKING:
    from pyspark.sql.connect.client import DefaultChannelBuilder

Address = tuple[str, int]

CONNECT_SECONDS = 30
_NEVER = 2**31 - 1


def only_client(server: Address) -> DefaultChannelBuilder:
    """The one connection to a server of this process, for a Spark Connect session; the server's
    listening socket is closed.

    Raises EngineUnavailable if somebody else was connected by then.
    """
    import grpc
    from pyspark.sql.connect.client import DefaultChannelBuilder

    class OnlyClient(DefaultChannelBuilder):
        def toChannel(self) -> grpc.Channel:  # noqa: N802 (PySpark's name)
            refuse_strangers(server)  # one may just have been accepted when the socket closed
            return channel

    options = [
        # There will never be another one.
        ("grpc.client_idle_timeout_ms", _NEVER),
        ("grpc.enable_http_proxy", 0),
    ]
    url = "sc://{}:{}".format(*server)
    channel = DefaultChannelBuilder(url, options).toChannel()
    try:
        grpc.channel_ready_future(channel).result(CONNECT_SECONDS)
        close_listener(server)
        refuse_strangers(server)
    except BaseException:
        channel.close()
        raise
    return OnlyClient(url)


def close_listener(server: Address) -> None:
    """Closes the socket on which a thread of this process listens; its connections stay.

    Its number then stands for nothing that could be connected to, until the server, which holds the
    number, closes it in turn.
    """
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        for number, found in _sockets():
            if _local(found) == server and found.getsockopt(
                socket.SOL_SOCKET, socket.SO_ACCEPTCONN
            ):
                found.close()  # a copy, which would keep it listening
                os.dup2(nothing, number, inheritable=False)
                return
    finally:
        os.close(nothing)
    raise EngineUnavailable(f"the engine's listening socket {server} is not in this process")


def refuse_strangers(server: Address) -> None:
    """Cuts connections to a server of this process that do not come from this process.

    Raises EngineUnavailable if there were any: they may have been heard.
    """
    found = [(_local(s), _peer(s), n) for n, s in _sockets()]
    ours = {local for local, peer, _ in found if peer == server}
    strangers = [n for local, peer, n in found if local == server and peer and peer not in ours]
    for number in strangers:
        with socket.socket(fileno=os.dup(number)) as stranger:
            stranger.shutdown(socket.SHUT_RDWR)
    if strangers:
        raise EngineUnavailable(
            "another process connected to the embedded engine while it started, so it was stopped:"
            " nothing was published. Find out which program connects to new ports of this machine"
            " (a scanner, another user), then run again."
        )


def _sockets() -> Iterator[tuple[int, socket.socket]]:
    """The sockets of this process by number; each is a copy that is closed after its turn."""
    for name in os.listdir("/dev/fd"):
        try:
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            copy = socket.socket(fileno=os.dup(int(name)))
        except OSError:  # closed meanwhile
            continue
        with copy:
            yield int(name), copy


def _local(found: socket.socket) -> Address | None:
    return _address(found.getsockname())


def _peer(found: socket.socket) -> Address | None:
    try:
        return _address(found.getpeername())
    except OSError:  # it listens, or is not connected any more
        return None


def _address(name: object) -> Address | None:
    """Address and port, if it is one of TCP. gRPC's sockets speak IPv4 through IPv6."""
    if not isinstance(name, tuple) or len(name) < 2 or not isinstance(name[0], str):
        return None
    return name[0].removeprefix("::ffff:"), name[1]
