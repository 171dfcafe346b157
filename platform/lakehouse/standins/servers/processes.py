"""A stand-in as a process of its own, gone with the one that started it, however that ends.

Belongs here: both ends of that. Does not belong here: what a server does.

Some clients hold the interpreter's lock while they wait for an answer: a server among their threads
would never give it.
"""

from __future__ import annotations

import os
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def started(module: str, *arguments: str) -> Iterator[str]:
    """Runs a module that calls `serve`; yields the server's URL."""
    server = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C must not end it before its clients
    )
    assert server.stdin is not None and server.stdout is not None
    try:
        port = server.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"{module} ended with code {server.wait()}; it has said why")
        yield f"http://127.0.0.1:{int(port)}"
    finally:
        server.stdin.close()  # which ends it
        server.stdout.close()
        server.wait()


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(server: socketserver.TCPServer) -> None:
    """Serves until standard input ends."""
    print(server.socket.getsockname()[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    os._exit(0)  # whatever requests are open
