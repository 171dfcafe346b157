"""What a workspace can be told to do wrong, once or several times.

Belongs here: the faults. Does not belong here: committing them (server.py, runs.py).
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Literal, get_args

# Of a request: refused before anything is done, or done and not answered, at once or until whoever asked
# is gone. Of a run: its environment cannot be made; it does nothing any more; its driver is killed.
OfRequest = Literal["throttle", "unavailable", "error", "lose_reply", "hold_reply"]
Kind = OfRequest | Literal["no_environment", "hang", "kill"]
OF_REQUESTS: frozenset[Kind] = frozenset(get_args(OfRequest))


@dataclass
class Fault:
    """`path` is a pattern of requests that it concerns. `when` is the text that a driver has said
    before it hangs or is killed; at once without it."""

    kind: Kind
    path: str = ""
    times: int = 1
    when: str = ""


@dataclass
class Faults:
    """The faults that are still to happen."""

    planned: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: Kind, path: str = "", times: int = 1, when: str = "") -> None:
        self.planned.append(Fault(kind, path, times, when))

    def of_request(self, method: str, path: str) -> Fault | None:
        """The fault that this request is to suffer."""
        return self._taken(
            lambda f: f.kind in OF_REQUESTS and re.search(f.path, f"{method} {path}")
        )

    def of_run(self) -> Fault | None:
        """The fault that a run that starts now is to suffer."""
        return self._taken(lambda f: f.kind not in OF_REQUESTS)

    def clear(self) -> None:
        self.planned.clear()

    def _taken(self, concerns: object) -> Fault | None:
        assert callable(concerns)
        with self._lock:
            for fault in self.planned:
                if concerns(fault):
                    fault.times -= 1
                    if fault.times <= 0:
                        self.planned.remove(fault)
                    return fault
        return None
