"""An HTTP stand-in among the threads of this process.

Belongs here: its start, its address and its end. Does not belong here: what it answers; or one whose
clients hold the interpreter's lock while they wait, which needs a process of its own (processes.py).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from werkzeug.serving import make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


@contextmanager
def serving(app: WSGIApplication) -> Iterator[str]:
    """Serves an application on a free port of this machine; yields its URL, which has no path."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
